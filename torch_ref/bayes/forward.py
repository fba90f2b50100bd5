"""What a posterior hands to the evidence lower bound.

Twin of `jaxprob/bayes/forward.py`.
"""

from typing import NamedTuple

from torch import Tensor
from torch.distributions import Distribution

__all__ = ["Forward"]


class Forward(NamedTuple):
    """Predictions, one for each draw, and KL(q || prior) in nats."""

    predictions: list[Distribution]
    kl: Tensor
