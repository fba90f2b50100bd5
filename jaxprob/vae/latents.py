"""What every bound is made of: noise, draws of the latents, log p(x | z) and log-weights.

    log w = log p(x | z) + log p(z) - log q(z | x),   z ~ q(z | x)

The noise of a row does not depend on how many rows follow it, so that padded rows (of weight 0)
change nothing.

Twin: `torch_ref/vae/latents.py`.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxprob.batches import Inputs, accepted, observed, without_padding
from jaxprob.distributions.constraints import unit_interval
from jaxprob.distributions.validation import check_values
from jaxprob.nn.apply import as_variables, call
from jaxprob.objectives.targets import support_check
from jaxprob.operations.linen import fast_convolutions
from jaxprob.types import AnyArray, Array, Batch, Check, Key, Params
from jaxprob.vae.inputs import log_likelihood_of_inputs, read
from jaxprob.vae.model import VAEOutput

__all__ = [
    "Latents",
    "apply",
    "binarize",
    "decode_latents",
    "decoder_inputs",
    "draw",
    "input_check",
    "log_likelihood",
    "log_weights",
    "noise",
    "require_decoder",
    "require_noise",
]


class Latents(NamedTuple):
    """Draws of the latents of a batch.

    Attributes:
      batch: The batch as the model saw it, its pixels drawn anew where that is asked for.
      extra: What the model takes beside x, by name.
      output: q(z | x), S draws of z, and p(x | z).
      collections: New state of the model (batch statistics, ...), empty where it has none.
    """

    batch: dict[str, Any]
    extra: dict[str, Array]
    output: VAEOutput
    collections: dict[str, Any]


def binarize(x: Shaped[AnyArray, "*B"], key: Key) -> Float[Array, "*B"]:
    """Draws black or white pixels whose probability of white is the grey level.

    Anew in each step (dynamic binarisation) it keeps a model from learning one drawing by heart.

    Args:
      x: Grey levels in [0, 1], any shape.
      key: Key of the draw.

    Returns:
      0 and 1, floats as `x`; NaN where a compiled program finds no grey level.

    Raises:
      ValueError: Levels outside [0, 1], such as bytes, where they can be seen.

    Source: Burda, Grosse & Salakhutdinov (2016), appendix D.
    """
    x = jnp.asarray(x)
    x = x.astype(jnp.promote_types(x.dtype, jnp.bfloat16))  # bytes become floats
    check_values("binarize", "x", x, unit_interval)
    drawn = jax.random.bernoulli(key, x).astype(x.dtype)
    return jnp.where((x >= 0.0) & (x <= 1.0), drawn, jnp.nan)


def _binarize_steps(x: Array, key: Key) -> Array:
    """`binarize` of sequences `[B, T, ...]`: padding leaves the draws before it as they are."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(x.shape[1]))
    return jax.vmap(binarize, (1, 0), 1)(x, keys)


def require_decoder(model: nn.Module) -> None:
    """Raises a `ValueError` for a model without p(x | z)."""
    if not hasattr(model, "decode"):
        raise ValueError(
            f"{type(model).__name__} is no autoencoder: it has no encode and no decode. This takes "
            "a LatentVariableModel such as DenseVAE. A LatentClassModel is itself a distribution: "
            "model.apply({'params': params}).sample(seed=key)."
        )


def require_noise(model: nn.Module) -> None:
    """Raises a `ValueError` for a model whose latents are not Gaussian."""
    require_decoder(model)
    if (own := getattr(model, "loss_name", None)) is not None:
        raise ValueError(
            f"{type(model).__name__} has discrete latents, which are no smooth function of noise: "
            f"this takes a LatentVariableModel. Train and validate it with vae.{own}."
        )


def noise(key: Key, num_samples: int, rows: int, latent_dim: int, dtype: Any) -> Array:
    """Returns standard normal noise `[S, B, L]`."""
    return jnp.swapaxes(jax.random.normal(key, (rows, num_samples, latent_dim), dtype), 0, 1)


def draw(
    model: nn.Module,
    params: Params,
    batch: Batch,
    key: Key,
    num_samples: int,
    train: bool = False,
    binarized: bool = False,
) -> Latents:
    """Draws S latents for each row and decodes them.

    Args:
      model: A `LatentVariableModel`.
      params: Its params.
      batch: "x" `[B, *event]`, what the model takes beside it, and where they apply "x_observed"
        (or "mask") `[B, *event]`: False where a value is missing; it may hold anything, the encoder
        sees 0; and for models of sequences "lengths" `[B]`: valid steps of each, 1 to T.
      key: Key of noise, of binarisation and of randomness inside the model.
      num_samples: Draws S for each row.
      train: Whether this is a step of training.
      binarized: Whether "x" holds grey levels to be drawn, see `binarize`.

    Raises:
      ValueError: Entries that do not fit the model; a model without Gaussian latents.
    """
    require_noise(model)
    eps_key, pixel_key, inner_key = jax.random.split(key, 3)
    x, extra = read(model, batch)
    if binarized:
        # with lengths and without, a model of sequences sees the same draws
        sequences = "lengths" in getattr(model, "takes", ())
        x = _binarize_steps(x, pixel_key) if sequences else binarize(x, pixel_key)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
    eps = noise(eps_key, num_samples, x.shape[0], model.latent_dim, dtype)
    given = Inputs((x, eps), extra)
    output, collections = call(model, as_variables(params), given, inner_key, train)
    seen = {**batch, "x": x}
    if (mask := observed(batch, "x")) is not None:
        seen["x_observed"] = without_padding(mask, batch.get("lengths"))
    return Latents(seen, extra, output, collections)


def apply(
    model: nn.Module, params: Params, extra: dict[str, Any], method: str, *arrays: Any
) -> Any:
    """Calls a method of a model in prediction, with what it takes of the extra inputs."""
    given = accepted(getattr(type(model), method), extra)
    with fast_convolutions():
        return model.apply(as_variables(params), *arrays, **given, method=method)


def decode_latents(
    model: nn.Module, params: Params, z: Array, seen: Latents, key: Key, train: bool
) -> Any:
    """Returns p(x | z) of other latents as `draw`, from the same key, decoded its own."""
    inner_key, given = jax.random.split(key, 3)[2], decoder_inputs(model, seen.batch, seen.extra)
    return call(model, as_variables(params), Inputs((z,), given), inner_key, train, "decode")[0]


def decoder_inputs(model: nn.Module, batch: Batch, extra: dict[str, Any]) -> dict[str, Any]:
    """Returns what `decode` takes beside z, by name: x too, if each step is given those before."""
    reads_x = "x" in getattr(model, "decoder_takes", ())
    return {**extra, "x": batch["x"]} if reads_x else extra


def log_likelihood(p: Any, batch: Batch) -> Array:
    """Returns log p(x | z) `[S, B]` of what was observed, see `log_likelihood_of_inputs`."""
    return log_likelihood_of_inputs(p, batch, num_leading=1)


def log_weights(model: nn.Module, params: Params, seen: Latents, frozen_q: bool = False) -> Array:
    """Returns log p(x, z) - log q(z | x) `[S, B]`, in nats.

    Args:
      model: A `LatentVariableModel`.
      params: Its params.
      seen: What it made of the batch.
      frozen_q: Whether log q depends on the params by way of z alone.
    """
    q, z, p = seen.output
    log_q, log_prior = apply(model, params, seen.extra, "log_densities_of_draws", seen.output)
    if frozen_q:
        frozen, fixed_q = jax.lax.stop_gradient((params, q))
        log_q, _ = apply(model, frozen, seen.extra, "log_densities", fixed_q, z)
    return log_likelihood(p, seen.batch) + jnp.sum(log_prior - log_q, axis=-1)


def input_check(model: nn.Module, binarized: bool = False) -> Check:
    """Returns the check of the inputs against the support of p(x | z), see `types.Loss`.

    Args:
      model: A `LatentVariableModel`.
      binarized: Whether "x" holds grey levels to be drawn, see `binarize`.
    """

    def seen(params: Params, batch: Batch) -> Latents:
        return draw(model, params, batch, jax.random.key(0), 1, False, binarized)

    def log_density(params: Params, batch: Batch) -> Array:
        found = seen(params, batch)
        return log_likelihood(found.output.p, found.batch)

    grey = unit_interval._replace(
        name="grey levels between 0 and 1, from which pixels are drawn",
        test=lambda value, xp: (value >= 0) & (value <= 1),
        fix="Divide by the largest possible value, such as 255.",
    )
    return support_check(
        lambda params, batch: seen(params, batch).output.p,
        log_density,
        "x",
        support=grey if binarized else None,
    )
