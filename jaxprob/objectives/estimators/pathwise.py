"""Estimators by the path of a draw: reparameterised, relaxed, straight through, REBAR, RELAX.

    reparameterized    z = g(eps; params),  grad f(z)
    Gumbel-softmax     z = softmax((logits + G) / t), or its sigmoid: biased, less so for small t
    straight through   z hard forwards; backwards as if it were the probabilities (or the logits)
    REBAR              [f(b) - c f(s(z'))] grad log q(b) + c grad f(s(z)) - c grad f(s(z')),
                       b = the class that z chooses, z' drawn given b, s the softmax at t: unbiased
    RELAX              the same with c f + r in the place of c f, r learned by the slope of the
                       squared gradient estimate: its mean is fixed, so that is its variance's slope

Twin: `torch_ref/objectives/estimators/pathwise.py`. Source: Kingma & Welling (2014); Jang, Gu &
Poole and Maddison, Mnih & Teh (both 2017); Bengio, Leonard & Courville (2013); Tucker et al.,
"REBAR" (2017); Grathwohl et al., "Backpropagation through the void" (2018).
"""

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import (
    Bernoulli,
    Independent,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from jaxprob.objectives.annealing import Schedule, weight_at
from jaxprob.objectives.estimators.contract import (
    Estimate,
    Estimator,
    Integrand,
    binary_or_one_hot,
    draws,
    factors,
    log_prob_of_draws,
    score_term,
    with_gradient_of,
    without_state,
)
from jaxprob.requirements import require_choice, require_count, require_positive
from jaxprob.types import Array, Key

__all__ = ["gumbel_softmax", "rebar", "relax", "reparameterized", "straight_through"]


def reparameterized(num_samples: int = 1) -> Estimator:
    """Returns the pathwise estimator, for a q whose draws carry a gradient; unbiased.

    Its call raises a `ValueError` for a q whose draws carry none.
    """
    require_count("reparameterized", num_samples=num_samples)

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
    require_count("gumbel_softmax", num_samples=num_samples)
    require_positive("gumbel_softmax", temperature=temperature)

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
    require_count("straight_through", num_samples=num_samples)
    require_choice("straight_through", ("soft", "identity"), backward=backward)

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
    require_count("rebar", num_samples=num_samples)
    require_positive("rebar", temperature=temperature)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        factor = binary_or_one_hot(q, "rebar")
        t = weight_at(temperature, batch, "rebar")
        hard, soft, soft_given = _coupled_draws(factor, t, jax.random.split(key, num_samples))
        values, free, given = (jax.vmap(f)(z) for z in (hard, soft, soft_given))
        score = score_term(values - strength * given, log_prob_of_draws(q, hard))
        control = strength * (free - given)
        slope = control - jax.lax.stop_gradient(control)
        return without_state(jnp.mean(values + score + slope, axis=0))

    return Estimator("REBAR", estimate, num_samples, schedules=(temperature,))


def relax(
    temperature: float | Schedule = 0.5, strength: float = 1.0, num_samples: int = 1
) -> Estimator:
    """Returns RELAX: REBAR whose control variate has a learned part; unbiased, whatever that is.

    A call takes that part as `baseline`: a function r of relaxed draws `[*batch, *event]` to
    `[*batch]`, such as a network. `Estimate.baseline_loss` is the squared gradient estimate of a
    row, summed over q's logits; its slope moves r alone, towards less variance. The paper takes the
    square over the params of q, which logits are a linear map away from. Temperature and strength
    are fixed; the paper also learns the temperature.

    Args:
      temperature: t (> 0) of the relaxed draws, or a schedule.
      strength: Factor c of f itself in the control variate; 0 leaves r alone, and f is then seen at
        the classes only: it may be a black box.
      num_samples: Draws of each row S.

    Raises:
      ValueError: A temperature that is not positive.
    """
    require_count("relax", num_samples=num_samples)
    require_positive("relax", temperature=temperature)

    def estimate(q, f, key, batch, learned, state) -> Estimate:
        factor = binary_or_one_hot(q, "relax")
        t = weight_at(temperature, batch, "relax")
        keys = jax.random.split(key, num_samples)
        logits = jax.lax.stop_gradient(factor.logits)

        def drawn(logits: Array) -> tuple[distrax.Distribution, tuple[Array, Array, Array]]:
            moved = type(factor)(logits=logits)
            return moved, _coupled_draws(moved, t, keys)

        def control(z: Array) -> tuple[Array, Array]:
            """Values `[S, *batch]` and slopes `[S, *batch, *event]`; only r's params move them."""
            value, slope = _with_slope(learned, z)
            expected = (num_samples, *q.batch_shape)
            if value.shape != expected:
                raise ValueError(
                    f"relax: baseline(z) has shape {value.shape[1:]}; expected that of a row, "
                    f"{expected[1:]}. Squeeze the last axis of a network."
                )
            if strength != 0.0:
                of_f = jax.lax.stop_gradient(_with_slope(f, z))
                value, slope = value + strength * of_f[0], slope + strength * of_f[1]
            return value, slope

        hard, soft, soft_given = drawn(logits)[1]
        values = jax.vmap(f)(hard)
        _, slope = control(soft)
        given, slope_given = control(soft_given)
        signal = jax.lax.stop_gradient(values) - given

        def total(logits: Array) -> Array:
            moved, (_, soft, soft_given) = drawn(logits)
            log_q = jnp.sum(signal * jax.vmap(_product(moved, q).log_prob)(hard))
            return log_q + jnp.sum(slope * soft) - jnp.sum(slope_given * soft_given)

        # a logit at infinity is a class that is never or always drawn: no step changes it
        finite = jnp.isfinite(logits)
        gradient = jnp.where(finite, jax.grad(total)(logits) / num_samples, 0.0)
        axes = tuple(range(len(q.batch_shape), gradient.ndim))
        moved = jnp.where(finite, factor.logits, 0.0) - jnp.where(finite, logits, 0.0)
        path = jax.lax.stop_gradient(gradient) * moved
        value = jnp.mean(values, axis=0) + jnp.sum(path, axis=axes)
        return Estimate(value, jnp.sum(gradient**2, axis=axes), {})

    return Estimator("RELAX", estimate, num_samples, learns_control=True, schedules=(temperature,))


def _nearest(z: Array, factor: distrax.Distribution) -> Array:
    z = jax.lax.stop_gradient(z)
    if isinstance(factor, Bernoulli):
        return (z > 0.5).astype(z.dtype)
    return jax.nn.one_hot(jnp.argmax(z, axis=-1), z.shape[-1], dtype=z.dtype)


def _with_slope(f: Integrand, z: Array) -> tuple[Array, Array]:
    """Values `[S, *batch]` of f at fixed draws, and their slopes `[S, *batch, *event]`."""

    def total(z: Array) -> tuple[Array, Array]:
        values = jax.vmap(f)(z)
        return jnp.sum(values), values

    slope, values = jax.grad(total, has_aux=True)(jax.lax.stop_gradient(z))
    return values, slope


def _product(factor: distrax.Distribution, q: distrax.Distribution) -> distrax.Distribution:
    """These factors in the place of q's own."""
    if not isinstance(q, distrax.Independent):
        return factor
    return Independent(factor, len(factor.batch_shape) - len(q.batch_shape))


def _coupled_draws(factor: distrax.Distribution, t: Array | float, keys: Key) -> tuple[Array, ...]:
    """For each key: a draw, the relaxed draw that it is nearest to, and another relaxed one."""
    binary = isinstance(factor, Bernoulli)
    logits = _log_probs_of_classes(factor)

    def draw(k: Key) -> tuple[Array, ...]:
        chosen, free, given = _coupled_scores(k, logits)
        soft, soft_given = (jax.nn.softmax(s / t, axis=-1) for s in (free, given))
        # of two classes the probability of the second is what a Bernoulli draw is
        return tuple(z[..., 1] if binary else z for z in (chosen, soft, soft_given))

    return jax.vmap(draw)(keys)


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
