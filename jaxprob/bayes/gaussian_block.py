"""A Gaussian over one vector of weights: the piece that every variational posterior is made of.

    w = loc + L eps,  eps ~ N(0, I)

    KL(N(loc, L L^T) || N(m, s^2 I)) = (|L|_F^2 / s^2 + |loc - m|^2 / s^2 - P) / 2
                                       + P log s - log|L L^T| / 2

L is diagonal ("diagonal", P numbers), lower triangular ("full", P (P + 1) / 2 numbers, packed into
a vector R), or a diagonal beside R columns ("low_rank", P (R + 1) numbers):

    diagonal   L = diag(s)
    full       L_ii = s_i,  L_ij = s_i R_ij for j < i
    low_rank   L = diag(s) [I, V],  V [P, R]:  L L^T = diag(s) (I + V V^T) diag(s)

with s_i = softplus(raw_i) + floor. The entries beside the diagonal are ratios: the noise of a
stochastic gradient on them scales with the posterior's own width instead of adding a fixed variance
to every weight (with plain L_ij = R_ij and Adam at 0.01 a layer of 66 weights is drowned by it).
For the low rank, |L L^T| and the inverse come from the R x R matrix I + V^T V (matrix determinant
lemma, Woodbury), so the cost is P R^2.

Packing of the triangle: v[P:] followed by the reverse of v, reshaped to P x P, holds each entry of
v exactly once in its lower triangle. It needs no gather or scatter.

Twin: `torch_ref/bayes/gaussian_block.py`. Sources: Kingma & Welling, "Auto-Encoding Variational
Bayes" (2013), appendix B, for the KL, generalised to other factors; Ong, Nott & Smith, "Gaussian
variational approximation with a factor covariance structure" (2018) for the low rank.
"""

import math

import jax
import jax.numpy as jnp

from jaxprob.types import Array, Key

__all__ = [
    "SCALE_FLOOR",
    "diagonal_scale",
    "init_block",
    "kl_to_prior",
    "log_prob",
    "noise_size",
    "sample",
    "scale_factor",
    "scale_tril",
]

SCALE_FLOOR = 1e-5
"""Smallest standard deviation of a weight given the weights before it."""

FACTOR_START = 0.1
"""Size of the ratios V at the start; at zero their gradient would be zero too."""

Block = dict[str, Array]
"""Parameters: "loc" `[P]` and "raw_scale" `[P]` (diagonal), with "factor" `[P, R]` (low rank), or
"raw_tril" `[P (P + 1) / 2]` (full)."""


def init_block(
    loc: Array, covariance: str, init_scale: float | Array, rank: int = 0, key: Key | None = None
) -> Block:
    """Returns the parameters of N(loc, init_scale^2 I), or close to it for the low rank.

    Args:
      loc: Mean `[P]`.
      covariance: "diagonal", "low_rank" or "full".
      init_scale: Standard deviation of each weight (> SCALE_FLOOR).
      rank: Columns R of the low rank.
      key: Key of its start.
    """
    above = init_scale - SCALE_FLOOR
    log, expm1 = (jnp.log, jnp.expm1) if isinstance(above, jax.Array) else (math.log, math.expm1)
    raw = jnp.asarray(above + log(-expm1(-above)), loc.dtype)  # softplus^-1, for any size
    size = loc.shape[0]
    if covariance == "full":
        return {"loc": loc, "raw_tril": _pack(raw * jnp.eye(size, dtype=loc.dtype))}
    block = {"loc": loc, "raw_scale": jnp.full((size,), raw, loc.dtype)}
    if covariance == "low_rank":
        assert key is not None
        start = jax.random.normal(key, (size, rank), loc.dtype)
        block["factor"] = FACTOR_START / math.sqrt(rank) * start
    return block


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
    """Returns the Cholesky factor of the covariance `[P, P]`."""
    if "factor" in block:
        factor = scale_factor(block)
        return jnp.linalg.cholesky(factor @ factor.T)
    if "raw_scale" in block:
        return jnp.diag(diagonal_scale(block))
    raw = _unpack(block["raw_tril"], block["loc"].shape[0])
    diagonal = jax.nn.softplus(jnp.diagonal(raw)) + SCALE_FLOOR
    below = jnp.tril(raw, -1) + jnp.eye(raw.shape[0], dtype=raw.dtype)
    return diagonal[:, None] * below


def diagonal_scale(block: Block) -> Array:
    """Returns the deviations s `[P]` of a diagonal or low-rank block."""
    return jax.nn.softplus(block["raw_scale"]) + SCALE_FLOOR


def scale_factor(block: Block) -> Array:
    """Returns a factor L of the covariance, `[P, P + R]` for a low rank and `[P, P]` else."""
    if "factor" not in block:
        return scale_tril(block)
    scale = diagonal_scale(block)
    return jnp.concatenate([jnp.diag(scale), scale[:, None] * block["factor"]], axis=1)


def noise_size(block: Block) -> int:
    """Number of standard normals that one draw takes: P, or P + R for a low rank."""
    rank = block["factor"].shape[1] if "factor" in block else 0
    return block["loc"].shape[0] + rank


def sample(block: Block, eps: Array) -> Array:
    """Returns loc + L eps `[S, P]` for standard normal noise `eps` `[S, noise_size]`."""
    if "raw_scale" not in block:
        return block["loc"][None] + eps @ scale_tril(block).T
    ratios, common = jnp.split(eps, [block["loc"].shape[0]], axis=1)
    if "factor" in block:
        ratios = ratios + common @ block["factor"].T
    return block["loc"][None] + diagonal_scale(block)[None] * ratios


def kl_to_prior(
    block: Block,
    prior_loc: Array | float,
    prior_precision: Array | float,
    prior_log_scale: Array | float,
) -> Array:
    """Returns KL(q || N(prior_loc, scale^2 I)) in nats, exact.

    Where the prior's scale is uncertain itself, the expectation of the KL over it: the mean of
    1 / scale^2 and the mean of log scale are all that it needs.

    Args:
      block: The posterior of P weights.
      prior_loc: Mean of the prior, `[P]` or a scalar.
      prior_precision: 1 / scale^2, or its mean; a scalar (> 0).
      prior_log_scale: log scale, or its mean; a scalar.
    """
    size = block["loc"].shape[0]
    if "raw_scale" in block:
        scale = diagonal_scale(block)
        inflation = 1.0
        if "factor" in block:
            inflation = inflation + jnp.sum(block["factor"] ** 2, axis=1)
        squares = jnp.sum(scale**2 * inflation)
    else:
        squares = jnp.sum(scale_tril(block) ** 2)
    squares = squares + jnp.sum((block["loc"] - prior_loc) ** 2)
    expected = 0.5 * (squares * prior_precision - size) + size * prior_log_scale
    return expected - _half_log_determinant(block)


def _half_log_determinant(block: Block) -> Array:
    """log|L L^T| / 2."""
    if "raw_scale" not in block:
        return jnp.sum(jnp.log(jnp.diagonal(scale_tril(block))))
    total = jnp.sum(jnp.log(diagonal_scale(block)))
    if "factor" in block:
        total = total + jnp.sum(jnp.log(jnp.diagonal(_small_tril(block["factor"]))))
    return total


def _small_tril(factor: Array) -> Array:
    """Cholesky factor of I + V^T V `[R, R]`."""
    return jnp.linalg.cholesky(jnp.eye(factor.shape[1], dtype=factor.dtype) + factor.T @ factor)


def log_prob(block: Block, weights: Array) -> Array:
    """Returns log q(w) in nats for one vector of weights `[P]`."""
    centred = weights - block["loc"]
    if "raw_scale" in block:
        z = centred / diagonal_scale(block)
        square = jnp.sum(z**2)
        if "factor" in block:
            solve = jax.scipy.linalg.solve_triangular
            along = solve(_small_tril(block["factor"]), block["factor"].T @ z, lower=True)
            square = square - jnp.sum(along**2)
    else:
        z = jax.scipy.linalg.solve_triangular(scale_tril(block), centred, lower=True)
        square = jnp.sum(z**2)
    constant = 0.5 * weights.shape[0] * math.log(2 * math.pi)
    return -0.5 * square - _half_log_determinant(block) - constant
