"""Row of the autoencoder of sequences: tokens of which some are missing, under word dropout."""

import numpy as np

from jaxprob import heads, nn, vae
from parity_tests.cases.bayes import OPTIMIZERS
from parity_tests.engine import ModelCase
from torch_ref import heads as torch_heads
from torch_ref import nn as torch_nn
from torch_ref import vae as twins

ROWS, T, V = 32, 4, 5
_rng = np.random.default_rng(12)
LENGTHS = _rng.integers(1, T + 1, ROWS)
LENGTHS[:2] = T, 1
TOKENS = {
    "x": _rng.integers(0, V, (ROWS, T)),
    "lengths": LENGTHS,
    "mask": _rng.random((ROWS, T)) < 0.8,
    "weight": _rng.uniform(0.0, 2.0, ROWS),
}
MODEL = vae.RecurrentVAE(heads.CategoricalHead(V), 2, 4, "lstm", nn.Embedding(V, 3), 0.3)


def build_torch():
    """Twin of `MODEL`."""
    embedding = torch_nn.Embedding(V, 3)
    return twins.RecurrentVAE(torch_heads.CategoricalHead(4, V), 3, 2, 4, "lstm", embedding, 0.3)


def _outputs(params, batch, key):
    x, lengths = batch["x"], batch["lengths"]
    q = MODEL.apply({"params": params}, x, lengths, method="encode")
    marginal = vae.log_marginal(MODEL, params, x, key, 5, 3, lengths=lengths)
    return {
        "mean": q.mean(),
        "variance": q.variance(),
        "sample": vae.sample(MODEL, params, key, 3, num_steps=5),
        "log marginal": marginal.value,
        "error": marginal.standard_error,
    }


def _torch_outputs(module, batch, key):
    x, lengths = batch["x"], batch["lengths"]
    q = module.encode(x, lengths)
    marginal = twins.log_marginal(module, x, key, 5, 3, lengths=lengths)
    return {
        "mean": q.mean,
        "variance": q.variance,
        "sample": twins.sample(module, key, 3, num_steps=5),
        "log marginal": marginal.value,
        "error": marginal.standard_error,
    }


MODELS = [
    ModelCase(
        name="recurrent VAE",
        init=lambda key: MODEL.init(key, TOKENS["x"][:1], np.zeros((1, 2)))["params"],
        jax_loss=vae.negative_iwae(MODEL, 3),
        jax_outputs=_outputs,
        build_torch=build_torch,
        torch_loss=lambda module: twins.negative_iwae(module, 3),
        torch_outputs=_torch_outputs,
        data=TOKENS,
        optimizers=OPTIMIZERS,
        slow=True,
    )
]
