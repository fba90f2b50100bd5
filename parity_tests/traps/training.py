"""Traps of heads, losses and optimisers."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import optax
import torch

from parity_tests.traps.pair import WIDTH, Pair, trap, vectors

# Heads and losses


@trap
def scale_link(rng):
    return head(rng, nn.softplus, torch.exp, "activation")


@trap
def variance_for_scale(rng):
    return head(rng, nn.softplus, lambda s: torch.nn.functional.softplus(s) ** 0.5,
                "variance against standard deviation")  # fmt: skip


class Head(nn.Module):
    link: Callable

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(WIDTH, name="hidden")(x))
        out = nn.Dense(2, name="out")(x)
        return {"loc": out[:, 0], "scale": self.link(out[:, 1])}


class TorchHead(torch.nn.Module):
    def __init__(self, link):
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 2)
        self.link = link

    def forward(self, x):
        out = self.out(torch.tanh(self.hidden(x)))
        return {"loc": out[:, 0], "scale": self.link(out[:, 1])}


def head(rng, ours, twin, suspect):
    batch = {"x": rng.normal(size=(6, WIDTH))}
    return Pair(Head(ours), TorchHead(twin), batch, suspect, "out")


def agreeing(rng, suspect, **options):
    """A pair that agrees; the mistake is in loss or optimiser."""
    pair = vectors(rng, lambda name: jnp.tanh, torch.nn.Tanh(), suspect, **options)
    pair.layer = ""
    pair.batch["y"] = rng.normal(size=(7, WIDTH))
    return pair


def square_error(out, batch):
    return ((out - batch["y"]) ** 2).mean()


LOSSES = {"jax_loss": square_error, "torch_loss": square_error}


@trap
def sum_for_mean(rng):
    def summed(out, batch):
        return ((out - batch["y"]) ** 2).mean(-1).sum()

    return agreeing(rng, "reduction", jax_loss=square_error, torch_loss=summed)


@trap
def half_square(rng):
    def half(out, batch):
        return jnp.mean(optax.l2_loss(out, batch["y"]))

    return agreeing(rng, "factor 2", jax_loss=half, torch_loss=square_error)


class Cut(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(WIDTH, name="hidden")(x))
        return nn.Dense(2, name="out")(x)


class TorchCut(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x)).detach())


@trap
def cut_gradient(rng):
    batch = {"x": rng.normal(size=(6, WIDTH))}
    return Pair(Cut(), TorchCut(), batch, "gradient cut", "hidden")


# Optimisers


@trap
def rmsprop_epsilon(rng):
    pair = (optax.rmsprop(1e-2, decay=0.99), lambda p: torch.optim.RMSprop(p, 1e-2))
    return agreeing(rng, "eps inside the root", optimizer=pair, steps=20, **LOSSES)


@trap
def adam_with_l2(rng):
    pair = (
        optax.adamw(1e-2, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 1e-2, weight_decay=0.1),
    )
    return agreeing(rng, "decoupled weight decay", optimizer=pair, steps=20, **LOSSES)


@trap
def adamw_default(rng):
    pair = (optax.adamw(1e-2), lambda p: torch.optim.AdamW(p, 1e-2))
    return agreeing(rng, "default weight decay", optimizer=pair, steps=20, **LOSSES)


@trap
def adagrad_accumulator(rng):
    pair = (optax.adagrad(1e-2), lambda p: torch.optim.Adagrad(p, 1e-2))
    return agreeing(rng, "initial accumulator", optimizer=pair, steps=20, **LOSSES)
