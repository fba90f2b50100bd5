"""Spike-and-slab and horseshoe priors.

Twin of `jaxprob/objectives/sparse_priors.py`.
"""

import dataclasses
import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["HorseshoePrior", "SpikeAndSlabPrior"]


@dataclasses.dataclass(frozen=True)
class SpikeAndSlabPrior:
    """A wide normal with probability `share`, else a narrow one."""

    slab: float = 1.0
    spike: float = 0.01
    share: float = 0.5

    def log_prob(self, weights: Iterable[Tensor]) -> Tensor:
        """Returns log p(w) summed over tensors."""
        both = torch.distributions.Normal(0.0, torch.tensor([self.slab, self.spike]).double())
        shares = torch.tensor([self.share, 1.0 - self.share]).double().log()
        return torch.stack(
            [
                torch.logsumexp(both.log_prob(w[..., None]) + shares, -1).sum().to(w.dtype)
                for w in weights
            ]
        ).sum()


@dataclasses.dataclass(frozen=True)
class HorseshoePrior:
    """A normal with a half-Cauchy scale, integrated over the logarithm of that scale."""

    scale: float = 1.0

    def log_prob(self, weights: Iterable[Tensor]) -> Tensor:
        """Returns log p(w) summed over tensors."""
        # p(w) = int N(w; 0, lambda^2) 2 / (pi (1 + lambda^2)) dlambda, with lambda = e^t: the
        # trapezium rule converges geometrically, as the integrand decays at both ends
        t = torch.arange(-60.0, 60.0, 0.05, dtype=torch.float64)
        log_measure = math.log(2 / math.pi) + t - torch.logaddexp(2 * t, torch.zeros_like(t))
        normal = torch.distributions.Normal(0.0, t.exp())
        total = []
        for w in weights:
            density = normal.log_prob((w / self.scale).double()[..., None]) + log_measure
            log_prob = torch.logsumexp(density, -1) + math.log(0.05) - math.log(self.scale)
            total.append(log_prob.sum().to(w.dtype))
        return torch.stack(total).sum()
