"""Regression data, each with its source."""

import importlib.resources
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.requirements import require_count
from jaxprob.types import Key, summary

__all__ = ["Dataset", "diabetes", "earthquakes", "motorcycle", "quintic"]


class Dataset(NamedTuple):
    """Inputs and targets with their meaning.

    Attributes:
      x: Inputs `[N, D_in]`, float32.
      y: Targets `[N, D]`, float32.
      x_label: What x is, with its unit.
      y_label: What y is, with its unit.
      source: Where the data come from.
    """

    x: np.ndarray
    y: np.ndarray
    x_label: str
    y_label: str
    source: str

    def __repr__(self) -> str:
        return summary("Dataset", **self._asdict())


def motorcycle() -> Dataset:
    """Head acceleration after a simulated motorcycle impact, 133 rows.

    The classical heteroscedastic set: the noise is small before the impact and large after it.

    Source: Schmidt, Mattern & Schueler (1981); Silverman, "Some aspects of the spline smoothing
    approach to non-parametric regression curve fitting", JRSS B 47 (1985).
    """
    path = importlib.resources.files("jaxprob.datasets") / "motorcycle.csv"
    with path.open(encoding="utf-8") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.float32)
    return Dataset(
        x=table[:, :1],
        y=table[:, 1:],
        x_label="time after impact (ms)",
        y_label="head acceleration (g)",
        source="Silverman (1985), JRSS B 47",
    )


def earthquakes() -> Dataset:
    """Number of major earthquakes (magnitude 7 or more) in the world, each year 1900 to 2006.

    Their variance is 2.7 times their mean: no Poisson. x is the year.

    Source: U.S. Geological Survey; Zucchini & MacDonald, "Hidden Markov Models for Time Series"
    (2009), table 1.1.
    """
    path = importlib.resources.files("jaxprob.datasets") / "earthquakes.csv"
    with path.open(encoding="utf-8") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.float32)
    return Dataset(
        x=table[:, :1],
        y=table[:, 1:],
        x_label="year",
        y_label="major earthquakes",
        source="U.S. Geological Survey; Zucchini & MacDonald (2009)",
    )


def quintic(key: Key, num_rows: int = 500) -> Dataset:
    """Draws y = x^5 + 0.4 x eps with x uniform on [-1, 1] and eps standard normal.

    The standard deviation of the noise is 0.4 |x|: zero in the middle, largest at the edges.

    Args:
      key: Key of the draw.
      num_rows: Number of rows N.
    """
    require_count("quintic", num_rows=num_rows)
    x_key, noise_key = jax.random.split(key)
    x = jax.random.uniform(x_key, (num_rows, 1), jnp.float32, minval=-1.0, maxval=1.0)
    y = x**5 + 0.4 * x * jax.random.normal(noise_key, x.shape, x.dtype)
    return Dataset(np.asarray(x), np.asarray(y), "x", "y", "generated: y = x^5 + 0.4 x eps")


def diabetes() -> Dataset:
    """Disease progression a year after ten baseline measurements, 442 rows.

    Raises:
      ModuleNotFoundError: Without scikit-learn, which bundles the data.

    Source: Efron, Hastie, Johnstone & Tibshirani, "Least Angle Regression" (2004).
    """
    try:
        from sklearn.datasets import load_diabetes
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "datasets.diabetes reads the data that scikit-learn bundles; install it with "
            "pip install 'jaxprob[examples]'."
        ) from error
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return Dataset(
        x=x.astype(np.float32),
        y=y.astype(np.float32)[:, None],
        x_label="age, sex, body mass index, blood pressure, six blood serum values",
        y_label="disease progression after one year",
        source="Efron et al. (2004)",
    )
