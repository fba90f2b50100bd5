"""`torch_ref.random` against `jax.random`, part 2: formulas of uniform numbers, and loops.

These agree to a few units in the last place (see `tolerances.RANDOM`), most of them to the last bit
in float32. `test_random_mutations.py` makes deliberate mistakes and demands that they be seen.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.test_random import DTYPES, require_equal, to_numpy, to_torch
from parity_tests.tolerances import RANDOM
from tests.support.compilation import to_the_bit
from torch_ref import random as R
from torch_ref.random import elementary, special, threefry

poisson = to_the_bit(jax.random.poisson, 2, 3)
truncated_normal = to_the_bit(jax.random.truncated_normal, 3, 4)
# Where an acceptance is decided, the last bit of a logarithm decides it.
gamma = to_the_bit(jax.random.gamma, 2, 3)
loggamma = to_the_bit(jax.random.loggamma, 2, 3)
beta = to_the_bit(jax.random.beta, 3, 4)
dirichlet = to_the_bit(jax.random.dirichlet, 2, 3)
student_t = to_the_bit(jax.random.t, 2, 3)
binomial = to_the_bit(jax.random.binomial, 3, 4)

N = 100_000
# Compiling a loop takes JAX seconds; the gate is float64.
GATE = ("float64", pytest.param("float32", marks=pytest.mark.slow))


@pytest.fixture(autouse=True)
def _float64():
    """64-bit types on both sides, and torch's default type as it was afterwards."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(default)


def errors(got: torch.Tensor, want: jax.Array) -> np.ndarray:
    """Error of every element, over its own size or 1; shapes and types must be equal."""
    got, want = got.detach().numpy(), to_numpy(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        error = np.abs(got.astype(np.float64) - want) / np.maximum(1.0, np.abs(want))
    return np.where(same, 0.0, error)


def require_close(got: torch.Tensor, want: jax.Array, tolerance: float) -> None:
    error = errors(got, want)
    assert error.max(initial=0.0) <= tolerance, f"{error.max():.2e} exceeds {tolerance:.0e}"


def require_few_flips(got: torch.Tensor, want: jax.Array, tolerance: float) -> None:
    """Allows the share of other accepted draws in `tolerances.RANDOM`, all else close."""
    share = np.mean(errors(got, want) > tolerance)
    assert share <= RANDOM["flips"], f"{share:.1e} of the draws are others"


def require_close_per_tensor(got: torch.Tensor, want: jax.Array, tolerance: float) -> None:
    got, want = got.detach().numpy(), to_numpy(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    error, scale = np.abs(got - want).max(initial=0.0), np.abs(want).max(initial=0.0)
    assert error <= tolerance * scale, f"{error:.2e} exceeds {tolerance:.0e} of {scale:.2e}"


# name: (jax.random, torch_ref.random), both functions of (key, shape, dtype)
FORMULAS = {
    "normal": (to_the_bit(jax.random.normal, 1, 2), R.normal),
    "exponential": (to_the_bit(jax.random.exponential, 1, 2), R.exponential),
    "laplace": (to_the_bit(jax.random.laplace, 1, 2), R.laplace),
    "logistic": (to_the_bit(jax.random.logistic, 1, 2), R.logistic),
    "cauchy": (to_the_bit(jax.random.cauchy, 1, 2), R.cauchy),
    "gumbel": (to_the_bit(jax.random.gumbel, 1, 2), R.gumbel),
    "gumbel high": (
        lambda *args: jax.random.gumbel(*args, mode="high"),
        lambda *args: R.gumbel(*args, mode="high"),
    ),
} | {
    f"truncated_normal {low} {high}": (
        lambda key, *args, low=low, high=high: truncated_normal(key, low, high, *args),
        lambda key, *args, low=low, high=high: R.truncated_normal(key, low, high, *args),
    )
    for low, high in [(-2, 2), (-1.3, 0.7), (2.0, 5.0), (-np.inf, 0.5)]
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name, dtype):
    in_jax, in_torch = FORMULAS[name]
    for seed in (0, 1, 2):
        want = in_jax(jax.random.key(seed), (N,), dtype)
        got = in_torch(R.key(seed), (N,), to_torch(dtype))
        require_close(got, want, RANDOM["formula"][dtype])
        share = np.mean(got.numpy() == np.asarray(want))
        assert share >= RANDOM["equal share"].get(name, RANDOM["equal share"][dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (18,), (3, 0), (5, 7)])
def test_shapes(shape, dtype):
    want = jax.random.normal(jax.random.key(3), shape, dtype)
    require_close(R.normal(R.key(3), shape, to_torch(dtype)), want, RANDOM["formula"][dtype])


@pytest.mark.parametrize("dtype", GATE)
@pytest.mark.parametrize("name", ["normal", "gumbel high"])
def test_batches_of_keys(name, dtype):
    in_jax, in_torch = FORMULAS[name]
    keys = jax.random.split(jax.random.key(3), (2, 3))
    want = jax.vmap(jax.vmap(lambda k: in_jax(k, (5, 7), dtype)))(keys)
    got = in_torch(R.split(R.key(3), (2, 3)), (5, 7), to_torch(dtype))
    require_close(got, want, RANDOM["formula"][dtype])


def test_bounds_given_as_tensors():
    low, high = np.linspace(-3, 1, 7), np.linspace(1.5, 9, 7)
    want = jax.random.truncated_normal(jax.random.key(0), low, high)
    got = R.truncated_normal(R.key(0), torch.from_numpy(low), torch.from_numpy(high))
    require_close(got, want, RANDOM["formula"]["float64"])
    assert ((got > torch.from_numpy(low)) & (got < torch.from_numpy(high))).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_on_two_million(name, dtype):
    in_jax, in_torch = FORMULAS[name]
    want = in_jax(jax.random.key(9), (2 * 10**6,), dtype)
    got = in_torch(R.key(9), (2 * 10**6,), to_torch(dtype))
    require_close(got, want, RANDOM["formula"][dtype])


@pytest.mark.parametrize("dtype", DTYPES)
class TestFunctions:
    """XLA's own functions, over the ranges where samplers use them."""

    @pytest.mark.parametrize(
        ("ours", "xla", "low", "high"),
        [
            (elementary.log, jnp.log, 1e-30, 1.0),
            (elementary.log, jnp.log, 1.0, 1e6),
            (elementary.log1p, jnp.log1p, -0.9999, 0.9999),
            (elementary.sqrt, jnp.sqrt, 0.0, 1e4),
            (special.erf, jax.lax.erf, -5.0, 5.0),
            (special.erf_inv, jax.lax.erf_inv, -1.0, 1.0),
        ],
    )
    def test_functions(self, ours, xla, low, high, dtype):
        x = np.random.default_rng(0).uniform(low, high, N).astype(dtype)
        require_close(ours(torch.from_numpy(x)), jax.jit(xla)(x), RANDOM["formula"][dtype])

    def test_ends(self, dtype):
        x = torch.tensor([-1.0, 0.0, 1.0], dtype=to_torch(dtype))
        assert special.erf_inv(x).tolist() == [-np.inf, 0.0, np.inf]
        assert elementary.log(x)[1:].tolist() == [-np.inf, 0.0]
        assert elementary.log(x)[0].isnan()

    def test_lgamma(self, dtype):
        """Only float32 is needed: JAX draws Poisson counts in float32 whatever the type."""
        x = np.random.default_rng(0).uniform(0.5, 1e5, N).astype(np.float32)
        want = jax.jit(jax.lax.lgamma)(x)
        require_close(special.lgamma(torch.from_numpy(x)), want, RANDOM["formula"]["float32"])


class TestRejection:
    """Gamma and what is made of it: one stream of keys per element."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        ("in_jax", "in_torch"),
        [
            pytest.param(gamma, R.gamma, id="gamma"),
            pytest.param(loggamma, R.loggamma, id="loggamma", marks=pytest.mark.slow),
        ],
    )
    def test_gamma(self, in_jax, in_torch, dtype):
        alpha = np.array([0.01, 0.3, 1.0, 2.5, 100.0]).astype(dtype)
        for seed in (1, 2):
            want = in_jax(jax.random.key(seed), alpha, (N, 5), dtype)
            got = in_torch(R.key(seed), torch.from_numpy(alpha), (N, 5), to_torch(dtype))
            require_few_flips(got, want, RANDOM["rejection"][dtype])

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", GATE)
    def test_made_of_gamma(self, dtype):
        alpha = np.array([0.1, 1.0, 3.0, 10.0]).astype(dtype)
        a, type_ = torch.from_numpy(alpha), to_torch(dtype)
        pairs = [
            (R.beta(R.key(2), a, 0.5, (N, 4), type_), beta, (alpha, 0.5, (N, 4))),
            (R.dirichlet(R.key(2), a, (N,), type_), dirichlet, (alpha, (N,))),
            (R.student_t(R.key(2), a, (N, 4), type_), student_t, (alpha, (N, 4))),
        ]
        for got, in_jax, args in pairs:
            want = in_jax(jax.random.key(2), *args, dtype)
            require_few_flips(got, want, RANDOM["rejection"][dtype])

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", GATE)
    def test_batches_of_keys(self, dtype):
        keys, ours = jax.random.split(jax.random.key(3), (2, 3)), R.split(R.key(3), (2, 3))
        alpha = np.array([0.2, 1.0, 7.0]).astype(dtype)
        a, type_ = torch.from_numpy(alpha), to_torch(dtype)
        pairs = [
            (R.gamma(ours, a, (5, 3), type_), lambda k: jax.random.gamma(k, alpha, (5, 3), dtype)),
            (R.dirichlet(ours, a, (), type_), lambda k: jax.random.dirichlet(k, alpha, (), dtype)),
            (R.student_t(ours, a, None, type_), lambda k: jax.random.t(k, alpha, None, dtype)),
            (R.beta(ours, 2.0, 3.0, (), type_), lambda k: jax.random.beta(k, 2.0, 3.0, (), dtype)),
        ]
        for got, in_jax in pairs:
            want = to_the_bit(jax.vmap(jax.vmap(in_jax)))(keys)
            require_few_flips(got, want, RANDOM["rejection"][dtype])

    @pytest.mark.parametrize("dtype", GATE)
    def test_shapes(self, dtype):
        for shape in ((), (3, 0), (1,)):
            want = gamma(jax.random.key(0), 0.7, shape, dtype)
            got = R.gamma(R.key(0), 0.7, shape, to_torch(dtype))
            require_close(got, want, RANDOM["rejection"][dtype])


class TestCounts:
    """Poisson and binomial: one stream of keys for the whole array."""

    @pytest.mark.parametrize("rate", [0.0, 0.1, 3.0, 9.9, 10.0, 30.0, 200.0, 1e4, 1e6])
    def test_poisson(self, rate):
        for seed in (0, 1):
            want = poisson(jax.random.key(seed), rate, (N,))
            require_few_flips(R.poisson(R.key(seed), rate, (N,)), want, 0.0)

    @pytest.mark.slow
    def test_poisson_of_mixed_rates(self):
        rate = 10 ** np.random.default_rng(0).uniform(-1, 4, N)
        rate[:3] = 0.0, np.nan, 10.0
        want = poisson(jax.random.key(3), rate)
        require_few_flips(R.poisson(R.key(3), torch.from_numpy(rate)), want, 0.0)
        keys = jax.random.split(jax.random.key(3), 4)
        want = jax.vmap(lambda k: poisson(k, rate[:50], None, "int32"))(keys)
        got = R.poisson(R.split(R.key(3), 4), torch.from_numpy(rate[:50]), None, torch.int32)
        require_equal(got, want)

    @pytest.mark.parametrize("dtype", GATE)
    @pytest.mark.parametrize(
        ("n", "p"), [(10, 0.3), (10, 0.7), (1000, 0.3), (1e6, 0.5), (3, 0.0), (3, 1.0)]
    )
    def test_binomial(self, n, p, dtype):
        want = binomial(jax.random.key(4), n, np.array(p, dtype), (N,), dtype)
        p = torch.tensor(p, dtype=to_torch(dtype))
        require_few_flips(R.binomial(R.key(4), n, p, (N,), to_torch(dtype)), want, 0.0)

    @pytest.mark.parametrize("dtype", GATE)
    def test_binomial_of_mixed_parameters(self, dtype):
        rng = np.random.default_rng(0)
        n, p = rng.integers(0, 200, N).astype(dtype), rng.random(N).astype(dtype)
        n[:6], p[:6] = [np.nan, -1, 5, 5, 5, np.inf], [0.3, 0.3, np.nan, -0.2, 1.0, 0.3]
        want = binomial(jax.random.key(5), n, p, None, dtype)
        got = R.binomial(R.key(5), torch.from_numpy(n), torch.from_numpy(p), None, to_torch(dtype))
        require_few_flips(got, want, 0.0)
        keys = jax.random.split(jax.random.key(5), 3)
        want = to_the_bit(jax.vmap(lambda k: jax.random.binomial(k, n[6:60], 0.4)))(keys)
        require_equal(R.binomial(R.split(R.key(5), 3), torch.from_numpy(n[6:60]), 0.4), want)


@pytest.mark.parametrize("dtype", GATE)
class TestMatrices:
    """Draws that go through a factorisation."""

    @pytest.mark.parametrize("n", [1, 50])
    def test_multivariate_normal(self, n, dtype):
        rng = np.random.default_rng(n)
        root, mean = rng.normal(size=(n, n)), rng.normal(size=(3, n)).astype(dtype)
        cov = (root @ root.T + np.eye(n)).astype(dtype)
        for shape in (None, (4, 3)):
            want = jax.random.multivariate_normal(jax.random.key(0), mean, cov, shape)
            got = R.multivariate_normal(
                R.key(0), torch.from_numpy(mean), torch.from_numpy(cov), shape
            )
            require_close_per_tensor(got, want, RANDOM["linear algebra"][dtype])

    @pytest.mark.parametrize(("n", "m"), [(5, 5), (64, 64), (7, 30), (30, 7)])
    def test_orthogonal(self, n, m, dtype):
        want = jax.random.orthogonal(jax.random.key(1), n, (2,), dtype, m)
        got = R.orthogonal(R.key(1), n, (2,), to_torch(dtype), m)
        require_close_per_tensor(got, want, RANDOM["linear algebra"][dtype])


class TestDevices:
    """What runs on a GPU is torch's arithmetic rather than NumPy's: the same numbers."""

    def test_tensor_path(self, monkeypatch):
        for module in (threefry, elementary):
            monkeypatch.setattr(module, "on_host", lambda x: False)
        monkeypatch.setattr(threefry, "HOST_LIMIT", -1)
        monkeypatch.setattr(threefry, "FEW", -1)
        require_equal(R.split(R.key(1), 3), jax.random.split(jax.random.key(1), 3))
        keys = jax.random.split(jax.random.key(1), 3)
        want = jax.vmap(lambda k: jax.random.bits(k, (1001,), "uint32"))(keys)
        require_equal(R.bits(R.split(R.key(1), 3), (1001,), torch.uint32), want)
        for dtype in DTYPES:
            for name in ("normal", "gumbel", "truncated_normal -2 2"):
                in_jax, in_torch = FORMULAS[name]
                want = in_jax(jax.random.key(1), (N,), dtype)
                got = in_torch(R.key(1), (N,), to_torch(dtype))
                require_close(got, want, RANDOM["formula"][dtype])

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    @pytest.mark.parametrize("size", [1, 5, 1000, N])
    def test_gpu(self, size):
        key, there = R.key(1), R.key(1, device="cuda")
        draws = {
            "split": (lambda k: R.split(k, size), 0.0),
            "permutation": (lambda k: R.permutation(k, size), 0.0),
            "randint": (lambda k: R.randint(k, (size,), 0, 77), 0.0),
            "uniform": (lambda k: R.uniform(k, (size,)), 0.0),
            "normal": (lambda k: R.normal(k, (size,)), RANDOM["formula"]["float64"]),
            "gamma": (lambda k: R.gamma(k, 0.7, (size,)), RANDOM["rejection"]["float64"]),
            "poisson": (lambda k: R.poisson(k, 20.0, (size,)), 0.0),
        }
        for draw, tolerance in draws.values():
            got = draw(there)
            assert got.device.type == "cuda"
            require_few_flips(got.cpu(), jnp.asarray(draw(key).numpy()), tolerance)
