"""Calibration: whether stated probabilities are the frequencies that occur.

    coverage(level) = mean 1[lower <= y <= upper],   sharpness(level) = mean (upper - lower)
    PIT = F(y), uniform on [0, 1] for a calibrated continuous prediction
    ECE = sum_b (n_b / N) |accuracy_b - confidence_b| over bins of confidence

Twin: `torch_ref/metrics/calibration.py`. Source: Gneiting, Balabdaoui & Raftery, "Probabilistic
forecasts, calibration and sharpness" (2007); Guo et al., "On Calibration of Modern Neural Networks"
(2017), eq. 3.
"""

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import Distribution
from jaxprob.metrics.scores import check_classes, check_targets
from jaxprob.requirements import require_count
from jaxprob.types import Array, ArrayLike

__all__ = ["coverage", "expected_calibration_error", "pit", "sharpness"]


def coverage(
    predictive: Distribution, y: ArrayLike, level: float = 0.9, per_row: bool = False
) -> Array:
    """Returns the fraction of targets inside the central interval (best: equal to `level`).

    Args:
      predictive: Predictions with intervals, batch shape `[B]`.
      y: Targets `[B, *event]`.
      level: Probability of the interval, in (0, 1).
      per_row: True for 1 (inside) or 0 for each element of y, False for their mean.

    Raises:
      ValueError: Targets of another shape, or a level outside (0, 1).
    """
    y = check_targets("coverage", predictive, y)
    lower, upper = predictive.interval(level)
    inside = ((lower <= y) & (y <= upper)).astype(lower.dtype)
    return inside if per_row else jnp.mean(inside)


def sharpness(predictive: Distribution, level: float = 0.9) -> Array:
    """Returns the mean width of the central interval, in the units of y (lower is sharper).

    Args:
      predictive: Predictions with intervals.
      level: Probability of the interval, in (0, 1).
    """
    lower, upper = predictive.interval(level)
    return jnp.mean(upper - lower)


def pit(predictive: Distribution, y: ArrayLike) -> Array:
    """Returns the probability integral transform F(y) of each marginal, of the shape of y.

    Args:
      predictive: Continuous predictions, batch shape `[B]`.
      y: Targets `[B, *event]`.
    """
    return predictive.marginal().cdf(check_targets("pit", predictive, y))


def expected_calibration_error(
    probs: ArrayLike | distrax.Distribution, labels: ArrayLike, num_bins: int = 15
) -> Array:
    """Returns the expected calibration error of the predicted class, in [0, 1] (best: 0).

    Args:
      probs: `[B, K]`, rows summing to 1; or `[B]`, the probability of class 1 of two; or a
        categorical distribution.
      labels: Integer classes `[B]`.
      num_bins: Number of bins of equal width over (0, 1].

    Raises:
      ValueError: Shapes that do not fit, values that are no probabilities or no classes, or no
        bins.
    """
    if isinstance(probs, distrax.Distribution):
        probs = probs.probs  # pyright: ignore[reportAttributeAccessIssue]
    require_count("expected_calibration_error", num_bins=num_bins)
    probs, labels = check_classes("expected_calibration_error", probs, labels)
    if probs.ndim == 1:
        probs = jnp.stack([1 - probs, probs], axis=-1)
    confidence = jnp.max(probs, axis=-1)
    correct = (jnp.argmax(probs, axis=-1) == labels).astype(confidence.dtype)
    bins = jnp.clip(jnp.ceil(confidence * num_bins) - 1, 0, num_bins - 1).astype(int)
    member = jax.nn.one_hot(bins, num_bins, dtype=confidence.dtype)  # [B, bins]
    # sum_b n_b / N |acc_b - conf_b| = mean over N of |sum of (correct - confidence) in each bin|
    return jnp.sum(jnp.abs((correct - confidence) @ member)) / confidence.shape[0]
