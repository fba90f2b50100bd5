"""`jax.random` re-created in plain torch: the same seed gives the same numbers.

Keys, bits, uniform numbers, Booleans, integers and orders are equal to JAX's to the last bit, in
float32 and float64. Formulas of uniform numbers are equal to the last bit in float32, up to XLA's
`tan`, `pow`, `exp` and reciprocal roots, and to about 1e-15 in float64. With them a twin can be
initialised, sampled and trained from a seed alone, with no array handed over.

    threefry.py      the hash                      base.py          bits and uniform numbers
    keys.py          key, split, fold_in, streams  continuous.py    normal and other formulas
    elementary.py    log, log1p as in XLA          discrete.py      Booleans, integers, classes
    special.py       erf, erf_inv, lgamma          permutations.py  orders and samples of a list
    rejection.py     gamma and what is made of it  counts.py        Poisson and binomial
    matrices.py      with linear algebra           initializers.py  Flax Linen's first parameters

Samplers that no twin calls are the porter's tools: whatever a model draws by `jax.random`, its port
can draw alike.

Names and arguments are those of `jax.random` 0.10 with its defaults (Threefry, partitionable).
`dtype=None` means torch's default type, and a default of float64 stands for `jax_enable_x64`. A
batch of keys `[*batch, 2]` acts as `jax.vmap` over the keys. Results live where the key lives, and
carry no gradient to parameters such as bounds and concentrations.
"""

from torch_ref.random import initializers
from torch_ref.random.base import bits, uniform
from torch_ref.random.continuous import (
    cauchy,
    exponential,
    gumbel,
    laplace,
    logistic,
    normal,
    truncated_normal,
)
from torch_ref.random.counts import binomial, poisson
from torch_ref.random.discrete import bernoulli, categorical, rademacher, randint
from torch_ref.random.initializers import fold_path, linen_init_, param_key
from torch_ref.random.keys import KeyStream, fold_in, key, split
from torch_ref.random.matrices import multivariate_normal, orthogonal
from torch_ref.random.permutations import choice, permutation
from torch_ref.random.rejection import beta, dirichlet, gamma, loggamma, student_t

__all__ = [
    "KeyStream",
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "choice",
    "dirichlet",
    "exponential",
    "fold_in",
    "fold_path",
    "gamma",
    "gumbel",
    "initializers",
    "key",
    "laplace",
    "linen_init_",
    "loggamma",
    "logistic",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "param_key",
    "permutation",
    "poisson",
    "rademacher",
    "randint",
    "split",
    "student_t",
    "truncated_normal",
    "uniform",
]
