"""Gradients of E_q(z)[f(z)] where z is drawn: one contract, and for small problems the exact one.

| estimator                                   | draws            | unbiased              |
|---------------------------------------------|------------------|-----------------------|
| `reparameterized()`                         | continuous       | yes                   |
| `score_function(baseline)`                  | any              | yes                   |
| `score_function("learned", normalize=True)` | any              | up to its length      |
| `vimco(num_samples)`                        | any              | yes, of a tighter one |
| `reweighted_wake_sleep(num_samples)`        | any              | of p; of q as 1 / S   |
| `rebar(temperature)`                        | binary, one-hot  | yes                   |
| `relax(temperature)`                        | binary, one-hot  | yes                   |
| `gumbel_softmax(temperature)`               | binary, one-hot  | as t -> 0             |
| `straight_through()`                        | binary, one-hot  | f linear in each z_i  |
| `enumerated()`                              | few states       | exact                 |

    estimate = score_function("leave_one_out", num_samples=4)(q, f, key)
    loss = -jnp.mean(estimate.value)

Twin: `torch_ref/objectives/estimators/`.
"""

from jaxprob.objectives.estimators.contract import Estimate, Estimator
from jaxprob.objectives.estimators.enumeration import (
    MOST_STATES,
    enumerated,
    exact_gradient,
    exact_objective,
    states,
)
from jaxprob.objectives.estimators.pathwise import (
    gumbel_softmax,
    rebar,
    relax,
    reparameterized,
    straight_through,
)
from jaxprob.objectives.estimators.score import (
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
