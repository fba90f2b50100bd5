"""From unbounded outputs of a layer to parameters: one place for floors and clamps.

Twin: `torch_ref/heads/links.py`.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions.validation import align
from jaxprob.requirements import require_count
from jaxprob.types import AnyArray, Array

__all__ = [
    "LOG_CONCENTRATION_RANGE",
    "LOG_RATE_RANGE",
    "SCALE_FLOOR",
    "bounded",
    "concentration",
    "in_units",
    "positive",
    "rate",
    "raw_outputs",
]

SCALE_FLOOR = 1e-4
"""Smallest scale, in units of `target_std`: keeps the density of a fitted point bounded."""

LOG_CONCENTRATION_RANGE = (-10.0, 10.0)
"""Where logarithms of concentrations and total counts are clamped."""

LOG_RATE_RANGE = (-20.0, 20.0)
"""Where logarithms of means are clamped: e^20 is 5e8, and no gradient can overflow."""


def positive(raw: AnyArray) -> Array:
    """Returns softplus(raw) + `SCALE_FLOOR`."""
    return jax.nn.softplus(raw) + SCALE_FLOOR


def bounded(raw: AnyArray, bound: float) -> Array:
    """Returns bound tanh(raw / bound): the identity near 0, inside (-bound, bound) everywhere."""
    return bound * jnp.tanh(raw / bound)


def concentration(raw: AnyArray) -> Array:
    """Returns e^raw, raw clamped to `LOG_CONCENTRATION_RANGE`.

    Concentrations range from below 1 to hundreds: on the log scale each is a few units away.
    """
    return jnp.exp(jnp.clip(raw, *LOG_CONCENTRATION_RANGE))


def rate(raw: AnyArray) -> Array:
    """Returns e^raw, raw clamped to `LOG_RATE_RANGE`: the log link of generalised linear models."""
    return jnp.exp(jnp.clip(raw, *LOG_RATE_RANGE))


def in_units(value: float | Sequence[float], like: Array) -> Array:
    """Returns `target_mean` or `target_std` (a number, or one for each target) to go with `like`.

    `like` is `[*B, D]`; the result has as many axes.

    Raises:
      ValueError: Another number of targets.
    """
    if np.shape(value) not in ((), like.shape[-1:]):
        raise ValueError(
            f"target_mean and target_std must be one number, or one for each of the "
            f"{like.shape[-1]} targets (features); got shape {np.shape(value)}."
        )
    return align(jnp.asarray(value, like.dtype), like.ndim)


def raw_outputs(h: AnyArray, features: int, number: int) -> list[Array]:
    """Returns `number` arrays `[*B, features]` of one dense layer `out`; call in `nn.compact`.

    Raises:
      ValueError: A number of targets that is no count.
    """
    require_count("head", features=features)
    return jnp.split(nn.Dense(number * features, name="out")(h), number, axis=-1)
