"""The multivariate normal distribution with covariance W W^T + diag(d).

Twin of `jaxprob/distributions/low_rank_multivariate_normal.py`; torch's density serves.
"""

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.base import Distribution
from torch_ref.distributions.normal import Normal

__all__ = ["LowRankMultivariateNormal"]


class LowRankMultivariateNormal(Distribution, torch.distributions.LowRankMultivariateNormal):
    """torch's low-rank normal, with marginals."""

    def marginal(self) -> Normal:
        """Returns the D marginal normals."""
        return Normal(self.loc, self.variance.sqrt())

    def covariance(self) -> Tensor:
        """Returns the covariance matrix."""
        return self.covariance_matrix

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        factor_key, noise_key = random.split(key).unbind(-2)
        rank, dtype = self.cov_factor.shape[-1], self.loc.dtype
        common = random.normal(factor_key, (*shape[:-1], rank), dtype).unsqueeze(-1)
        noise = self.cov_diag.sqrt() * random.normal(noise_key, shape, dtype)
        return self.loc + (self.cov_factor @ common).squeeze(-1) + noise
