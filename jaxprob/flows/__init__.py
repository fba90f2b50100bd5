"""Normalising flows: densities by invertible maps, with methods `log_prob` and `sample`.

    model = flows.spline_coupling(features=2)
    params = model.init(key, x[:1])["params"]
    loss_fn = flows.negative_log_likelihood(model)
    model.apply({"params": params}, key, (1000,), method="sample")

`Flow` composes transforms, Linen modules with `forward` and `inverse` (see `flow`); the builders
make the usual ones. A flow is no distribution, since its density needs its parameters, so it works
in `jax.jit(jax.vmap(model.apply))` as any module does.
"""

from jaxprob.flows import energies
from jaxprob.flows.autoregressive import MaskedAffineAutoregressive
from jaxprob.flows.builders import (
    coupling,
    inverse_autoregressive,
    masked_autoregressive,
    planar,
    spline_coupling,
)
from jaxprob.flows.couplings import AffineCoupling, SplineCoupling
from jaxprob.flows.flow import Flow, Inverse
from jaxprob.flows.linear_maps import LULinear, Permutation, Rescale
from jaxprob.flows.losses import negative_log_likelihood, reverse_kl
from jaxprob.flows.planar_maps import Planar

__all__ = [
    "AffineCoupling",
    "Flow",
    "Inverse",
    "LULinear",
    "MaskedAffineAutoregressive",
    "Permutation",
    "Planar",
    "Rescale",
    "SplineCoupling",
    "coupling",
    "energies",
    "inverse_autoregressive",
    "masked_autoregressive",
    "negative_log_likelihood",
    "planar",
    "reverse_kl",
    "spline_coupling",
]
