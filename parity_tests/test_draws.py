"""Samplers by rejection, on arrays long enough that some elements are drawn again and again.

The rows of the distributions compare a few draws, of which hardly any is rejected.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxprob.distributions.binomial_draws import binomial_draws
from jaxprob.distributions.gamma_draws import gamma_draws, log_gamma_draws
from jaxprob.distributions.poisson_draws import poisson_draws
from jaxprob.distributions.rejection import first_accepted
from jaxprob.distributions.von_mises_draws import von_mises_draws
from parity_tests.tolerances import DRAWS
from torch_ref import random
from torch_ref.distributions import binomial_draws as torch_binomial
from torch_ref.distributions import gamma_draws as torch_gamma
from torch_ref.distributions import poisson_draws as torch_poisson
from torch_ref.distributions import rejection as torch_rejection
from torch_ref.distributions import von_mises_draws as torch_von_mises

RNG = np.random.default_rng(0)
SIZE = 3000  # above the size from which the rejected are packed
SHAPES = RNG.uniform(0.05, 20.0, SIZE)
RATES = np.where(np.arange(SIZE) % 2, RNG.uniform(0.0, 10.0, SIZE), RNG.uniform(10.0, 300.0, SIZE))
TRIALS, PROBS = RNG.integers(0, 200, SIZE).astype(float), RNG.uniform(0.0, 1.0, SIZE)
COUNTS = ("Poisson", "binomial")  # their draws have no slopes


def _binomial(key, p):
    return binomial_draws(key, jnp.asarray(TRIALS, p.dtype), p, 1.0 - p)


def _binomial_twin(key, p, shape):
    n = torch.from_numpy(TRIALS).to(p.dtype)
    return torch_binomial.binomial_draws(key, n, p, 1.0 - p, shape)


SAMPLERS = {
    "gamma": (gamma_draws, torch_gamma.gamma_draws, SHAPES),
    "log gamma": (log_gamma_draws, torch_gamma.log_gamma_draws, SHAPES),
    "von Mises": (von_mises_draws, torch_von_mises.von_mises_draws, SHAPES),
    "Poisson": (poisson_draws, torch_poisson.poisson_draws, RATES),
    "binomial": (_binomial, _binomial_twin, PROBS),
}


LIKE = ("log gamma", "binomial")
"""Samplers whose mechanism another one has, which is among the quick tests."""


def flips_and_error(found, expected) -> tuple[int, float]:
    """Elements that took another proposal, and the relative error of the others."""
    error = np.abs(np.asarray(found, float) - expected) / np.maximum(np.abs(expected), 1.0)
    flipped = ~(error <= 1e-3)  # NaN too
    return int(flipped.sum()), float(error[~flipped].max())


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LIKE else []) for n in SAMPLERS]
)
def test_draws_agree(name, dtype):
    ours, twin, parameters = SAMPLERS[name]
    parameters = parameters.astype(dtype)
    key = jax.random.key(5)
    found, pull = jnp.asarray(parameters), None
    if name in COUNTS:
        found = ours(key, found)
    else:
        found, pull = jax.vjp(lambda p: ours(key, p), found)
    leaf = torch.from_numpy(parameters).requires_grad_(name not in COUNTS)
    expected = twin(random.key(5), leaf, leaf.shape)
    flips, error = flips_and_error(found, expected.detach().double().numpy())
    assert error < DRAWS["value"][dtype]
    assert flips <= DRAWS["flips"][dtype]
    if pull is not None:
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


BINOMIAL_MUTATIONS = {
    "P(X > j) for P(X >= j)": ("_tail", lambda right, j, n, r: right(j + 1.0, n, r)),
    "a trial short in the rejection": ("_btrs", lambda right, u, v, n, p: right(u, v, n - 1.0, p)),
    "failures counted in the rejection": ("_btrs", lambda right, u, v, n, p: right(u, v, n, 1 - p)),
}


@pytest.fixture(scope="module")
def binomial():
    return _binomial(jax.random.key(5), jnp.asarray(PROBS))


@pytest.mark.slow
@pytest.mark.parametrize("name", BINOMIAL_MUTATIONS)
def test_the_binomial_mistake_is_noticed(name, binomial, monkeypatch):
    function, mutation = BINOMIAL_MUTATIONS[name]
    right = getattr(torch_binomial, function)
    monkeypatch.setattr(torch_binomial, function, lambda *a: mutation(right, *a))
    twin = _binomial_twin(random.key(5), torch.from_numpy(PROBS), (SIZE,))
    flips, _ = flips_and_error(binomial, twin.numpy())
    assert flips > 100
