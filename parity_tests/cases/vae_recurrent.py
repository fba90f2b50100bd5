"""Rows of the autoencoder of sequences: tokens with gaps under word dropout; frames of pixels."""

import jax.numpy as jnp
import numpy as np

from jaxprob import heads, nn, vae
from parity_tests.cases.bayes import OPTIMIZERS
from parity_tests.cases.vae import given
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
FRAMES = {"x": _rng.random((ROWS, T, 3)), "lengths": LENGTHS}
WORDS = vae.RecurrentVAE(heads.CategoricalHead(V), 2, 4, "lstm", nn.Embedding(V, 3), 0.3)
PIXELS = vae.RecurrentVAE(heads.BernoulliHead(3), 2, 4)


ON_TOPIC = {
    "x": _rng.normal(size=(ROWS, T, 2)),
    "lengths": LENGTHS,
    "condition": _rng.normal(size=(ROWS, 3)),
}
TOPICS = vae.ConditionalRecurrentVAE(heads.NormalHead(2), 2, 4)


def topics():
    """Twin of `TOPICS`."""
    return twins.ConditionalRecurrentVAE(
        torch_heads.NormalHead(4, 2), 2, 2, 4, condition_features=3
    )


def words():
    """Twin of `WORDS`."""
    embedding = torch_nn.Embedding(V, 3)
    return twins.RecurrentVAE(torch_heads.CategoricalHead(4, V), 3, 2, 4, "lstm", embedding, 0.3)


def pixels():
    """Twin of `PIXELS`."""
    return twins.RecurrentVAE(torch_heads.BernoulliHead(4, 3), 3, 2, 4)


def recurrent_row(name, model, build_torch, data, loss, **options):
    """Training on `data` by the loss of that name, and what a trained model is for."""
    first = {entry: value[:1] for entry, value in data.items()}

    def outputs(params, batch, key):
        x = jnp.round(batch["x"])  # tokens, pixels of grey levels, or any numbers
        extra = given(model, batch)
        q = model.apply({"params": params}, x, **extra, method="encode")
        marginal = vae.log_marginal(model, params, x, key, 5, 3, extra)
        return {
            "mean": q.mean(),
            "variance": q.variance(),
            "sample": vae.sample(model, params, key, 3, given=beside(extra), num_steps=5),
            "log marginal": marginal.value,
            "error": marginal.standard_error,
        }

    def torch_outputs(module, batch, key):
        x, extra = batch["x"].round(), given(model, batch)
        q = module.encode(x, **extra)
        marginal = twins.log_marginal(module, x, key, 5, 3, extra)
        return {
            "mean": q.mean,
            "variance": q.variance,
            "sample": twins.sample(module, key, 3, given=beside(extra), num_steps=5),
            "log marginal": marginal.value,
            "error": marginal.standard_error,
        }

    return ModelCase(
        name=name,
        init=lambda key: model.init(
            key, data["x"][:1], np.zeros((1, 2)), **beside(given(model, first))
        )["params"],
        jax_loss=getattr(vae, loss)(model, **options),
        jax_outputs=outputs,
        build_torch=build_torch,
        torch_loss=lambda module: getattr(twins, loss)(module, **options),
        torch_outputs=torch_outputs,
        data=data,
        optimizers=OPTIMIZERS,
        slow=True,
    )


def beside(extra):
    """What is known of a sequence before it is drawn: all but its length."""
    return {name: value for name, value in extra.items() if name != "lengths"}


MODELS = [
    recurrent_row("recurrent VAE", WORDS, words, TOKENS, "negative_iwae", num_samples=3),
    recurrent_row(
        "recurrent VAE, pixels drawn", PIXELS, pixels, FRAMES, "negative_elbo", binarize=True
    ),
    recurrent_row(
        "recurrent VAE, conditional", TOPICS, topics, ON_TOPIC, "negative_elbo", num_samples=2
    ),
]
