"""The multivariate normal distribution with covariance W W^T + diag(d).

Twin of `jaxprob/distributions/low_rank_multivariate_normal.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.base import Distribution
from torch_ref.distributions.normal import Normal

__all__ = ["LowRankMultivariateNormal"]


class LowRankMultivariateNormal(Distribution, torch.distributions.LowRankMultivariateNormal):
    """torch's low-rank normal, with marginals."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value), by least squares instead of torch's difference of two squares.

        Of [d^-1/2 W; I] m = [d^-1/2 (x - loc); 0] the residual has the Mahalanobis length, and the
        triangle of the QR decomposition the determinant.
        """
        if self._validate_args:
            self._validate_sample(value)
        root = self.cov_diag.sqrt()
        rank = self.cov_factor.shape[-1]
        eye = torch.eye(rank, dtype=root.dtype).expand(*self.batch_shape, rank, rank)
        stacked = torch.cat([self.cov_factor / root.unsqueeze(-1), eye], dim=-2)
        basis, triangle = torch.linalg.qr(stacked)
        white = torch.nn.functional.pad((value - self.loc) / root, (0, rank)).unsqueeze(-1)
        rest = white
        for _ in range(2):  # the second pass takes out what rounding left of the first
            rest = rest - basis @ (basis.mT @ rest)
        half = triangle.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1) + root.log().sum(-1)
        size = self.loc.shape[-1]
        return -0.5 * rest.square().sum((-2, -1)) - half - 0.5 * size * math.log(2 * math.pi)

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
