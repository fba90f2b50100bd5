"""The multivariate normal distribution with independent entries.

Twin of `jaxprob/distributions/multivariate_normal_diag.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref import random
from torch_ref.distributions.base import Distribution
from torch_ref.distributions.normal import Normal

__all__ = ["MultivariateNormalDiag"]


class MultivariateNormalDiag(Distribution):
    """Normal distribution over vectors with independent entries.

    Args:
      loc: Mean `[*batch, D]`.
      scale_diag: Standard deviations `[*batch, D]`.
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "scale_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, scale_diag: Tensor):
        self.loc, self.scale_diag = torch.broadcast_tensors(loc, scale_diag)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=None)

    @property
    def scale_tril(self) -> Tensor:
        """Cholesky factor of the covariance."""
        return torch.diag_embed(self.scale_diag)

    def marginal(self) -> Normal:
        """Returns the D marginal normals."""
        return Normal(self.loc, self.scale_diag)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value)."""
        return self.marginal().log_prob(value).sum(-1)

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X_i <= value_i for all i)."""
        return self.marginal().cdf(value).prod(-1)

    def log_cdf(self, value: Tensor) -> Tensor:
        """Returns log P(X_i <= value_i for all i)."""
        return self.marginal().log_cdf(value).sum(-1)

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X_i > value_i for all i)."""
        return self.marginal().survival_function(value).prod(-1)

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
        """scale_diag^2."""
        return self.scale_diag.square()

    def covariance(self) -> Tensor:
        """Returns the diagonal matrix of the variances."""
        return torch.diag_embed(self.variance)

    def entropy(self) -> Tensor:
        """Returns D (1 + log 2 pi) / 2 + sum of the log scales."""
        size = self.loc.shape[-1]
        return 0.5 * size * (1.0 + math.log(2 * math.pi)) + self.scale_diag.log().sum(-1)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.loc + self.scale_diag * random.normal(key, shape, self.loc.dtype)
