"""Optax transforms and schedules that are `torch.optim`'s to the last digit.

Each takes torch's argument names with torch's defaults, `lr` first, and returns an
`optax.GradientTransformation`: `optax.chain(clip_grad_norm(1.0), adam(1e-3))` is
`clip_grad_norm_(parameters, 1.0)` followed by `Adam(parameters, 1e-3).step()`. Wherever torch takes
a number that its schedulers change, these take a schedule of the step as well (`schedules`).
States are NamedTuples whose fields bear the names of torch's state.
"""

from jaxprob.optim import schedules
from jaxprob.optim.clipping import clip_grad_norm
from jaxprob.optim.descent import RpropState, SGDState, rprop, sgd
from jaxprob.optim.moment_variants import NAdamState, RAdamState, nadam, radam
from jaxprob.optim.moments import AdamaxState, AdamState, adam, adamax, adamw
from jaxprob.optim.proximal import proximal_l1
from jaxprob.optim.root_mean_square import (
    AdadeltaState,
    AdagradState,
    RMSpropState,
    adadelta,
    adagrad,
    rmsprop,
)

__all__ = [
    "AdadeltaState",
    "AdagradState",
    "AdamState",
    "AdamaxState",
    "NAdamState",
    "RAdamState",
    "RMSpropState",
    "RpropState",
    "SGDState",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "clip_grad_norm",
    "nadam",
    "proximal_l1",
    "radam",
    "rmsprop",
    "rprop",
    "schedules",
    "sgd",
]
