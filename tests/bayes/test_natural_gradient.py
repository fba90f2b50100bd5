"""Natural-gradient steps against Newton's method and the exact mean-field posterior."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import bayes
from jaxprob.bayes import gaussian_block
from jaxprob.distributions import Independent, Normal
from jaxprob.objectives import GaussianPrior
from jaxprob.training import fit

RNG = np.random.default_rng(0)
ROWS, NOISE = 30, 0.5
X = jnp.asarray(RNG.normal(size=(ROWS, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]]))
Y = X @ jnp.asarray([[1.0], [-0.5]]) + NOISE * RNG.normal(size=(ROWS, 1))


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x):
        loc = nn.Dense(1, use_bias=False)(x)
        return Independent(Normal(loc, jnp.full_like(loc, NOISE)), 1)


Q = bayes.GaussianPosterior(Linear(), X[:1], "diagonal", GaussianPrior(2.0))
PRECISION = np.asarray(X.T @ X) / NOISE**2 + np.eye(2) / 4.0
MEAN = np.linalg.solve(PRECISION, np.asarray(X.T @ Y)[:, 0] / NOISE**2)


def block(loc, scale):
    above = jnp.asarray(scale) - gaussian_block.SCALE_FLOOR
    raw = above + jnp.log(-jnp.expm1(-above))
    return {"posterior": {"Dense_0": {"loc": jnp.asarray(loc), "raw_scale": raw}}}


def exact_loss(params):
    """The bound per row, its expectation taken by hand (the likelihood is quadratic)."""
    inner = params["posterior"]["Dense_0"]
    scale = jax.nn.softplus(inner["raw_scale"]) + gaussian_block.SCALE_FLOOR
    error = Y[:, 0] - X @ inner["loc"]
    energy = jnp.sum(error**2) + jnp.sum(jnp.sum(X**2, axis=0) * scale**2)
    return (energy / (2 * NOISE**2) + Q.kl(params)) / ROWS


def test_a_full_step_is_newtons():
    """Diagonal Newton for the mean; the precision reaches the curvature up to second order."""
    params = block([0.3, -1.0], [0.4, 0.2])
    step = bayes.natural_gradient(ROWS, 1.0, 1.0, momentum=0.0)
    updates, _ = step.update(jax.grad(exact_loss)(params), step.init(params), params)
    new = jax.tree.map(jnp.add, params, updates)["posterior"]["Dense_0"]
    precision = (jax.nn.softplus(new["raw_scale"]) + gaussian_block.SCALE_FLOOR) ** -2
    before = np.array([0.4, 0.2]) ** -2.0
    curvature = np.diag(PRECISION)
    corrected = curvature + (curvature - before) ** 2 / (2 * before)
    np.testing.assert_allclose(precision, corrected, rtol=1e-10)
    loc = np.array([0.3, -1.0])
    slope = PRECISION @ (loc - MEAN)
    np.testing.assert_allclose(new["loc"], loc - slope / corrected, rtol=1e-10)


def test_it_reaches_the_best_mean_field_posterior():
    """Its means are those of the exact posterior, its precisions the diagonal of the exact one."""
    step = bayes.natural_gradient(ROWS, 0.5, 0.5, momentum=0.0)

    def body(carry, _):
        params, state = carry
        updates, state = step.update(jax.grad(exact_loss)(params), state, params)
        return (jax.tree.map(jnp.add, params, updates), state), None

    start = block([3.0, 3.0], [0.05, 5.0])
    (params, _), _ = jax.lax.scan(body, (start, step.init(start)), length=500)
    inner = params["posterior"]["Dense_0"]
    scale = jax.nn.softplus(inner["raw_scale"]) + gaussian_block.SCALE_FLOOR
    np.testing.assert_allclose(inner["loc"], MEAN, rtol=1e-8)
    np.testing.assert_allclose(scale**-2, np.diag(PRECISION), rtol=1e-8)


def test_small_steps_do_not_drift_in_short_floats():
    """200 steps of a hundredth in float32 end within 3e-7 of those in float64."""
    step = bayes.natural_gradient(ROWS, 0.01, 0.01, momentum=0.0)

    def body(carry, _):
        params, state = carry
        exact = jax.grad(exact_loss)(jax.tree.map(lambda w: w.astype(float), params))
        slopes = jax.tree.map(lambda g, w: g.astype(w.dtype), exact, params)
        updates, state = step.update(slopes, state, params)
        return (jax.tree.map(jnp.add, params, updates), state), None

    ends = []
    for dtype in (jnp.float32, jnp.float64):
        start = block(jnp.asarray([1.0, 2.0], dtype), jnp.asarray([0.05, 3.0], dtype))
        (params, _), _ = jax.lax.scan(body, (start, step.init(start)), length=200)
        ends.append(params["posterior"]["Dense_0"])
    short, long = ends
    assert short["raw_scale"].dtype == jnp.float32
    for name in ("loc", "raw_scale"):
        np.testing.assert_allclose(short[name], long[name], rtol=3e-7)


@pytest.mark.parametrize("weight", [0.1, 1.0, 8.0])
def test_a_step_is_newtons_under_any_weight_of_the_kl(weight):
    """Full steps on a quadratic end at once: at precision H / weight + 1 / 4 and its mean."""
    curvature = np.asarray(X.T @ X) / NOISE**2 / weight + np.eye(2) / 4.0
    mean = np.linalg.solve(curvature, np.asarray(X.T @ Y)[:, 0] / NOISE**2 / weight)

    def loss(params):
        kl = Q.kl(params) / ROWS
        return exact_loss(params) - kl + weight * kl

    step = bayes.natural_gradient(ROWS, 1.0, 1.0, momentum=0.0, kl_weight=weight)
    params = block([0.3, -1.0], np.diag(curvature) ** -0.5)
    updates, _ = jax.jit(step.update)(jax.grad(loss)(params), step.init(params), params)
    new = jax.tree.map(jnp.add, params, updates)["posterior"]["Dense_0"]
    found = (jax.nn.softplus(new["raw_scale"]) + gaussian_block.SCALE_FLOOR) ** -2
    np.testing.assert_allclose(found, np.diag(curvature), rtol=1e-10)
    # the exact mean would need the whole matrix; a step by its diagonal is Jacobi's
    expected = np.array([0.3, -1.0]) - curvature @ ([0.3, -1.0] - mean) / np.diag(curvature)
    np.testing.assert_allclose(new["loc"], expected, rtol=1e-10)
    # of another weight, that many of these steps
    other = bayes.natural_gradient(ROWS, 0.1, 0.1, momentum=0.0)
    longer, _ = other.update(jax.grad(loss)(params), other.init(params), params)
    moved = updates["posterior"]["Dense_0"]["loc"]
    np.testing.assert_allclose(
        longer["posterior"]["Dense_0"]["loc"], 0.1 * weight * moved, rtol=1e-9
    )


@pytest.mark.parametrize("share", [-1.0, -0.3, -1e-9, 1e-9, 1e-3, 0.5, 3.0, 1e4, 1e12])
def test_precisions_take_the_step_stated(share):
    """s' = s (1 + r + r^2 / 2) for tiny and huge r, but no scale falls below twice its floor."""
    scales = jnp.asarray([3e-5, 0.01, 0.59, 30.0, 1e3])
    step = bayes.natural_gradient(ROWS, 0.1, 0.1)
    params = block(jnp.zeros(5), scales)
    inner = params["posterior"]["Dense_0"]
    towards = share * jax.nn.sigmoid(inner["raw_scale"]) / (0.1 * ROWS * scales)
    slopes = {"posterior": {"Dense_0": {"loc": jnp.zeros(5), "raw_scale": towards}}}
    updates, _ = step.update(slopes, step.init(params), params)
    raw = inner["raw_scale"] + updates["posterior"]["Dense_0"]["raw_scale"]
    stated = np.maximum(scales / np.sqrt(1 + share + share**2 / 2), 2 * gaussian_block.SCALE_FLOOR)
    np.testing.assert_allclose(
        jax.nn.softplus(raw) + gaussian_block.SCALE_FLOOR, stated, rtol=1e-11
    )


def test_it_trains_through_fit():
    fitted = fit(
        bayes.negative_elbo(Q, ROWS, num_samples=8),
        block([0.0, 0.0], [0.3, 0.3]),
        {"x": X, "y": Y},
        optimizer=bayes.natural_gradient(ROWS, 0.05, 0.05),
        epochs=400,
        batch_size=15,
        key=jax.random.key(0),
        progress=False,
    )
    inner = fitted.params["posterior"]["Dense_0"]
    scale = np.diag(PRECISION) ** -0.5
    np.testing.assert_array_less(np.abs(inner["loc"] - MEAN) / scale, 0.5)
    found = jax.nn.softplus(inner["raw_scale"])
    np.testing.assert_allclose(found, scale, rtol=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_data": 0}, "num_data must be at least 1; got 0"),
        ({"num_data": 5, "learning_rate": 0.0}, "learning_rate must lie in \\(0, 1\\]; got 0.0"),
        ({"num_data": 5, "precision_rate": 2.0}, "precision_rate must lie in \\(0, 1\\]; got 2.0"),
        ({"num_data": 5, "kl_weight": 0.0}, "kl_weight must be positive and finite; got 0.0"),
        ({"num_data": 5, "momentum": 1.0}, "momentum must lie in \\[0, 1\\); got 1.0"),
    ],
)
def test_bad_rates(arguments, message):
    with pytest.raises(ValueError, match=message):
        bayes.natural_gradient(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance": "full"}, "needs the params of GaussianPosterior\\(covariance='diagonal'"),
        (
            {"covariance": "diagonal", "prior": GaussianPrior(1.0, trainable=("scale",))},
            "use a fixed prior",
        ),
    ],
)
def test_other_posteriors_are_refused(options, message):
    q = bayes.GaussianPosterior(Linear(), X[:1], **options)
    with pytest.raises(ValueError, match=message):
        bayes.natural_gradient(5).init(q.init(jax.random.key(0)))
