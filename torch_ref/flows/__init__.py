"""Twins of `jaxprob.flows`: modules with `forward`, `inverse`, `log_prob` and `sample`."""

from torch_ref.flows import energies
from torch_ref.flows.autoregressive import MaskedAffineAutoregressive
from torch_ref.flows.builders import (
    coupling,
    inverse_autoregressive,
    masked_autoregressive,
    planar,
    spline_coupling,
)
from torch_ref.flows.couplings import AffineCoupling, SplineCoupling
from torch_ref.flows.flow import Flow, Inverse
from torch_ref.flows.linear_maps import LULinear, Permutation, Rescale
from torch_ref.flows.losses import negative_log_likelihood, reverse_kl
from torch_ref.flows.planar_maps import Planar

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
