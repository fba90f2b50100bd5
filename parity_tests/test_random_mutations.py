"""Deliberate mistakes in `torch_ref.random`: the comparisons with `jax.random` must see each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.test_random import (
    DTYPES,
    _float64,  # noqa: F401
    require_equal,
    to_torch,
    uniform,
)
from parity_tests.test_random_samplers import N, require_close, require_few_flips
from parity_tests.tolerances import RANDOM
from torch_ref import random as R
from torch_ref.random import base, continuous, elementary, special, threefry


class TestTheProofHasTeeth:
    """Deliberate mistakes: the comparisons of these files must see each."""

    @staticmethod
    def compare(shape=(1000,), low=0.1, high=0.7, dtype="float32"):
        want = uniform(jax.random.key(1), shape, dtype, low, high)
        require_equal(R.uniform(R.key(1), shape, to_torch(dtype), low, high), want)

    @staticmethod
    def compare_normal(dtype):
        want = jax.random.normal(jax.random.key(1), (N,), dtype)
        require_close(R.normal(R.key(1), (N,), to_torch(dtype)), want, RANDOM["formula"][dtype])

    @pytest.mark.parametrize("shape", [(), (3,), (1000,)])
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ROTATIONS", ((13, 15, 26, 6), (17, 29, 16, 23))),
            ("ROTATIONS", ((17, 29, 16, 24), (13, 15, 26, 6))),
            ("PARITY", 0x1BD11BDB),
        ],
    )
    def test_constants(self, monkeypatch, shape, name, value):
        self.compare(shape)
        monkeypatch.setattr(threefry, name, value)
        with pytest.raises(AssertionError, match="differ"):
            self.compare(shape)

    @pytest.mark.parametrize("shape", [(3,), (1000,)])
    def test_swapped_counter_words(self, monkeypatch, shape):
        few, many = threefry.threefry2x32, threefry._threefry_uint32
        monkeypatch.setattr(threefry, "threefry2x32", lambda k0, k1, hi, lo: few(k0, k1, lo, hi))
        monkeypatch.setattr(
            threefry,
            "_threefry_uint32",
            lambda k0, k1, hi, lo: many(k0, k1, lo, np.full_like(lo, hi)),
        )
        with pytest.raises(AssertionError, match="differ"):
            self.compare(shape)

    def test_swapped_output_words(self, monkeypatch):
        right = threefry.counter_hash
        monkeypatch.setattr(base, "counter_hash", lambda *args: right(*args)[::-1])
        self.compare()  # 32-bit words are a ^ b, the same either way round
        with pytest.raises(AssertionError, match="differ"):
            self.compare(dtype="float64")

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_two_roundings(self, monkeypatch, dtype):
        monkeypatch.setattr(base, "_fused_multiply_add", lambda x, y, z: x * y + z)
        with pytest.raises(AssertionError, match="differ"):
            self.compare(dtype=dtype)

    def test_sums_in_another_order(self):
        x = np.random.default_rng(0).random(1000)
        require_equal(elementary.cumsum(torch.from_numpy(x)), jnp.cumsum(x))
        with pytest.raises(AssertionError, match="differ"):
            require_equal(torch.cumsum(torch.from_numpy(x), 0), jnp.cumsum(x))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_an_accurate_erf_inv(self, monkeypatch, dtype):
        self.compare_normal(dtype)
        monkeypatch.setattr(continuous, "erf_inv", torch.erfinv)
        with pytest.raises(AssertionError, match="exceeds"):
            self.compare_normal(dtype)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_one_digit_of_one_coefficient(self, monkeypatch, dtype):
        table = special._GILES_FLOAT32 if dtype == "float32" else special._GILES_FLOAT64
        (bound, centre, coefficients), *tails = table
        digit = 1e-6 if dtype == "float32" else 1e-13
        changed = (*coefficients[:-1], coefficients[-1] + digit)
        name = f"_GILES_{dtype.upper()}"
        monkeypatch.setattr(special, name, ((bound, centre, changed), *tails))
        with pytest.raises(AssertionError, match="exceeds"):
            self.compare_normal(dtype)

    def test_a_shared_stream_of_keys(self):
        """A rejection loop that splits one key for all elements draws other numbers."""
        want = jax.random.gamma(jax.random.key(1), 2.5, (1000,))
        keys = R.key(1).expand(1000, 2)
        with pytest.raises(AssertionError, match="others"):
            require_few_flips(R.gamma(keys, 2.5, ()), want, RANDOM["rejection"]["float64"])
