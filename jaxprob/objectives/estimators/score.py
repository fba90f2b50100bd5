"""Estimators by the score, for draws of any kind: REINFORCE with its baselines, NVIL, VIMCO, RWS.

    score function   (1/S) sum_s [f(z_s) - b_s] grad log q(z_s) + grad f(z_s)
    leave one out    b_s = mean of f(z_j), j /= s
    learned (NVIL)   b(x) of a network, fitted by (f(z) - b(x))^2
    VIMCO            L = log (1/S) sum_s exp f_s,
                     sum_s [L - L_-s] grad log q(z_s) + grad L,
                     L_-s = L with f_s replaced by the mean of the others: of the weights exp f_j
                     that is the geometric mean (0 where all of them weigh nothing)
    wake-wake (RWS)  p follows grad L; q follows sum_s v_s grad log q(z_s), v = softmax(f)

A baseline that does not look at its own draw leaves the expectation as it is and takes variance
away.

Twin: `torch_ref/objectives/estimators/score.py`. Source: Williams (1992); Mnih & Gregor, "Neural
variational inference and learning in belief networks" (2014), section 2.3 and algorithm 1; Kool,
van Hoof & Welling, "Buy 4 REINFORCE samples, get a baseline for free" (2019); Mnih & Rezende,
"Variational inference for Monte Carlo objectives" (2016); Bornschein & Bengio, "Reweighted
wake-sleep" (2015), with both updates in the wake phase.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.batches import weighted_mean
from jaxprob.objectives.estimators.contract import (
    Estimate,
    Estimator,
    draws,
    log_prob_of_draws,
    score_term,
    without_state,
)
from jaxprob.requirements import require_count, require_in
from jaxprob.types import Array, Batch

__all__ = ["reweighted_wake_sleep", "score_function", "vimco"]


NAMED = ("moving_average", "leave_one_out", "learned")


def score_function(
    baseline: str | float | int | None = None,
    num_samples: int = 1,
    decay: float = 0.9,
    normalize: bool = False,
) -> Estimator:
    """Returns the score-function (REINFORCE) estimator; unbiased.

    Args:
      baseline: None; a number; "moving_average" of earlier batches; "leave_one_out", the mean of
        the other draws of the row (S >= 2; the best one for its price); or "learned", NVIL's b(x).
      num_samples: Draws of each row S.
      decay: Share that moving averages keep of their past, in [0, 1).
      normalize: NVIL's other two tricks: the signal is centred by the moving average of what the
        baseline has left, and divided by its standard deviation where that is above 1. The gradient
        towards q then points the same way on average, but is shorter: no longer unbiased. What a
        loss adds outside of f, such as an analytic KL, is not divided and would weigh more;
        `vae.negative_discrete_elbo` therefore has all of log p(x, z) - log q(z) in f.

    Raises:
      ValueError: An unknown baseline, one draw for "leave_one_out", or a decay outside [0, 1).
    """
    number = isinstance(baseline, float | int) and not isinstance(baseline, bool)
    if not (baseline is None or number or baseline in NAMED):
        names = ", ".join(map(repr, NAMED))
        raise ValueError(
            f"score_function: baseline must be None, a number, or one of {names}; got {baseline!r}."
        )
    require_in("score_function", "[0, 1)", decay=decay)
    least = 2 if baseline == "leave_one_out" else 1
    require_count("score_function", least=least, num_samples=num_samples)
    learned = baseline == "learned"
    follows_mean = baseline == "moving_average" or normalize
    constant = float(baseline) if isinstance(baseline, float | int) else 0.0

    def estimate(q, f, key, batch: Batch, predicted: Array | None, state: dict) -> Estimate:
        z = draws(q, key, num_samples)
        values = jax.vmap(f)(z)
        raw = left = jax.lax.stop_gradient(values) - constant
        if baseline == "leave_one_out":
            left = raw - _mean_of_others(raw)
        if predicted is not None:
            left = raw - jax.lax.stop_gradient(predicted)[None]
        centre, scale, new_state = 0.0, 1.0, {}
        if follows_mean:
            centre, spread = _corrected(state)
            scale = jnp.maximum(1.0, spread) if normalize else 1.0
            new_state = _moved(state, left, batch, decay)
        score = score_term((left - centre) / scale, log_prob_of_draws(q, z))
        value = jnp.mean(values + score, axis=0)
        if predicted is None:
            return Estimate(value, jnp.zeros_like(value), new_state)
        error = jnp.mean((raw - centre - predicted[None]) ** 2, axis=0)
        return Estimate(value, error, new_state)

    return Estimator(
        name=f"score function, baseline {baseline}",
        estimate=estimate,
        num_samples=num_samples,
        learns_baseline=learned,
        init=_first_state if follows_mean else _no_state,
        shortened=normalize,
    )


def vimco(num_samples: int = 5) -> Estimator:
    """Returns the estimator of the bound of several draws, for f = log p(x, z) - log q(z).

    Its value estimates E log (1/S) sum_s exp f(z_s), which grows with S towards log p(x); unbiased
    for that bound.

    Raises:
      ValueError: Fewer than two draws: the baseline of each comes from the others.
    """
    require_count("vimco", least=2, num_samples=num_samples)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        z = draws(q, key, num_samples)
        log_w = jax.vmap(f)(z)
        bound = jax.nn.logsumexp(log_w, axis=0) - math.log(num_samples)
        fixed = jax.lax.stop_gradient(log_w)
        own = jnp.eye(num_samples, dtype=bool).reshape((num_samples,) * 2 + (1,) * (fixed.ndim - 1))
        # a weight of 0 is left out of its own mean by a mask: -inf - (-inf) would be NaN
        others = jnp.sum(jnp.where(own, 0.0, fixed[None]), axis=1) / (num_samples - 1)
        replaced = jnp.where(own, others[:, None], fixed[None])
        without = jax.nn.logsumexp(replaced, axis=1) - math.log(num_samples)
        # whether all others weigh nothing is known without the own draw
        without = jnp.where(jnp.isfinite(without), without, 0.0)
        # nor does a row have a signal of which all draws weigh nothing
        fixed_bound = jnp.where(jnp.isfinite(bound), jax.lax.stop_gradient(bound), 0.0)
        signal = fixed_bound[None] - without
        score = score_term(signal, log_prob_of_draws(q, z))
        return without_state(bound + jnp.sum(score, axis=0))

    return Estimator("VIMCO", estimate, num_samples, log_mean_exp=True)


def reweighted_wake_sleep(num_samples: int = 5) -> Estimator:
    """Returns reweighted wake-sleep, for f = log p(x, z) - log q(z).

    The params of p follow the bound of several draws, as with `vimco`; those of q instead lower
    KL(p(z | x) || q), by importance sampling. Nothing is multiplied by the size of f, so the
    variance is small; the updates of q are biased by order 1 / S, and they are not the slope of
    anything: the params of p and q must be different ones, and log q(z) must enter f once.

    Raises:
      ValueError: Fewer than two draws: of one draw the weight is always 1.
    """
    require_count("reweighted_wake_sleep", least=2, num_samples=num_samples)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        z = draws(q, key, num_samples)
        log_w = jax.vmap(f)(z)
        bound = jax.nn.logsumexp(log_w, axis=0) - math.log(num_samples)
        shares = jax.nn.softmax(jax.lax.stop_gradient(log_w), axis=0)
        # the bound holds -sum v grad log q: once to take it away, once for its opposite
        score = 2.0 * score_term(shares, log_prob_of_draws(q, z))
        return without_state(bound + jnp.sum(score, axis=0))

    return Estimator(
        "reweighted wake-sleep", estimate, num_samples, log_mean_exp=True, unit_score=True
    )


def _mean_of_others(values: Array) -> Array:
    """Mean over the other draws, for each of `[S, *batch]`."""
    return (jnp.sum(values, axis=0, keepdims=True) - values) / (values.shape[0] - 1)


def _no_state(dtype: Any) -> dict[str, Array]:
    return {}


def _first_state(dtype: Any) -> dict[str, Array]:
    return {name: jnp.zeros((), dtype) for name in ("mean", "variance", "weight")}


def _corrected(state: dict[str, Array]) -> tuple[Array, Array]:
    """Mean and standard deviation so far; both 0 before the first batch.

    The averages start from 0 and `weight` is how much of them is data, as in Adam.
    """
    weight = state["weight"]
    some = weight > 0.0
    safe = jnp.where(some, weight, 1.0)
    mean, variance = (jnp.where(some, state[n] / safe, 0.0) for n in ("mean", "variance"))
    return mean, jnp.sqrt(variance)


def _moved(state: dict[str, Array], left: Array, batch: Batch, decay: float) -> dict[str, Array]:
    mean = weighted_mean(left, batch)
    news = {
        "mean": mean,
        "variance": weighted_mean((left - mean) ** 2, batch),
        "weight": jnp.ones_like(mean),
    }
    return {name: decay * state[name] + (1.0 - decay) * new for name, new in news.items()}
