"""The losses that everybody knows, each with the likelihood that it is.

    loss = factor x (-mean log p(y)) + offset

mse is a normal of unit scale (factor 2), mae a Laplace, pinball an asymmetric Laplace, binary
cross-entropy a Bernoulli, cross-entropy a categorical, the Poisson loss a Poisson. A loss is
therefore a choice of distribution, and its minimiser a maximum of likelihood.

Twin: `torch_ref/objectives/losses.py`. Source: Bishop, "Pattern Recognition and Machine Learning",
5.2; Koenker & Machado (JASA 1999) for the asymmetric Laplace.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprob.distributions import Bernoulli, Categorical, Distribution, Laplace, Normal
from jaxprob.types import Array, ArrayLike

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


def mse(prediction: ArrayLike, y: ArrayLike) -> Array:
    """Returns mean (y - prediction)^2 over all elements: a normal likelihood of unit scale."""
    prediction, y = _pair(prediction, y)
    return jnp.mean((y - prediction) ** 2)


def mae(prediction: ArrayLike, y: ArrayLike) -> Array:
    """Returns mean |y - prediction| over all elements: a Laplace likelihood of unit scale."""
    prediction, y = _pair(prediction, y)
    return jnp.mean(jnp.abs(y - prediction))


def pinball(prediction: ArrayLike, y: ArrayLike, level: ArrayLike) -> Array:
    """Returns the mean pinball loss, least where `prediction` is the quantile at `level`.

    An asymmetric Laplace likelihood of unit scale: with r = y - prediction the loss of an element
    is level r for r > 0 and (level - 1) r otherwise, in the units of `y`. `level` broadcasts.
    """
    prediction, y = _pair(prediction, y)
    error = y - prediction
    return jnp.mean(jnp.maximum(level * error, (level - 1.0) * error))


def binary_cross_entropy(logits: ArrayLike, y: ArrayLike) -> Array:
    """Returns the mean of -log Bernoulli(y; logits) over all elements; y may lie between 0 and 1.

    Of a y between 0 and 1 it is the expected loss of a draw with that probability.
    """
    logits, y = _pair(logits, y)
    return jnp.mean(jax.nn.softplus(logits) - y * logits)


def cross_entropy(logits: ArrayLike, y: ArrayLike) -> Array:
    """Returns the mean of -log Categorical(y; logits); `logits` `[*B, K]`, y integers `[*B]`."""
    logits, y = jnp.asarray(logits), jnp.asarray(y)
    if logits.shape[:-1] != y.shape or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(
            f"cross_entropy: y must hold class numbers of shape {logits.shape[:-1]}; got "
            f"{y.dtype}{list(y.shape)}. For one-hot rows write y.argmax(-1)."
        )
    return -jnp.mean(Categorical(logits=logits).log_prob(y))


def poisson_nll(log_rate: ArrayLike, y: ArrayLike) -> Array:
    """Returns the mean of e^log_rate - y log_rate: a Poisson likelihood less its log y! term."""
    log_rate, y = _pair(log_rate, y)
    return jnp.mean(jnp.exp(log_rate) - y * log_rate)


def _pair(prediction: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    prediction, y = jnp.asarray(prediction), jnp.asarray(y)
    if prediction.shape != y.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape} and y has {y.shape}; broadcasting would "
            "compare every pair. Give them one shape."
        )
    return prediction, y


class Equivalence(NamedTuple):
    """What a loss says: loss = factor x (-mean log p(y)) + offset.

    Attributes:
      distribution: The likelihood, from the model's output.
      factor: What the negative log-likelihood is multiplied with.
      offset: What is added; it does not depend on the prediction.
    """

    distribution: Callable[[Array], Distribution]
    factor: float
    offset: float


def likelihood_of(loss: str) -> Equivalence:
    """Returns the likelihood that a loss is.

    Args:
      loss: "mse", "mae", "binary_cross_entropy" or "cross_entropy". ("pinball" and "poisson_nll"
        have an offset that depends on the level or on y; their docstrings give the likelihood.)

    Raises:
      ValueError: Another name.
    """
    if loss not in _EQUIVALENCES:
        raise ValueError(
            f"likelihood_of: no loss {loss!r} with a constant offset; choose one of "
            f"{', '.join(_EQUIVALENCES)}."
        )
    return _EQUIVALENCES[loss]


_EQUIVALENCES = {
    "mse": Equivalence(lambda mean: Normal(mean, 1.0), 2.0, -math.log(2 * math.pi)),
    "mae": Equivalence(lambda median: Laplace(median, 1.0), 1.0, -math.log(2)),
    "binary_cross_entropy": Equivalence(lambda logits: Bernoulli(logits=logits), 1.0, 0.0),
    "cross_entropy": Equivalence(lambda logits: Categorical(logits=logits), 1.0, 0.0),
}
