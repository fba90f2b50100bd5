"""The constraints of the parameters, under the names that `jaxprob` uses.

torch.distributions has objects for all of them; this module only gives them our names.
"""

from torch.distributions.constraints import (
    Constraint,
    lower_cholesky,
    positive,
    real,
    real_vector,
)

__all__ = ["Constraint", "lower_cholesky", "positive", "real", "real_vector"]
