"""A change of units, a permutation, and an invertible matrix by its factors.

Twin of `jaxprob/flows/linear_maps.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_ref import random
from torch_ref.flows.couplings import SCALE_BOUND
from torch_ref.heads.links import bounded

__all__ = ["LULinear", "Permutation", "Rescale"]


class Rescale(nn.Module):
    """x = mean + std z.

    Args:
      mean: Mean of each element in the training data.
      std: Standard deviation of each element.
    """

    def __init__(self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps z to x."""
        mean, std = self.units(z)
        return torch.addcmul(mean, std, z), std.log().expand_as(z).sum(-1)

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x to z."""
        mean, std = self.units(x)
        return (x - mean) / std, -std.log().expand_as(x).sum(-1)

    def units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and std, in floats where x holds integers."""
        dtype = torch.result_type(x, 1.0)
        return torch.tensor(self.mean, dtype=dtype), torch.tensor(self.std, dtype=dtype)


class Permutation(nn.Module):
    """x_i = z_{order_i}."""

    order: Tensor

    def __init__(self, order: Sequence[int]):
        super().__init__()
        self.register_buffer("order", torch.tensor(order), persistent=False)

    @classmethod
    def reverse(cls, features: int) -> "Permutation":
        """Returns the map that turns the elements round."""
        return cls(list(range(features - 1, -1, -1)))

    @classmethod
    def random(cls, key: Tensor, features: int) -> "Permutation":
        """Returns an order drawn from a key."""
        return cls(random.permutation(key, features).tolist())

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps z to x."""
        return self.chosen(z, self.order)

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x to z."""
        return self.chosen(x, self.order.argsort())

    def chosen(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the elements in an order, and zeros."""
        if x.shape[-1] != len(places):
            raise ValueError(f"Permutation: {len(places)} places for events {tuple(x.shape)}.")
        return x.index_select(-1, places), x.new_zeros(x.shape[:-1])


class LULinear(nn.Module):
    """x = L U z + b.

    Args:
      features: Size D of an event.
      scale_bound: Bound on the logarithm of the diagonal of U.
    """

    def __init__(self, features: int, scale_bound: float = SCALE_BOUND):
        super().__init__()
        pairs = features * (features - 1) // 2
        self.lower, self.upper = (nn.Parameter(torch.zeros(pairs)) for _ in range(2))
        self.log_diagonal, self.bias = (nn.Parameter(torch.zeros(features)) for _ in range(2))
        self.features, self.scale_bound = features, scale_bound

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns L, U and the logarithm of U's diagonal."""
        log_diagonal = bounded(self.log_diagonal, self.scale_bound)
        below = torch.ones(self.features, self.features).tril(-1).bool()
        left = torch.eye(self.features).to(self.lower).masked_scatter(below, self.lower)
        right = log_diagonal.exp().diag().masked_scatter(below.T, self.upper)
        return left, right, log_diagonal

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps z to x."""
        left, right, log_diagonal = self.factors()
        return z @ (left @ right).T + self.bias, log_diagonal.sum().expand(z.shape[:-1])

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x to z."""
        left, right, log_diagonal = self.factors()
        columns = (x - self.bias).unsqueeze(-1)
        columns = torch.linalg.solve_triangular(left, columns, upper=False, unitriangular=True)
        z = torch.linalg.solve_triangular(right, columns, upper=True).squeeze(-1)
        return z, -log_diagonal.sum().expand(x.shape[:-1])
