"""A row counts `weight` times: each loss and posterior against the exact one of a weighted line.

precision = sum_n c_n a_n a_n^T / noise^2 + I / scale^2,   a_n = (1, x_n)
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxprob import bayes, objectives
from jaxprob.bayes.streaming import _pack
from jaxprob.distributions import Independent, Normal
from jaxprob.objectives import GaussianPrior
from jaxprob.training import fit

KEY = jax.random.key(3)
RNG = np.random.default_rng(7)
ROWS, NOISE = 12, 0.5
PRIOR = GaussianPrior(2.0, 0.3)
X = RNG.normal(size=(ROWS, 2))
Y = 0.4 + X @ np.array([[1.0], [-2.0]]) + NOISE * RNG.normal(size=(ROWS, 1))
WEIGHT = np.array([0, 1, 2, 3, 0, 1, 2, 3, 3, 2, 2.0, 1])
DATA = {"x": X, "y": Y, "weight": WEIGHT}
BATCH = {name: jnp.asarray(value) for name, value in DATA.items()}
REPEATED = {name: jnp.asarray(np.repeat(DATA[name], WEIGHT.astype(int), axis=0)) for name in "xy"}
PRESENT = {name: value[WEIGHT > 0] for name, value in BATCH.items()}

_design = np.concatenate([np.ones((ROWS, 1)), X], axis=1)  # bias before kernel
PRECISION = _design.T @ (WEIGHT[:, None] * _design) / NOISE**2 + np.eye(3) / PRIOR.scale**2
MEAN = np.linalg.solve(
    PRECISION, _design.T @ (WEIGHT * Y[:, 0]) / NOISE**2 + PRIOR.loc / PRIOR.scale**2
)
_again = np.repeat(_design, WEIGHT.astype(int), axis=0)
EVIDENCE = scipy.stats.multivariate_normal(
    PRIOR.loc * _again.sum(axis=1),
    NOISE**2 * np.eye(len(_again)) + PRIOR.scale**2 * _again @ _again.T,
).logpdf(np.asarray(REPEATED["y"])[:, 0])


class Line(nn.Module):
    """y = b + w x + noise of known scale; a dropout layer in front that drops nothing."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.0, deterministic=True)(x)
        loc = nn.Dense(1, param_dtype=jnp.float64, name="line")(x)
        return Independent(Normal(loc, NOISE), 1)


class VariationalLine(nn.Module):
    """The same of a variational layer, whose vector is (bias, kernel)."""

    @nn.compact
    def __call__(self, x, key=None):
        layer = bayes.DenseVariational(1, prior=PRIOR, name="line")
        return Independent(Normal(layer(x, key), NOISE), 1)


MODEL = Line()
Q = bayes.GaussianPosterior(MODEL, X[:1], "full", PRIOR)
LAYERS = bayes.VariationalLayers(VariationalLine())
ENSEMBLE = bayes.DeepEnsemble(MODEL, X[:1], 2)
DROPOUT = bayes.MCDropout(MODEL, X[:1])


def params_at(vector):
    """Params of the line from (bias, kernel)."""
    return {"line": {"bias": vector[:1], "kernel": vector[1:, None]}}


MODE = params_at(jnp.asarray(MEAN))
POINT_LOSSES = {
    "map_loss": lambda n: objectives.map_loss(MODEL, PRIOR, n),
    "MC dropout": lambda n: DROPOUT.loss(PRIOR, n),
    "deep ensemble": lambda n: ENSEMBLE.loss(prior=PRIOR, num_data=n),
    "adversarial ensemble": lambda n: ENSEMBLE.loss(0.0, 1.0, PRIOR, n),
}
EXACT = _pack(jnp.asarray(MEAN), jnp.asarray(PRECISION))
VARIATIONAL = {
    "posterior": (Q, {"posterior": {"all": EXACT}}),
    "layers": (LAYERS, {"line": EXACT}),
}
LOSSES = {
    **{name: (make, MODE) for name, make in POINT_LOSSES.items()},
    **{
        name: (lambda n, q=q: bayes.negative_elbo(q, n), params)
        for name, (q, params) in VARIATIONAL.items()
    },
}


@pytest.mark.parametrize("name", POINT_LOSSES)
def test_the_mode_and_the_curvature_are_those_of_the_weighted_data(name):
    loss_fn = POINT_LOSSES[name](ROWS)

    def of(vector):
        return ROWS * loss_fn(params_at(vector), BATCH, KEY)[0]

    gradient, hessian = jax.jit(lambda v: (jax.grad(of)(v), jax.hessian(of)(v)))(jnp.asarray(MEAN))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-9)
    np.testing.assert_allclose(hessian, PRECISION, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", VARIATIONAL)
def test_the_bound_at_the_exact_posterior_is_the_evidence(name):
    """There log p(D | w) + log p(w) - log q(w) is log p(D) for every draw."""
    q, params = VARIATIONAL[name]
    draws = q.sample(params, KEY, 1) if name == "posterior" else None
    loss, metrics = jax.jit(bayes.negative_elbo(q, ROWS))(params, BATCH, KEY)
    np.testing.assert_allclose(ROWS * (loss - metrics["nll"]), metrics["kl"], rtol=1e-10)
    if draws is None:
        # the draw of a layer is made inside; the mean over many comes near, by its variance of 3/2
        loss, _ = jax.jit(bayes.negative_elbo(q, ROWS, num_samples=4000))(params, BATCH, KEY)
        np.testing.assert_allclose(-ROWS * loss, EVIDENCE, atol=5 * np.sqrt(1.5 / 4000))
        return
    draw = jax.tree.map(lambda w: w[0], draws)
    log_ratio = Q.log_prob(params, draw) - PRIOR.log_prob(draw)
    np.testing.assert_allclose(-ROWS * metrics["nll"] - log_ratio, EVIDENCE, rtol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_are_repeated_rows_and_zeros_are_absent_ones(name):
    """N times the loss, N being the number of rows that there are."""
    make, params = LOSSES[name]

    def total(data):
        rows = len(data["x"])
        return rows * jax.jit(make(rows))(params, data, KEY)[0]

    expected = total(REPEATED)
    np.testing.assert_allclose(total(BATCH), expected, rtol=1e-11)
    np.testing.assert_allclose(total(PRESENT), expected, rtol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_batches_estimate_the_whole_without_bias(name):
    make, params = LOSSES[name]
    loss_fn = make(ROWS)
    assert loss_fn.average == loss_fn.evaluate.average == "rows"
    for form in map(jax.jit, (loss_fn, loss_fn.evaluate)):
        parts = [
            form(params, {n: v[i : i + 3] for n, v in BATCH.items()}, KEY)[0]
            for i in range(0, ROWS, 3)
        ]
        np.testing.assert_allclose(np.mean(parts), form(params, BATCH, KEY)[0], rtol=1e-11)


def test_without_a_prior_rows_are_averaged_by_their_weights():
    params = params_at(jnp.asarray(MEAN))
    expected = np.mean(-MODEL.apply({"params": params}, REPEATED["x"]).log_prob(REPEATED["y"]))
    for loss_fn in (
        objectives.negative_log_likelihood(MODEL),
        DROPOUT.loss(),
        ENSEMBLE.loss(),
        ENSEMBLE.loss(0.0),
    ):
        assert loss_fn.average == "weight"
        np.testing.assert_allclose(loss_fn(params, BATCH, KEY)[0], expected, rtol=1e-12)


def test_log_joints_and_laplace_are_exact():
    whole = bayes.log_joint(MODEL, PRIOR, BATCH)
    by_batches = bayes.minibatch_log_joint(MODEL, PRIOR, ROWS)
    for density in (whole, lambda p: by_batches(p, BATCH)):

        def slopes(v, density=density):
            def of(v):
                return density(params_at(v))

            return jax.grad(of)(v), jax.hessian(of)(v)

        gradient, hessian = jax.jit(slopes)(jnp.asarray(MEAN))
        np.testing.assert_allclose(-hessian, PRECISION, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-9)
    state = bayes.Laplace(MODEL, X[:1], "full", PRIOR).fit(MODE, DATA)
    precision = state.curvature.matrix + np.eye(3) / PRIOR.scale**2
    np.testing.assert_allclose(precision, PRECISION, rtol=1e-10)
    laplace = bayes.Laplace(MODEL, X[:1], "full", PRIOR)
    np.testing.assert_allclose(laplace.log_marginal_likelihood(state), EVIDENCE, rtol=1e-10)


@pytest.mark.parametrize("kind", ["posterior", "laplace"])
def test_a_stream_ends_at_the_exact_posterior(kind):
    if kind == "laplace":
        posterior = bayes.Laplace(MODEL, X[:1], "full", PRIOR)
        params = bayes.prior_params(posterior, MODE)
    else:
        posterior = Q
        params = bayes.prior_params(posterior, MODE)
    for part in (slice(0, 5), slice(5, ROWS)):
        data = {name: value[part] for name, value in DATA.items()}
        params = bayes.update(posterior, params, data, key=KEY, num_steps=1, num_samples=1)
    if kind == "laplace":
        mean, precision = params.mean, params.curvature.matrix + np.eye(3) / PRIOR.scale**2
        np.testing.assert_allclose(precision, PRECISION, rtol=1e-9)
    else:
        mean = posterior.mean(params)
        np.testing.assert_allclose(params["posterior"]["all"]["raw_tril"], EXACT["raw_tril"], 1e-7)
    np.testing.assert_allclose(mean["line"]["bias"], MEAN[:1], rtol=1e-8)
    np.testing.assert_allclose(mean["line"]["kernel"][:, 0], MEAN[1:], rtol=1e-8)


def test_natural_gradient_steps_end_at_the_weighted_posterior():
    q = bayes.GaussianPosterior(MODEL, X[:1], "diagonal", PRIOR)
    fitted = fit(
        bayes.negative_elbo(q, ROWS, num_samples=64),
        jax.tree.map(lambda leaf: leaf.astype(jnp.float64), q.init(KEY)),
        DATA,
        optimizer=bayes.natural_gradient(ROWS, 0.1, 0.02),
        steps=400,
        key=KEY,
        progress=False,
    )
    block = fitted.params["posterior"]["line"]
    np.testing.assert_allclose(block["loc"], MEAN, atol=0.02)
    # the best independent normals have the diagonal of the precision
    scale = jax.nn.softplus(block["raw_scale"])
    np.testing.assert_allclose(scale, np.diag(PRECISION) ** -0.5, rtol=0.03)


def test_sgld_samples_the_weighted_posterior():
    """Full batches: a linear chain, whose stationary covariance solves a Lyapunov equation."""
    step, chains = 0.004, 4000
    sampler = bayes.SGLD(bayes.minibatch_log_joint(MODEL, PRIOR, ROWS), step)
    init = jax.tree.map(lambda w: jnp.broadcast_to(w, (chains, *w.shape)), MODE)
    draws = sampler.run(KEY, init, DATA, 300, num_warmup=299).draws["line"]
    found = np.cov(np.concatenate([draws["bias"], draws["kernel"][..., 0]], axis=1).T)
    drift = np.eye(3) - step / 2 * PRECISION
    expected = scipy.linalg.solve_discrete_lyapunov(drift, step * np.eye(3))
    np.testing.assert_allclose(found, expected, atol=6 * np.diag(expected).max() / chains**0.5)


def test_weights_of_swag_are_those_of_its_loss():
    """Constant steps on the weighted quadratic stand still at its minimum."""
    swag = bayes.SWAG(rank=0)
    loss_fn = objectives.map_loss(MODEL, PRIOR, ROWS)
    fitted = fit(
        loss_fn, params_at(jnp.zeros(3)), DATA, optimizer=swag.collect(optax.sgd(0.1), 400),
        steps=420, key=KEY, progress=False,
    )  # fmt: skip
    mean = swag.mean(swag.state_of(fitted.state.opt_state))
    np.testing.assert_allclose(mean["line"]["bias"], MEAN[:1], rtol=1e-6)
