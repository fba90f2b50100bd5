"""Probabilities of K classes: their logarithms, variances and covariances without cancellation.

    log p_k = x_k - max x - log(1 + sum of the others' exp(x - max x))
    Var 1[k] = p_k (1 - p_k),   Cov = diag(p) - p p^T

Twin: `torch_ref/distributions/classes.py`.
"""

import jax
import jax.numpy as jnp

from jaxprob.types import Array

__all__ = ["class_covariance", "class_variance", "log_softmax", "log_total", "sums_after"]


def log_softmax(logits: Array) -> Array:
    """Returns log-probabilities `[..., K]`; that of a class near 1 keeps its digits."""
    top = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
    peak = jnp.sum(jnp.where(top, logits, 0.0), axis=-1, keepdims=True)
    # the likeliest class is 0 exactly, gradient included
    below = jnp.where(top, 0.0, logits - peak)
    others = jnp.sum(jnp.where(top, 0.0, jnp.exp(below)), axis=-1, keepdims=True)
    return below - jnp.log1p(others)


def log_total(probs: Array) -> tuple[Array, Array, Array]:
    """Splits the logarithm of the sum of unnormalised probabilities `[..., K]`.

    Returns:
      The largest of them `[..., 1]`, a mask of where it stands, and log(sum / largest) `[..., 1]`.
    """
    top = jax.nn.one_hot(jnp.argmax(probs, axis=-1), probs.shape[-1], dtype=bool)
    # so that no square of a probability is needed
    unit = jax.lax.stop_gradient(jnp.max(probs, axis=-1, keepdims=True))
    peak = jnp.sum(jnp.where(top, probs, 0.0), axis=-1, keepdims=True)
    others = jnp.sum(jnp.where(top, 0.0, probs / unit), axis=-1, keepdims=True)
    return peak, top, jnp.log1p(others / (peak / unit))


def class_variance(p: Array) -> Array:
    """Returns p_k (1 - p_k) for probabilities `[..., K]` that sum to one.

    1 - p loses what is small for the likeliest class; the others' sum does not.
    """
    top = jax.nn.one_hot(jnp.argmax(p, axis=-1), p.shape[-1], dtype=bool)
    others = jnp.sum(jnp.where(top, 0.0, p), axis=-1, keepdims=True)
    return p * jnp.where(top, others, 1.0 - p)


def class_covariance(p: Array) -> Array:
    """Returns diag(p) - p p^T `[..., K, K]` for probabilities `[..., K]` that sum to one."""
    diagonal = jnp.eye(p.shape[-1], dtype=bool).reshape((1,) * (p.ndim - 1) + (p.shape[-1],) * 2)
    products = p[..., :, None] * p[..., None, :]
    return jnp.where(diagonal, class_variance(p)[..., None], -products)


def sums_after(weights: Array) -> Array:
    """Returns the sum of all later entries, which no subtraction has rounded, for `[..., K]`."""
    later = jnp.flip(jnp.cumsum(jnp.flip(weights[..., 1:], -1), axis=-1), -1)
    return jnp.concatenate([later, jnp.zeros_like(weights[..., :1])], axis=-1)
