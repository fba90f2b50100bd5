"""The Laplace approximation against exact posteriors, exact evidence and linear maps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import bayes, objectives, optim, training
from jaxprob import distributions as d
from jaxprob.objectives import GaussianPrior

RNG = np.random.default_rng(1)
ROWS, SIZE, NOISE, SCALE, LOC = 12, 3, 0.5, 1.7, 0.2


class Line(nn.Module):
    """Linear regression with known noise."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.zeros, (x.shape[-1],))
        loc = x @ w
        return d.Normal(loc, NOISE * jnp.ones_like(loc))


class Logistic(nn.Module):
    """Logistic regression."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.zeros, (x.shape[-1],))
        return d.Bernoulli(logits=x @ w)


X = RNG.normal(size=(ROWS, SIZE))
LINE = {"x": X, "y": X @ [1.0, -2.0, 0.5] + NOISE * RNG.normal(size=ROWS)}
LABELS = {"x": X, "y": (X @ [1.0, -2.0, 0.5] + RNG.logistic(size=ROWS) > 0) * 1.0}
PRIOR = GaussianPrior(SCALE, LOC)


def exact_posterior(data=LINE, scale=SCALE):
    precision = data["x"].T @ data["x"] / NOISE**2 + np.eye(SIZE) / scale**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ (data["x"].T @ data["y"] / NOISE**2 + LOC / scale**2)
    return mean, covariance


def exact_evidence(scale=SCALE, data=LINE):
    x = data["x"]
    covariance = scale**2 * x @ x.T + NOISE**2 * np.eye(len(x))
    return stats.multivariate_normal(x @ np.full(SIZE, LOC), covariance).logpdf(data["y"])


def covariance_of(laplace, state) -> np.ndarray:
    """What the sampler's linear map does to the basis: L L^T, no Monte Carlo."""
    layout = laplace.layout
    leaves = layout.select(state.mean)

    def offset(noise):
        return layout.to_vector(
            layout.root(state.curvature, state.prior_scale**-2, layout.to_leaves(noise))
        )

    basis = jnp.eye(layout.size, dtype=layout.to_vector(leaves).dtype)
    columns = np.asarray(jax.jit(jax.vmap(offset))(basis))
    return columns.T @ columns


@pytest.fixture(scope="module")
def line():
    laplace = bayes.Laplace(Line(), X[:1], "full", PRIOR, chunk_size=5)
    mean, _ = exact_posterior()
    return laplace, laplace.fit({"w": jnp.asarray(mean)}, LINE)


def test_linear_regression_is_exact(line):
    laplace, state = line
    mean, covariance = exact_posterior()
    np.testing.assert_allclose(np.asarray(state.mean["w"]), mean, rtol=1e-12)
    np.testing.assert_allclose(covariance_of(laplace, state), covariance, rtol=1e-10, atol=1e-14)
    assert float(state.num_data) == ROWS


@pytest.mark.slow
def test_trained_by_map_loss_is_exact_too():
    """The user's way: train, then fit; mean within 0.01 sd, covariance within 2 %."""
    model = Line()
    fitted = training.fit(
        objectives.map_loss(model, PRIOR, ROWS),
        model.init(jax.random.key(0), X[:1])["params"],
        LINE,
        optimizer=optim.adam(optim.schedules.cosine_annealing_lr(0.1, 400)),
        steps=400,
        batch_size=ROWS,
        key=jax.random.key(0),
        progress=False,
    )
    laplace = bayes.Laplace(model, X[:1], "full", PRIOR)
    state = laplace.fit(fitted.params, LINE)
    mean, covariance = exact_posterior()
    sd = np.sqrt(np.diag(covariance))
    assert np.max(np.abs(np.asarray(state.mean["w"]) - mean) / sd) < 0.01
    np.testing.assert_allclose(covariance_of(laplace, state), covariance, rtol=0.02)
    assert abs(float(laplace.log_marginal_likelihood(state)) - exact_evidence()) < 1e-5


def test_evidence_is_exact_and_differentiable(line):
    laplace, state = line
    evidence = float(laplace.log_marginal_likelihood(state))
    assert abs(evidence - exact_evidence()) < 1e-9
    # At another scale the mean moves; at the same one the slope is that of the formula.
    gradient = float(jax.grad(lambda s: laplace.log_marginal_likelihood(state, s))(SCALE))
    step = 1e-5
    ends = laplace.log_marginal_likelihood(state, np.array([SCALE - step, SCALE + step]))
    assert ends.shape == (2,)
    np.testing.assert_allclose(gradient, float(ends[1] - ends[0]) / (2 * step), rtol=1e-6)
    # At the mode the movement of the mean is of second order, so this is the exact slope as well.
    exact = (exact_evidence(SCALE + step) - exact_evidence(SCALE - step)) / (2 * step)
    np.testing.assert_allclose(gradient, exact, rtol=1e-5)


def test_tuned_prior_maximises_the_evidence(line):
    laplace, state = line
    tuned = jax.jit(laplace.tune_prior)(state)
    slope = jax.grad(lambda s: laplace.log_marginal_likelihood(state, s))(tuned.prior_scale)
    assert abs(float(slope)) < 1e-10
    grid = np.exp(np.linspace(-5, 5, 500))
    values = np.asarray(laplace.log_marginal_likelihood(state, grid))
    assert float(laplace.log_marginal_likelihood(tuned)) >= values.max() - 1e-12
    np.testing.assert_array_equal(np.asarray(tuned.mean["w"]), np.asarray(state.mean["w"]))


@pytest.mark.slow
def test_training_again_with_the_tuned_prior_finds_the_exact_optimum():
    """Alternating mode and evidence is empirical Bayes; for a linear model the exact one."""
    scale = SCALE
    for _ in range(60):
        mean, _ = exact_posterior(scale=scale)
        laplace = bayes.Laplace(Line(), X[:1], "full", GaussianPrior(scale, LOC))
        scale = float(laplace.tune_prior(laplace.fit({"w": jnp.asarray(mean)}, LINE)).prior_scale)
    grid = np.exp(np.linspace(np.log(scale) - 0.2, np.log(scale) + 0.2, 401))
    best = grid[np.argmax([exact_evidence(s) for s in grid])]
    np.testing.assert_allclose(scale, best, rtol=2e-3)


def newton(log_joint, w):
    for _ in range(30):
        w = w - jnp.linalg.solve(jax.hessian(log_joint)(w), jax.grad(log_joint)(w))
    return w


@pytest.mark.slow
def test_logistic_regression_has_the_inverse_hessian():
    model = Logistic()
    log_joint = jax.jit(lambda w: bayes.log_joint(model, PRIOR, LABELS)({"w": w}))
    mode = newton(log_joint, jnp.zeros(SIZE))
    laplace = bayes.Laplace(model, X[:1], "full", PRIOR, chunk_size=5)
    state = laplace.fit({"w": mode}, LABELS)
    hessian = -np.asarray(jax.hessian(log_joint)(mode))
    np.testing.assert_allclose(covariance_of(laplace, state), np.linalg.inv(hessian), rtol=1e-9)
    expected = float(log_joint(mode)) + 0.5 * SIZE * np.log(2 * np.pi)
    expected -= 0.5 * np.linalg.slogdet(hessian)[1]
    assert abs(float(laplace.log_marginal_likelihood(state)) - expected) < 1e-10
    diagonal = bayes.Laplace(model, X[:1], "diagonal", PRIOR).fit({"w": mode}, LABELS)
    found = np.asarray(diagonal.curvature.diagonal["w"]) + SCALE**-2
    np.testing.assert_allclose(found, np.diag(hessian), rtol=1e-10)


@pytest.mark.slow
def test_closed_form_predictive_of_a_line(line):
    """For the linear model it is the exact predictive, and that of many draws."""
    laplace, state = line
    _, covariance = exact_posterior()
    x = RNG.normal(size=(7, SIZE))
    predictive = laplace.predict_glm(state, x)
    variance = np.einsum("bi,ij,bj->b", x, covariance, x) + NOISE**2
    np.testing.assert_allclose(np.asarray(predictive.variance()), variance, rtol=1e-10)
    np.testing.assert_allclose(np.asarray(predictive.mean()), x @ exact_posterior()[0], rtol=1e-10)


@pytest.mark.slow
def test_probit_factor_is_close_to_the_integral():
    """E sigmoid(N(m, v)) for one weight: MacKay's factor is within 0.02 of the integral."""
    model = Logistic()
    x = np.array([[1.0], [-2.0], [4.0]])
    laplace = bayes.Laplace(model, x[:1], "full")
    data = {"x": np.array([[1.0], [2.0]]), "y": np.array([1.0, 1.0])}
    mode = newton(lambda w: bayes.log_joint(model, GaussianPrior(), data)({"w": w}), jnp.zeros(1))
    state = laplace.fit({"w": mode}, data)
    variance = covariance_of(laplace, state)[0, 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    draws = float(mode[0]) + np.sqrt(variance) * nodes
    exact = (weights / weights.sum()) @ (1 / (1 + np.exp(-draws[:, None] * x[:, 0][None])))
    np.testing.assert_allclose(np.asarray(laplace.predict_glm(state, x).probs), exact, atol=0.02)


def test_one_object_is_traced_once():
    calls = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x):
            calls.append(x.shape)
            return Line()(x)

    laplace = bayes.Laplace(Counted(), X[:1], "full", PRIOR)
    params, traced = {"Line_0": {"w": jnp.asarray(exact_posterior()[0])}}, []
    for _ in range(3):
        state = laplace.tune_prior(laplace.fit(params, LINE))
        laplace.predict_glm(state, X)
        traced.append(len(calls))
    assert traced == [traced[0]] * 3
    assert traced[0] > 0


@pytest.mark.slow
def test_float32_stays_float32():
    data = {name: np.asarray(value, np.float32) for name, value in LABELS.items()}
    laplace = bayes.Laplace(Logistic(), data["x"][:1], "full")
    with pytest.warns(UserWarning, match="not at a mode"):
        state = laplace.fit({"w": jnp.zeros(SIZE, jnp.float32)}, data)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    assert laplace.sample(state, jax.random.key(0))["w"].dtype == jnp.float32
    assert laplace.tune_prior(state).prior_scale.dtype == jnp.float32


def test_wrong_inputs_are_refused(line):
    laplace, state = line
    cases = [
        ({"structure": "block"}, "structure must be one of diagonal, kron, full, last_layer"),
        ({"structure": "kron"}, "needs dense or convolutional layers"),
        ({"structure": "last_layer"}, "no submodule with weights"),
        ({"structure": "last_layer", "last_layer": "head"}, "owns none of the weights w"),
        ({"prior": GaussianPrior(trainable=("scale",))}, "tune_prior"),
        ({"structure": "full", "fisher": "exact"}, "fisher must be one of"),
        ({"structure": "full", "chunk_size": 0}, "chunk_size must be at least 1"),
        ({"structure": "full", "inputs": ("x", "exposure")}, "takes the inputs"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            bayes.Laplace(Line(), X[:1], **options)
    normed = nn.Sequential([nn.BatchNorm(use_running_average=True), nn.Dense(1)])
    with pytest.raises(ValueError, match="batch_stats"):
        bayes.Laplace(normed, X[:1])
    with pytest.raises(ValueError, match="leading axis"):
        laplace.fit({"w": jnp.zeros((2, SIZE))}, LINE)
    with pytest.raises(ValueError, match="one leading axis of rows"):
        laplace.fit(state.mean, {"x": X, "y": LINE["y"][:3]})
    with pytest.warns(UserWarning, match="standard deviations"):
        laplace.fit({"w": jnp.zeros(SIZE)}, LINE)
