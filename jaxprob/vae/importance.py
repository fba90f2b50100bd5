"""Bounds by importance weights, and log p(x) with its error.

    L_k = E log (1 / k) sum_i w_i,   w_i = p(x, z_i) / q(z_i | x),   ELBO = L_1 <= L_k <= log p(x)
    Renyi    E 1 / (1 - a) log (1 / k) sum_i w_i^(1 - a):  L_k at a = 0, the ELBO as a -> 1, the
             largest log w_i as a -> -inf
    CIWAE    b ELBO + (1 - b) L_k

The gradient towards the encoder: as the weights depend on it (reparameterized), or by way of z
alone, each draw weighted by the square of its normalised weight (doubly reparameterized). The
second has no variance where q is the posterior, and its signal-to-noise ratio does not fall as k
grows; where q is still far from the posterior it may vary more than the first.

Twin: `torch_ref/vae/importance.py`. Sources: Burda, Grosse & Salakhutdinov, "Importance weighted
autoencoders" (2016), eqs. 8-14; Tucker et al., "Doubly reparameterized gradient estimators for
Monte Carlo objectives" (2019), eq. 8; Li & Turner, "Renyi divergence variational inference"
(2016); Rainforth et al., "Tighter variational bounds are not necessarily better" (2018).
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.special import logsumexp
from jaxtyping import Shaped

from jaxprob.batches import as_batch, weighted_mean
from jaxprob.nn.apply import hashable
from jaxprob.requirements import require_choice, require_count, require_in
from jaxprob.types import AnyArray, Array, Batch, Key, Loss, LossFn, Metrics, Params, summary
from jaxprob.vae import pareto
from jaxprob.vae.inputs import inputs_beside, read
from jaxprob.vae.latents import (
    Latents,
    apply,
    decode_latents,
    draw,
    input_check,
    log_likelihood,
    log_weights,
    require_noise,
)

__all__ = ["LogMarginal", "log_marginal", "negative_ciwae", "negative_iwae", "negative_renyi"]

GRADIENTS = ("reparameterized", "doubly_reparameterized")

Bound = Callable[[Array], Array]
"""Log-weights `[S, B]` -> bound of each row `[B]`."""


@struct.dataclass
class LogMarginal:
    """An estimate of log p(x), in nats; `value, error = log_marginal(...)` takes its first two.

    Attributes:
      value: The estimate `[B]`. On average it lies below log p(x), by about half the square of its
        error.
      standard_error: Its Monte Carlo error `[B]`, by the delta method. No more than about 1 nat
        whatever the truth is, so that it says nothing where `reliable` is False.
      effective_samples: (sum w)^2 / sum w^2 `[B]`: how many draws the estimate rests on, 1 to S.
      pareto_k: Shape of the tail of the weights `[B]`, see `jaxprob.vae.pareto`: below 0 they are
        bounded, from 0.5 on their variance is infinite. NaN with fewer than 21 draws.
      num_samples: Draws S of each row.
    """

    # a tree of them may hold anything, NumPy's arrays say
    value: Any
    standard_error: Any
    effective_samples: Any
    pareto_k: Any
    num_samples: int = struct.field(pytree_node=False)

    def __repr__(self) -> str:
        return summary("LogMarginal", **vars(self))

    @property
    def reliable(self) -> Any:
        """Whether the error may be believed `[B]`, by the size of `pareto_k`.

        Where it is False the value is most likely too low by more than the error says: the
        posterior is wider than q(z | x) or elsewhere. More draws help slowly; a better encoder
        does.
        """
        return self.pareto_k < pareto.largest_reliable(self.num_samples)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.value, self.standard_error))


def negative_iwae(
    model: nn.Module,
    num_samples: int,
    gradient: str = "reparameterized",
    binarize: bool = False,
) -> Loss:
    """Returns the loss -L_k, in nats a row: a tighter bound on log p(x) than the ELBO.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      num_samples: Draws k for each row.
      gradient: "reparameterized", or "doubly_reparameterized", which is unbiased too and varies
        less once q is near the posterior.
      binarize: Whether "x" holds grey levels in [0, 1] from which pixels are drawn in each step.

    Returns:
      `loss_fn(params, batch, key) -> (loss, metrics)`; the batch is that of `negative_elbo`.
      Metrics hold "nll" (-log p(x | z)) and "kl" (log q - log p) of a single draw: their sum less
      the loss is what the k draws gain. With a stateful model its new "collections" are there too.
      `loss_fn.evaluate` is the same with the model in its mode of prediction.

    Raises:
      ValueError: No samples, or an unknown gradient.
    """
    require_count("negative_iwae", num_samples=num_samples)
    require_choice("negative_iwae", GRADIENTS, gradient=gradient)
    doubly = gradient == "doubly_reparameterized"
    return _negative_bound(model, num_samples, _log_mean_exp, binarize, doubly)


def negative_renyi(
    model: nn.Module, alpha: float, num_samples: int, binarize: bool = False
) -> Loss:
    """Returns the loss -L_alpha, the variational Renyi bound, in nats a row.

    It falls as alpha rises. With alpha >= 0 it bounds log p(x) from below; under 0 it comes to lie
    above as the draws get more. A large alpha asks q to stay where the posterior is, a small one to
    cover all of it.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      alpha: Order of the divergence, any real number or +-inf: 0 is `negative_iwae`, 1 is
        `negative_elbo` with the KL estimated from the draws, -inf trains the best draw alone.
      num_samples: Draws k for each row. The bound is that of all k together: as k grows it comes to
        log p(x) less the divergence of order alpha.
      binarize: Whether "x" holds grey levels in [0, 1] from which pixels are drawn in each step.

    Returns:
      A loss like that of `negative_iwae`, with its metrics.

    Raises:
      ValueError: No samples, or an alpha that is not a number.
    """
    require_count("negative_renyi", num_samples=num_samples)
    if math.isnan(alpha):
        raise ValueError("negative_renyi: alpha must be a number; got nan. Write 1.0 for the ELBO.")
    return _negative_bound(model, num_samples, functools.partial(_renyi, alpha), binarize)


def negative_ciwae(
    model: nn.Module, num_samples: int, beta: float = 0.5, binarize: bool = False
) -> Loss:
    """Returns the loss -(beta ELBO + (1 - beta) L_k), in nats a row.

    The tighter the bound, the less of its gradient towards q is signal; the ELBO's share keeps q
    learning.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      num_samples: Draws k for each row, which both bounds share.
      beta: Share of the ELBO, in [0, 1].
      binarize: Whether "x" holds grey levels in [0, 1] from which pixels are drawn in each step.

    Returns:
      A loss like that of `negative_iwae`, with its metrics.

    Raises:
      ValueError: No samples, or a share outside [0, 1].
    """
    require_count("negative_ciwae", num_samples=num_samples)
    require_in(
        "negative_ciwae", "[0, 1]", "Write 1.0 for the ELBO, 0.0 for negative_iwae.", beta=beta
    )

    def bound(weights: Array) -> Array:
        if beta == 0.0:  # 0 of a draw that weighs nothing is no number
            return _log_mean_exp(weights)
        return beta * jnp.mean(weights, axis=0) + (1.0 - beta) * _log_mean_exp(weights)

    return _negative_bound(model, num_samples, bound, binarize)


def _log_mean_exp(weights: Array) -> Array:
    return logsumexp(weights, axis=0) - math.log(weights.shape[0])


def _renyi(alpha: float, weights: Array) -> Array:
    if math.isinf(alpha):
        return jnp.min(weights, axis=0) if alpha > 0 else jnp.max(weights, axis=0)
    power = 1.0 - alpha
    if power == 0.0:
        return jnp.mean(weights, axis=0)
    # about the draw that weighs most in the sum; it cancels, so no gradient needs it
    largest = jnp.max(weights, axis=0) if power > 0.0 else jnp.min(weights, axis=0)
    centre = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0.0))
    powers = power * (weights - centre[None])
    if abs(power) >= 0.1:
        return centre + _log_mean_exp(powers) / power
    # near the ELBO: what is divided by a small number must have no rounding of log k in it
    return centre + jnp.log1p(jnp.mean(jnp.expm1(powers), axis=0)) / power


def _negative_bound(
    model: nn.Module, num_samples: int, bound: Bound, binarize: bool, doubly: bool = False
) -> Loss:
    """The loss of a function of the log-weights; `doubly` gives that of L_k its other gradient."""

    def in_mode(train: bool) -> LossFn:
        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            seen = draw(model, params, batch, key, num_samples, train, binarize)
            output = seen.output
            weights = log_weights(model, params, seen)
            value = weighted_mean(bound(weights), batch)
            elbo = weighted_mean(weights, batch)
            nll = -weighted_mean(log_likelihood(output.p, seen.batch), batch)
            metrics: Metrics = {"nll": nll, "kl": -elbo - nll}
            if seen.collections:
                metrics["collections"] = seen.collections
            if doubly:
                shares = jax.lax.stop_gradient(jax.nn.softmax(weights, axis=0))
                z = _scale_gradient(output.z, shares[..., None])
                # The values are those above, and XLA computes them once; the gradients are others.
                p = decode_latents(model, params, z, seen, key, train)
                moved = seen._replace(output=output._replace(z=z, p=p))
                again = log_weights(model, params, moved, frozen_q=True)
                again = jnp.where(shares > 0.0, again, 0.0)  # a draw may weigh nothing
                surrogate = weighted_mean(jnp.sum(shares * again, axis=0), batch)
                value = jax.lax.stop_gradient(value - surrogate) + surrogate
            return -value, metrics

        return loss_fn

    return Loss.in_modes(in_mode, check=input_check(model, binarize))


def log_marginal(
    model: nn.Module,
    params: Params,
    x: Shaped[AnyArray, "B *D"] | Batch,
    key: Key,
    num_samples: int = 1000,
    chunk_size: int = 50,
    given: Batch | None = None,
) -> LogMarginal:
    """Estimates log p(x) by importance sampling from q(z | x): L_k with k = `num_samples`.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      params: Its params.
      x: Rows `[B, *event]`, or a batch.
      key: Key of the draws; each draw has a key of its own, so the answer does not depend on
        `chunk_size`.
      num_samples: Draws for each row, at least 2.
      chunk_size: Draws that are in memory at a time.
      given: What stands beside x, by name: with {"condition": c} the estimate is of log p(x | c),
        and with "x_observed" (or "mask") of x's shape of what was observed of x alone.

    Returns:
      The estimate of each row and its standard error, how many draws it rests on, and whether that
      error may be believed: where q is much narrower than the posterior it may not.

    Raises:
      ValueError: Too few samples, or chunks below 1.
    """
    require_count("log_marginal", least=2, num_samples=num_samples)
    require_count("log_marginal", chunk_size=chunk_size)
    require_noise(model)
    chunks = -(-num_samples // chunk_size)
    size = -(-num_samples // chunks)
    batch = as_batch(x, given)
    batch = {**batch, "x": read(model, batch)[0]}
    return _log_marginal(hashable(model), num_samples, size, chunks, params, batch, key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _log_marginal(
    model: nn.Module,
    num_samples: int,
    size: int,
    chunks: int,
    params: Params,
    batch: Batch,
    key: Key,
) -> LogMarginal:
    x, extra = batch["x"], inputs_beside(model, batch)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
    shape = (x.shape[0], model.latent_dim)

    def weights(numbers):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        eps = jax.vmap(lambda k: jax.random.normal(k, shape, dtype))(keys)
        output = apply(model, params, extra, "__call__", x, eps)
        log_w = log_weights(model, params, Latents(batch, extra, output, {}))
        return jnp.where((numbers < num_samples)[:, None], log_w, -jnp.inf)

    def chunk(carry, first):
        peak, total, squares, top = carry
        log_w = weights(first + jnp.arange(size))
        new_peak = jnp.maximum(peak, jnp.max(log_w, axis=0))
        centre = jnp.where(jnp.isfinite(new_peak), new_peak, 0.0)
        scaled, shrink = jnp.exp(log_w - centre[None]), jnp.exp(peak - centre)
        total = total * shrink + jnp.sum(scaled, axis=0)
        squares = squares * shrink**2 + jnp.sum(scaled**2, axis=0)
        both = jnp.concatenate([top, log_w]).T
        top = jax.lax.top_k(both, top.shape[0])[0].T
        return (new_peak, total, squares, top), None

    zeros = jnp.zeros(x.shape[:1], jax.eval_shape(weights, jnp.arange(size)).dtype)
    none = jnp.full_like(zeros, -jnp.inf)
    tail = jnp.broadcast_to(none, (pareto.tail_size(num_samples) + 1, *none.shape))
    (peak, total, squares, top), _ = jax.lax.scan(
        chunk, (none, zeros, zeros, tail), size * jnp.arange(chunks)
    )
    # the variance of a mean of n weights, over its square
    spread = jnp.maximum(squares / total**2 - 1.0 / num_samples, 0.0)
    error = jnp.sqrt(spread * num_samples / (num_samples - 1))
    return LogMarginal(
        peak + jnp.log(total) - math.log(num_samples),
        error,
        total**2 / squares,
        pareto.tail_shape(top),
        num_samples,
    )


@jax.custom_jvp
def _scale_gradient(x: Array, scale: Array) -> Array:
    """Returns x; its derivative is `scale` in the place of 1."""
    del scale
    return x


@_scale_gradient.defjvp
def _scale_gradient_jvp(primals, tangents):
    (x, scale), (tangent, _) = primals, tangents
    return x, scale * tangent
