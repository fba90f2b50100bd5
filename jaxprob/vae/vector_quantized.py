"""The VQ-VAE: latents are the nearest of K code vectors.

    k = argmin_j |e(x) - c_j|^2,   z = stop_gradient(c_k) + (e - stop_gradient(e))
    loss = -log p(x | z) + commitment |e - stop_gradient(c_k)|^2  [+ |stop_gradient(e) - c_k|^2]

The bracket is there where the codes are trained by gradient. Otherwise they follow running averages
of the encodings that chose them, with decay g and Laplace smoothing a:

    N_k <- g N_k + (1 - g) n_k,   m_k <- g m_k + (1 - g) sum of e that chose k
    c_k = m_k / [(N_k + a) / (N + K a) N],   N = sum_k N_k

Where N_k and a are 0 there is no average, and the code stays.

Twin: `torch_ref/vae/vector_quantized.py`. Source: van den Oord, Vinyals & Kavukcuoglu, "Neural
discrete representation learning" (2017), eq. 3 and appendix A.1; Dhariwal et al., "Jukebox" (2020),
section 3.1, for the revival of unused codes.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.batches import Inputs, valid_steps, weighted_mean
from jaxprob.distributions import Distribution
from jaxprob.nn.apply import as_variables, call
from jaxprob.objectives.estimators.contract import with_gradient_of
from jaxprob.objectives.targets import support_check
from jaxprob.requirements import require_count, require_in, require_non_negative
from jaxprob.types import AnyArray, Array, Batch, Key, Loss, LossFn, Metrics, Params, summary
from jaxprob.vae.inputs import hand_on, log_likelihood_of_inputs, read
from jaxprob.vae.nearest import nearest

__all__ = ["VQVAE", "VQVAEOutput", "revive_codes", "update_codebook", "vq_loss"]

CODEBOOK = "codebook"
"""Collection of the codes that follow running averages: "codes" [K, C], "counts" [K], "sums"."""


class VQVAEOutput(NamedTuple):
    """One pass.

    Attributes:
      encodings: e(x), `[B, *P, C]`.
      indices: The code k of each position, int `[B, *P]`.
      quantized: Its vector c_k, `[B, *P, C]`.
      p: p(x | z).
    """

    encodings: Array
    indices: Array
    quantized: Array
    p: Distribution

    def __repr__(self) -> str:
        return summary("VQVAEOutput", **self._asdict())


class VQVAE(nn.Module):
    """Encoder, codebook, decoder.

    With `batches.takes(model, "lengths")` encoder and decoder get the lengths, whichever of them
    has an argument for it, and losses leave padding out.

    Attributes:
      encoder: Module x `[B, ...]` -> encodings `[B, *P, C]`, P positions with a code each.
      decoder: Module `[B, *P, C]` -> distribution over x, batch shape `[B]`.
      num_codes: Size of the codebook K.
      code_dim: Size of a code C.
      decay: Share g that the running averages of the codes keep; None trains them by gradient.
    """

    encoder: nn.Module
    decoder: nn.Module
    num_codes: int
    code_dim: int
    decay: float | None = 0.99

    loss_name = "vq_loss"  # no annotation: Linen would make it a field
    hands_on_to = ("encoder", "decoder")

    def setup(self) -> None:
        """Makes the codebook, a param or a collection."""
        require_count("VQVAE", num_codes=self.num_codes, code_dim=self.code_dim)
        require_in("VQVAE", "[0, 1)", decay=self.decay)
        shape, start = (self.num_codes, self.code_dim), nn.initializers.normal(1.0)
        if self.decay is None:
            self.codes = self.param("codes", start, shape)
            return
        # a first value, as `param` draws it from the same stream; nothing is drawn in `apply`
        first = self.variable(CODEBOOK, "codes", lambda: start(self.make_rng("params"), shape))
        self.variable(CODEBOOK, "counts", lambda: jnp.ones(shape[:1], first.value.dtype))
        self.variable(CODEBOOK, "sums", lambda: jnp.copy(first.value))
        self.codes = first.value

    def __call__(self, x: AnyArray, train: bool = False, **given: AnyArray) -> VQVAEOutput:
        """Encodes, quantises and decodes; the decoder's gradient passes straight to the encoder."""
        encodings = self.encode(x, train, **given)
        indices = self.quantize(encodings)
        quantized = self.codes[indices]
        passed = with_gradient_of(encodings, quantized)
        p = hand_on(self.decoder, passed, train, given)
        return VQVAEOutput(encodings, indices, quantized, p)

    def encode(self, x: AnyArray, train: bool = False, **given: AnyArray) -> Array:
        """Returns the encodings `[B, *P, C]`, before quantisation."""
        encodings = hand_on(self.encoder, x, train, given)
        if encodings.ndim < 2 or encodings.shape[-1] != self.code_dim:
            raise ValueError(
                f"VQVAE: the encoder returned shape {encodings.shape}; expected [B, ..., "
                f"{self.code_dim}], code_dim last."
            )
        return encodings

    def quantize(self, encodings: AnyArray) -> Array:
        """Returns the index of the nearest code, `[B, *P]`; the first of equals."""
        return nearest(encodings, self.codes)

    def code(self, x: AnyArray, **given: AnyArray) -> Array:
        """Returns the index of each position's code, `[B, *P]`."""
        return self.quantize(self.encode(x, **given))

    def sample_prior(self, key: Key, num: int, **given: AnyArray) -> Array:
        """Raises a `ValueError`: training leaves the prior of the codes to a second model."""
        raise ValueError(
            "VQVAE has no prior of its codes. Fit one to model.apply(variables, x, method='code'), "
            "and give draws of it to method='decode'."
        )

    def decode(self, indices: AnyArray, **given: AnyArray) -> Distribution:
        """Returns p(x | codes) of indices `[B, *P]`."""
        return hand_on(self.decoder, self.codes[indices], False, given)


def update_codebook(
    codebook: dict[str, Array],
    encodings: Array,
    indices: Array,
    weight: Array | None = None,
    decay: float = 0.99,
    smoothing: float = 1e-5,
) -> dict[str, Array]:
    """Returns the codebook after one batch.

    Args:
      codebook: "codes" `[K, C]`, "counts" `[K]` and "sums" `[K, C]`.
      encodings: e, `[N, C]`.
      indices: The code that each chose, `[N]`.
      weight: How often each counts, `[N]`; None for once.
      decay: Share g that the averages keep.
      smoothing: Laplace's a; with 0 the codes of empty cells stay where they are.
    """
    chosen = _one_hot(indices, weight, codebook["counts"])
    counts = decay * codebook["counts"] + (1.0 - decay) * jnp.sum(chosen, axis=0)
    sums = decay * codebook["sums"] + (1.0 - decay) * (chosen.T @ encodings)
    total = jnp.sum(counts)
    smoothed = (counts + smoothing) / (total + counts.size * smoothing) * total
    some = (smoothed >= jnp.finfo(counts.dtype).tiny)[:, None]  # below, division has no digits
    means = sums / jnp.where(some, smoothed[:, None], 1.0)
    codes = jnp.where(some, means, codebook["codes"])
    return {"codes": codes, "counts": counts, "sums": sums}


def revive_codes(
    codebook: dict[str, Array],
    encodings: Array,
    key: Key,
    weight: Array | None = None,
    threshold: float = 1.0,
) -> dict[str, Array]:
    """Returns the codebook with its unused codes moved onto random encodings.

    Args:
      codebook: As in `update_codebook`.
      encodings: Candidates `[N, C]`.
      key: Which of them. No row is picked twice before all have been.
      weight: `[N]`; an encoding is picked with probability proportional to it, one of weight 0
        never: without any other the codes stay.
      threshold: A code whose running count is below this many encodings a batch is unused; its
        count starts again from there.
    """
    counts = codebook["counts"]
    number = encodings.shape[0]
    weight = jnp.ones(number, counts.dtype) if weight is None else weight.astype(counts.dtype)
    # the order in which rows come up, drawn one after the other without putting any back
    noise = jax.random.gumbel(key, (number,), counts.dtype)
    _, order = jax.lax.top_k(jnp.log(weight) + noise, min(number, counts.size))
    rows = jnp.sum(weight > 0.0)
    unused = (counts < threshold) & (rows > 0)
    place = jnp.cumsum(unused) - 1
    picked = encodings[order[place % jnp.clip(rows, 1, order.size)]]
    counts = jnp.where(unused, threshold, counts)
    codes = jnp.where(unused[:, None], picked, codebook["codes"])
    sums = jnp.where(unused[:, None], picked * threshold, codebook["sums"])
    return {"codes": codes, "counts": counts, "sums": sums}


def vq_loss(
    model: VQVAE, commitment: float = 0.25, smoothing: float = 1e-5, revive_below: float = 0.0
) -> Loss:
    """Returns the loss of a VQ-VAE, in nats a row; distances are sums over positions and C.

    Args:
      model: The model. With running averages its params are `nn.as_params(model.init(key, x))`.
      commitment: Weight of the encoder's distance to its codes.
      smoothing: Laplace smoothing of the running counts.
      revive_below: Running count, in encodings a batch, below which a code is moved onto a random
        encoding of the batch; 0 moves none. Only with running averages.

    Returns:
      `loss_fn(params, batch, key) -> (loss, metrics)`; batch holds "x" `[B, ...]`, the targets too,
      and where they apply "mask" (of x's shape; True where observed), "weight" `[B]`, and what the
      model takes, which encoder and decoder get by name; with "lengths" codes of padding count
      neither in distances nor in the codebook. Metrics hold "nll", "commitment" (the squared
      distance itself), "perplexity" of the codes in the batch (1 to K), and the new "collections",
      those of the encoder and the decoder too, which know that they are trained (see
      `jaxprob.nn.apply`). `loss_fn.evaluate` is the mode of prediction and leaves the codebook as
      it is.

    Raises:
      ValueError: Negative settings, or a revival of codes that are trained by gradient; when
        called, lengths or a condition that the model does not take.
    """
    require_non_negative(
        "vq_loss", commitment=commitment, smoothing=smoothing, revive_below=revive_below
    )
    if revive_below > 0.0 and model.decay is None:
        raise ValueError(
            "vq_loss: revive_below goes with running averages; this model trains its codes by "
            "gradient. Set the model's decay, e.g. 0.99."
        )

    def in_mode(train: bool) -> LossFn:
        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            variables = as_variables(params)
            if model.decay is not None and CODEBOOK not in variables:
                raise ValueError(
                    "vq_loss: the params have no codebook. Start from "
                    "jaxprob.nn.as_params(model.init(key, x))."
                )
            x, beside = read(model, batch)
            out, others = call(model, variables, Inputs((x,), beside), key, train)
            nll = -weighted_mean(log_likelihood_of_inputs(out.p, batch), batch)
            valid = _valid_positions(out.indices, batch)
            distance = _squared(out.encodings - jax.lax.stop_gradient(out.quantized), valid)
            metrics: Metrics = {"nll": nll, "commitment": weighted_mean(distance, batch)}
            loss = nll + commitment * metrics["commitment"]
            if model.decay is None:
                to_codes = _squared(jax.lax.stop_gradient(out.encodings) - out.quantized, valid)
                loss = loss + weighted_mean(to_codes, batch)
            encodings = jax.lax.stop_gradient(out.encodings).reshape(-1, model.code_dim)
            indices, weight = out.indices.reshape(-1), _weights(out.indices, batch, valid)
            metrics["perplexity"] = _perplexity(indices, weight, encodings, model.num_codes)
            if train and model.decay is not None:
                codebook = variables[CODEBOOK]
                codebook = update_codebook(
                    codebook, encodings, indices, weight, model.decay, smoothing
                )
                if revive_below > 0.0:
                    codebook = revive_codes(codebook, encodings, key, weight, revive_below)
                others = {**others, CODEBOOK: codebook}
            if others:
                metrics["collections"] = others  # pyright: ignore[reportArgumentType]
            return loss, metrics

        return loss_fn

    def predict(params: Params, batch: Batch) -> Any:
        x, beside = read(model, batch)
        return call(model, as_variables(params), Inputs((x,), beside))[0].p

    check = support_check(
        predict, lambda p, batch: log_likelihood_of_inputs(predict(p, batch), batch), "x"
    )
    return Loss.in_modes(in_mode, check=check)


def _one_hot(indices: Array, weight: Array | None, like: Array) -> Array:
    chosen = jax.nn.one_hot(indices, like.shape[0], dtype=like.dtype)
    return chosen if weight is None else chosen * weight[:, None].astype(like.dtype)


def _squared(difference: Array, valid: Array | None) -> Array:
    """Sum of squares of each row, `[B]`, over its valid positions."""
    squares = jnp.sum(difference**2, axis=-1)
    squares = squares if valid is None else jnp.where(valid, squares, 0.0)
    return jnp.sum(squares, axis=tuple(range(1, squares.ndim)))


def _valid_positions(indices: Array, batch: Batch) -> Array | None:
    """Which positions stand before the end of their sequence, `[B, *P]`, or None for all.

    Raises:
      ValueError: Positions that are not the steps of x, of which nobody knows where they end.
    """
    if batch.get("lengths") is None:
        return None
    steps = jnp.shape(batch["x"])[:2]
    if indices.shape[:2] != steps:
        raise ValueError(
            f"vq_loss: codes have shape {indices.shape} and x has {steps[1]} steps; lengths need "
            "a code (or several) for each step, [B, T, ...]. Let the encoder keep the steps, or "
            "leave the lengths out."
        )
    valid = valid_steps('batch["lengths"]', batch["lengths"], *steps)
    return jnp.broadcast_to(valid.reshape(*steps, *[1] * (indices.ndim - 2)), indices.shape)


def _weights(indices: Array, batch: Batch, valid: Array | None) -> Array | None:
    """The row's weight at each of its positions, `[B P]`, 0 in padding, or None."""
    if batch.get("weight") is None:
        return None if valid is None else valid.reshape(-1)
    weight = jnp.repeat(jnp.asarray(batch["weight"]), indices.size // indices.shape[0])
    return weight if valid is None else jnp.where(valid.reshape(-1), weight, 0.0)


def _perplexity(indices: Array, weight: Array | None, like: Any, num_codes: int) -> Array:
    """The exponential of the entropy of the codes in use."""
    chosen = _one_hot(indices, weight, jnp.zeros(num_codes, like.dtype))
    share = jnp.sum(chosen, axis=0) / jnp.sum(chosen)
    return jnp.exp(-jnp.sum(jnp.where(share > 0.0, share * jnp.log(jnp.maximum(share, 1e-30)), 0)))
