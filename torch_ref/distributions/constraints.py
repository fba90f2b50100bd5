"""The constraints of the parameters, under the names that `jaxprob` uses.

torch.distributions has objects for all of them; this module gives them our names, and the
bijections from unconstrained numbers to them.

Twin of `jaxprob/distributions/constraints.py`.
"""

import torch
from torch.distributions import constraints
from torch.distributions.constraints import (
    Constraint,
    boolean,
    interval,
    lower_cholesky,
    one_hot,
    positive,
    positive_definite,
    real,
    real_vector,
    simplex,
    unit_interval,
)

from torch_ref.distributions import bijections

__all__ = [
    "Constraint",
    "boolean",
    "interval",
    "lower_cholesky",
    "non_negative",
    "non_negative_integer",
    "one_hot",
    "ordered",
    "positive",
    "positive_definite",
    "probability",
    "real",
    "real_vector",
    "simplex",
    "to_constrained",
    "to_unconstrained",
    "unit_interval",
]

non_negative = constraints.nonnegative
non_negative_integer = constraints.nonnegative_integer
probability = unit_interval


class _Ordered(Constraint):
    """Strictly increasing vectors."""

    event_dim = 1

    def check(self, value):
        """Returns whether each vector increases."""
        return (value[..., 1:] > value[..., :-1]).all(-1)


ordered = _Ordered()


def to_constrained(constraint: Constraint) -> torch.distributions.Transform:
    """Returns the bijection from unconstrained numbers to what `constraint` allows."""
    if constraint is ordered:
        return bijections.Ordered()
    if constraint is lower_cholesky:
        return bijections.LowerCholesky()
    if constraint is positive_definite:
        return bijections.PositiveDefinite()
    if constraint.is_discrete:
        raise ValueError(f"to_constrained: there is no bijection to the discrete {constraint}.")
    return torch.distributions.biject_to(constraint)


def to_unconstrained(constraint: Constraint) -> torch.distributions.Transform:
    """Returns the inverse of `to_constrained`."""
    return to_constrained(constraint).inv
