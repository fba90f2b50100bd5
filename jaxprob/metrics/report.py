"""The report: scores and calibration of predictions, in numbers and in words."""

import dataclasses
import math
import textwrap
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprob.distributions import Distribution, Predictive
from jaxprob.metrics.calibration import coverage, pit, sharpness
from jaxprob.metrics.scores import check_targets, crps, nll
from jaxprob.types import ArrayLike

__all__ = ["Report", "report"]

WIDTH, SCREEN = 100, 24
"""Columns and lines of a terminal."""

LEVELS = (0.5, 0.9, 0.95)
_Z = 1.959964  # 97.5 % quantile of the normal: all ranges of the report are 95 % ranges


@dataclasses.dataclass(frozen=True)
class Report:
    """Scores of a set of predictions; `print` it, or take `to_dict()`.

    Attributes:
      num_rows: Rows of data.
      nll: Mean negative log-likelihood, nats a row.
      nll_standard_error: Its standard error over the rows.
      crps: Mean continuous ranked probability score, in the units of y (None: no closed form).
      rmse: Root mean squared error of the predictive mean, in the units of y.
      coverage: For each level the fraction inside the interval and its 95 % Wilson range.
      sharpness: For each level the mean width of the interval, in the units of y.
      calibration_error: Mean distance between the quantiles of the PIT and those of the uniform.
      epistemic_share: Part of the predictive variance that is epistemic (None: not a Predictive).
      groups: Coverage of the 90 % interval by group, as (fraction, low, high, rows).
    """

    num_rows: int
    nll: float
    nll_standard_error: float
    crps: float | None
    rmse: float
    coverage: dict[float, tuple[float, float, float]]
    sharpness: dict[float, float]
    calibration_error: float
    epistemic_share: float | None
    groups: dict[Any, tuple[float, float, float, int]]

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers as a plain dict."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [f"Report on {self.num_rows} rows"]
        lines += [f"  NLL            {self.nll:.4g} +- {self.nll_standard_error:.2g} nats a row"]
        if self.crps is not None:
            lines += [f"  CRPS           {self.crps:.4g}   (units of y)"]
        lines += [f"  RMSE           {self.rmse:.4g}   (units of y)"]
        for level, (share, low, high) in self.coverage.items():
            lines += [
                f"  {100 * level:.0f} % interval  covers {_percent(share)} "
                f"[{100 * low:.1f}, {100 * high:.1f}], mean width {self.sharpness[level]:.4g}"
            ]
        lines += [
            f"  calibration    quantiles off by {_percent(self.calibration_error)} on average"
        ]
        if self.epistemic_share is not None:
            lines += [f"  epistemic      {_percent(self.epistemic_share)} of the variance"]
        for group, (share, low, high, rows) in self.groups.items():
            lines += [
                f"  group {group}: 90 % interval covers {_percent(share)} "
                f"[{100 * low:.1f}, {100 * high:.1f}] of {rows}"
            ]
        return "\n".join([*lines, "", self.verdict()])

    def __repr__(self) -> str:
        """What `print` shows, as far as it fits a screen of 24 lines."""
        *body, verdict = str(self).splitlines()
        tail = textwrap.wrap(verdict, WIDTH)
        lines = [part for line in body for part in textwrap.wrap(line, WIDTH) or [""]]
        left = len(lines) + len(tail) - SCREEN
        if left > 0:
            kept = len(lines) - left - 2
            more = f"  ... {left + 1} more lines: print(report)"
            lines = [*lines[:kept], more, ""]
        return "\n".join([*lines, *tail])

    def verdict(self) -> str:
        """One sentence on the 90 % interval; it claims no more than the rows can show."""
        share, low, high = self.coverage[0.9]
        if low <= 0.9 <= high:
            return (
                f"The 90 % intervals hold {_percent(share)} of the targets: consistent with 90 % "
                f"at this number of rows."
            )
        fault, side = ("too narrow", "fewer") if high < 0.9 else ("too wide", "more")
        return (
            f"The 90 % intervals hold {_percent(share)} of the targets, {side} than they say: "
            f"they are {fault} (95 % range {_percent(low)} to {_percent(high)})."
        )


def report(predictive: Distribution, y: ArrayLike, groups: ArrayLike | None = None) -> Report:
    """Scores predictions against what happened.

    Args:
      predictive: Predictions with intervals, batch shape `[B]`; best a `Predictive`.
      y: Targets `[B, *event]`.
      groups: Labels `[B]`; the coverage is then shown for each of them.

    Returns:
      The report; `print(report(...))` shows it in words.

    Raises:
      ValueError: Targets or groups of another shape.
    """
    y = check_targets("report", predictive, y)
    rows = np.asarray(nll(predictive, y, per_row=True), np.float64)
    inside = {level: np.asarray(coverage(predictive, y, level, per_row=True)) for level in LEVELS}
    share = None
    if isinstance(predictive, Predictive):
        total = jnp.sum(predictive.aleatoric) + jnp.sum(predictive.epistemic)
        share = float(jnp.sum(predictive.epistemic) / total)
    try:
        score = float(crps(predictive, y))
    except NotImplementedError:
        score = None
    ranks = np.sort(np.asarray(pit(predictive, y)).reshape(-1))
    uniform = (np.arange(ranks.size) + 0.5) / ranks.size
    return Report(
        num_rows=rows.size,
        nll=float(rows.mean()),
        nll_standard_error=float(rows.std(ddof=1) / math.sqrt(rows.size)) if rows.size > 1 else 0.0,
        crps=score,
        rmse=float(jnp.sqrt(jnp.mean((predictive.mean() - y) ** 2))),
        coverage={level: _wilson(hit.mean(), hit.size) for level, hit in inside.items()},
        sharpness={level: float(sharpness(predictive, level)) for level in LEVELS},
        calibration_error=float(np.mean(np.abs(ranks - uniform))),
        epistemic_share=share,
        groups={} if groups is None else _by_group(np.asarray(groups), inside[0.9]),
    )


def _by_group(groups: np.ndarray, inside: np.ndarray) -> dict:
    if groups.shape != inside.shape[:1]:
        raise ValueError(
            f"report: groups has shape {groups.shape}; expected one label for each row, "
            f"{inside.shape[:1]}."
        )
    out = {}
    for group in np.unique(groups).tolist():
        hit = inside[groups == group]
        out[group] = (*_wilson(hit.mean(), hit.size), len(hit))
    return out


def _wilson(share: float, count: int) -> tuple[float, float, float]:
    """A frequency with its 95 % score interval (Wilson 1927)."""
    denominator = 1 + _Z**2 / count
    centre = (share + _Z**2 / (2 * count)) / denominator
    spread = _Z * math.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2) / denominator
    return float(share), float(centre - spread), float(centre + spread)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
