"""`torch_ref.random` against `jax.random`, part 1: what is equal to the last bit.

Keys, bits, uniform numbers, Booleans, integers and orders. `test_random_samplers.py` has the rest.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.extend.random import threefry_2x32

from tests.support.compilation import to_the_bit
from torch_ref import random as R
from torch_ref.random import threefry

DTYPES = ("float32", "float64")
uniform = to_the_bit(jax.random.uniform, 1, 2)

SEEDS = (0, 1, 20261121, 2**32 - 1)
SHAPES = ((), (4,), (5,), (3, 0, 2), (7, 11), (20001,))
INTEGERS = {"uint8": torch.uint8, "int8": torch.int8, "int16": torch.int16} | {
    "int32": torch.int32,
    "int64": torch.int64,
}


@pytest.fixture(autouse=True)
def _float64():
    """64-bit types on both sides, and torch's default type as it was afterwards."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(default)


def to_torch(dtype: str) -> torch.dtype:
    return getattr(torch, dtype)


def to_numpy(want: jax.Array) -> np.ndarray:
    """Converts an array, or keys to their words."""
    if jnp.issubdtype(want.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(want)).astype(np.int64)
    return np.asarray(want)


def require_equal(got: torch.Tensor, want: jax.Array) -> None:
    """Demands the same shape, type and bits."""
    got, want = got.numpy(), to_numpy(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    different = np.flatnonzero(got.reshape(-1) != want.reshape(-1))
    assert different.size == 0, f"{different.size} of {want.size} differ, first at {different[:3]}"


class TestKeys:
    """Making, splitting and folding keys."""

    @pytest.mark.parametrize("seed", [0, 1, 42, 2**31 - 1, 2**31, 2**32 - 1])
    @pytest.mark.parametrize("x64", [None, True, False])
    def test_common_seeds(self, seed, x64):
        with jax.enable_x64(True):
            require_equal(R.key(seed, x64=x64), jax.random.key(seed))
        with jax.enable_x64(False):
            require_equal(R.key(seed, x64=x64), jax.random.key(seed))

    @pytest.mark.parametrize("seed", [-1, -(2**31), 2**32, 2**40 + 7, 2**63 - 1, -(2**63)])
    @pytest.mark.parametrize("x64", [True, False])
    def test_seeds_that_depend_on_x64(self, seed, x64):
        with jax.enable_x64(x64):
            require_equal(R.key(seed, x64=x64), jax.random.key(seed))

    def test_a_seed_that_depends_on_x64_needs_it_said(self):
        with pytest.raises(ValueError, match="x64=True"):
            R.key(-1)
        with pytest.raises(OverflowError, match="64-bit"):
            R.key(2**63)
        assert R.key(-1, x64=True).tolist() == [2**32 - 1, 2**32 - 1]
        assert R.key(-1, x64=False).tolist() == [0, 2**32 - 1]

    @pytest.mark.parametrize("seed", SEEDS[1:3])
    @pytest.mark.parametrize("num", [1, 2, 3, 4, 5, 1000, (2, 3), (), (0,)])
    def test_split(self, seed, num):
        require_equal(R.split(R.key(seed), num), jax.random.split(jax.random.key(seed), num))

    def test_split_of_a_batch(self):
        keys = jax.random.split(jax.random.key(3), (2, 3))
        want = jax.vmap(jax.vmap(lambda k: jax.random.split(k, 5)))(keys)
        require_equal(R.split(R.split(R.key(3), (2, 3)), 5), want)

    @pytest.mark.parametrize("data", [0, 1, 7, 2**31, 2**32 - 1])
    def test_fold_in(self, data):
        require_equal(R.fold_in(R.key(5), data), jax.random.fold_in(jax.random.key(5), data))

    def test_fold_in_of_tensors(self):
        data = np.array([0, 3, -1, 2**33 + 5])
        want = jax.vmap(lambda d: jax.random.fold_in(jax.random.key(5), d))(data)
        require_equal(R.fold_in(R.key(5), torch.from_numpy(data)), want)
        keys = jax.random.split(jax.random.key(5), 4)
        require_equal(
            R.fold_in(R.split(R.key(5), 4), torch.from_numpy(data)),
            jax.vmap(jax.random.fold_in)(keys, data),
        )
        require_equal(
            R.fold_in(R.split(R.key(5), 4), 9), jax.vmap(lambda k: jax.random.fold_in(k, 9))(keys)
        )

    def test_fold_in_is_split(self):
        assert torch.equal(R.split(R.key(8), 6)[4], R.fold_in(R.key(8), 4))

    def test_stream(self):
        key, stream = jax.random.key(4), R.KeyStream(4)
        for _ in range(5):
            key, new = jax.random.split(key)
            require_equal(next(stream), new)
        require_equal(stream.key, key)
        resumed = R.KeyStream(stream.key)
        assert torch.equal(torch.stack([next(stream) for _ in range(6)]), resumed.take((6,)))
        assert resumed.take((2, 3)).shape == (2, 3, 2)
        assert resumed.take(0).shape == (0, 2)

    def test_inside_torch_func(self):
        keys = R.split(R.key(1), 3)

        def loss(a):
            inner = R.split(R.key(1), 3)  # wrapped by torch.func.grad as soon as it is indexed
            whole = R.randint(inner[1], (), 1, 9) + R.bernoulli(inner[2], 0.5)
            return a * (R.normal(inner[0], (4,)).sum() + whole + R.gamma(keys[2], 0.5))

        one = torch.tensor(1.0)
        assert torch.func.grad(loss)(one) == loss(one)
        assert torch.func.vmap(torch.func.grad(loss))(one.expand(2)).tolist() == [loss(one)] * 2
        with pytest.raises(RuntimeError, match="hand the batch of keys"):
            torch.func.vmap(lambda k: R.normal(k, (3,)))(keys)

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (torch.tensor([1.0, 2.0]), TypeError),
            (7, TypeError),
            (torch.tensor([1, 2, 3]), ValueError),
            (torch.tensor(1), ValueError),
        ],
    )
    def test_refuses_what_is_not_a_key(self, bad, error):
        for function in (R.split, R.uniform, R.normal, lambda k: R.permutation(k, 3)):
            with pytest.raises(error):
                function(bad)

    def test_counters_beyond_32_bits(self):
        """The high word of the counter, which no array is long enough to reach."""
        k0, k1, high, low = 123456789, 4000000000, 3, 17
        want = threefry_2x32(jnp.array([k0, k1], jnp.uint32), jnp.array([high, low], jnp.uint32))
        assert list(threefry.threefry2x32(k0, k1, high, low)) == want.tolist()
        words = threefry._threefry_uint32(
            np.array([k0], np.uint32),
            np.array([k1], np.uint32),
            np.uint32(high),
            np.array([[low]], np.uint32),
        )
        assert [int(w.item()) for w in words] == want.tolist()


class TestBitsAndUniform:
    """Random words and the uniform numbers made of them."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("width", [8, 16, 32, 64])
    def test_bits(self, shape, width):
        want = jax.random.bits(jax.random.key(1), shape, f"uint{width}")
        require_equal(R.bits(R.key(1), shape, getattr(torch, f"uint{width}")), want)

    def test_default_width_follows_the_float_type(self):
        assert R.bits(R.key(0)).dtype == torch.uint64
        torch.set_default_dtype(torch.float32)
        assert R.bits(R.key(0)).dtype == torch.uint32

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_shapes(self, dtype, shape):
        want = jax.random.uniform(jax.random.key(1), shape, dtype)
        require_equal(R.uniform(R.key(1), shape, to_torch(dtype)), want)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        ("low", "high"), [(0, 1), (-1, 1), (-2, 3), (0.1, 0.7), (1e3, 1001.7), (-1e-5, 1e3)]
    )
    def test_ranges(self, dtype, low, high):
        for seed in SEEDS:
            want = uniform(jax.random.key(seed), (100_000,), dtype, low, high)
            require_equal(R.uniform(R.key(seed), (100_000,), to_torch(dtype), low, high), want)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_ranges_given_as_tensors(self, dtype):
        low, high = np.linspace(-3, 1, 5).astype(dtype), np.linspace(1.1, 7, 5).astype(dtype)
        want = uniform(jax.random.key(0), (1000, 5), dtype, low, high)
        got = R.uniform(
            R.key(0), (1000, 5), to_torch(dtype), torch.from_numpy(low), torch.from_numpy(high)
        )
        require_equal(got, want)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(), (2, 5), (20001,)])
    def test_batches_of_keys(self, dtype, shape):
        keys = jax.random.split(jax.random.key(6), (2, 3))
        want = jax.vmap(jax.vmap(lambda k: jax.random.uniform(k, shape, dtype)))(keys)
        require_equal(R.uniform(R.split(R.key(6), (2, 3)), shape, to_torch(dtype)), want)

    def test_many_keys(self):
        keys = jax.random.split(jax.random.key(6), 20001)
        want = jax.vmap(lambda k: jax.random.bits(k, (3,), "uint32"))(keys)
        require_equal(R.bits(R.split(R.key(6), 20001), (3,), torch.uint32), want)

    def test_default_type(self):
        assert R.uniform(R.key(0)).dtype == torch.float64
        torch.set_default_dtype(torch.float32)
        assert R.uniform(R.key(0)).dtype == torch.float32
        with pytest.raises(ValueError, match=r"torch\.float32"):
            R.uniform(R.key(0), (), torch.float16)

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_ten_million(self, dtype):
        want = uniform(jax.random.key(2), (10_000_000,), dtype, 0.1, 0.7)
        require_equal(R.uniform(R.key(2), (10_000_000,), to_torch(dtype), 0.1, 0.7), want)


class TestDiscrete:
    """Booleans, signs, integers and classes."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("mode", ["low", "high"])
    def test_bernoulli(self, dtype, mode):
        p = np.linspace(0, 1, 1001).astype(dtype)
        want = jax.random.bernoulli(jax.random.key(1), p, (100, 1001), mode)
        require_equal(R.bernoulli(R.key(1), torch.from_numpy(p), (100, 1001), mode), want)
        keys = jax.random.split(jax.random.key(1), 3)
        want = jax.vmap(lambda k: jax.random.bernoulli(k, p, mode=mode))(keys)
        require_equal(R.bernoulli(R.split(R.key(1), 3), torch.from_numpy(p), mode=mode), want)

    def test_numbers_follow_the_default_type(self):
        require_equal(
            R.bernoulli(R.key(2), 0.3, (1000,)),
            jax.random.bernoulli(jax.random.key(2), 0.3, (1000,)),
        )
        torch.set_default_dtype(torch.float32)
        with jax.enable_x64(False):
            want = jax.random.bernoulli(jax.random.key(2), 0.3, (1000,))
            require_equal(R.bernoulli(R.key(2), 0.3, (1000,)), want)
            want = jax.random.randint(jax.random.key(2), (1000,), 0, 77)
            require_equal(R.randint(R.key(2), (1000,), 0, 77), want)
            want = jax.random.rademacher(jax.random.key(2), (1000,))
            require_equal(R.rademacher(R.key(2), (1000,)), want)

    def test_rademacher(self):
        for dtype in (*DTYPES, "int32", "int64"):
            want = jax.random.rademacher(jax.random.key(2), (50, 21), dtype)
            require_equal(R.rademacher(R.key(2), (50, 21), getattr(torch, dtype)), want)

    @pytest.mark.parametrize("dtype", INTEGERS)
    @pytest.mark.parametrize(
        ("low", "high"),
        [(0, 10), (-5, 7), (3, 3), (5, 2), (0, 256), (-128, 128), (0, 100_000), (-(2**31), 2**31)],
    )
    def test_randint(self, dtype, low, high):
        if INTEGERS[dtype].itemsize < 4:  # JAX wraps bounds of short types beyond 32 bits
            low, high = max(low, -(2**31)), min(high, 2**31 - 1)
        for seed in SEEDS[:2]:
            want = jax.random.randint(jax.random.key(seed), (1001,), low, high, dtype)
            require_equal(R.randint(R.key(seed), (1001,), low, high, INTEGERS[dtype]), want)

    @pytest.mark.parametrize(
        ("low", "high"), [(-(2**62), 2**62), (-(2**63), 2**63 - 1), (0, 2**40)]
    )
    def test_randint_of_wide_ranges(self, low, high):
        want = jax.random.randint(jax.random.key(3), (7, 13), low, high, "int64")
        require_equal(R.randint(R.key(3), (7, 13), low, high, torch.int64), want)

    def test_randint_of_tensors_and_batches(self):
        high = np.arange(1, 8)
        want = jax.random.randint(jax.random.key(3), (100, 7), -2, high)
        require_equal(R.randint(R.key(3), (100, 7), -2, torch.from_numpy(high)), want)
        keys = jax.random.split(jax.random.key(3), (2, 2))
        want = jax.vmap(jax.vmap(lambda k: jax.random.randint(k, (7,), -2, high)))(keys)
        require_equal(R.randint(R.split(R.key(3), (2, 2)), (7,), -2, torch.from_numpy(high)), want)
        assert R.randint(R.key(0), (), 0, 9).shape == ()

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("mode", ["low", "high"])
    @pytest.mark.parametrize("axis", [-1, 0, 1])
    def test_categorical(self, dtype, mode, axis):
        logits = np.random.default_rng(0).normal(size=(12, 10, 8)).astype(dtype)
        rows = tuple(np.delete(logits.shape, axis))
        for shape, replace in ((None, True), ((2, 3, *rows), False)):
            want = jax.random.categorical(
                jax.random.key(1), logits, axis, shape, replace=replace, mode=mode
            )
            got = R.categorical(R.key(1), torch.from_numpy(logits), axis, shape, replace, mode)
            require_equal(got, want.astype("int64"))

    def test_categorical_of_a_batch_of_keys(self):
        logits = np.random.default_rng(0).normal(size=(4, 5))
        keys = jax.random.split(jax.random.key(1), 3)
        want = jax.vmap(lambda k: jax.random.categorical(k, logits, shape=(50, 4)))(keys)
        got = R.categorical(R.split(R.key(1), 3), torch.from_numpy(logits), shape=(50, 4))
        require_equal(got, want)

    def test_categorical_refuses(self):
        logits = torch.zeros(2, 3)
        with pytest.raises(ValueError, match="without replacement"):
            R.categorical(R.key(0), logits, shape=(4, 2), replace=False)
        with pytest.raises(ValueError, match="batch shape"):
            R.categorical(R.key(0), logits, shape=(2, 4))


class TestOrders:
    """Permutations and samples of a list."""

    @pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 500, 1625, 1626, 100_000])
    def test_permutation_of_a_range(self, n):
        for seed in SEEDS:
            want = jax.random.permutation(jax.random.key(seed), n)
            require_equal(R.permutation(R.key(seed), n), want)

    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    @pytest.mark.parametrize("independent", [False, True])
    def test_permutation_of_an_array(self, axis, independent):
        x = np.random.default_rng(0).normal(size=(7, 30, 11))
        want = jax.random.permutation(jax.random.key(1), x, axis, independent)
        require_equal(R.permutation(R.key(1), torch.from_numpy(x), axis, independent), want)

    def test_permutation_of_a_batch_of_keys(self):
        keys = jax.random.split(jax.random.key(1), (3, 2))
        want = jax.vmap(jax.vmap(lambda k: jax.random.permutation(k, 50)))(keys)
        require_equal(R.permutation(R.split(R.key(1), (3, 2)), 50), want)
        with pytest.raises(ValueError, match="one key"):
            R.permutation(R.split(R.key(1)), torch.zeros(3))

    @pytest.mark.parametrize("n", [1, 5, 17, 50, 1000, 5000])
    @pytest.mark.parametrize("replace", [True, False])
    @pytest.mark.parametrize("dtype", [None, *DTYPES])
    def test_choice(self, n, replace, dtype):
        p = None if dtype is None else np.random.default_rng(n).random(n).astype(dtype)
        shape = (40, 25) if replace else (n // 2,)
        for seed in SEEDS[:2]:
            want = jax.random.choice(jax.random.key(seed), n, shape, replace, p)
            got = R.choice(
                R.key(seed), n, shape, replace, None if p is None else torch.from_numpy(p)
            )
            require_equal(got, want)

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_choice_of_an_array(self, axis):
        x = np.random.default_rng(0).normal(size=(5, 6, 7))
        for replace in (True, False):
            want = jax.random.choice(jax.random.key(2), x, (2, 2), replace, axis=axis)
            got = R.choice(R.key(2), torch.from_numpy(x), (2, 2), replace, axis=axis)
            require_equal(got, want)

    def test_choice_refuses(self):
        with pytest.raises(ValueError, match="without replacement"):
            R.choice(R.key(0), 3, (4,), replace=False)
        with pytest.raises(ValueError, match="p must have shape"):
            R.choice(R.key(0), 3, (4,), p=torch.ones(4))
        with pytest.raises(ValueError, match="empty"):
            R.choice(R.key(0), 0, (4,))
