"""Proper scores; lower is better for all of them.

Twin of `jaxprob/metrics/scores.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref.distributions import Distribution, Normal, Predictive

__all__ = ["brier", "crps", "nll"]


def nll(predictive: Distribution, y: Tensor) -> Tensor:
    """Returns the mean negative log-likelihood in nats a row."""
    return -predictive.log_prob(y).mean()


def crps(predictive: Distribution | Tensor, y: Tensor) -> Tensor:
    """Returns the mean CRPS of a normal, of a `Predictive` of normals, or of samples `[S, ...]`."""
    if isinstance(predictive, Tensor):
        return _crps_of_samples(predictive, y)
    marginal = predictive.marginal()
    if isinstance(marginal, Normal):
        # Gneiting & Raftery (2007), eq. 21
        z = (y - marginal.loc) / marginal.scale
        density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
        inner = z * (2 * torch.special.ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi)
        return (marginal.scale * inner).mean()
    assert isinstance(marginal, Predictive)
    loc, scale = marginal.components.loc, marginal.components.scale
    to_target = _mean_absolute(y - loc, scale).mean(dim=0)
    spread = (scale.unsqueeze(0).square() + scale.unsqueeze(1).square()).sqrt()
    between = _mean_absolute(loc.unsqueeze(0) - loc.unsqueeze(1), spread).mean(dim=(0, 1))
    return (to_target - 0.5 * between).mean()


def _mean_absolute(m: Tensor, s: Tensor) -> Tensor:
    """E|Z| of a normal: the mean of a folded normal (Leone et al. 1961)."""
    folded = s * math.sqrt(2 / math.pi) * torch.exp(-0.5 * (m / s).square())
    return folded + m * torch.special.erf(m / (s * math.sqrt(2)))


def _crps_of_samples(samples: Tensor, y: Tensor) -> Tensor:
    """By order statistics: E|X - X'| = 2 / S^2 sum_i (2 i - S - 1) x_(i)."""
    count = samples.shape[0]
    ordered = samples.sort(dim=0).values
    rank = torch.arange(1, count + 1, dtype=samples.dtype).reshape(-1, *[1] * y.ndim)
    spread = (2 / count**2) * ((2 * rank - count - 1) * ordered).sum(dim=0)
    return ((samples - y).abs().mean(dim=0) - 0.5 * spread).mean()


def brier(probs: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean Brier score of `[B, K]` or, for two classes, `[B]` probabilities."""
    if probs.ndim == 1:
        return (probs - labels).square().mean()
    target = torch.nn.functional.one_hot(labels, probs.shape[-1]).to(probs)
    return (probs - target).square().sum(dim=-1).mean()
