"""Prediction with posterior draws, one after the other.

Twin of `jaxprob/bayes/prediction.py`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_ref.batches import inputs_of
from torch_ref.bayes.gaussian_posterior import stack
from torch_ref.distributions import Predictive

__all__ = ["LazyDraws", "predict"]


class LazyDraws(NamedTuple):
    """Draws that are made one after the other.

    Attributes:
      sample: `sample(params, key) -> one draw`, named parameters.
      params: What it draws from.
      keys: Keys `[S, 2]`.
    """

    sample: Callable[[Any, Tensor], dict[str, Tensor]]
    params: Any
    keys: Tensor


@torch.no_grad()
def predict(model: nn.Module, draws: dict[str, Tensor] | LazyDraws, x: Any) -> Predictive:
    """Returns p(y | x, data) as the mixture of the predictions of all draws.

    Args:
      model: Module that returns a distribution.
      draws: Named parameters (and buffers, where draws have their own) with leading axis S, or
        `LazyDraws`.
      x: Inputs `[B, ...]`, a tuple of them, or a batch.
    """
    given = inputs_of(model, x)
    predictions = [torch.func.functional_call(model, draw, *given) for draw in _each(draws)]
    return Predictive(stack(predictions))


def _each(draws: dict[str, Tensor] | LazyDraws) -> Iterator[dict[str, Tensor]]:
    if isinstance(draws, LazyDraws):
        yield from (draws.sample(draws.params, key) for key in draws.keys)
        return
    for s in range(next(iter(draws.values())).shape[0]):
        yield {name: values[s] for name, values in draws.items()}
