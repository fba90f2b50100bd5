"""One small instance of every transform and of every builder, and numbers to put into them."""

import functools

import jax
import numpy as np

from jaxprob import flows

B, D, C = 5, 3, 2
HIDDEN = (6, 6)
MASK = (False, True, False)
RNG = np.random.default_rng(0)
Z = RNG.normal(0.0, 1.5, (B, D))
CONDITION = RNG.normal(size=(B, C))

# name -> (transform, whether it is given the condition)
TRANSFORMS = {
    "AffineCoupling": (flows.AffineCoupling(MASK, HIDDEN), False),
    "AffineCoupling, condition": (flows.AffineCoupling((True, False, False), HIDDEN), True),
    "AffineCoupling, condition alone": (flows.AffineCoupling((False,) * D, HIDDEN), True),
    "SplineCoupling": (flows.SplineCoupling(MASK, HIDDEN, bins=5, bound=2.5), False),
    "SplineCoupling, condition": (flows.SplineCoupling((True, False, False), HIDDEN), True),
    "MAF": (flows.MaskedAffineAutoregressive(D, HIDDEN, (2, 0, 1)), False),
    "MAF, condition": (flows.MaskedAffineAutoregressive(D, HIDDEN), True),
    "IAF": (flows.Inverse(flows.MaskedAffineAutoregressive(D, HIDDEN, (1, 2, 0))), False),
    "Planar": (flows.Planar(D), False),
    "Planar, condition": (flows.Planar(D, (4,)), True),
    "Permutation": (flows.Permutation((2, 0, 1)), False),
    "LULinear": (flows.LULinear(D), False),
    "Rescale": (flows.Rescale((1.0, -2.0, 0.5), (0.5, 2.0, 3.0)), False),
}

# the builders, each over D = features
BUILDERS = {
    "coupling": lambda features: flows.coupling(features, 2, HIDDEN, linear=True),
    "spline_coupling": lambda features: flows.spline_coupling(features, 2, HIDDEN, bins=4, std=1.5),
    "masked_autoregressive": lambda features: flows.masked_autoregressive(features, 2, HIDDEN),
    "inverse_autoregressive": lambda features: flows.inverse_autoregressive(
        features, 2, HIDDEN, mean=0.5
    ),
    "planar": lambda features: flows.planar(features, 4),
}


# A test's program runs once, so it is compiled in a hurry.
compiled = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def drawn(module, *arguments, method=None, size=0.5, dtype="float64"):
    """Variables as `init` would give them, with numbers from NumPy: nothing is compiled."""
    shapes = jax.eval_shape(
        lambda key: module.init(key, *arguments, method=method), jax.random.key(0)
    )
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: rng.normal(0.0, size, leaf.shape).astype(dtype), shapes)
