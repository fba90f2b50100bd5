"""Optax transforms and schedules that are `torch.optim`'s to the last digit.

Each takes torch's argument names with torch's defaults, `lr` first, and returns an
`optax.GradientTransformation`: `optax.chain(clip_grad_norm(1.0), adam(1e-3))` is
`clip_grad_norm_(parameters, 1.0)` followed by `Adam(parameters, 1e-3).step()`. Wherever torch takes
a number that its schedulers change, these take a schedule of the step as well (`schedules`).
States are NamedTuples whose fields bear the names of torch's state.

The last digit is that of float32 or float64. In bfloat16 and float16 a step is torch's float32 step
from the state at hand, rounded once, and norms are taken in float32. torch rounds after every
operation there, and ends up elsewhere: after 100 steps on a parabola its NAdam in bfloat16 is .81
from the float64 run (this one .08), and its Adam, AdamW, NAdam and RAdam in float16 give NaN, since
eps = 1e-8 is 0 (torch 2.13). Moments are kept in the dtype of the parameters, as torch keeps them;
in float16 the square of a gradient below 2e-4 is 0. Train float32 parameters, and let `fit`
contract in a short float by `compute_dtype`.
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
