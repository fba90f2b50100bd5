"""Pictures of predictions (matplotlib, extra `plot`). Every function also returns what it drew."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jax.scipy.special import ndtri

from jaxprob.distributions import Distribution, Predictive
from jaxprob.requirements import require_count
from jaxprob.types import ArrayLike, summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bands", "calibration", "predictive_bands"]

LEVELS = (0.95, 0.5)


class Bands(NamedTuple):
    """The curves of a picture over inputs `[N]`.

    Attributes:
      x: Inputs `[N]`.
      mean: Predictive mean `[N]`.
      intervals: level -> (lower `[N]`, upper `[N]`).
      epistemic: Ends of the 95 % band of the mean alone (not knowing the weights), each `[N]`.
      draws: Means under single posterior draws `[num, N]`.
    """

    x: np.ndarray
    mean: np.ndarray
    intervals: dict[float, tuple[np.ndarray, np.ndarray]]
    epistemic: tuple[np.ndarray, np.ndarray]
    draws: np.ndarray

    def __repr__(self) -> str:
        return summary("Bands", **self._asdict())


def new_axes(**kwargs: Any) -> "Axes":
    """Returns the axes of a new figure that needs no display."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "jaxprob.plot draws with matplotlib; install it with pip install 'jaxprob[plot]'."
        ) from error
    figure = Figure(layout="constrained", **kwargs)
    FigureCanvasAgg(figure)
    return figure.subplots()


def new_row(number: int) -> list["Axes"]:
    """Returns the axes of a new figure with panels side by side; it needs no display."""
    figure = new_axes(figsize=(5.5 * number, 4.0)).figure
    figure.clear()
    return list(figure.subplots(1, number, squeeze=False)[0])


def predictive_bands(
    predictive: Predictive,
    x: ArrayLike,
    *,
    data: tuple[ArrayLike, ArrayLike] | None = None,
    num_draws: int = 8,
    ax: "Axes | None" = None,
) -> tuple["Axes", Bands]:
    """Draws mean, 50 % and 95 % bands, the epistemic part and single draws of one target.

    Args:
      predictive: Prediction at `x`, batch shape `[N]`, one target.
      x: Inputs `[N]` or `[N, 1]`, in ascending order.
      data: Observed (x, y) to show as points.
      num_draws: How many single posterior draws to show.
      ax: Where to draw; None makes a new figure (`ax.figure.savefig(...)`).

    Returns:
      The axes and the numbers that were drawn.
    """
    require_count("predictive_bands", num_draws=num_draws)
    x = np.asarray(x).reshape(-1)

    def flat(value: ArrayLike) -> np.ndarray:
        return np.asarray(value).reshape(x.shape)

    mean, spread = flat(predictive.mean()), np.sqrt(flat(predictive.epistemic))
    intervals = {}
    for level in LEVELS:
        lower, upper = predictive.interval(level)
        intervals[level] = (flat(lower), flat(upper))
    z = float(ndtri(0.975))
    draws = np.asarray(predictive.components.mean()).reshape(predictive.num_draws, -1)[:num_draws]
    bands = Bands(x, mean, intervals, (mean - z * spread, mean + z * spread), draws)

    ax = new_axes(figsize=(8, 4.5)) if ax is None else ax
    for level, shade in zip(LEVELS, ("#d6e6f4", "#abcfe6"), strict=True):
        ax.fill_between(
            x, *intervals[level], color=shade, lw=0, label=f"{100 * level:.0f} % of new data"
        )
    ax.fill_between(
        x, *bands.epistemic, color="#e8843c", alpha=0.45, lw=0, label="epistemic part (95 %)"
    )
    for i, draw in enumerate(draws):
        ax.plot(x, draw, color="#8a3b12", lw=0.6, alpha=0.6, label=None if i else "single draws")
    ax.plot(x, mean, color="#08306b", lw=1.8, label="mean")
    if data is not None:
        ax.plot(*(np.asarray(d).reshape(-1) for d in data), "k.", ms=4, label="data")
    ax.margins(x=0)
    ax.legend(loc="best", fontsize=8, frameon=False)
    return ax, bands


def calibration(
    predictive: Distribution, y: ArrayLike, *, ax: "Axes | None" = None
) -> tuple["Axes", np.ndarray]:
    """Draws how often y falls below each predicted quantile; the diagonal is perfect.

    Args:
      predictive: Prediction with a cdf, batch shape `[B]`.
      y: Targets `[B, *event]`.
      ax: Where to draw; None makes a new figure.

    Returns:
      The axes, and the sorted probability integral transforms.
    """
    ranks = np.sort(np.asarray(predictive.marginal().cdf(np.asarray(y))).reshape(-1))
    share = (np.arange(ranks.size) + 0.5) / ranks.size
    ax = new_axes(figsize=(4, 4)) if ax is None else ax
    ax.plot([0, 1], [0, 1], color="grey", lw=1, ls="--", label="perfect")
    ax.plot(ranks, share, color="#08306b", lw=1.8, label="observed")
    ax.set(xlabel="predicted probability", ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="upper left", fontsize=8, frameon=False)
    return ax, ranks
