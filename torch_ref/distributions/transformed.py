"""The distribution of a function of a random variable.

Twin of `jaxprob/distributions/transformed.py`.
"""

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution

__all__ = ["Transformed"]


class Transformed(Distribution, torch.distributions.TransformedDistribution):
    """torch's TransformedDistribution under one transform, with both tails and quantiles.

    Args:
      distribution: Distribution of X.
      bijector: A `torch.distributions.Transform`.
    """

    def __init__(self, distribution: Distribution, bijector: torch.distributions.Transform):
        super().__init__(distribution, [bijector], validate_args=False)
        self.distribution, self.bijector = distribution, bijector

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the base."""
        return self.distribution.float_dtype()

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(Y <= value)."""
        x = self.bijector.inv(value)
        falls = self.distribution.survival_function(x)
        return torch.where(torch.as_tensor(self.bijector.sign) > 0, self.distribution.cdf(x), falls)

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(Y > value)."""
        x = self.bijector.inv(value)
        rises = self.distribution.survival_function(x)
        return torch.where(torch.as_tensor(self.bijector.sign) > 0, rises, self.distribution.cdf(x))

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns f of the base's quantile."""
        rises = torch.as_tensor(self.bijector.sign) > 0
        low, high = torch.where(rises, lower, upper), torch.where(rises, upper, lower)
        return self.bijector(self.distribution.invert(low, high))

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        sample = shape[: len(shape) - len(self.batch_shape) - len(self.event_shape)]
        return self.bijector(self.distribution.draw(key, sample))
