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

from jaxprob.batches import weighted_mean
from jaxprob.distributions import Distribution
from jaxprob.nn.apply import as_variables, call, mode_options
from jaxprob.objectives.estimators.contract import with_gradient_of
from jaxprob.objectives.targets import support_check
from jaxprob.requirements import require_count, require_in, require_non_negative
from jaxprob.types import AnyArray, Array, Batch, Key, Loss, LossFn, Metrics, Params
from jaxprob.vae.inputs import log_likelihood_of_inputs, observed_inputs

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


class VQVAE(nn.Module):
    """Encoder, codebook, decoder.

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

    def __call__(self, x: AnyArray, train: bool = False) -> VQVAEOutput:
        """Encodes, quantises and decodes; the decoder's gradient passes straight to the encoder."""
        encodings = self.encode(x, train)
        indices = self.quantize(encodings)
        quantized = self.codes[indices]
        passed = with_gradient_of(encodings, quantized)
        p = self.decoder(passed, **mode_options(self.decoder, train))
        return VQVAEOutput(encodings, indices, quantized, p)

    def encode(self, x: AnyArray, train: bool = False) -> Array:
        """Returns the encodings `[B, *P, C]`, before quantisation."""
        encodings = self.encoder(x, **mode_options(self.encoder, train))
        if encodings.ndim < 2 or encodings.shape[-1] != self.code_dim:
            raise ValueError(
                f"VQVAE: the encoder returned shape {encodings.shape}; expected [B, ..., "
                f"{self.code_dim}], code_dim last."
            )
        return encodings

    def quantize(self, encodings: AnyArray) -> Array:
        """Returns the index of the nearest code, `[B, *P]`; the first of equals."""
        # |e|^2 is the same for all codes
        squares = jnp.sum(self.codes**2, axis=-1).reshape((1,) * (encodings.ndim - 1) + (-1,))
        return jnp.argmin(squares - 2.0 * (encodings @ self.codes.T), axis=-1)

    def code(self, x: AnyArray) -> Array:
        """Returns the index of each position's code, `[B, *P]`."""
        return self.quantize(self.encode(x))

    def sample_prior(self, key: Key, num: int) -> Array:
        """Raises a `ValueError`: training leaves the prior of the codes to a second model."""
        raise ValueError(
            "VQVAE has no prior of its codes. Fit one to model.apply(variables, x, method='code'), "
            "and give draws of it to method='decode'."
        )

    def decode(self, indices: AnyArray) -> Distribution:
        """Returns p(x | codes) of indices `[B, *P]`."""
        return self.decoder(self.codes[indices])


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
      key: Which of them.
      weight: `[N]`; an encoding is picked with probability proportional to it.
      threshold: A code whose running count is below this many encodings a batch is unused; its
        count starts again from there.
    """
    counts = codebook["counts"]
    rows = jnp.zeros(encodings.shape[0], counts.dtype) if weight is None else jnp.log(weight)
    picked = encodings[jax.random.categorical(key, rows, shape=counts.shape)]
    unused = counts < threshold
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
      and where they apply "mask" (of x's shape; True where observed) and "weight" `[B]`. Metrics
      hold "nll", "commitment" (the squared distance itself), "perplexity" of the codes in the batch
      (1 to K), and the new "collections", those of the encoder and the decoder too, which know that
      they are trained (see `jaxprob.nn.apply`). `loss_fn.evaluate` is the mode of prediction
      and leaves the codebook as it is.

    Raises:
      ValueError: Negative settings, or a revival of codes that are trained by gradient.
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
            out, others = call(model, variables, (observed_inputs(batch),), key, train)
            nll = -weighted_mean(log_likelihood_of_inputs(out.p, batch), batch)
            distance = _squared(out.encodings - jax.lax.stop_gradient(out.quantized))
            metrics: Metrics = {"nll": nll, "commitment": weighted_mean(distance, batch)}
            loss = nll + commitment * metrics["commitment"]
            if model.decay is None:
                to_codes = _squared(jax.lax.stop_gradient(out.encodings) - out.quantized)
                loss = loss + weighted_mean(to_codes, batch)
            encodings = jax.lax.stop_gradient(out.encodings).reshape(-1, model.code_dim)
            indices, weight = out.indices.reshape(-1), _weights(out.indices, batch)
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
        return call(model, as_variables(params), (observed_inputs(batch),))[0].p

    check = support_check(
        predict, lambda p, batch: log_likelihood_of_inputs(predict(p, batch), batch), "x"
    )
    return Loss.in_modes(in_mode, check=check)


def _one_hot(indices: Array, weight: Array | None, like: Array) -> Array:
    chosen = jax.nn.one_hot(indices, like.shape[0], dtype=like.dtype)
    return chosen if weight is None else chosen * weight[:, None].astype(like.dtype)


def _squared(difference: Array) -> Array:
    """Sum of squares of each row, `[B]`."""
    return jnp.sum(difference**2, axis=tuple(range(1, difference.ndim)))


def _weights(indices: Array, batch: Batch) -> Array | None:
    """The row's weight at each of its positions, `[B P]`, or None."""
    if batch.get("weight") is None:
        return None
    weight = jnp.asarray(batch["weight"])
    return jnp.repeat(weight, indices.size // indices.shape[0])


def _perplexity(indices: Array, weight: Array | None, like: Any, num_codes: int) -> Array:
    """The exponential of the entropy of the codes in use."""
    chosen = _one_hot(indices, weight, jnp.zeros(num_codes, like.dtype))
    share = jnp.sum(chosen, axis=0) / jnp.sum(chosen)
    return jnp.exp(-jnp.sum(jnp.where(share > 0.0, share * jnp.log(jnp.maximum(share, 1e-30)), 0)))
