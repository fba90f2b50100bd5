"""Bounds by importance weights, and log p(x) with its error.

    L_k = E log (1 / k) sum_i w_i,   w_i = p(x, z_i) / q(z_i | x),   ELBO = L_1 <= L_k <= log p(x)

The gradient towards the encoder: as the weights depend on it (reparameterized), or by way of z
alone, each draw weighted by the square of its normalised weight (doubly reparameterized). The
second has no variance where q is the posterior, and its signal-to-noise ratio does not fall as k
grows; where q is still far from the posterior it may vary more than the first.

Twin: `torch_ref/vae/importance.py`. Sources: Burda, Grosse & Salakhutdinov, "Importance weighted
autoencoders" (2016), eqs. 8-14; Tucker et al., "Doubly reparameterized gradient estimators for
Monte Carlo objectives" (2019), eq. 8.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Shaped

from jaxprob.nn.application import as_variables, hashable
from jaxprob.objectives.likelihood import weighted_mean
from jaxprob.types import AnyArray, Array, Batch, Key, LossFn, Metrics, Params
from jaxprob.vae.terms import (
    decode_again,
    draw,
    further_inputs,
    log_likelihood,
    log_weights,
)

__all__ = ["LogMarginal", "log_marginal", "negative_iwae"]

GRADIENTS = ("reparameterized", "doubly_reparameterized")


class LogMarginal(NamedTuple):
    """An estimate of log p(x), in nats.

    Attributes:
      value: The estimate `[B]`. On average it lies below log p(x), by about half the square of its
        error.
      standard_error: Its Monte Carlo error `[B]`, by the delta method.
    """

    value: Array
    standard_error: Array


def negative_iwae(
    model: nn.Module,
    num_samples: int,
    gradient: str = "reparameterized",
    binarize: bool = False,
) -> LossFn:
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
    if not num_samples >= 1:
        raise ValueError(f"negative_iwae: num_samples must be at least 1; got {num_samples}.")
    if gradient not in GRADIENTS:
        raise ValueError(
            f"negative_iwae: gradient must be one of {', '.join(GRADIENTS)}; got {gradient!r}."
        )

    def in_mode(train: bool) -> LossFn:
        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            drawn = draw(model, params, batch, key, num_samples, train, binarize)
            output = drawn.output
            weights = log_weights(model, params, output, drawn.batch)
            bound = weighted_mean(logsumexp(weights, axis=0) - math.log(num_samples), batch)
            elbo = weighted_mean(weights, batch)
            nll = -weighted_mean(log_likelihood(output.p, drawn.batch), batch)
            metrics: Metrics = {"nll": nll, "kl": -elbo - nll}
            if drawn.collections:
                metrics["collections"] = drawn.collections
            if gradient == "doubly_reparameterized":
                shares = jax.lax.stop_gradient(jax.nn.softmax(weights, axis=0))
                z = _scale_gradient(output.z, shares[..., None])
                # The values are those above, and XLA computes them once; the slopes are others.
                p = decode_again(model, params, z, batch, key, train)
                again = log_weights(model, params, output._replace(z=z, p=p), drawn.batch, True)
                surrogate = weighted_mean(jnp.sum(shares * again, axis=0), batch)
                bound = jax.lax.stop_gradient(bound - surrogate) + surrogate
            return -bound, metrics

        return loss_fn

    loss_fn = in_mode(True)
    loss_fn.evaluate = in_mode(False)  # type: ignore[attr-defined]
    return loss_fn


def log_marginal(
    model: nn.Module,
    params: Params,
    x: Shaped[AnyArray, "B *D"],
    key: Key,
    num_samples: int = 1000,
    chunk_size: int = 50,
    condition: AnyArray | None = None,
) -> LogMarginal:
    """Estimates log p(x) by importance sampling from q(z | x): L_k with k = `num_samples`.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      params: Its params.
      x: Rows `[B, *event]`.
      key: Key of the draws; each draw has a key of its own, so the answer does not depend on
        `chunk_size`.
      num_samples: Draws for each row, at least 2.
      chunk_size: Draws that are in memory at a time.
      condition: `[B, C]`, for a conditional model: the estimate is of log p(x | condition).

    Returns:
      The estimate of each row and its standard error. Where q is much narrower than the posterior
      the error is itself underestimated: compare two values of `num_samples`.

    Raises:
      ValueError: Too few samples, or chunks below 1.
    """
    if not num_samples >= 2:
        raise ValueError(
            f"log_marginal: num_samples must be at least 2, for an error; got {num_samples}."
        )
    if not chunk_size >= 1:
        raise ValueError(f"log_marginal: chunk_size must be at least 1; got {chunk_size}.")
    chunks = -(-num_samples // chunk_size)
    size = -(-num_samples // chunks)
    batch = {"x": jnp.asarray(x), "condition": condition}
    return _log_marginal(hashable(model), num_samples, size, chunks, params, batch, key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _log_marginal(
    model: nn.Module, num_samples: int, size: int, chunks: int, params: Params, batch, key: Key
) -> LogMarginal:
    x, further = batch["x"], further_inputs(model, batch)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
    shape = (x.shape[0], model.latent_dim)

    def weights(numbers):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        eps = jax.vmap(lambda k: jax.random.normal(k, shape, dtype))(keys)
        output = model.apply(as_variables(params), x, eps, *further)
        log_w = log_weights(model, params, output, batch)
        return jnp.where((numbers < num_samples)[:, None], log_w, -jnp.inf)

    def chunk(carry, first):
        peak, total, squares = carry
        log_w = weights(first + jnp.arange(size))
        new_peak = jnp.maximum(peak, jnp.max(log_w, axis=0))
        centre = jnp.where(jnp.isfinite(new_peak), new_peak, 0.0)
        scaled, shrink = jnp.exp(log_w - centre[None]), jnp.exp(peak - centre)
        total = total * shrink + jnp.sum(scaled, axis=0)
        squares = squares * shrink**2 + jnp.sum(scaled**2, axis=0)
        return (new_peak, total, squares), None

    zeros = jnp.zeros(x.shape[:1], jax.eval_shape(weights, jnp.arange(size)).dtype)
    start = (jnp.full_like(zeros, -jnp.inf), zeros, zeros)
    (peak, total, squares), _ = jax.lax.scan(chunk, start, size * jnp.arange(chunks))
    # the variance of a mean of n weights, over its square
    spread = jnp.maximum(squares / total**2 - 1.0 / num_samples, 0.0)
    error = jnp.sqrt(spread * num_samples / (num_samples - 1))
    return LogMarginal(peak + jnp.log(total) - math.log(num_samples), error)


@jax.custom_jvp
def _scale_gradient(x: Array, scale: Array) -> Array:
    """Returns x; its derivative is `scale` in the place of 1."""
    del scale
    return x


@_scale_gradient.defjvp
def _scale_gradient_jvp(primals, tangents):
    (x, scale), (tangent, _) = primals, tangents
    return x, scale * tangent
