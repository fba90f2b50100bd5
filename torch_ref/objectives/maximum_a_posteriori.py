"""Maximum a posteriori: the likelihood loss and a prior on the weights.

Twin of `jaxprob/objectives/maximum_a_posteriori.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from torch_ref.batches import mean_over_rows
from torch_ref.objectives.likelihood import LossFn, averaged

__all__ = ["dropout_precision", "map_loss"]


def map_loss(
    model: nn.Module,
    prior: Any,
    num_data: int,
    inputs: Sequence[str] = ("x",),
    select: Callable[[str], bool] | None = None,
) -> LossFn:
    """Returns the negative log-posterior over N; `select` chooses by torch's parameter names.

    A row counts `batch["weight"]` times; N is the number of rows all the same.
    """
    likelihood = averaged(model, inputs, mean_over_rows)

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        nll, _ = likelihood(batch, key)
        weights = [p for name, p in model.named_parameters() if select is None or select(name)]
        log_prior = prior.log_prob(weights)
        return nll - log_prior / num_data, {"nll": nll, "log_prior": log_prior}

    return loss_fn


def dropout_precision(
    rate: float, weight_decay: float, num_data: int, prior_scale: float = 1.0
) -> float:
    """Returns the noise precision that dropout with the penalty c |w|^2 assumes."""
    length_scale = 1.0 / prior_scale
    return (1.0 - rate) * length_scale**2 / (2.0 * num_data * weight_decay)
