"""Coverage, sharpness, PIT and expected calibration error.

Twin of `jaxprob/metrics/calibration.py`.
"""

import torch
from torch import Tensor

from torch_ref.distributions import Distribution
from torch_ref.distributions.circular import nearest_turn

__all__ = ["coverage", "expected_calibration_error", "pit", "sharpness"]


def coverage(predictive: Distribution, y: Tensor, level: float = 0.9) -> Tensor:
    """Returns the fraction of targets inside the central interval."""
    lower, upper = predictive.interval(level)
    if predictive.periodic:
        y = nearest_turn(y, predictive.mean)
    return ((lower <= y) & (y <= upper)).to(y.dtype).mean()


def sharpness(predictive: Distribution, level: float = 0.9) -> Tensor:
    """Returns the mean width of the central interval."""
    lower, upper = predictive.interval(level)
    return (upper - lower).mean()


def pit(predictive: Distribution, y: Tensor) -> Tensor:
    """Returns F(y) of each marginal."""
    if predictive.periodic:
        y = nearest_turn(y, predictive.mean)
    return predictive.marginal().cdf(y)


def expected_calibration_error(probs: Tensor, labels: Tensor, num_bins: int = 15) -> Tensor:
    """Returns sum_b (n_b / N) |accuracy_b - confidence_b| over bins of equal width."""
    if probs.ndim == 1:
        probs = torch.stack([1 - probs, probs], dim=-1)
    confidence, predicted = probs.max(dim=-1)
    total = torch.zeros((), dtype=probs.dtype)
    for b in range(num_bins):
        inside = (confidence * num_bins > b) & (confidence * num_bins <= b + 1)
        if inside.any():
            accuracy = (predicted[inside] == labels[inside]).to(probs.dtype).mean()
            total += inside.to(probs.dtype).mean() * (accuracy - confidence[inside].mean()).abs()
    return total
