"""The multivariate normal distribution, held as the Cholesky factor of its covariance.

Twin of `jaxprob/distributions/multivariate_normal.py`; torch's own density, entropy and KL serve.
"""

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.base import Distribution
from torch_ref.distributions.normal import Normal

__all__ = ["MultivariateNormal"]


class MultivariateNormal(Distribution, torch.distributions.MultivariateNormal):
    """Normal distribution over vectors.

    Args:
      loc: Mean `[*batch, D]`.
      scale_tril: Lower Cholesky factor of the covariance `[*batch, D, D]`.
      covariance: The covariance in its place.
      precision: The inverse of the covariance in its place.
    """

    def __init__(
        self,
        loc: Tensor,
        scale_tril: Tensor | None = None,
        *,
        covariance: Tensor | None = None,
        precision: Tensor | None = None,
    ):
        full = torch.linalg.inv(precision) if precision is not None else covariance
        factor = torch.linalg.cholesky(full) if scale_tril is None else scale_tril
        batch = torch.broadcast_shapes(loc.shape[:-1], factor.shape[:-2])
        super().__init__(loc, scale_tril=factor.expand(*batch, *factor.shape[-2:]))

    def marginal(self) -> Normal:
        """Returns the D marginal normals."""
        return Normal(self.loc, self.variance.sqrt())

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        noise = random.normal(key, shape, self.loc.dtype)
        return self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
