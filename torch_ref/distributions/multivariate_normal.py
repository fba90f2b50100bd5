"""The multivariate normal distribution, held as the Cholesky factor of its covariance.

Twin of `jaxprob/distributions/multivariate_normal.py`; torch's own density, entropy and KL serve.
"""

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution
from torch_ref.distributions.normal import Normal

__all__ = ["MultivariateNormal"]


class MultivariateNormal(Distribution, torch.distributions.MultivariateNormal):
    """Normal distribution over vectors.

    Args:
      loc: Mean `[*batch, D]`.
      scale_tril: Lower Cholesky factor of the covariance `[*batch, D, D]`.
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor):
        super().__init__(loc, scale_tril=scale_tril)

    def marginal(self) -> Normal:
        """Returns the D marginal normals."""
        return Normal(self.loc, self.variance.sqrt())
