"""Prediction with posterior draws, one after the other.

Twin of `jaxprob/bayes/prediction.py`.
"""

import torch
from torch import Tensor, nn

from torch_ref.bayes.gaussian_posterior import stack
from torch_ref.distributions import Predictive

__all__ = ["predict"]


@torch.no_grad()
def predict(model: nn.Module, draws: dict[str, Tensor], x: Tensor) -> Predictive:
    """Returns p(y | x, data) as the mixture of the predictions of all draws.

    Args:
      model: Module that returns a distribution.
      draws: Named parameters with leading axis S.
      x: Inputs `[B, ...]`.
    """
    num_draws = next(iter(draws.values())).shape[0]
    predictions = [
        torch.func.functional_call(model, {n: w[s] for n, w in draws.items()}, (x,))
        for s in range(num_draws)
    ]
    return Predictive(stack(predictions))
