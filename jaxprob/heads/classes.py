"""Features to distributions over classes, by their log-odds.

Twin: `torch_ref/heads/classes.py`. Source: Bishop, "Pattern Recognition and Machine Learning",
4.3.2 and 4.3.4.
"""

import flax.linen as nn
from jaxtyping import Float

from jaxprob.distributions import Bernoulli, Categorical, Independent
from jaxprob.heads.links import raw_outputs
from jaxprob.types import AnyArray

__all__ = ["BernoulliHead", "CategoricalHead"]


class BernoulliHead(nn.Module):
    """One log-odds for each of D yes-or-no targets.

    Attributes:
      features: Number of targets D.
    """

    features: int = 1

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`, each 0 or 1."""
        (logits,) = raw_outputs(h, self.features, 1)
        return Independent(Bernoulli(logits=logits), 1)


class CategoricalHead(nn.Module):
    """One of K classes: K logits.

    Attributes:
      num_classes: Number of classes K.
    """

    num_classes: int

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Categorical:
        """Maps features `[*B, H]` to a distribution over classes `[*B]`, integers 0 to K - 1."""
        (logits,) = raw_outputs(h, self.num_classes, 1)
        return Categorical(logits=logits)
