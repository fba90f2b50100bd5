"""What a trained model is for: samples, reconstructions, paths between rows, and single latents.

    straight    z(t) = (1 - t) z_0 + t z_1
    spherical   z(t) = (sin((1 - t) w) z_0 + sin(t w) z_1) / sin w,   w the angle between them

Twin: `torch_ref/vae/generate.py`. Source: Shoemake, "Animating rotation with quaternion curves"
(1985), for the second; White, "Sampling generative networks" (2016), for its use.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxprob.batches import as_batch
from jaxprob.nn.apply import hashable
from jaxprob.requirements import require_count
from jaxprob.types import AnyArray, Array, Batch, Key, Numbers, Params
from jaxprob.vae.inputs import inputs_beside, observed_inputs, read
from jaxprob.vae.latents import apply, decoder_inputs, require_decoder

__all__ = ["interpolate", "reconstruct", "sample", "traverse"]


def sample(
    model: nn.Module,
    params: Params,
    key: Key,
    num: int,
    mean: bool = False,
    given: Batch | None = None,
    num_steps: int | None = None,
) -> Array:
    """Draws data from the model: z from the prior, then x from p(x | z).

    Args:
      model: `VAE` or another `LatentVariableModel`, or a `DiscreteVAE`.
      params: Its params.
      key: Key of the draws.
      num: How many.
      mean: True returns the means of p(x | z), as pictures of samples commonly do; of classes,
        which have no mean, the most probable one.
      given: What the model takes beside x, by name: {"condition": c}, c `[B, C]`, for `num` draws
        of each of its rows.
      num_steps: Steps T of each draw, for a model of sequences.

    Returns:
      Draws `[num, *event]`, with a condition `[num, B, *event]`.

    Raises:
      ValueError: Fewer than one, steps for a model that has none, a mean that p(x | z) has not, or
        lengths or a mask, of which a draw knows nothing.
    """
    require_count("sample", num=num, num_steps=num_steps)
    require_decoder(model)
    if _reads_x(model) is (num_steps is None):
        raise ValueError(
            f"sample: {type(model).__name__} makes sequences; say how long, num_steps >= 1; got "
            "None."
            if num_steps is None
            else f"sample: {type(model).__name__} does not make sequences; leave num_steps out."
        )
    for name in ("lengths", "x_observed", "mask"):
        if (given or {}).get(name) is not None:
            raise ValueError(
                f"sample: {name} is not read, for nothing is observed; leave it out. num_steps "
                "says how long sequences are, and impute draws what is missing in rows."
            )
    return _sample(hashable(model), num, mean, num_steps, params, key, dict(given or {}))


def reconstruct(
    model: nn.Module,
    params: Params,
    x: Shaped[AnyArray, "B *D"] | Batch,
    given: Batch | None = None,
) -> Any:
    """Returns p(x | z) at `model.code`, the posterior mean of z, batch shape `[B]`.

    Args:
      model: `VAE` or another `LatentVariableModel`; `DiscreteVAE` and `VQVAE` decode the most
        probable latents and the nearest codes.
      params: Its params.
      x: Rows `[B, *event]`, or a batch.
      given: What stands beside x, by name: what the model takes, and "x_observed" (or "mask") of
        x's shape, True where x was observed. In a model of sequences each step is given those
        before it in x, and steps behind the end mean nothing. `impute` draws what is missing.
    """
    require_decoder(model)
    batch = _read(model, x, given)
    batch = {**batch, "x": observed_inputs(batch)}
    return _decode_codes(hashable(model), _itself, params, (batch["x"],), (), batch)


def interpolate(
    model: nn.Module,
    params: Params,
    start: Shaped[AnyArray, "..."],
    end: Shaped[AnyArray, "..."],
    num: int = 8,
    spherical: bool = False,
    given: Batch | None = None,
) -> Any:
    """Returns p(x | z) along the path between the codes of two batches of rows.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      params: Its params.
      start: Rows at the start `[B, *event]`.
      end: Rows at the end, as many.
      num: Points on the path, both ends among them; at least 2.
      spherical: Whether the path keeps the distance to the origin, where the prior puts its mass.
      given: What stands beside x, by name, see `reconstruct`; both ends share it.

    Returns:
      A distribution with batch shape `[num, B]`.

    Raises:
      ValueError: Fewer than two points, or batches of other shapes.
    """
    require_count("interpolate", least=2, num=num)
    if isinstance(start, Mapping) or isinstance(end, Mapping):
        raise ValueError(
            "interpolate: start and end are rows; got a batch. Give what both share as given={...}."
        )
    start, end = jnp.asarray(start), jnp.asarray(end)
    if start.shape != end.shape:
        raise ValueError(
            f"interpolate: start has shape {start.shape} and end {end.shape}; expected as many "
            "rows in both."
        )
    _need_paths("interpolate", model)
    shares = jnp.linspace(0.0, 1.0, num)
    path = _spherical if spherical else _straight
    batch = _read(model, start, given)
    rows = tuple(observed_inputs({**batch, "x": x}) for x in (start, end))
    return _decode_codes(hashable(model), path, params, rows, (shares,), batch)


def traverse(
    model: nn.Module,
    params: Params,
    x: Shaped[AnyArray, "B *D"] | Batch,
    latent: int,
    values: Numbers = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
    given: Batch | None = None,
) -> Any:
    """Returns p(x | z) as one latent goes through `values` and the others stay at their means.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      params: Its params.
      x: Rows `[B, *event]` to start from, or a batch.
      latent: Which latent, 0 to L - 1.
      values: Where to put it `[V]`; the standard prior has a spread of 1.
      given: What stands beside x, by name, see `reconstruct`.

    Returns:
      A distribution with batch shape `[V, B]`.

    Raises:
      ValueError: No such latent.
    """
    require_count("traverse", least=0, latent=latent)
    _need_paths("traverse", model)
    count = getattr(model, "decoded_dim", model.latent_dim)
    if not 0 <= latent < count:
        raise ValueError(
            f"traverse: latent must be from 0 to {count - 1}; got {latent}. decode reads no others."
        )
    arrays = (jnp.asarray(latent), jnp.asarray(values))
    batch = _read(model, x, given)
    rows = (observed_inputs(batch),)
    return _decode_codes(hashable(model), _replaced, params, rows, arrays, batch)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sample(
    model: nn.Module,
    num: int,
    mean: bool,
    num_steps: int | None,
    params: Params,
    key: Key,
    given: Batch,
) -> Array:
    code_key, event_key = jax.random.split(key)
    extra = inputs_beside(model, given)
    z = apply(model, params, extra, "sample_prior", code_key, num)
    length = {} if num_steps is None else {"num_steps": num_steps}
    return apply(model, params, {**extra, **length}, "generate", z, event_key, mean)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decode_codes(model, path, params: Params, rows: tuple, arguments: tuple, batch: Batch) -> Any:
    """p(x | path(codes of the rows, arguments)), given what else the batch holds."""
    extra = inputs_beside(model, batch)
    codes = [apply(model, params, extra, "code", x) for x in rows]
    z = path(*codes, *arguments)
    return apply(model, params, decoder_inputs(model, batch, extra), "decode", z)


def _reads_x(model: nn.Module) -> bool:
    """Whether p(x | z) of a step is given the steps before it."""
    return "x" in getattr(model, "decoder_takes", ())


def _read(model: nn.Module, x: AnyArray | Batch, given: Batch | None) -> dict[str, Any]:
    """One batch; what the model does not read is refused before anything is asked of its shape."""
    batch = as_batch(x, given)
    read(model, batch)
    return batch


def _need_paths(owner: str, model: nn.Module) -> None:
    require_decoder(model)
    if hasattr(model, "loss_name"):
        raise ValueError(
            f"{owner}: the latents of {type(model).__name__} are discrete; nothing lies between "
            "their values. Give the codes you want to see to model.apply(variables, codes, "
            "method='decode')."
        )
    if _reads_x(model):
        raise ValueError(
            f"{owner}: p(x | z) of {type(model).__name__} needs the steps before each one, which a "
            "point between codes has not. Draw sequences from it: model.apply(variables, z, key, "
            "num_steps=T, method='generate')."
        )


def _itself(codes: Array) -> Array:
    return codes


def _straight(start: Array, end: Array, shares: Array) -> Float[Array, "N B L"]:
    shares = shares.astype(start.dtype)[:, None, None]
    return (1.0 - shares) * start[None] + shares * end[None]


def _spherical(start: Array, end: Array, shares: Array) -> Float[Array, "N B L"]:
    shares = shares.astype(start.dtype)[:, None, None]
    lengths = jnp.linalg.norm(start, axis=-1) * jnp.linalg.norm(end, axis=-1)
    cosine = jnp.sum(start * end, axis=-1) / jnp.where(lengths > 0.0, lengths, 1.0)
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))[None, :, None]
    sine = jnp.sin(angle)
    flat = sine < 1e-6  # parallel or opposite codes: no plane in which to turn
    turned = jnp.sin((1.0 - shares) * angle) * start[None] + jnp.sin(shares * angle) * end[None]
    return jnp.where(
        flat, _straight(start, end, shares[:, 0, 0]), turned / jnp.where(flat, 1, sine)
    )


def _replaced(codes: Array, latent: Array, values: Array) -> Float[Array, "V B L"]:
    chosen = jnp.arange(codes.shape[-1]) == latent
    return jnp.where(chosen[None, None], values.astype(codes.dtype)[:, None, None], codes[None])
