"""Families over the real line that are one shape moved and stretched, z = (x - loc) / scale.

Twin of `jaxprob/distributions/location_scale.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from torch_ref import random
from torch_ref.distributions.special import log1p_square, log_probabilities, softplus
from torch_ref.distributions.univariate import Univariate, draw_uniform

__all__ = ["Cauchy", "Gumbel", "Laplace", "Logistic"]


class Laplace(Univariate, torch.distributions.Laplace):
    """torch's Laplace; its density and moments serve."""

    def _kink(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        """Location."""
        return self.loc

    def _log_density(self, x: Tensor) -> Tensor:
        return -((x - self.loc) / self.scale).abs() - (2.0 * self.scale).log()

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x - self.loc) / self.scale
        tail = 0.5 * torch.where(z <= 0, z, -z).exp()
        return torch.where(z <= 0, tail, 1.0 - tail), torch.where(z <= 0, 1.0 - tail, tail)

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        small = lower < 0.5
        tail = (2.0 * torch.where(small, lower, upper)).log()
        return self.loc + self.scale * torch.where(small, tail, -tail)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.loc + self.scale * random.laplace(key, shape, self.loc.dtype)


class Cauchy(Univariate, torch.distributions.Cauchy):
    """torch's Cauchy, with log(1 + z^2) that cannot overflow."""

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return -log1p_square(z) - math.log(math.pi) - self.scale.log()

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x - self.loc) / self.scale
        lower = torch.atan2(torch.ones_like(z), -z) / math.pi
        return lower, torch.atan2(torch.ones_like(z), z) / math.pi

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        small = lower < 0.5
        tail = torch.where(small, lower, upper)
        size = torch.tan(math.pi * (0.5 - tail))
        size = torch.where(tail < 0.25, 1.0 / torch.tan(math.pi * tail), size)
        return self.loc + self.scale * torch.where(small, -size, size)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.loc + self.scale * random.cauchy(key, shape, self.loc.dtype)


class Logistic(Univariate):
    """Logistic distribution; torch has none.

    Args:
      loc: Mean.
      scale: Scale.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Location."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """Location."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """scale^2 pi^2 / 3."""
        return self.scale.square() * (math.pi**2 / 3)

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return -softplus(z) - softplus(-z) - self.scale.log()

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x - self.loc) / self.scale
        return z.sigmoid(), (-z).sigmoid()

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        log_lower, log_upper = log_probabilities(lower, upper)
        return self.loc + self.scale * (log_lower - log_upper)

    def entropy(self) -> Tensor:
        """Returns 2 + log scale."""
        return 2.0 + self.scale.log()

    def rsample(self, sample_shape=torch.Size()) -> Tensor:  # noqa: B008
        """Returns draws by inversion."""
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        return self.loc + self.scale * (u.log() - torch.log1p(-u))

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.loc + self.scale * random.logistic(key, shape, self.loc.dtype)


class Gumbel(Univariate, torch.distributions.Gumbel):
    """torch's Gumbel, written out; its moments and entropy serve."""

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        return -z - (-z).exp() - self.scale.log()

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        power = (-(x - self.loc) / self.scale).exp()
        return (-power).exp(), -torch.expm1(-power)

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        return self.loc - self.scale * (-log_probabilities(lower, upper)[0]).log()

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        noise = -(-draw_uniform(key, shape, self.loc.dtype).log()).log()
        return self.loc + self.scale * noise
