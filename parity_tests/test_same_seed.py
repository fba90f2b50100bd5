"""One seed, two frameworks, one run: a VAE whose every random number is drawn on both sides.

Nothing is copied. First weights, order of the rows and the noise of the ELBO come from the same key
through `jax.random` and through `torch_ref.random`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.random as torch_random
from jaxprob import interop, optim, training
from parity_tests import tolerances
from parity_tests.engine import record, relative_error, torch_dtype
from torch_ref import training as torch_training

SEED, STEPS, BATCH, ROWS = 7, 300, 128, 500
PIXELS, HIDDEN, LATENT = 784, 256, 20


def data(dtype):
    """Binary images of blobs."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(28), np.arange(28)), -1).reshape(1, -1, 2)
    centre = rng.uniform(8, 20, (ROWS, 1, 2))
    radius = rng.uniform(3, 8, (ROWS, 1))
    inside = np.linalg.norm(grid - centre, axis=-1) < radius
    return {"x": inside.astype(dtype)}


class FlaxVAE(nn.Module):
    dtype: str

    @nn.compact
    def __call__(self, x, eps):
        def dense(size, name):
            return nn.Dense(size, name=name, param_dtype=self.dtype)

        h = jnp.tanh(dense(HIDDEN, "encode")(x))
        mean, log_var = dense(LATENT, "mean")(h), dense(LATENT, "log_var")(h)
        z = mean + jnp.exp(0.5 * log_var) * eps
        logits = dense(PIXELS, "pixels")(jnp.tanh(dense(HIDDEN, "decode")(z)))
        return mean, log_var, logits


class TorchVAE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = torch.nn.Linear(PIXELS, HIDDEN)
        self.mean = torch.nn.Linear(HIDDEN, LATENT)
        self.log_var = torch.nn.Linear(HIDDEN, LATENT)
        self.decode = torch.nn.Linear(LATENT, HIDDEN)
        self.pixels = torch.nn.Linear(HIDDEN, PIXELS)

    def forward(self, x, eps):
        h = torch.tanh(self.encode(x))
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + torch.exp(0.5 * log_var) * eps
        return mean, log_var, self.pixels(torch.tanh(self.decode(z)))


def flax_loss(model):
    def loss_fn(params, batch, key):
        x = batch["x"]
        eps = jax.random.normal(key, (x.shape[0], LATENT), x.dtype)
        mean, log_var, logits = model.apply({"params": params}, x, eps)
        nll = jnp.sum(jax.nn.softplus(logits) - x * logits, axis=-1)
        kl = 0.5 * jnp.sum(jnp.exp(log_var) + mean**2 - 1 - log_var, axis=-1)
        return jnp.mean(nll + kl), {}

    return loss_fn


def torch_loss(module):
    def loss_fn(batch, key):
        x = batch["x"]
        eps = torch_random.normal(key, (x.shape[0], LATENT), x.dtype)
        mean, log_var, logits = module(x, eps)
        nll = (torch.logaddexp(logits, torch.zeros_like(logits)) - x * logits).sum(-1)
        kl = 0.5 * (log_var.exp() + mean**2 - 1 - log_var).sum(-1)
        return (nll + kl).mean(), {}

    return loss_fn


def both(dtype, steps=STEPS, torch_seed=SEED):
    """Trains on both sides; returns Flax's params and losses, and PyTorch's."""
    model, rows = FlaxVAE(dtype), data(dtype)
    with torch_dtype(dtype):
        zeros = jnp.zeros((1, LATENT), dtype)
        params = model.init(jax.random.key(SEED), jnp.asarray(rows["x"][:1]), zeros)["params"]
        fitted = training.fit(
            flax_loss(model),
            params,
            rows,
            optimizer=optim.adam(1e-3),
            steps=steps,
            batch_size=BATCH,
            key=jax.random.key(SEED + 1),
            progress=False,
        )
        module = TorchVAE()
        torch_random.linen_init_(
            module, torch_random.key(torch_seed), param_dtype=getattr(torch, dtype)
        )
        losses = torch_training.fit(
            torch_loss(module),
            {"x": torch.tensor(rows["x"])},
            optimizer=torch.optim.Adam(module.parameters(), 1e-3),
            steps=steps,
            batch_size=BATCH,
            key=torch_random.key(SEED + 1),
        )
        twin = interop.from_torch(module, params)
    sizes = [min(BATCH, ROWS - start) for start in range(0, ROWS, BATCH)]
    epochs = [losses[i : i + len(sizes)] for i in range(0, len(losses), len(sizes))]
    means = [np.average(part, weights=sizes[: len(part)]) for part in epochs]
    return fitted.params, fitted.history["loss"], twin, np.array(means)


def errors(params, twin):
    flat = jax.tree_util.tree_leaves_with_path(jax.tree.map(relative_error, params, twin))
    return {jax.tree_util.keystr(path): error for path, error in flat}


@pytest.mark.slow
def test_a_vae_trains_alike_in_float64(record_property):
    params, loss, twin, twin_loss = both("float64")
    bound = tolerances.SAME_SEED["parameters"]
    record(record_property, "VAE 784-256-20", "300 steps, one seed", errors(params, twin),
           "float64", bound)  # fmt: skip
    assert loss[-1] < 0.5 * loss[0], "it has to learn something for this to mean anything"
    assert relative_error(loss, twin_loss) <= bound


@pytest.mark.slow
def test_a_vae_trains_alike_in_float32(record_property):
    _, loss, _, twin_loss = both("float32")
    error = {"loss": float(np.max(np.abs(loss - twin_loss) / twin_loss))}
    record(record_property, "VAE 784-256-20", "300 steps, one seed", error, "float32",
           tolerances.SAME_SEED["float32 loss"])  # fmt: skip


@pytest.mark.slow
def test_another_seed_is_another_run():
    params, _, twin, _ = both("float64", steps=2, torch_seed=SEED + 5)
    assert max(errors(params, twin).values()) > 0.1
