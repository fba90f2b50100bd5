"""Batch axes reinterpreted as event axes.

Twin of `jaxprob/distributions/independent.py`.
"""

import torch

from torch_ref.distributions.base import Distribution

__all__ = ["Independent"]


class Independent(Distribution, torch.distributions.Independent):
    """torch's Independent, with marginals."""

    def marginal(self) -> Distribution:
        """Returns the factors."""
        return self.base_dist.marginal()
