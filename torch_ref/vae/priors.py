"""Priors that are learned: a mixture of normals, and a mixture of posteriors.

Twin of `jaxprob/vae/priors.py`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_ref.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch_ref.heads.links import positive

__all__ = ["MixturePrior", "VampPrior"]


class MixturePrior(nn.Module):
    """p(z) = sum_k w_k N(z; loc_k, diag scale_k^2)."""

    def __init__(self, latent_dim: int, num_components: int = 10):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(torch.randn(num_components, latent_dim))
        one = math.log(math.e - 1)
        self.raw_scale = nn.Parameter(torch.full((num_components, latent_dim), one))

    def forward(self, encode: Callable[[Tensor], Any]) -> MixtureSameFamily:
        """Returns p(z)."""
        normals = Normal(self.loc, positive(self.raw_scale), validate_args=False)
        return MixtureSameFamily(Categorical(logits=self.logits), Independent(normals, 1))


class VampPrior(nn.Module):
    """p(z) = (1 / K) sum_k q(z | activation(u_k))."""

    def __init__(
        self,
        shape: Sequence[int],
        num_components: int = 50,
        activation: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.randn(num_components, *shape))
        self.activation = activation or nn.Identity()

    def forward(self, encode: Callable[[Tensor], Any]) -> MixtureSameFamily:
        """Returns p(z)."""
        q = encode(self.activation(self.pseudo_inputs))
        even = self.pseudo_inputs.new_zeros(len(self.pseudo_inputs))
        return MixtureSameFamily(Categorical(logits=even), q)
