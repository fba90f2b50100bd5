"""Draws that need linear algebra.

    multivariate normal   mean + L z,  cov = L L^T
    orthogonal            Q sign(diag R),  z = Q R  (uniform on the orthogonal group)

Sources: `jax.random` 0.10; F. Mezzadri, "How to generate random matrices from the classical compact
groups", Notices of the AMS 54, 2007. Both factorisations are unique once signs are fixed, so they
agree with JAX's up to rounding times the condition number.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_ref.random.base import float_dtype
from torch_ref.random.continuous import normal

__all__ = ["multivariate_normal", "orthogonal"]


def multivariate_normal(
    key: Tensor,
    mean: Tensor,
    cov: Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws from a multivariate normal distribution, by Cholesky factorisation.

    JAX's other methods ("eigh", "svd") have no twin: they leave the signs of eigenvectors to the
    linear algebra library, and the draw with them.

    Args:
        key: Keys `[*batch, 2]`.
        mean: Mean `[..., n]`; `...` broadcasts against `[*batch, *shape]`.
        cov: Positive definite covariance `[..., n, n]`, likewise.
        shape: Shape of one draw, without the last axis; default that of mean and cov broadcast.
        dtype: Type of the normal numbers; default that of `mean`.

    Returns:
        Vectors `[*batch, *shape, n]`.

    Raises:
        ValueError: If mean and cov differ in n.
    """
    n = mean.shape[-1]
    if cov.shape[-2:] != (n, n):
        raise ValueError(f"cov must have shape [..., {n}, {n}], got {list(cov.shape)}")
    batch = torch.broadcast_shapes(mean.shape[:-1], cov.shape[:-2]) if shape is None else shape
    z = normal(key, (*batch, n), dtype or mean.dtype)
    return mean + (torch.linalg.cholesky(cov) @ z.unsqueeze(-1)).squeeze(-1)


def orthogonal(
    key: Tensor,
    n: int,
    shape: Sequence[int] = (),
    dtype: torch.dtype | None = None,
    m: int | None = None,
) -> Tensor:
    """Draws matrices with orthonormal rows (n <= m) or columns (n >= m).

    Args:
        key: Keys `[*batch, 2]`.
        n: Number of rows.
        shape: Shape of one draw, without the last two axes.
        dtype: float32 or float64; default `torch.get_default_dtype()`.
        m: Number of columns; default n.

    Returns:
        Matrices `[*batch, *shape, n, m]`.
    """
    m = n if m is None else m
    z = normal(key, (*shape, max(n, m), min(n, m)), float_dtype(dtype))
    q, r = torch.linalg.qr(z)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return q.mT if n < m else q
