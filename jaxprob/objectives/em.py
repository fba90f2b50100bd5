"""Expectation maximisation: one loop for every model with an E-step and an M-step.

    E   (s, F) = E(w)      statistics of the latents given the data, and a bound F(w) <= log p(x, w)
    M   w' = M(s, w)       the maximum of the expected log p(x, latents, w)

F is log p(x, w) itself where the latents' posterior is exact, and a lower bound where it is not
(variational EM); neither step decreases it. So a bound that seems to fall by no more than its own
rounding has not fallen, and the one before is repeated; a fall beyond that is a mistake of one of
the steps, and is shown. All starts run under `vmap`, in one program.

Twin: `torch_ref/objectives/em.py`. Source: Dempster, Laird & Rubin, "Maximum likelihood from
incomplete data via the EM algorithm" (1977), section 2; Neal & Hinton, "A view of the EM algorithm"
(1998), section 2, for the bound.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprob.requirements import require_count, require_non_negative, require_rows
from jaxprob.types import Array, Params, summary

__all__ = ["EMFit", "fit_em", "total"]

ROUNDING = 4.0
"""Units of rounding of a bound (its `eps` times its size) within which a fall is none."""

EStep = Callable[[Params], tuple[Any, Array]]
MStep = Callable[[Any, Params], Params]


class EMFit(NamedTuple):
    """The best of all starts.

    Attributes:
      params: After its last step.
      bounds: F before each of its steps `[num_steps]`, NaN after it has converged.
      num_steps: Steps that it took, int32 `[]`.
    """

    params: Params
    bounds: Array
    num_steps: Array

    def __repr__(self) -> str:
        return summary("EMFit", **self._asdict())


def fit_em(
    e_step: EStep, m_step: MStep, starts: Params, num_steps: int, tolerance: float | None = None
) -> EMFit:
    """Climbs from every start, and returns the climb whose last bound is the highest.

    Args:
      e_step: params -> (statistics, bound); the bound is a scalar.
      m_step: (statistics, params) -> params, which may keep what the data says nothing of.
      starts: Pytree of params with leading axis R.
      num_steps: Most steps of each start.
      tolerance: A start stops once a step has raised its bound by no more than this share of the
        bound's size; None takes all steps.

    Raises:
      ValueError: No steps, or a negative tolerance.
    """
    require_count("fit_em", num_steps=num_steps)
    require_non_negative("fit_em", tolerance=tolerance)
    leaves = jax.tree_util.tree_leaves_with_path(starts)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    require_rows("fit_em: starts", named, "The leading axis R is that of the starts.")

    def climb(start: Params) -> EMFit:
        dtype = jax.eval_shape(e_step, start)[1].dtype
        bounds = jnp.full((num_steps,), jnp.nan, dtype)

        def unfinished(fit: EMFit) -> Array:
            last, before = fit.bounds[fit.num_steps - 1], fit.bounds[fit.num_steps - 2]
            goes_on = fit.num_steps < num_steps
            if tolerance is None:
                return goes_on
            converged = (fit.num_steps >= 2) & (last - before <= tolerance * jnp.abs(last))
            return goes_on & ~converged

        def step(fit: EMFit) -> EMFit:
            statistics, bound = e_step(fit.params)
            params = m_step(statistics, fit.params)
            last = jnp.where(fit.num_steps > 0, fit.bounds[fit.num_steps - 1], -jnp.inf)
            slack = ROUNDING * jnp.finfo(dtype).eps * jnp.abs(last)
            bound = jnp.where(bound >= last - slack, jnp.maximum(bound, last), bound)
            return EMFit(params, fit.bounds.at[fit.num_steps].set(bound), fit.num_steps + 1)

        return jax.lax.while_loop(unfinished, step, EMFit(start, bounds, jnp.zeros((), jnp.int32)))

    fits = jax.vmap(climb)(starts)
    last = jax.vmap(lambda bounds, count: bounds[count - 1])(fits.bounds, fits.num_steps)
    best = jnp.argmax(jnp.where(jnp.isfinite(last), last, -jnp.inf))  # argmax itself picks NaN
    return jax.tree.map(lambda leaf: leaf[best], fits)


def total(terms: Array) -> Array:
    """Returns the sum of `terms` `[N]`, as exact as one number can hold it.

    The terms are added in pairs, and so are the roundings of these sums: over 100,000 rows a plain
    sum in float32 loses more than a step of EM gains.
    """
    return _total(terms)


@jax.jit
def _total(terms: Array) -> Array:
    lost = jnp.zeros_like(terms)
    while terms.shape[0] > 1:
        if terms.shape[0] % 2:
            terms, lost = (jnp.pad(values, (0, 1)) for values in (terms, lost))
        a, b = terms[::2], terms[1::2]
        terms = a + b
        shown = terms - a
        rounding = (a - (terms - shown)) + (b - shown)
        lost = lost[::2] + lost[1::2] + jnp.where(jnp.isfinite(terms), rounding, 0.0)
    return jnp.sum(terms) + jnp.sum(lost)
