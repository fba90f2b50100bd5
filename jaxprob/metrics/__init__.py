"""Scores and calibration of predictions, and the report on them."""

from jaxprob.metrics.calibration import coverage, expected_calibration_error, pit, sharpness
from jaxprob.metrics.report import Report, report
from jaxprob.metrics.scores import brier, crps, nll

__all__ = [
    "Report",
    "brier",
    "coverage",
    "crps",
    "expected_calibration_error",
    "nll",
    "pit",
    "report",
    "sharpness",
]
