"""Bijections from unconstrained numbers to constrained values.

torch.distributions has most of them; those with a log-determinant that it lacks are written here.

Twin of `jaxprob/distributions/bijections.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints, transforms

__all__ = [
    "Exp",
    "Identity",
    "LowerCholesky",
    "Ordered",
    "PositiveDefinite",
    "Sigmoid",
    "StickBreaking",
]


def Identity() -> transforms.Transform:  # noqa: N802
    """Y = x."""
    return transforms.identity_transform


Exp = transforms.ExpTransform
StickBreaking = transforms.StickBreakingTransform


def Sigmoid(low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> transforms.Transform:  # noqa: N802
    """Y = low + (high - low) sigmoid(x)."""
    affine = transforms.AffineTransform(low, high - low)
    return transforms.ComposeTransform([transforms.SigmoidTransform(), affine])


class Ordered(transforms.Transform):
    """y_1 = x_1, y_i = y_(i-1) + exp(x_i)."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :1], x[..., 1:].exp()], dim=-1).cumsum(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat([y[..., :1], y.diff(dim=-1).log()], dim=-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns log |det dy / dx|."""
        return x[..., 1:].sum(-1)


class LowerCholesky(transforms.Transform):
    """Lower triangles with a positive diagonal, row by row from a vector."""

    domain = constraints.real_vector
    codomain = constraints.lower_cholesky
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        size = (math.isqrt(8 * x.shape[-1] + 1) - 1) // 2
        rows, columns = torch.tril_indices(size, size)
        y = x.new_zeros(*x.shape[:-1], size, size)
        y[..., rows, columns] = x
        return y.tril(-1) + torch.diag_embed(y.diagonal(dim1=-2, dim2=-1).exp())

    def _inverse(self, y: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(*y.shape[-2:])
        logs = y.tril(-1) + torch.diag_embed(y.diagonal(dim1=-2, dim2=-1).log())
        return logs[..., rows, columns]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns log |det dy / dx|."""
        return y.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class PositiveDefinite(transforms.Transform):
    """Positive definite matrices L L^T."""

    domain = constraints.real_vector
    codomain = constraints.positive_definite
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        factor = LowerCholesky()._call(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return LowerCholesky().inv(torch.linalg.cholesky(y))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns log |det dy / dx| of the lower triangle."""
        logs = LowerCholesky()._call(x).diagonal(dim1=-2, dim2=-1).log()
        size = logs.shape[-1]
        powers = torch.arange(size + 1, 1, -1, dtype=x.dtype)  # the factor's own 1 and D - i
        return (logs * powers).sum(-1) + size * math.log(2)
