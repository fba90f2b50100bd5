"""Completing what is missing: draws of the hidden values of a row given those that were seen.

    z ~ q(z | x_seen),   x_hidden ~ p(x_hidden | z)

Its law is p(x_hidden | x_seen) where q(z | x_seen) is the posterior. Where it is not, each draw may
choose its z among K of them, with probability in proportion to

    w_k = p(x_seen, z_k) / q(z_k | x_seen)

and comes as near as wanted as K grows (sampling, importance resampling).

Twin: `torch_ref/vae/impute.py`. Source: Rubin, "Using the SIR algorithm to simulate posterior
distributions" (1988); Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of
incomplete data sets" (2019), section 3.3.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Shaped

from jaxprob.batches import as_batch, observed, valid_steps
from jaxprob.nn.apply import hashable
from jaxprob.requirements import require_count
from jaxprob.types import AnyArray, Array, Batch, Key, Params
from jaxprob.vae.average import mean_or_mode
from jaxprob.vae.inputs import inputs_beside, read
from jaxprob.vae.latents import Latents, apply, log_weights, noise, require_noise

__all__ = ["impute"]


def impute(
    model: nn.Module,
    params: Params,
    x: Shaped[AnyArray, "B *D"] | Batch,
    key: Key,
    num: int = 1,
    num_proposals: int = 1,
    mean: bool = False,
    given: Batch | None = None,
) -> Array:
    """Draws what is missing of x, given what was seen.

        drawn = vae.impute(model, params, {"x": x, "x_observed": ~jnp.isnan(x)}, key, 20)

    Args:
      model: `VAE` or another `LatentVariableModel`.
      params: Its params, best of a training on rows with missing values: the encoder sees 0 there.
      x: Rows `[B, *event]`, which may hold anything where they were not observed, or a batch.
      key: Key of the draws; each has one of its own.
      num: Draws S for each row.
      num_proposals: Latents K among which each draw chooses by importance weights; 1 trusts the
        encoder. `log_marginal` on the same batch says whether it can be trusted: `pareto_k`.
      mean: True puts the mean of p(x | z) (of classes the mode) in the place of a draw of it; the
        average of many is the mean of what is missing.
      given: What stands beside x, by name: "x_observed" (or "mask") of x's shape, True where x was
        observed, and what the model takes.

    Returns:
      Rows `[S, B, *event]`: x itself where it was observed (or is padding), and draws elsewhere.

    Raises:
      ValueError: Nothing that says what is missing; latents that are discrete; a decoder that reads
        x itself; a likelihood whose elements are not independent given z.
    """
    require_count("impute", num=num, num_proposals=num_proposals)
    require_noise(model)
    if "x" in getattr(model, "decoder_takes", ()):
        raise ValueError(
            f"impute: the decoder of {type(model).__name__} reads the steps before each one, of "
            "which some are missing; there is no draw of z from which the others follow. Use a "
            "model whose decoder reads latents alone."
        )
    batch = as_batch(x, given)
    if observed(batch, "x") is None:
        raise ValueError(
            "impute: nothing says what is missing. Give a batch with x_observed, True where x was "
            'observed: {"x": x, "x_observed": ~jnp.isnan(x)}.'
        )
    whole, batch["x"] = batch["x"], read(model, batch)[0]
    return _impute(hashable(model), num, num_proposals, mean, params, whole, batch, key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _impute(
    model: nn.Module,
    num: int,
    num_proposals: int,
    mean: bool,
    params: Params,
    whole: Array,
    batch: Batch,
    key: Key,
) -> Array:
    x, extra = batch["x"], inputs_beside(model, batch)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
    rows, keep = x.shape[0], jnp.asarray(observed(batch, "x"), bool)
    if batch.get("lengths") is not None:
        valid = valid_steps("impute", batch["lengths"], *x.shape[:2])
        keep = keep | ~valid.reshape(*valid.shape, *[1] * (x.ndim - 2))

    def one(number: Array) -> Array:
        z_key, pick_key, x_key = jax.random.split(jax.random.fold_in(key, number), 3)
        eps = noise(z_key, num_proposals, rows, model.latent_dim, dtype)
        output = apply(model, params, extra, "__call__", x, eps)
        # asked for by one proposal too: it refuses a likelihood that no mask can take apart
        log_w = log_weights(model, params, Latents(dict(batch), extra, output, {}))
        picked = jnp.zeros(rows, int) if num_proposals == 1 else _pick(pick_key, log_w)
        z = jnp.take_along_axis(output.z, picked[None, :, None], axis=0)[0]
        p = apply(model, params, extra, "decode", z)
        drawn = mean_or_mode(type(model).__name__, p) if mean else p.sample(seed=x_key)
        if jnp.issubdtype(whole.dtype, jnp.floating):
            drawn = drawn.astype(whole.dtype)
        return jnp.where(keep, whole, drawn)

    return jax.lax.map(one, jnp.arange(num))


def _pick(key: Key, log_w: Array) -> Array:
    """One of the proposals of each row `[B]`, drawn by its log-weights `[K, B]`."""
    return jax.random.categorical(key, log_w.T, axis=-1)
