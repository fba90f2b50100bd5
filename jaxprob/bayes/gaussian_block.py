"""A Gaussian over one vector of weights: the piece that every variational posterior is made of.

    w = loc + L eps,  eps ~ N(0, I)

    KL(N(loc, L L^T) || N(m, s^2 I)) = (|L|_F^2 / s^2 + |loc - m|^2 / s^2 - P) / 2
                                       + P log s - sum_i log L_ii

L is diagonal ("diagonal", P numbers) or lower triangular ("full", P (P + 1) / 2 numbers, packed
into a vector R). With s_i = softplus(R_ii) + floor,

    L_ii = s_i,   L_ij = s_i R_ij for j < i

so that the entries below the diagonal are ratios: the noise of a stochastic gradient on them scales
with the posterior's own width instead of adding a fixed variance to every weight (with plain
L_ij = R_ij and Adam at 0.01 a layer of 66 weights is drowned by it).

Packing of the triangle: v[P:] followed by the reverse of v, reshaped to P x P, holds each entry of
v exactly once in its lower triangle. It needs no gather or scatter.

Twin: `torch_ref/bayes/gaussian_block.py`. Source for the KL: Kingma & Welling, "Auto-Encoding
Variational Bayes" (2013), appendix B, generalised to a full factor.
"""

import math

import jax
import jax.numpy as jnp

from jaxprob.types import Array

__all__ = ["SCALE_FLOOR", "init_block", "kl_to_prior", "log_prob", "sample", "scale_tril"]

SCALE_FLOOR = 1e-5
"""Smallest standard deviation of a weight given the weights before it."""

Block = dict[str, Array]
"""Parameters: "loc" `[P]` and "raw_scale" `[P]` (diagonal) or "raw_tril" `[P (P + 1) / 2]`."""


def init_block(loc: Array, covariance: str, init_scale: float) -> Block:
    """Returns the parameters of N(loc, init_scale^2 I).

    Args:
      loc: Mean `[P]`.
      covariance: "diagonal" or "full".
      init_scale: Standard deviation of each weight (> SCALE_FLOOR).
    """
    raw = math.log(math.expm1(init_scale - SCALE_FLOOR))  # the inverse of softplus
    size = loc.shape[0]
    if covariance == "diagonal":
        return {"loc": loc, "raw_scale": jnp.full((size,), raw, loc.dtype)}
    return {"loc": loc, "raw_tril": _pack(raw * jnp.eye(size, dtype=loc.dtype))}


def _pack(lower: Array) -> Array:
    """The vector v whose `_unpack` is the lower triangular matrix `lower` `[P, P]`."""
    size = lower.shape[0]
    position = _unpack(jnp.arange(size * (size + 1) // 2), size)
    rows, columns = jnp.tril_indices(size)
    packed = jnp.zeros(size * (size + 1) // 2, lower.dtype)
    return packed.at[position[rows, columns]].set(lower[rows, columns])


def _unpack(vector: Array, size: int) -> Array:
    return jnp.tril(jnp.concatenate([vector[size:], vector[::-1]]).reshape(size, size))


def scale_tril(block: Block) -> Array:
    """Returns the Cholesky factor L `[P, P]`."""
    if "raw_scale" in block:
        return jnp.diag(_diagonal_scale(block))
    raw = _unpack(block["raw_tril"], block["loc"].shape[0])
    diagonal = jax.nn.softplus(jnp.diagonal(raw)) + SCALE_FLOOR
    below = jnp.tril(raw, -1) + jnp.eye(raw.shape[0], dtype=raw.dtype)
    return diagonal[:, None] * below


def _diagonal_scale(block: Block) -> Array:
    return jax.nn.softplus(block["raw_scale"]) + SCALE_FLOOR


def sample(block: Block, eps: Array) -> Array:
    """Returns loc + L eps for standard normal noise `eps` `[S, P]`."""
    if "raw_scale" in block:
        return block["loc"][None] + _diagonal_scale(block)[None] * eps
    return block["loc"][None] + eps @ scale_tril(block).T


def kl_to_prior(block: Block, prior_loc: Array | float, prior_scale: Array | float) -> Array:
    """Returns KL(q || N(prior_loc, prior_scale^2 I)) in nats, exact.

    Args:
      block: The posterior of P weights.
      prior_loc: Mean of the prior, `[P]` or a scalar.
      prior_scale: Standard deviation of the prior, a scalar (> 0).
    """
    size = block["loc"].shape[0]
    if "raw_scale" in block:
        diagonal = _diagonal_scale(block)
        squares = jnp.sum(diagonal**2)
    else:
        factor = scale_tril(block)
        diagonal = jnp.diagonal(factor)
        squares = jnp.sum(factor**2)
    squares = squares + jnp.sum((block["loc"] - prior_loc) ** 2)
    entropy_terms = jnp.sum(jnp.log(diagonal))
    return 0.5 * (squares / prior_scale**2 - size) + size * jnp.log(prior_scale) - entropy_terms


def log_prob(block: Block, weights: Array) -> Array:
    """Returns log q(w) in nats for one vector of weights `[P]`."""
    factor = scale_tril(block)
    z = jax.scipy.linalg.solve_triangular(factor, weights - block["loc"], lower=True)
    log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -0.5 * jnp.sum(z**2) - log_det - 0.5 * weights.shape[0] * math.log(2 * math.pi)
