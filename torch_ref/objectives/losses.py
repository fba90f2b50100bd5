"""The losses that everybody knows, as torch has them, each with the likelihood that it is.

Twin of `jaxprob/objectives/losses.py`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from torch_ref.distributions import Bernoulli, Categorical, Distribution, Laplace, Normal

__all__ = [
    "Equivalence",
    "binary_cross_entropy",
    "cross_entropy",
    "likelihood_of",
    "mae",
    "mse",
    "pinball",
    "poisson_nll",
]


def mse(prediction: Tensor, y: Tensor) -> Tensor:
    """Returns the mean squared error."""
    return F.mse_loss(prediction, y)


def mae(prediction: Tensor, y: Tensor) -> Tensor:
    """Returns the mean absolute error."""
    return F.l1_loss(prediction, y)


def pinball(prediction: Tensor, y: Tensor, level: Tensor | float) -> Tensor:
    """Returns the mean pinball loss of the quantile at `level`."""
    error = y - prediction
    return (level * error.clamp(min=0.0) + (1.0 - level) * (-error).clamp(min=0.0)).mean()


def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the mean binary cross-entropy from log-odds."""
    return F.binary_cross_entropy_with_logits(logits, y)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the mean cross-entropy from logits `[*B, K]` and classes `[*B]`."""
    return F.cross_entropy(logits.flatten(0, -2), y.flatten())


def poisson_nll(log_rate: Tensor, y: Tensor) -> Tensor:
    """Returns the mean Poisson loss without its log y! term."""
    return F.poisson_nll_loss(log_rate, y, log_input=True, full=False)


class Equivalence(NamedTuple):
    """loss = factor x (-mean log p(y)) + offset."""

    distribution: Callable[[Tensor], Distribution]
    factor: float
    offset: float


def likelihood_of(loss: str) -> Equivalence:
    """Returns the likelihood that a loss is."""
    match loss:
        case "mse":
            return Equivalence(lambda m: Normal(m, m.new_ones(())), 2.0, -math.log(2 * math.pi))
        case "mae":
            return Equivalence(lambda m: Laplace(m, m.new_ones(())), 1.0, -math.log(2))
        case "binary_cross_entropy":
            return Equivalence(lambda logits: Bernoulli(logits=logits), 1.0, 0.0)
        case "cross_entropy":
            return Equivalence(lambda logits: Categorical(logits=logits), 1.0, 0.0)
    raise ValueError(f"likelihood_of: no loss {loss!r} with a constant offset.")
