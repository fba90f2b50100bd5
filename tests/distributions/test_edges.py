"""Gradients at the ends of supports and of parameters; values that have no room in their dtype."""

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import torch

import torch_ref.distributions as td
from jaxprob import distributions as jd
from jaxprob import objectives


def test_a_row_censored_at_zero_leaves_the_gradient_of_the_others():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jd.Independent(jd.Exponential(jnp.exp(nn.Dense(1)(x))), 1)

    x = jnp.ones((3, 1))
    batch = {"x": x, "y": jnp.array([[0.0], [1.0], [2.0]]), "censored": jnp.array([[1], [0], [1]])}
    params = Model().init(jax.random.key(0), x)["params"]
    loss = objectives.negative_log_likelihood(Model())
    gradient = jax.grad(lambda p: loss(p, batch, jax.random.key(1))[0])(params)
    # -log L = (3 rate - log rate) / 3 with rate = exp(kernel + bias)
    rate = np.exp(float(params["Dense_0"]["kernel"][0, 0] + params["Dense_0"]["bias"][0]))
    np.testing.assert_allclose(gradient["Dense_0"]["bias"], (3.0 * rate - 1.0) / 3.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "parameters", "density"),
    [
        (jd.Exponential, (2.0,), 2.0),
        (jd.HalfNormal, (0.5,), np.sqrt(2 / np.pi) / 0.5),
        (jd.Weibull, (2.0, 1.0), 0.5),
        (jd.Gamma, (1.0, 3.0), 3.0),
        (jd.Gamma, (2.5, 3.0), 0.0),
        (jd.LogNormal, (0.0, 1.0), 0.0),
        (jd.Beta, (1.0, 4.0), 4.0),
        (lambda high: jd.Uniform(0.0, high), (4.0,), 0.25),
    ],
)
def test_the_slope_of_a_cdf_at_its_end_is_the_density_inside(family, parameters, density):
    def of(method):
        def function(x, *parameters):
            return getattr(family(*parameters), method)(x)

        every = tuple(range(1 + len(parameters)))
        return jax.jit(jax.grad(function, every))(0.0, *parameters)

    rising, falling = of("cdf"), of("log_survival_function")
    np.testing.assert_allclose(rising[0], density, rtol=1e-12)
    np.testing.assert_allclose(falling[0], -density, rtol=1e-12)
    np.testing.assert_allclose(rising[1:], 0.0, atol=0.0)
    assert np.all(np.isfinite(of("log_cdf")))
    assert not np.any(np.isnan(of("log_prob")))


def test_probabilities_of_zero_and_one():
    def slope(build, method, x, p):
        return float(jax.grad(lambda p: getattr(build(p), method)(x))(p))

    def bernoulli(p):
        return jd.Bernoulli(probs=p)

    def geometric(p):
        return jd.Geometric(probs=p)

    for p in (0.0, 1.0):
        assert slope(bernoulli, "cdf", 0.0, p) == -1.0
        assert slope(bernoulli, "survival_function", 0.0, p) == 1.0
        assert slope(bernoulli, "cdf", 1.0, p) == 0.0
    assert slope(geometric, "cdf", 0.0, 1.0) == 1.0  # 1 - (1 - p)^(k + 1)
    assert slope(geometric, "cdf", 3.0, 1.0) == 0.0
    with jd.unchecked():
        assert slope(bernoulli, "log_prob", 2.0, 1.0) == 0.0  # off the support
        assert slope(lambda p: jd.Binomial(5.0, probs=p), "log_prob", 9.0, 1.0) == 0.0


def test_a_row_at_the_end_of_a_transformed_support_leaves_the_others():
    y = jnp.array([0.0, 0.5, 1.0])

    def loss(ends, y):
        base = jd.Normal(jnp.zeros(len(y)), 1.0)
        log_prob = jd.Transformed(base, jd.bijections.Sigmoid(ends[0], ends[1])).log_prob(y)
        return -jnp.sum(jnp.where(jnp.isfinite(log_prob), log_prob, 0.0))

    ends = jnp.array([0.0, 2.0])
    np.testing.assert_allclose(
        jax.jit(jax.grad(loss))(ends, y), jax.grad(loss)(ends, y[1:]), rtol=1e-12
    )
    for method in ("log_prob", "cdf", "log_cdf", "survival_function", "log_survival_function"):
        function = jax.grad(
            lambda y, method=method: getattr(
                jd.Transformed(jd.Normal(0.0, 1.0), jd.bijections.Exp()), method
            )(y)
        )
        assert float(function(0.0)) == 0.0, method


def test_the_twin_of_a_transformed_edge():
    y = torch.tensor([0.0, 0.5, 1.5], dtype=torch.float64, requires_grad=True)
    base = td.Normal(torch.zeros(3).double(), torch.ones(3).double())
    log_prob = td.Transformed(base, torch.distributions.ExpTransform()).log_prob(y)
    assert float(log_prob[0].detach()) == -np.inf
    log_prob[1:].sum().backward()
    right = jax.grad(lambda y: jd.LogNormal(0.0, 1.0).log_prob(y).sum())(jnp.array([0.5, 1.5]))
    np.testing.assert_allclose(y.grad, [0.0, *right], rtol=1e-12)


def test_gumbels_upper_tail_in_float32():
    z = np.float32([10.0, 88.0, 100.0, 3000.0])
    right = [float(mp.log(-mp.expm1(-mp.exp(-mp.mpf(float(v)))))) for v in z]
    value, slope = jax.vmap(
        jax.value_and_grad(lambda x: jd.Gumbel(F32_ZERO, F32_ONE).log_survival_function(x))
    )(jnp.asarray(z))
    np.testing.assert_allclose(value, right, rtol=1e-6)
    np.testing.assert_allclose(slope, -1.0, rtol=1e-4)
    bins = jd.Quantized(jd.Gumbel(F32_ZERO, F32_ONE)).log_prob(jnp.float32(100.0))
    with mp.workdps(60):
        right = mp.log(mp.exp(-mp.exp(-mp.mpf(100))) - mp.exp(-mp.exp(-mp.mpf(99))))
    np.testing.assert_allclose(bins, float(right), rtol=1e-6)


F32_ZERO, F32_ONE = np.float32(0.0), np.float32(1.0)


@pytest.mark.parametrize("scale", [1e4, 1e6, 1e7])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_bins_that_are_narrow_against_the_scale(scale, dtype):
    with mp.workdps(40):
        for law, z in (("Normal", 0.3), ("Laplace", -0.2), ("Logistic", 1.5)):
            k = int(z * scale)
            cdf = {
                "Normal": lambda v: mp.ncdf(v),
                "Laplace": lambda v: mp.exp(v) / 2 if v < 0 else 1 - mp.exp(-v) / 2,
                "Logistic": lambda v: 1 / (1 + mp.exp(-v)),
            }[law]
            right = mp.log(cdf(mp.mpf(k) / scale) - cdf(mp.mpf(k - 1) / scale))
            base = getattr(jd, law)(jnp.asarray(0.0, dtype), jnp.asarray(scale, dtype))
            ours = jd.Quantized(base).log_prob(jnp.asarray(float(k), dtype))
            rtol = 1e-6 if dtype == jnp.float32 else 1e-13
            np.testing.assert_allclose(ours, float(right), rtol=rtol, err_msg=law)
        base = jd.Laplace(jnp.asarray(0.25, dtype), jnp.asarray(scale, dtype))
        corner = -mp.expm1(-mp.mpf(0.25) / scale) / 2 - mp.expm1(-mp.mpf(0.75) / scale) / 2
        ours = jd.Quantized(base).log_prob(jnp.asarray(1.0, dtype))
        np.testing.assert_allclose(ours, float(mp.log(corner)), rtol=1e-6)


def test_gamma_tails_of_small_concentrations():
    a = np.array([1e-6, 1e-3, 0.01, 0.3, 0.9])
    x = np.array([1e-8, 1e-3, 0.2, 1.0, 1.5])
    family = jd.Gamma(a[:, None], jnp.ones((5, 1)))
    with mp.workdps(60):
        lower = [[mp.gammainc(mp.mpf(c), 0, mp.mpf(v), regularized=True) for v in x] for c in a]
    right = np.array([[float(p) for p in row] for row in lower])
    rest = np.array([[float(1 - p) for p in row] for row in lower])
    np.testing.assert_allclose(family.cdf(x), right, rtol=2e-13)
    np.testing.assert_allclose(family.survival_function(x), rest, rtol=2e-12)


def test_concentrated_against_flat_in_float32():
    for a, right in ((1e6, 6.488815), (1e8, 8.791400)):
        p = jd.Gamma(jnp.float32(a), jnp.float32(a))
        np.testing.assert_allclose(p.kl_divergence(jd.Gamma(F32_ONE, F32_ONE)), right, rtol=2e-6)
    rates = jnp.float32(1e10), F32_ONE
    value = jd.Exponential(rates[0]).kl_divergence(jd.Exponential(rates[1]))
    np.testing.assert_allclose(value, np.log(1e10) - 1.0, rtol=1e-6)


def test_values_beyond_the_range():
    assert float(jd.Gamma(np.float32(2.0), np.float32(1e10)).log_prob(np.float32(1e30))) == -np.inf
    big = jnp.float32(1e30)
    tail = jd.Gamma(np.float32(2.0), F32_ONE).log_survival_function(big)
    np.testing.assert_allclose(tail, -1e30, rtol=1e-6)
    np.testing.assert_allclose(
        jd.Cauchy(F32_ZERO, F32_ONE).log_cdf(-big), -np.log(np.pi) - 30 * np.log(10.0), rtol=1e-6
    )
    # P(T > t) = 2 sqrt(3) / (pi t^3) for 3 degrees of freedom and large t
    right = np.log(2 * np.sqrt(3) / np.pi) - 90 * np.log(10.0)
    student = jd.StudentT(np.float32(3.0)).log_survival_function(big)
    np.testing.assert_allclose(student, right, rtol=1e-6)


@pytest.mark.parametrize(("factor", "diagonal"), [(1.0, 1e-4), (10.0, 1e-3), (10.0, 1e-4)])
def test_low_rank_normals_in_float32(factor, diagonal):
    rng = np.random.default_rng(0)
    w = (factor * rng.normal(size=(12, 3))).astype(np.float32)
    d = np.full(12, diagonal, np.float32)
    noise = np.sqrt(diagonal) * rng.normal(size=(50, 12))
    x = (rng.normal(size=(50, 3)) @ w.T + noise).astype(np.float32)
    wide = w.astype(float) @ w.astype(float).T + np.diag(d.astype(float))
    triangle = np.linalg.cholesky(wide)
    z = np.linalg.solve(triangle, x.astype(float).T)
    right = -0.5 * (z**2).sum(0) - np.log(np.diag(triangle)).sum() - 6 * np.log(2 * np.pi)
    ours = jd.LowRankMultivariateNormal(jnp.zeros(12, jnp.float32), w, d).log_prob(x)
    np.testing.assert_allclose(ours, right, atol=0.03)
    twin = td.LowRankMultivariateNormal(torch.zeros(12), torch.tensor(w), torch.tensor(d))
    np.testing.assert_allclose(twin.log_prob(torch.tensor(x)), right, atol=0.03)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_draws_of_short_floats(dtype):
    key = jax.random.key(0)
    rare = jd.Bernoulli(probs=jnp.asarray(0.001, dtype)).sample(seed=key, sample_shape=200_000)
    rate = float(jnp.asarray(0.001, dtype))
    assert abs(float(jnp.mean(rare)) - rate) < 5 * np.sqrt(rate / 200_000)
    family = jd.Gamma(jnp.asarray(2.0, dtype), jnp.asarray(1.0, dtype))
    draws = family.sample(seed=key, sample_shape=20_000)
    assert draws.dtype == dtype
    assert abs(float(jnp.mean(draws.astype(jnp.float32))) - 2.0) < 0.05
    normal = jd.Normal(jnp.asarray(0.0, dtype), jnp.asarray(1.0, dtype))
    both = normal.sample_and_log_prob(seed=key, sample_shape=4)
    assert both[0].dtype == both[1].dtype == dtype
    assert np.max(np.abs(np.asarray(normal.sample(seed=key, sample_shape=50_000), float))) > 3.8


def test_integers_too_large_for_jax_do_not_wrap():
    with jax.enable_x64(False):
        big = np.int64(2**40)
        log_prob = jd.Poisson(3.0).log_prob(big)
        right = big * np.log(3.0) - 3.0 - float(mp.loggamma(int(big) + 1))
        np.testing.assert_allclose(log_prob, right, rtol=1e-6)
        assert float(jd.Normal(0.0, 1.0).cdf(2**40)) == 1.0
        assert float(jd.Normal(0.0, 1.0).cdf(np.array([-(2**40)]))[0]) == 0.0
        assert float(jd.Normal(0.0, 1.0).prob_above(2**40)) == 0.0
        assert float(jd.Normal(np.int64(5 * 10**9), 1.0).loc) == 5e9
        with pytest.raises(ValueError, match="one of 0, ..., 2"):
            jd.Categorical(logits=[0.0, 1.0, 2.0]).log_prob(np.int64(2**32))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda v: jd.Normal(v, 1.0), "loc"),
        (lambda v: jd.Normal(0.0, v), "scale"),
        (lambda v: jd.Poisson(v), "rate"),
        (lambda v: jd.Beta(v, 1.0), "concentration1"),
        (lambda v: jd.Uniform(0.0, v), "high"),
        (lambda v: jd.Dirichlet([1.0, v]), "concentration"),
        (lambda v: jd.MultivariateNormalDiag([0.0, v], [1.0, 1.0]), "loc"),
    ],
)
def test_infinite_parameters_are_refused(build, name):
    with pytest.raises(ValueError, match=rf"{name} must be finite; 1 of"):
        build(np.inf)
    assert float(jd.Bernoulli(logits=np.inf).log_prob(1)) == 0.0  # a logit may be infinite


def test_the_likelier_end_is_the_mode():
    modes = jd.Beta([0.5, 0.5, 0.3, 1.0, 3.0], [0.5, 0.3, 0.5, 1.0, 2.0]).mode()
    np.testing.assert_allclose(modes, [0.0, 1.0, 0.0, 0.5, 2 / 3], rtol=1e-12)
    a, b = (torch.tensor(v, dtype=torch.float64) for v in ([0.5, 0.5, 0.3], [0.5, 0.3, 0.5]))
    np.testing.assert_allclose(td.Beta(a, b).mode, modes[:3])


def test_a_bijector_of_distrax_keeps_to_its_member_under_vmap():
    def member(shift):
        return jd.Transformed(jd.Normal(jnp.zeros(3), 1.0), distrax.ScalarAffine(shift, 2.0))

    shifts = jnp.array([0.0, 10.0])
    outside = jax.vmap(member)(shifts)
    y = jnp.array([[0.5, 1.0, 2.0], [10.5, 11.0, 12.0]])
    for method in ("log_prob", "cdf"):
        right = jnp.stack([getattr(member(s), method)(v) for s, v in zip(shifts, y, strict=True)])
        np.testing.assert_allclose(getattr(outside, method)(y), right, rtol=1e-12)
    np.testing.assert_allclose(outside.mean(), shifts[:, None] + jnp.zeros((2, 3)))
    np.testing.assert_allclose(outside.median(), outside.mean())
    draws = outside.sample(seed=jax.random.key(0), sample_shape=5)
    assert draws.shape == (5, 2, 3)
    assert np.all(np.abs(draws - outside.mean()[None]) < 10.0)
    np.testing.assert_allclose(outside.entropy(), member(0.0).entropy()[None] + jnp.zeros((2, 3)))
