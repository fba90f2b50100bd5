"""The multivariate normal distribution with covariance W W^T + diag(d).

Twin of `jaxprob/distributions/low_rank_multivariate_normal.py`; torch's density serves.
"""

import torch
from torch import Tensor

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
