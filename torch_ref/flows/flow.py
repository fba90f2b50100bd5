"""A normalising flow: a normal base seen through invertible maps.

A transform is a module with `forward` and `inverse`, each from (tensor, condition) to (tensor,
log |det| of the map that was applied).

Twin of `jaxprob/flows/flow.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from torch_ref import random

__all__ = ["Flow", "Inverse"]


class Flow(nn.Module):
    """A density over vectors of size D, composed of `transforms_0`, `transforms_1`, ...

    Args:
      features: Size D of an event.
      transforms: The maps in the order of sampling.
    """

    takes = ("condition",)

    def __init__(self, features: int, transforms: Sequence[nn.Module]):
        super().__init__()
        self.features = features
        for i, transform in enumerate(transforms):
            self.add_module(f"transforms_{i}", transform)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps z of the base to x; returns x and log |det dx/dz|."""
        condition, log_dets = self._shared(condition, z), []
        for transform in self.children():
            z, log_det = transform(z, condition)
            log_dets.append(log_det)
        return z, sum(log_dets, z.new_zeros(z.shape[:-1]))

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x to z of the base; returns z and log |det dz/dx|."""
        condition, log_dets = self._shared(condition, x), []
        for transform in reversed(list(self.children())):
            x, log_det = transform.inverse(x, condition)
            log_dets.append(log_det)
        return x, sum(log_dets, x.new_zeros(x.shape[:-1]))

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Returns log p(x | condition), `[*B]`."""
        z, log_det = self.inverse(x, condition)
        return self.base_log_prob(z) + log_det

    def sample(
        self, key: Tensor, sample_shape: int | Sequence[int] = (), condition: Tensor | None = None
    ) -> Tensor:
        """Draws events `[*sample_shape, *B, D]`."""
        return self.sample_and_log_prob(key, sample_shape, condition)[0]

    def sample_and_log_prob(
        self, key: Tensor, sample_shape: int | Sequence[int] = (), condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws events and gives their log-density from the same pass."""
        lead = (sample_shape,) if isinstance(sample_shape, int) else sample_shape
        rows = () if condition is None else condition.shape[:-1]
        dtype = next((p.dtype for p in self.parameters()), torch.get_default_dtype())
        z = random.normal(key, (*lead, *rows, self.features), dtype)
        x, log_det = self(z, condition)
        return x, self.base_log_prob(z) - log_det

    def base_log_prob(self, z: Tensor) -> Tensor:
        """Returns log N(z; 0, I)."""
        return Normal(z.new_zeros(()), z.new_ones(())).log_prob(z).sum(-1)

    def _shared(self, condition: Tensor | None, x: Tensor) -> Tensor | None:
        return None if condition is None else condition.expand(*x.shape[:-1], -1)


class Inverse(nn.Module):
    """A transform the other way round."""

    def __init__(self, transform: nn.Module):
        super().__init__()
        self.transform = transform

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Applies the inverse of the transform."""
        return self.transform.inverse(z, condition)

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Applies the transform."""
        return self.transform(x, condition)
