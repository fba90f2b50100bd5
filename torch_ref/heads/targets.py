"""The head for a kind of target.

Twin of `jaxprob/heads/targets.py`.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from torch_ref.heads.bounded import BetaHead
from torch_ref.heads.classes import BernoulliHead, CategoricalHead
from torch_ref.heads.counts import NegativeBinomialHead, PoissonHead
from torch_ref.heads.heavy_tailed import StudentTHead
from torch_ref.heads.mixture import MixtureHead
from torch_ref.heads.normal import NormalHead
from torch_ref.heads.positive import GammaHead
from torch_ref.heads.quantiles import QuantileHead

__all__ = ["TARGETS", "for_target"]

TARGETS: dict[str, Callable[..., nn.Module]] = {
    "binary": BernoulliHead,
    "class": CategoricalHead,
    "real": NormalHead,
    "heavy_tailed": StudentTHead,
    "multimodal": MixtureHead,
    "positive": GammaHead,
    "count": PoissonHead,
    "overdispersed_count": NegativeBinomialHead,
    "bounded": BetaHead,
    "quantiles": QuantileHead,
}


def for_target(kind: str, in_features: int, **options: Any) -> nn.Module:
    """Returns the head for a kind of target, for features of that size.

    Raises:
      ValueError: An unknown kind.
    """
    if not isinstance(kind, str) or kind not in TARGETS:
        shown = repr(kind) if isinstance(kind, str) else type(kind).__name__
        raise ValueError(f"for_target: kind must be one of {', '.join(TARGETS)}; got {shown}.")
    return TARGETS[kind](in_features, **options)
