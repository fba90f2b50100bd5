"""Features to distributions over classes, by their log-odds.

Twin of `jaxprob/heads/classes.py`.
"""

from torch import Tensor, nn

from torch_ref.distributions import Bernoulli, Categorical, Independent

__all__ = ["BernoulliHead", "CategoricalHead"]


class BernoulliHead(nn.Module):
    """One log-odds for each yes-or-no target."""

    def __init__(self, in_features: int, features: int = 1):
        super().__init__()
        self.out = nn.Linear(in_features, features)

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        return Independent(Bernoulli(logits=self.out(h)), 1)


class CategoricalHead(nn.Module):
    """One of K classes."""

    def __init__(self, in_features: int, num_classes: int):
        super().__init__()
        self.out = nn.Linear(in_features, num_classes)

    def forward(self, h: Tensor) -> Categorical:
        """Maps `[*B, H]` to a distribution over `[*B]`."""
        return Categorical(logits=self.out(h))
