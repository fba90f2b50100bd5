"""The curvature of each structure as one dense matrix: slow, and plain to read.

Twin of `jaxprob/bayes/precision.py`, which never forms it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Curvature", "Layout"]


class Curvature(NamedTuple):
    """The curvature H of minus a log-likelihood.

    Attributes:
      matrix: What is known of H besides the factors, `[P, P]`.
      factors: `{layer: (A, B)}`.
    """

    matrix: Tensor
    factors: dict[str, tuple[Tensor, Tensor]]


class Layout:
    """The order of the weights: modules by name, bias before kernel, the kernel input-major.

    Args:
      model: The module.
      prefix: Only weights whose name starts so.
      full: Whether H is one matrix; else blocks.
    """

    def __init__(self, model: nn.Module, prefix: str, full: bool):
        self.full = full
        self.shapes = {n: p.shape for n, p in model.named_parameters() if n.startswith(prefix)}
        self.names = sorted(self.shapes, key=_sort_key)
        linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        self.kernels = [
            n for n in self.names if n.endswith("weight") and n.rpartition(".")[0] in linear
        ]

    @property
    def size(self) -> int:
        """Number of weights P."""
        return sum(shape.numel() for shape in self.shapes.values())

    def to_vector(self, weights) -> Tensor:
        """Returns the weights as one vector `[P]`."""
        return torch.cat(
            [(weights[n].T if n in self.kernels else weights[n]).reshape(-1) for n in self.names]
        )

    def to_weights(self, vector: Tensor) -> dict[str, Tensor]:
        """The inverse of `to_vector`, of `[..., P]`."""
        weights, start = {}, 0
        for name in self.names:
            shape = self.shapes[name]
            piece = vector[..., start : start + shape.numel()]
            start += shape.numel()
            if name in self.kernels:
                turned = piece.reshape(*piece.shape[:-1], shape[1], shape[0])
                weights[name] = turned.transpose(-1, -2)
            else:
                weights[name] = piece.reshape(*piece.shape[:-1], *shape)
        return weights

    def positions(self, name: str) -> Tensor:
        """Where the elements of a weight stand in the vector, in the order of the twin."""
        start = 0
        for other in self.names[: self.names.index(name)]:
            start += self.shapes[other].numel()
        return torch.arange(start, start + self.shapes[name].numel())

    def dense(self, curvature: Curvature) -> Tensor:
        """Returns H `[P, P]`."""
        matrix = curvature.matrix.clone()
        for name, (a, b) in curvature.factors.items():
            # rows of the block: the kernel, input-major, and then the bias as the last input
            rows = torch.cat([self.positions(f"{name}.weight"), self.positions(f"{name}.bias")])
            matrix[rows[:, None], rows[None, :]] = torch.kron(a.contiguous(), b.contiguous())
        return matrix

    def root(self, precision: Tensor, noise: Tensor) -> Tensor:
        """Returns L noise for `[S, P]`: triangular for a full matrix, symmetric for blocks."""
        if self.full:
            factor = torch.linalg.cholesky(precision)
            return torch.linalg.solve_triangular(factor.T, noise.T, upper=True).T
        values, vectors = torch.linalg.eigh(precision)
        return noise @ (vectors @ torch.diag(values**-0.5) @ vectors.T)


def only_diagonal(matrix: Tensor) -> Tensor:
    """Returns a matrix without what is off its diagonal."""
    return torch.diag(matrix.diagonal())


def without(matrix: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """Returns a matrix with some rows and columns set to zero."""
    matrix = matrix.clone()
    for index in rows:
        matrix[index, :] = 0.0
        matrix[:, index] = 0.0
    return matrix


def _sort_key(name: str) -> tuple[str, ...]:
    *path, leaf = name.split(".")
    return (*path, "kernel" if leaf == "weight" else leaf)
