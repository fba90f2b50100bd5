"""Samplers by rejection, on arrays long enough that some elements are drawn again and again.

The rows of the distributions compare a few draws, of which hardly any is rejected.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxprob.distributions.gamma_draws import gamma_draws, log_gamma_draws
from jaxprob.distributions.poisson_draws import poisson_draws
from jaxprob.distributions.rejection import first_accepted
from jaxprob.distributions.von_mises_draws import von_mises_draws
from parity_tests.tolerances import DRAWS
from torch_ref import random
from torch_ref.distributions import gamma_draws as torch_gamma
from torch_ref.distributions import poisson_draws as torch_poisson
from torch_ref.distributions import rejection as torch_rejection
from torch_ref.distributions import von_mises_draws as torch_von_mises

RNG = np.random.default_rng(0)
SIZE = 3000  # above the size from which the rejected are packed
SHAPES = RNG.uniform(0.05, 20.0, SIZE)
RATES = np.where(np.arange(SIZE) % 2, RNG.uniform(0.0, 10.0, SIZE), RNG.uniform(10.0, 300.0, SIZE))
SAMPLERS = {
    "gamma": (gamma_draws, torch_gamma.gamma_draws, SHAPES),
    "log gamma": (log_gamma_draws, torch_gamma.log_gamma_draws, SHAPES),
    "von Mises": (von_mises_draws, torch_von_mises.von_mises_draws, SHAPES),
    "Poisson": (poisson_draws, torch_poisson.poisson_draws, RATES),
}


def flips_and_error(found, expected) -> tuple[int, float]:
    """Elements that took another proposal, and the relative error of the others."""
    error = np.abs(np.asarray(found, float) - expected) / np.maximum(np.abs(expected), 1.0)
    flipped = ~(error <= 1e-3)  # NaN too
    return int(flipped.sum()), float(error[~flipped].max())


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_agree(name, dtype):
    ours, twin, parameters = SAMPLERS[name]
    parameters = parameters.astype(dtype)
    key = jax.random.key(5)
    found, pull = jax.vjp(lambda p: ours(key, p), jnp.asarray(parameters))
    leaf = torch.from_numpy(parameters).requires_grad_(name != "Poisson")
    expected = twin(random.key(5), leaf, leaf.shape)
    flips, error = flips_and_error(found, expected.detach().double().numpy())
    assert error < DRAWS["value"][dtype]
    assert flips <= DRAWS["flips"][dtype]
    if name != "Poisson":
        (slope,) = pull(jnp.ones_like(found))
        (twins,) = torch.autograd.grad(expected.sum(), leaf)
        _, error = flips_and_error(slope, twins.double().numpy())
        assert error < DRAWS["slope"][dtype]


MUTATIONS = {
    "attempts counted from 0": lambda: _patched_fold_in(lambda data: data - 1),
    "one key for all attempts": lambda: _patched_fold_in(lambda data: 1),
}


def _patched_fold_in(change):
    """`fold_in` with another number of the attempt; places are tensors."""
    right = random.fold_in
    return lambda key, data: right(key, change(data) if isinstance(data, int) else data)


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch):
    monkeypatch.setattr(torch_rejection.random, "fold_in", MUTATIONS[name]())
    parameter = np.full(SIZE, 0.3)

    def propose(u, v, p):
        return u, v < p

    ours = first_accepted(propose, 0.75, jax.random.key(1), jnp.asarray(parameter))
    twin = torch_rejection.first_accepted(propose, random.key(1), torch.from_numpy(parameter))
    flips, _ = flips_and_error(ours, twin.numpy())
    assert flips > 100
