"""Gradients of E_q(z)[f(z)] where z is drawn: twins of `jaxprob.objectives.estimators`."""

from torch_ref.objectives.estimators.contract import Estimate, Estimator
from torch_ref.objectives.estimators.enumeration import (
    MOST_STATES,
    enumerated,
    exact_gradient,
    exact_objective,
    states,
)
from torch_ref.objectives.estimators.pathwise import (
    gumbel_softmax,
    rebar,
    relax,
    reparameterized,
    straight_through,
)
from torch_ref.objectives.estimators.score import (
    reweighted_wake_sleep,
    score_function,
    vimco,
)

__all__ = [
    "MOST_STATES",
    "Estimate",
    "Estimator",
    "enumerated",
    "exact_gradient",
    "exact_objective",
    "gumbel_softmax",
    "rebar",
    "relax",
    "reparameterized",
    "reweighted_wake_sleep",
    "score_function",
    "states",
    "straight_through",
    "vimco",
]
