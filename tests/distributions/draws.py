"""What every sampler by rejection or inversion has to do, checked in one place."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

__all__ = ["KEY", "require_laws", "require_neighbours_stay"]

KEY = jax.random.key(3)


def require_laws(draws: jax.Array, laws: Sequence[Any]) -> None:
    """Holds each column of `draws` `[N, C]` against a frozen distribution of SciPy.

    Continuous ones by Kolmogorov and Smirnov, counts by chi-square.
    """
    for column, law in zip(np.asarray(draws, float).T, laws, strict=True):
        if isinstance(law.dist, scipy.stats.rv_discrete):
            pvalue = _chi_square(column, law)
        else:
            pvalue = scipy.stats.kstest(column, law.cdf).pvalue
        assert pvalue > 1e-3, (law.dist.name, law.args)


def _chi_square(column: np.ndarray, law: Any) -> float:
    """In cells of about the same expected number."""
    edges = np.unique(law.ppf(np.linspace(0, 1, 30)[1:-1]))
    probabilities = np.append(np.diff(law.cdf(edges), prepend=0.0), law.sf(edges[-1]))
    observed = np.bincount(np.searchsorted(edges, column), minlength=len(probabilities))
    some = probabilities > 0.0
    assert (observed[~some] == 0).all()
    return scipy.stats.chisquare(observed[some], len(column) * probabilities[some]).pvalue


def require_neighbours_stay(
    draw: Callable[[jax.Array, jax.Array], jax.Array],
    parameter: jax.Array,
    other: float,
    rtol: float = 0.0,
) -> None:
    """One element with another parameter changes no other; keys under vmap are as one by one."""
    expected = draw(KEY, parameter)
    moved = draw(KEY, parameter.at[7].set(other))
    np.testing.assert_array_equal(np.delete(moved, 7), np.delete(expected, 7))
    keys = jax.random.split(KEY, 3)
    apart = jnp.stack([draw(key, parameter) for key in keys])
    together = jax.vmap(draw, (0, None))(keys, parameter)
    np.testing.assert_allclose(together, apart, rtol=rtol)
