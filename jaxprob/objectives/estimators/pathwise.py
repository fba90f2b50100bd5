"""Estimators by the path of a draw: reparameterised, relaxed, straight through, and REBAR.

    reparameterized    z = g(eps; params),  grad f(z)
    Gumbel-softmax     z = softmax((logits + G) / t), or its sigmoid: biased, less so for small t
    straight through   z hard forwards; backwards as if it were the probabilities (or the logits)
    REBAR              [f(b) - c f(s(z'))] grad log q(b) + c grad f(s(z)) - c grad f(s(z')),
                       b = the class that z chooses, z' drawn given b, s the softmax at t: unbiased

Twin: `torch_ref/objectives/estimators/pathwise.py`. Source: Kingma & Welling (2014); Jang, Gu &
Poole and Maddison, Mnih & Teh (both 2017); Bengio, Leonard & Courville (2013); Tucker et al.,
"REBAR" (2017).
"""

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import Bernoulli, RelaxedBernoulli, RelaxedOneHotCategorical
from jaxprob.objectives.annealing import Schedule, weight_at
from jaxprob.objectives.estimators.contract import (
    Estimate,
    Estimator,
    binary_or_one_hot,
    draws,
    factors,
    log_prob_of_draws,
    require_samples,
    score_term,
    with_gradient_of,
    without_state,
)
from jaxprob.types import Array, Key

__all__ = ["gumbel_softmax", "rebar", "reparameterized", "straight_through"]


def reparameterized(num_samples: int = 1) -> Estimator:
    """Returns the pathwise estimator, for a q whose draws carry a gradient; unbiased.

    Its call raises a `ValueError` for a q whose draws carry none.
    """
    require_samples("reparameterized", num_samples)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        if not getattr(q, "reparameterized", False):
            raise ValueError(
                f"reparameterized: draws of {factors(q).name} carry no gradient. Use "
                "score_function, or gumbel_softmax for Bernoulli and one-hot variables."
            )
        keys = jax.random.split(key, num_samples)
        z = jax.vmap(lambda k: q.rsample(seed=k))(keys)
        return without_state(jnp.mean(jax.vmap(f)(z), axis=0))

    return Estimator("reparameterized", estimate, num_samples)


def gumbel_softmax(
    temperature: float | Schedule = 0.5, num_samples: int = 1, hard: bool = False
) -> Estimator:
    """Returns the estimator by relaxed draws; biased.

    Args:
      temperature: t (> 0), or a schedule, step -> t. Small ones bias less and vary more.
      num_samples: Draws of each row S.
      hard: Whether f sees the class that the relaxed draw is nearest to, with the gradient of the
        relaxed draw (straight-through Gumbel-softmax). The value is then an unbiased estimate of
        the objective, the gradient is not.

    Raises:
      ValueError: A temperature that is not positive.
    """
    require_samples("gumbel_softmax", num_samples)
    _require_positive("gumbel_softmax", temperature)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        factor = binary_or_one_hot(q, "gumbel_softmax")
        t = weight_at(temperature, batch, "gumbel_softmax")
        kind = RelaxedBernoulli if isinstance(factor, Bernoulli) else RelaxedOneHotCategorical
        relaxed = kind(t, logits=factor.logits)
        keys = jax.random.split(key, num_samples)
        z = jax.vmap(lambda k: relaxed.rsample(seed=k))(keys)
        if hard:
            z = with_gradient_of(z, _nearest(z, factor))
        return without_state(jnp.mean(jax.vmap(f)(z), axis=0))

    name = "straight-through Gumbel-softmax" if hard else "Gumbel-softmax"
    return Estimator(name, estimate, num_samples, relaxed=not hard, schedules=(temperature,))


def straight_through(backward: str = "soft", num_samples: int = 1) -> Estimator:
    """Returns the straight-through estimator: exact draws, a gradient that passes by; biased.

    Args:
      backward: "soft": the draw moves as its probability does; "identity": as its logit does, and
        of a one-hot variable, whose logits are normalised, as the log-probability of the class.
      num_samples: Draws of each row S.

    Raises:
      ValueError: Another word for `backward`.
    """
    require_samples("straight_through", num_samples)
    if backward not in ("soft", "identity"):
        raise ValueError(
            f'straight_through: backward must be "soft" or "identity"; got {backward!r}.'
        )

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        factor = binary_or_one_hot(q, "straight_through")
        path = factor.probs if backward == "soft" else factor.logits
        z = with_gradient_of(path[None], draws(q, key, num_samples))
        return without_state(jnp.mean(jax.vmap(f)(z), axis=0))

    return Estimator(f"straight through, {backward}", estimate, num_samples)


def rebar(
    temperature: float | Schedule = 0.5, strength: float = 1.0, num_samples: int = 1
) -> Estimator:
    """Returns REBAR: the score function with a relaxed draw as its control variate; unbiased.

    f must also accept values between the classes. Temperature and strength are fixed; the paper
    also learns them.

    Args:
      temperature: t (> 0) of the control variate, or a schedule.
      strength: Its factor c; 0 leaves the score function alone.
      num_samples: Draws of each row S.

    Raises:
      ValueError: A temperature that is not positive.
    """
    require_samples("rebar", num_samples)
    _require_positive("rebar", temperature)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        factor = binary_or_one_hot(q, "rebar")
        t = weight_at(temperature, batch, "rebar")
        binary = isinstance(factor, Bernoulli)
        logits = _log_probs_of_classes(factor)

        def draw(k: Key) -> tuple[Array, Array, Array]:
            chosen, free, given = _coupled_scores(k, logits)
            soft, soft_given = (jax.nn.softmax(s / t, axis=-1) for s in (free, given))
            # of two classes the probability of the second is what a Bernoulli draw is
            return tuple(z[..., 1] if binary else z for z in (chosen, soft, soft_given))  # type: ignore[return-value]

        hard, soft, soft_given = jax.vmap(draw)(jax.random.split(key, num_samples))
        values, free, given = (jax.vmap(f)(z) for z in (hard, soft, soft_given))
        score = score_term(values - strength * given, log_prob_of_draws(q, hard))
        control = strength * (free - given)
        slope = control - jax.lax.stop_gradient(control)
        return without_state(jnp.mean(values + score + slope, axis=0))

    return Estimator("REBAR", estimate, num_samples, schedules=(temperature,))


def _nearest(z: Array, factor: distrax.Distribution) -> Array:
    z = jax.lax.stop_gradient(z)
    if isinstance(factor, Bernoulli):
        return (z > 0.5).astype(z.dtype)
    return jax.nn.one_hot(jnp.argmax(z, axis=-1), z.shape[-1], dtype=z.dtype)


def _log_probs_of_classes(factor: distrax.Distribution) -> Array:
    """Log-probabilities with the classes last; a Bernoulli variable has two."""
    logits = factor.logits
    if isinstance(factor, Bernoulli):
        return jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=-1)
    return logits


def _coupled_scores(key: Key, log_probs: Array) -> tuple[Array, Array, Array]:
    """A class, the scores that chose it, and fresh scores given that it was chosen.

    Scores are log p + Gumbel noise. Given the winner, its score is Gumbel(0) again and each other
    one is a Gumbel(log p) below it: -log(exp(-g) + exp(-top)).
    """
    free_key, given_key = jax.random.split(key)
    free = log_probs + jax.random.gumbel(free_key, log_probs.shape, log_probs.dtype)
    winner = jnp.argmax(jax.lax.stop_gradient(free), axis=-1)
    chosen = jax.nn.one_hot(winner, log_probs.shape[-1], dtype=log_probs.dtype)
    noise = jax.random.gumbel(given_key, log_probs.shape, log_probs.dtype)
    top = jnp.sum(chosen * noise, axis=-1, keepdims=True)
    below = -jnp.logaddexp(-(log_probs + noise), -top)
    return chosen, free, jnp.where(chosen > 0.0, top, below)


def _require_positive(owner: str, temperature: float | Schedule) -> None:
    if not callable(temperature) and not temperature > 0.0:
        raise ValueError(f"{owner}: temperature must be positive; got {temperature}.")
