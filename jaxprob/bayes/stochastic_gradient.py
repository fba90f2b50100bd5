"""Markov chains that see a minibatch a step: SGLD and SGHMC, many chains in one program.

With g an unbiased estimate of the gradient of the log-posterior, n standard normal noise and T a
temperature (1 for the posterior itself):

    SGLD     w <- w + epsilon/2 g + sqrt(epsilon T) n
    SGHMC    v <- (1 - alpha) v + epsilon g + sqrt(2 (alpha T - beta) epsilon) n,    w <- w + v

The temperature is that of the whole noise: what the batches bring (beta) is taken from alpha T, not
from alpha.

No step is accepted or refused, so the draws are those of the posterior only as epsilon goes to 0:
full-batch SGLD on N(0, s^2) settles at the variance s^2 / (1 - epsilon / (4 s^2)), and the noise of
small batches adds about epsilon / 4 times the variance of g whatever T, which at a low temperature
is much. R-hat cannot see that; a run at half the step size can. SGHMC can be told of that noise.

The updates are ours and not BlackJAX's: its SGHMC draws the momentum anew at each step.

Twin: `torch_ref/bayes/stochastic_gradient.py`. Sources: Welling & Teh, "Bayesian learning via
stochastic gradient Langevin dynamics" (2011), equation 4; Chen, Fox & Guestrin, "Stochastic
gradient Hamiltonian Monte Carlo" (2014), equation 15.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.batches import inputs_of, mean_over_rows
from jaxprob.bayes.mcmc import Chains
from jaxprob.bayes.step_sizes import CyclicalStepSize
from jaxprob.nn.apply import call
from jaxprob.objectives.likelihood import log_likelihood_of_batch
from jaxprob.objectives.maximum_a_posteriori import Prior, fixed_prior
from jaxprob.objectives.priors import HierarchicalGaussianPrior
from jaxprob.requirements import (
    require_choice,
    require_count,
    require_in,
    require_non_negative,
    require_positive,
)
from jaxprob.types import Array, Batch, Key, Params

__all__ = ["SGHMC", "SGLD", "minibatch_log_joint"]

LogDensity = Callable[[Params, Batch], Array]
ROWS = ("shuffled", "random")


def minibatch_log_joint(
    model: nn.Module,
    prior: Prior | HierarchicalGaussianPrior,
    num_data: int,
    inputs: Sequence[str] = ("x",),
) -> LogDensity:
    """Returns the unnormalised log-posterior of the weights as a minibatch estimates it.

        N/B sum_b weight_b log p(y_b | x_b, w) + log p(w)

    Args:
      model: Linen module, `apply({"params": w}, x)` -> distribution with batch shape `[B]`.
      prior: A prior of `objectives`, or anything with `log_prob(params)`.
      num_data: Rows N of the whole data set, whatever their weights.
      inputs: Entries of the batch that the model takes, in order.

    Returns:
      `log_density(params, batch)` in nats; of the whole data set it is `bayes.log_joint`. A row's
      "weight" says how often it counts.

    Raises:
      ValueError: No rows, or a prior whose parts are learned.
    """
    require_count("minibatch_log_joint", "Write num_data=len(x_train).", num_data=num_data)
    fixed = fixed_prior("minibatch_log_joint", prior)

    def log_density(params: Params, batch: Batch) -> Array:
        prediction, _ = call(model, {"params": params}, inputs_of(model, batch, inputs))
        terms = log_likelihood_of_batch(prediction, batch)
        return num_data * mean_over_rows(terms, batch) + fixed.log_prob(params)

    return log_density


@dataclasses.dataclass(frozen=True)
class _StochasticGradient:
    """What the two samplers share: batches, schedule, chains, checks."""

    log_density: LogDensity
    step_size: float | Callable[[Array], Array]
    temperature: float = 1.0

    def __post_init__(self):
        name = type(self).__name__
        require_positive(name, step_size=self.step_size)
        require_non_negative(name, temperature=self.temperature)

    def run(
        self,
        key: Key,
        init: Params,
        data: Batch,
        num_steps: int,
        batch_size: int | None = None,
        *,
        num_warmup: int = 0,
        thin: int = 1,
        rows: str = "shuffled",
    ) -> Chains:
        """Runs all chains at once, one compiled program.

        Args:
          key: One key for all chains; chain c uses `jax.random.split(key, C)[c]`.
          init: Where the chains start: a pytree whose leaves lead with the chains C.
          data: Dict of arrays with leading axis N, shared; each chain takes batches of its own.
          num_steps: Steps of each chain, the warm-up included.
          batch_size: Rows of a batch B, at most N; None for all rows at each step.
          num_warmup: Steps whose draws are not kept.
          thin: Of the draws that may be kept, each `thin`-th is.
          rows: "shuffled" epochs, of which the last N mod B rows are left out, or "random" rows
            with replacement.

        Returns:
          The chains, with the step size of each draw; there is no log-density and no acceptance. A
          `UserWarning` names the chains that are no longer finite.

        Raises:
          ValueError: Bad numbers, leaves without a common leading axis, a start that is not finite,
            or a run that keeps no draw.
        """
        name = type(self).__name__
        require_count(name, num_steps=num_steps, thin=thin, batch_size=batch_size)
        require_count(name, least=0, num_warmup=num_warmup)
        require_choice(name, ROWS, rows=rows)
        init = jax.tree.map(jnp.asarray, init)
        _check_start(name, init)
        data = {e: jnp.asarray(value) for e, value in data.items() if value is not None}
        batch_size = _checked_batch_size(name, data, batch_size)
        kept = self._kept(num_steps, num_warmup, thin)
        slots = np.full(num_steps, len(kept), np.int32)
        slots[kept] = np.arange(len(kept))
        num_chains = jax.tree.leaves(init)[0].shape[0]
        keys = jax.random.split(key, num_chains)
        draws = _run(self, keys, init, data, slots, len(kept), batch_size, rows)
        _warn_if_not_finite(name, draws)
        sizes = jnp.broadcast_to(self._step_size(jnp.asarray(kept)), (len(kept),))
        return Chains(draws, step_size=jnp.broadcast_to(sizes[None], (num_chains, len(kept))))

    def _kept(self, num_steps: int, num_warmup: int, thin: int) -> np.ndarray:
        """The steps whose draws are kept, counted from 0."""
        steps = np.arange(num_steps)
        may_be = (steps >= num_warmup) & np.asarray(self._is_noisy(steps))
        kept = steps[may_be][thin - 1 :: thin]
        if num_warmup < 0 or not len(kept):
            raise ValueError(
                f"{type(self).__name__}: {num_steps} steps with num_warmup={num_warmup}, thin="
                f"{thin} and this step size keep no draw. Take more steps."
            )
        return kept

    def _step_size(self, step: Array) -> Array:
        return jnp.asarray(self.step_size(step) if callable(self.step_size) else self.step_size)

    def _is_noisy(self, steps: Any) -> Any:
        if isinstance(self.step_size, CyclicalStepSize):
            return self.step_size.samples(steps)
        return steps >= 0

    def _move(
        self, params: Params, momentum: Params, slope: Params, noise: Params, size: Array
    ) -> tuple[Params, Params]:
        """One step, given the gradient and standard normal noise (0 in a step without noise)."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class SGLD(_StochasticGradient):
    """Stochastic gradient Langevin dynamics: half a gradient step and noise of its size.

    Args:
      log_density: (params, batch) -> unbiased estimate of the log-posterior in nats, e.g.
        `bayes.minibatch_log_joint(...)`.
      step_size: epsilon: a number, `PolynomialStepSize`, `CyclicalStepSize`, or a function of the
        number of steps taken. It is a variance: far below that of the narrowest direction of the
        posterior, which for N rows shrinks as 1/N.
      temperature: T; 1 is the posterior, less is a cold one, 0 is gradient ascent.
    """

    def _move(
        self, params: Params, momentum: Params, slope: Params, noise: Params, size: Array
    ) -> tuple[Params, Params]:
        root = math.sqrt(self.temperature)

        def moved(w: Array, g: Array, n: Array) -> Array:
            epsilon = size.astype(w.dtype)
            return w + 0.5 * epsilon * g + jnp.sqrt(epsilon) * (root * n)

        return jax.tree.map(moved, params, slope, noise), momentum


@dataclasses.dataclass(frozen=True)
class SGHMC(_StochasticGradient):
    """Stochastic gradient Hamiltonian Monte Carlo: SGD with momentum, and the noise it needs.

    Args:
      log_density: (params, batch) -> unbiased estimate of the log-posterior in nats.
      step_size: epsilon, the learning rate of the momentum form; see `SGLD`.
      temperature: T; 1 is the posterior.
      friction: alpha in (0, 1], one minus the momentum coefficient.
      gradient_noise: beta, the part of the noise that the batches are known to bring themselves,
        epsilon / 2 times the variance of g; 0, or less than alpha T, since no noise can be taken
        away. Where the step size follows a schedule, that of the first step; it falls in proportion
        to the step size.
    """

    friction: float = 0.1
    gradient_noise: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        require_in("SGHMC", "(0, 1]", "0.1 is a momentum of .9.", friction=self.friction)
        most = self.friction * self.temperature
        if not (self.gradient_noise == 0.0 or 0.0 < self.gradient_noise < most):
            raise ValueError(
                "SGHMC: gradient_noise must be 0 or lie in (0, friction * temperature) = (0, "
                f"{most:.6g}); got {self.gradient_noise}. Noise that the batches bring cannot be "
                "taken away: take larger batches, a smaller step_size or more friction."
            )

    def _move(
        self, params: Params, momentum: Params, slope: Params, noise: Params, size: Array
    ) -> tuple[Params, Params]:
        share = size / self._step_size(jnp.zeros((), jnp.int32))
        spread = 2.0 * (self.friction * self.temperature - self.gradient_noise * share)

        def pushed(v: Array, g: Array, n: Array) -> Array:
            epsilon = size.astype(v.dtype)
            deviation = jnp.sqrt(spread.astype(v.dtype) * epsilon)
            return (1.0 - self.friction) * v + epsilon * g + deviation * n

        momentum = jax.tree.map(pushed, momentum, slope, noise)
        return jax.tree.map(jnp.add, params, momentum), momentum


@functools.partial(jax.jit, static_argnames=("sampler", "num_draws", "batch_size", "rows"))
def _run(
    sampler: _StochasticGradient,
    keys: Array,
    init: Params,
    data: Batch,
    slots: Array | np.ndarray,
    num_draws: int,
    batch_size: int | None,
    rows: str,
) -> Params:
    chain = functools.partial(_chain, sampler, data, slots, num_draws, batch_size, rows)
    return jax.vmap(chain)(keys, init)


def _chain(
    sampler: _StochasticGradient,
    data: Batch,
    slots: Array | np.ndarray,
    num_draws: int,
    batch_size: int | None,
    rows: str,
    key: Key,
    start: Params,
) -> Params:
    """The kept draws of one chain, each leaf `[S, ...]`."""
    batch_key, noise_key = jax.random.split(key)
    num_rows = 0 if batch_size is None else next(iter(data.values())).shape[0]
    batches = 1 if batch_size is None else num_rows // batch_size

    def take(step: Array, order: Array) -> tuple[Batch, Array]:
        if batch_size is None:
            return data, order
        if rows == "random":
            shape = (batch_size,)
            chosen = jax.random.randint(
                jax.random.fold_in(batch_key, step), shape, 0, num_rows, jnp.int32
            )
        else:
            # The condition is the same for all chains, so that vmap leaves it a condition.
            order = jax.lax.cond(
                step % batches == 0,
                lambda: _order(jax.random.fold_in(batch_key, step // batches), num_rows),
                lambda: order,
            )
            first = step % batches * batch_size
            chosen = jax.lax.dynamic_slice_in_dim(order, first, batch_size)
        return {name: value[chosen] for name, value in data.items()}, order

    def step(carry: Any, now: tuple[Array, Array]) -> tuple[Any, None]:
        params, momentum, order, draws = carry
        number, slot = now
        batch, order = take(number, order)
        slope = jax.grad(sampler.log_density)(params, batch)
        heat = jnp.where(sampler._is_noisy(number), 1.0, 0.0)
        noise = _noise(jax.random.fold_in(noise_key, number), params, heat)
        size = sampler._step_size(number)
        params, momentum = sampler._move(params, momentum, slope, noise, size)
        # Past the end nothing is written.
        draws = jax.tree.map(lambda d, w: d.at[slot].set(w, mode="drop"), draws, params)
        return (params, momentum, order, draws), None

    draws = jax.tree.map(lambda w: jnp.zeros((num_draws, *w.shape), w.dtype), start)
    at_rest = jax.tree.map(jnp.zeros_like, start)
    carry = (start, at_rest, _order(batch_key, num_rows), draws)
    numbers = jnp.arange(slots.shape[0], dtype=jnp.int32)
    (*_, draws), _ = jax.lax.scan(step, carry, (numbers, jnp.asarray(slots)))
    return draws


def _order(key: Key, num_rows: int) -> Array:
    return jax.random.permutation(key, num_rows).astype(jnp.int32)


def _noise(key: Key, params: Params, heat: Array) -> Params:
    """Normal noise times `heat`, leaf i of the pytree from `fold_in(key, i)`."""
    leaves, tree = jax.tree.flatten(params)
    noise = [
        heat.astype(w.dtype) * jax.random.normal(jax.random.fold_in(key, i), w.shape, w.dtype)
        for i, w in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, noise)


def _check_start(name: str, init: Params) -> None:
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(init)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(
            f"{name}: every leaf of init needs the same leading axis C of chains; got leading "
            f"sizes {sorted(sizes)}. For one chain add the axis: jax.tree.map(lambda w: w[None], "
            "params)."
        )
    known = [leaf for leaf in jax.tree.leaves(init) if not isinstance(leaf, jax.core.Tracer)]
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in known):
        raise ValueError(f"{name}: init must be finite; some of its weights are NaN or infinite.")


def _checked_batch_size(name: str, data: Batch, batch_size: int | None) -> int | None:
    """The size of a batch, None where each step sees all rows."""
    sizes = {value.shape[:1] for value in data.values()}
    if len(sizes) > 1 or sizes == {()}:
        raise ValueError(
            f"{name}: every array of data needs the same number of rows; got {sorted(sizes)}."
        )
    if batch_size is None:
        return None
    num_rows = next(iter(sizes))[0] if sizes else 0
    if batch_size > num_rows:
        raise ValueError(
            f"{name}: batch_size must be at most the number of rows, {num_rows}; got {batch_size}. "
            "Write None for all rows."
        )
    return batch_size


def _warn_if_not_finite(name: str, draws: Params) -> None:
    leaves = jax.tree.leaves(draws)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return
    finite = [np.isfinite(np.asarray(leaf)).reshape(*leaf.shape[:2], -1).all(-1) for leaf in leaves]
    lost = ~np.all(finite, axis=0)
    if lost.any():
        chains = np.flatnonzero(lost.any(axis=1)).tolist()
        first = int(np.argmax(lost.any(axis=0)))
        warnings.warn(
            f"{name}: chains {chains} of {len(lost)} are not finite, the first from draw {first} "
            "on. Take a smaller step_size.",
            stacklevel=3,
        )
