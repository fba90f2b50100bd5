"""Features to a mixture of normals.

Twin of `jaxprob/heads/mixture.py`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_ref import random
from torch_ref.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch_ref.heads.links import SCALE_FLOOR, in_units, positive

__all__ = ["MixtureHead", "centres"]


class MixtureHead(nn.Module):
    """Weights, means and scales of K normal components."""

    def __init__(
        self,
        in_features: int,
        components: int = 5,
        features: int = 1,
        target_mean: float | Sequence[float] = 0.0,
        target_std: float | Sequence[float] = 1.0,
    ):
        super().__init__()
        self.shape = (components, features)
        self.target_mean, self.target_std = target_mean, target_std
        self.logits = nn.Linear(in_features, components)
        self.loc = nn.Linear(in_features, components * features)
        self.scale = nn.Linear(in_features, components * features)
        self.reset_parameters(random.key(0))

    def reset_parameters(self, key: Tensor) -> None:
        """Draws the weights: small kernels, spread centres, scales as wide as the gaps."""
        keys = random.split(key, 4)
        components, _ = self.shape
        start = max(1.0 / components, 10 * SCALE_FLOOR)
        with torch.no_grad():
            for layer, layer_key in zip((self.logits, self.loc, self.scale), keys[:3], strict=True):
                noise = random.normal(layer_key, tuple(layer.weight.shape), layer.weight.dtype)
                layer.weight.copy_(noise * math.sqrt(0.1 / layer.in_features))
                layer.bias.zero_()
            self.loc.bias.copy_(centres(keys[3], self.shape, self.loc.bias.dtype).reshape(-1))
            self.scale.bias.fill_(math.log(math.expm1(start)))

    def forward(self, h: Tensor) -> MixtureSameFamily:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        loc = self.loc(h).unflatten(-1, self.shape)
        raw = self.scale(h).unflatten(-1, self.shape)
        unit = in_units(self.target_std, loc)
        loc = in_units(self.target_mean, loc) + unit * loc
        components = Independent(Normal(loc, unit * positive(raw), validate_args=False), 1)
        weights = Categorical(logits=self.logits(h))
        return MixtureSameFamily(weights, components)


def centres(key: Tensor, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns K starting points `[K, D]`: a Latin hypercube of a standard normal."""
    count, features = shape
    levels = (torch.arange(count, dtype=dtype) + 0.5) / count
    quantiles = torch.special.ndtri(levels)
    keys = random.split(key, features)
    columns = [quantiles] + [quantiles[random.permutation(k, count)] for k in keys[1:]]
    return torch.stack(columns, dim=-1)
