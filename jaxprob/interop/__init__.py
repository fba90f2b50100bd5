"""Between Flax params and PyTorch modules."""

from jaxprob.interop.arviz import to_arviz
from jaxprob.interop.files import load, load_for_torch, save
from jaxprob.interop.layouts import Rule, same
from jaxprob.interop.modules import register
from jaxprob.interop.optimizer_state import optimizer_from_torch, optimizer_to_torch
from jaxprob.interop.parity import ParityError, ParityReport, check_parity
from jaxprob.interop.transfer import from_torch, gradients_from_torch, to_torch

__all__ = [
    "ParityError",
    "ParityReport",
    "Rule",
    "check_parity",
    "from_torch",
    "gradients_from_torch",
    "load",
    "load_for_torch",
    "optimizer_from_torch",
    "optimizer_to_torch",
    "register",
    "same",
    "save",
    "to_arviz",
    "to_torch",
]
