"""First weights: torch's distributions in both packages, and the same numbers from the same key."""

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from jaxprob import nn
from jaxprob.nn import initializers
from parity_tests.test_random import DTYPES, require_equal, to_torch
from parity_tests.test_random_samplers import require_close_per_tensor
from parity_tests.tolerances import NN, RANDOM
from tests.support.compilation import to_the_bit
from torch_ref import random
from torch_ref.nn import initializers as twins

# large enough to measure a spread: (ours, input, torch's)
LAYERS = {
    "Linear": (nn.Linear(400), (1, 20), lambda: torch.nn.Linear(20, 400)),
    "Conv2d of groups": (
        nn.Conv(200, (3, 2), groups=4),
        (1, 3, 2, 16),
        lambda: torch.nn.Conv2d(16, 200, (3, 2), groups=4),
    ),
    "ConvTranspose1d of groups": (
        nn.ConvTranspose(200, (3,), groups=4),
        (1, 2, 8),
        lambda: torch.nn.ConvTranspose1d(8, 200, 3, groups=4),
    ),
    "Embedding": (nn.Embedding(100, 40), (1, 1), lambda: torch.nn.Embedding(100, 40)),
    "BatchNorm": (nn.BatchNorm(), (1, 5), lambda: torch.nn.BatchNorm1d(5)),
    "GRU": (nn.GRU(40), (1, 2, 9), lambda: torch.nn.GRU(9, 40)),
    "MultiheadAttention": (
        nn.MultiheadAttention(64, 4),
        (1, 2, 64),
        lambda: torch.nn.MultiheadAttention(64, 4),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_spread_is_torchs(name):
    ours, shape, build = LAYERS[name]
    torch.manual_seed(0)
    state = build().state_dict()
    x = np.zeros(shape, int if name == "Embedding" else np.float32)
    options = {"train": False} if name == "BatchNorm" else {}
    variables = jax.jit(lambda key: ours.init(key, x, **options))(jax.random.key(0))
    flat = flatten_dict({**variables["params"], **variables.get("batch_stats", {})}, sep=".")
    for name, value in flat.items():
        theirs, value = state[name].double().numpy(), np.asarray(value)
        assert value.dtype == np.float32
        assert value.shape == theirs.shape
        if theirs.std() == 0:
            assert (value == theirs).all(), name
            continue
        distance = abs(np.log(value.std() / theirs.std())) * np.sqrt(value.size)
        assert distance <= NN["initial spread"], name
        # a uniform distribution has an end: the largest entry is within a few per cent of it
        assert abs(value).max() <= 1.5 * abs(theirs).max(), name


def test_linens_own_spread_would_be_noticed():
    """A normal with variance 1 / fan_in, sqrt(3) times as wide, is what Linen's Dense draws."""
    theirs = torch.nn.Linear(20, 400).weight.std().item()
    linen = np.random.default_rng(0).normal(0, 20**-0.5, (20, 400))
    assert abs(np.log(linen.std() / theirs)) * np.sqrt(linen.size) > NN["initial spread"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.fan_in_uniform(7),
        lambda m: m.xavier_uniform(12, 4),
        lambda m: m.standard_normal(),
    ],
    ids=["fan-in uniform", "xavier uniform", "standard normal"],
)
def test_twin_draws_the_same_numbers(make, dtype):
    want = make(initializers)(jax.random.key(3), (5, 7), dtype)
    got = make(twins)(random.key(3), (5, 7), to_torch(dtype))
    require_close_per_tensor(got, want, RANDOM["initial"][dtype])


def test_a_layer_from_its_key():
    """Weight first, bias second: a twin can start from the seed alone."""
    x = np.zeros((2, 6), np.float32)
    want = to_the_bit(nn.Linear(4).init)(jax.random.key(5), x)["params"]
    root, init = random.key(5), twins.fan_in_uniform(6)
    require_equal(init(random.param_key(root, "", 1), (4, 6), torch.float32), want["weight"])
    require_equal(init(random.param_key(root, "", 2), (4,), torch.float32), want["bias"])


def test_dtype_follows_the_input():
    x = np.zeros((2, 6))
    assert initializers.param_dtype(x) == np.float64
    assert twins.param_dtype(torch.tensor(x)) == torch.float64
    assert twins.param_dtype(torch.zeros(1, dtype=torch.bfloat16)) == torch.float32
    assert nn.Linear(4).init(jax.random.key(5), x)["params"]["weight"].dtype == np.float64
