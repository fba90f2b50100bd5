"""What a gradient estimator is: a surrogate whose value and whose gradient are both right.

The objective is F = E_q(z)[f(z)] of each row, where q and f may both depend on the params. Its
gradient has two parts,

    grad F = E_q[f(z) grad log q(z)] + E_q[grad f(z)]

and the first is lost where a draw carries no gradient. An estimator returns a number for each row
that estimates F and whose `jax.grad` estimates grad F, so that a loss made of it is trained like
any other. The score enters by a term that is 0 but has a slope (`score_term`):

    signal (log q(z) - stop_gradient(log q(z))),   signal fixed

Twin: `torch_ref/objectives/estimators/contract.py`. Source: Schulman et al., "Gradient estimation
using stochastic computation graphs" (2015), for surrogates; Foerster et al., "DiCE" (2018), for
factors whose value is fixed and whose slope is not.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import Bernoulli, OneHotCategorical
from jaxprob.objectives.annealing import Schedule
from jaxprob.types import Array, Batch, Key, summary

__all__ = [
    "Estimate",
    "Estimator",
    "Integrand",
    "as_draws",
    "binary_or_one_hot",
    "draws",
    "factors",
    "log_prob_of_draws",
    "score_term",
    "with_gradient_of",
    "without_state",
]

Integrand = Callable[[Array], Array]
"""f: draws `[*batch, *event]` -> values `[*batch]`, each row's value from its own draw alone."""


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
      value: Estimate of the objective `[*batch]`, whose gradient estimates that of the objective.
      baseline_loss: Squared error of a learned baseline `[*batch]`, or squared gradient estimate
        under a learned control variate, to be minimised beside; 0 where none is learned. It moves
        the learned part only.
      state: What the next call takes; an empty dict for most.
    """

    value: Array
    baseline_loss: Array
    state: dict[str, Array]

    def __repr__(self) -> str:
        return summary("Estimate", **self._asdict())


@dataclasses.dataclass(frozen=True)
class Estimator:
    """A gradient estimator with its settings; made by the functions of this package.

    Attributes:
      name: Its name, for messages and tables.
      estimate: (q, f, key, batch, baseline, state) -> `Estimate`.
      num_samples: Draws of each row S.
      log_mean_exp: Whether the objective is E log (1/S) sum_s exp f(z_s), a bound of several draws
        that wants f = log p(x, z) - log q(z), rather than E f(z).
      learns_baseline: Whether a call wants `baseline`, a number for each row.
      learns_control: Whether a call wants `baseline`, a function of relaxed draws.
      relaxed: Whether f sees values between the classes, so that the value is not that of q.
      init: dtype -> state before the first call.
      schedules: Those of its settings that may follow the step.
      shortened: Whether the gradient towards q is made shorter, so that all that q is to follow
        must be in f: what is added outside weighs more.
      unit_score: Whether it takes for granted that -log q(z) enters f with the factor 1.
    """

    name: str
    estimate: Callable[..., Estimate]
    num_samples: int = 1
    log_mean_exp: bool = False
    learns_baseline: bool = False
    learns_control: bool = False
    relaxed: bool = False
    init: Callable[[Any], dict[str, Array]] = lambda dtype: {}
    schedules: tuple[float | Schedule, ...] = ()
    shortened: bool = False
    unit_score: bool = False

    def __call__(
        self,
        q: distrax.Distribution,
        f: Integrand,
        key: Key,
        *,
        batch: Batch | None = None,
        baseline: Array | Integrand | None = None,
        state: dict[str, Array] | None = None,
    ) -> Estimate:
        """Estimates the objective and its gradient.

        Args:
          q: Distribution of the draws, batch shape `[*batch]`, made from the params.
          f: Draws `[*batch, *event]` -> `[*batch]`. It is called under `vmap` over the draws.
          key: Randomness of the draws. Draw s has the key `split(key, S)[s]`, so rows that are
            added behind the others leave the draws of those as they are.
          batch: The rows, of which "weight" (for moving averages) and "step" (for schedules) are
            read where they are there.
          baseline: Prediction b(x) of f `[*batch]`, with its gradient, for a learned baseline; for
            a learned control variate a function like f that takes relaxed draws too.
          state: The last call's state; None for the first.

        Returns:
          Value, loss of the baseline, and new state.

        Raises:
          ValueError: A baseline that is missing, or that nobody asked for.
        """
        if self.learns_control and not callable(baseline):
            raise ValueError(
                f"{self.name}: its baseline must be a function of relaxed draws, z [*batch, "
                f"*event] -> [*batch]; got {type(baseline).__name__}. A DiscreteVAE has one with "
                "control=<module>."
            )
        if not self.learns_control and self.learns_baseline != (baseline is not None):
            raise ValueError(
                f"{self.name}: "
                + (
                    "it learns a baseline and none was given. Pass baseline=b(x), the output "
                    "[*batch] of a network; a DiscreteVAE has one with baseline=<module>."
                    if self.learns_baseline
                    else 'a baseline was given, but it uses none. Write score_function("learned").'
                )
            )
        if self.learns_baseline and jnp.shape(baseline) != q.batch_shape:
            raise ValueError(
                f"{self.name}: baseline has shape {jnp.shape(baseline)}; expected one number "
                f"for each row, {q.batch_shape}."
            )
        state = self.init(jnp.result_type(float)) if state is None else state
        return self.estimate(q, f, key, {} if batch is None else batch, baseline, state)


def without_state(value: Array) -> Estimate:
    """Returns the estimate of a method that has neither state nor baseline."""
    return Estimate(value, jnp.zeros_like(value), {})


def draws(q: distrax.Distribution, key: Key, num_samples: int) -> Array:
    """Returns draws without gradient `[S, *batch, *event]`, in the dtype of `as_draws`."""
    keys = jax.random.split(key, num_samples)
    return as_draws(q, jax.lax.stop_gradient(jax.vmap(lambda k: q.sample(seed=k))(keys)))


def as_draws(q: distrax.Distribution, z: Array) -> Array:
    """Returns Bernoulli and one-hot events as floats, as a network takes them; others as given."""
    factor = factors(q)
    if isinstance(factor, distrax.Bernoulli | distrax.OneHotCategorical):
        return z.astype(factor.logits.dtype)
    return z


def factors(q: distrax.Distribution) -> distrax.Distribution:
    """Returns the distribution below all `Independent`s."""
    while isinstance(q, distrax.Independent):
        q = q.distribution
    return q


def binary_or_one_hot(q: distrax.Distribution, owner: str) -> distrax.Distribution:
    """Returns the factors of q, which must be Bernoulli or one-hot.

    Raises:
      ValueError: Anything else.
    """
    factor = factors(q)
    if not isinstance(factor, Bernoulli | OneHotCategorical):
        raise ValueError(
            f"{owner}: q must be made of Bernoulli or OneHotCategorical variables; got "
            f"{factor.name}. A class that is an index has no values between; write "
            "OneHotCategorical."
        )
    return factor


def log_prob_of_draws(q: distrax.Distribution, z: Array) -> Array:
    """Returns log q(z) `[S, *batch]`, with the gradient towards q alone."""
    return jax.vmap(q.log_prob)(jax.lax.stop_gradient(z))


def score_term(signal: Array, log_q: Array) -> Array:
    """Returns a term of value 0 and gradient signal grad log q."""
    return jax.lax.stop_gradient(signal) * (log_q - jax.lax.stop_gradient(log_q))


def with_gradient_of(path: Array, value: Array) -> Array:
    """Returns `value`, to the last bit, with the gradient of `path`: straight through."""
    return jax.lax.stop_gradient(value) + (path - jax.lax.stop_gradient(path))
