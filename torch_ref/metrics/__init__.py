"""Twins of `jaxprob.metrics`."""

from torch_ref.metrics.calibration import coverage, expected_calibration_error, pit, sharpness
from torch_ref.metrics.scores import brier, crps, nll

__all__ = ["brier", "coverage", "crps", "expected_calibration_error", "nll", "pit", "sharpness"]
