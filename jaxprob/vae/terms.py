"""What every bound is made of: noise, draws of the latents, log p(x | z) and log-weights.

    log w = log p(x | z) + log p(z) - log q(z | x),   z ~ q(z | x)

The noise of a row does not depend on how many rows follow it, so that padded rows (of weight 0)
change nothing.

Twin: `torch_ref/vae/terms.py`.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxprob.distributions.constraints import unit_interval
from jaxprob.distributions.validation import check_values
from jaxprob.nn.application import as_variables, call
from jaxprob.types import AnyArray, Array, Batch, Key, Params
from jaxprob.vae.inputs import log_likelihood_of_inputs, observed_inputs, without_padding
from jaxprob.vae.model import VAEOutput

__all__ = [
    "Drawn",
    "binarize",
    "decode_again",
    "decoder_inputs",
    "draw",
    "further_inputs",
    "log_likelihood",
    "log_weights",
    "noise",
    "require_decoder",
    "require_noise",
]


class Drawn(NamedTuple):
    """A batch that a model has seen.

    Attributes:
      batch: The batch, its pixels drawn anew where that is asked for.
      output: q(z | x), S draws of z, and p(x | z).
      collections: New state of the model (batch statistics, ...), empty where it has none.
    """

    batch: dict[str, Any]
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
    if (own := getattr(model, "own_loss", None)) is not None:
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
) -> Drawn:
    """Draws S latents for each row and decodes them.

    Args:
      model: A `LatentVariableModel`.
      params: Its params.
      batch: "x" `[B, *event]`, and where they apply "mask" `[B, *event]`: False where a value is
        missing; it may hold anything, the encoder sees 0; "condition" `[B, C]`, for a conditional
        model; and for models of sequences "lengths" `[B]`: valid steps of each, 1 to T.
      key: Key of noise, of binarisation and of randomness inside the model.
      num_samples: Draws S for each row.
      train: Whether this is a step of training.
      binarized: Whether "x" holds grey levels to be drawn, see `binarize`.

    Raises:
      ValueError: Lengths for a model that takes none; a model without Gaussian latents.
    """
    require_noise(model)
    eps_key, pixel_key, inner_key = jax.random.split(key, 3)
    x = observed_inputs(batch)
    if binarized:
        sequences = batch.get("lengths") is not None
        x = _binarize_steps(x, pixel_key) if sequences else binarize(x, pixel_key)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
    eps = noise(eps_key, num_samples, x.shape[0], model.latent_dim, dtype)
    inputs = (x, eps, *further_inputs(model, batch))
    output, collections = call(model, as_variables(params), inputs, inner_key, train)
    seen = {**batch, "x": x}
    if batch.get("mask") is not None:
        seen["mask"] = without_padding(batch["mask"], batch.get("lengths"))
    return Drawn(seen, output, collections)


def further_inputs(model: nn.Module, batch: Batch) -> tuple[Array, ...]:
    """Returns what the model takes beside x: nothing, `batch["condition"]` or `batch["lengths"]`.

    Raises:
      ValueError: A condition that is missing, that no one asked for, or of another shape; lengths
        for a model that takes none.
    """
    name, condition, lengths = type(model).__name__, batch.get("condition"), batch.get("lengths")
    if lengths is not None and not getattr(model, "sequential", False):
        raise ValueError(
            f'batch["lengths"] is there, but {name} takes no lengths: it would read the padding. '
            "Use vae.RecurrentVAE, or leave the lengths out."
        )
    if not getattr(model, "conditional", False):
        if condition is not None:
            raise ValueError(
                f'{name} takes no condition, but the batch holds "condition" of shape '
                f"{jnp.shape(condition)}. Leave it out, or use ConditionalVAE."
            )
        return () if lengths is None else (lengths,)
    if condition is None:
        raise ValueError(
            f'{name} needs a condition. Give batch["condition"] [B, C], or the argument condition='
        )
    condition = jnp.asarray(condition)
    rows = jnp.shape(batch["x"])[:1] if "x" in batch else condition.shape[:1]
    if condition.ndim != 2 or condition.shape[:1] != rows:
        raise ValueError(
            f"{name}: condition has shape {condition.shape}; expected [B, C], one row for each of "
            f"x, B = {rows[0] if rows else 1}. Write classes as jax.nn.one_hot(y, C)."
        )
    return (condition,)


def decoder_inputs(model: nn.Module, batch: Batch) -> tuple[Array, ...]:
    """Returns what `decode` takes beside z: in a model of sequences each step sees x before it."""
    further = further_inputs(model, batch)
    return (batch["x"], *further) if getattr(model, "sequential", False) else further


def decode_again(
    model: nn.Module, params: Params, z: Array, batch: Batch, key: Key, train: bool
) -> Any:
    """Returns p(x | z) as `draw` with the same batch and key decoded it, dropout and all."""
    variables, inner_key = as_variables(params), jax.random.split(key, 3)[2]
    inputs = (z, *decoder_inputs(model, batch))
    options: dict[str, Any] = {"method": "decode", "train": train}
    if train:
        options |= {"rngs": {"dropout": inner_key}}
        if getattr(model, "sequential", False):
            options["key"] = inner_key
    state = [name for name in variables if name != "params"] if train else []
    if not state:
        return model.apply(variables, *inputs, **options)
    return model.apply(variables, *inputs, mutable=state, **options)[0]


def log_likelihood(p: Any, batch: Batch) -> Array:
    """Returns log p(x | z) `[S, B]` of what was observed, see `log_likelihood_of_inputs`."""
    return log_likelihood_of_inputs(p, batch, num_leading=1)


def log_weights(
    model: nn.Module, params: Params, output: VAEOutput, batch: Batch, frozen_q: bool = False
) -> Array:
    """Returns log p(x, z) - log q(z | x) `[S, B]`, in nats.

    Args:
      model: A `LatentVariableModel`.
      params: Its params.
      output: What it returned for the batch.
      batch: The batch of `Drawn`.
      frozen_q: Whether log q depends on the params by way of z alone.
    """
    variables, further = as_variables(params), further_inputs(model, batch)
    log_q, log_prior = model.apply(variables, output, *further, method="log_densities_of_draws")
    if frozen_q:
        frozen = jax.lax.stop_gradient((variables, output.q))
        log_q, _ = model.apply(*frozen, output.z, *further, method="log_densities")
    return log_likelihood(output.p, batch) + jnp.sum(log_prior - log_q, axis=-1)
