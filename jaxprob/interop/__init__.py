"""Between Flax params and PyTorch modules."""

from jaxprob.interop.transfer import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]
