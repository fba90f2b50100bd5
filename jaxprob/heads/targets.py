"""The head for a kind of target, for those who know their data and not the distributions.

Twin: `torch_ref/heads/targets.py`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from jaxprob.heads.bounded import BetaHead
from jaxprob.heads.classes import BernoulliHead, CategoricalHead
from jaxprob.heads.counts import NegativeBinomialHead, PoissonHead
from jaxprob.heads.heavy_tailed import StudentTHead
from jaxprob.heads.mixture import MixtureHead
from jaxprob.heads.normal import NormalHead
from jaxprob.heads.positive import GammaHead
from jaxprob.heads.quantiles import QuantileHead

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
"""Kind of target -> head."""


def for_target(kind: str, **options: Any) -> nn.Module:
    """Returns the head for a kind of target.

    Args:
      kind: "binary" (yes or no), "class" (one of K; needs num_classes=K), "real" (any number),
        "heavy_tailed" (with outliers), "multimodal" (several answers may be right), "positive"
        (durations, prices), "count", "overdispersed_count" (counts that vary more than their
        mean), "bounded" (proportions in (0, 1)), "quantiles" (no shape assumed).
      **options: Attributes of the head, e.g. `features`, `target_mean`.

    Raises:
      ValueError: An unknown kind, or an option that the head does not have.
    """
    kinds = ", ".join(TARGETS)
    if not isinstance(kind, str):
        raise ValueError(
            f"for_target: kind must be a word for the targets, one of {kinds}; got "
            f"{type(kind).__name__}. The data are not looked at: only you know what they mean."
        )
    if kind not in TARGETS:
        raise ValueError(f"for_target: no kind of target {kind!r}; choose one of {kinds}.")
    head = TARGETS[kind]
    try:
        return head(**options)
    except TypeError as error:
        known = [name for name in head.__annotations__ if name not in ("parent", "name")]
        raise ValueError(
            f"for_target({kind!r}): {error}. {head.__name__} takes {', '.join(known)}."
        ) from error
