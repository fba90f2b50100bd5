"""Sequential is batch: exactly for linear models, closely for others."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxprob import bayes, heads
from jaxprob import distributions as d
from jaxprob.bayes import gaussian_block, streaming
from jaxprob.nn import MLP
from jaxprob.objectives import GaussianPrior, SpikeAndSlabPrior
from tests.bayes.test_laplace import LABELS, Line, Logistic, covariance_of

RNG = np.random.default_rng(2)
ROWS, SIZE, NOISE, SCALE, LOC = 30, 3, 0.5, 1.7, 0.2
X = RNG.normal(size=(ROWS, SIZE)) @ np.array([[1.0, 0.6, 0.0], [0.0, 1.0, -0.4], [0.0, 0.0, 1.0]])
DATA = {"x": X, "y": X @ [1.0, -2.0, 0.5] + NOISE * RNG.normal(size=ROWS)}
PRIOR = GaussianPrior(SCALE, LOC)
KEY = jax.random.key(0)
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


class TwoPart(nn.Module):
    """A linear model whose weights belong to two modules: two groups of a "layer" covariance."""

    @nn.compact
    def __call__(self, x):
        loc = nn.Dense(1, use_bias=False, name="a")(x[:, :2]) + nn.Dense(1, name="b")(x[:, 2:])
        return d.Independent(d.Normal(loc, NOISE * jnp.ones_like(loc)), 1)


def exact(rows=slice(None)):
    x, y = DATA["x"][rows], DATA["y"][rows]
    covariance = np.linalg.inv(x.T @ x / NOISE**2 + np.eye(SIZE) / SCALE**2)
    return covariance @ (x.T @ y / NOISE**2 + LOC / SCALE**2), covariance


def batches(order, data=DATA, size=3):
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    return [{name: value[rows] for name, value in data.items()} for rows in parts]


def moments(q, params):
    (block,) = params["posterior"].values()
    factor = np.asarray(gaussian_block.scale_tril(block))
    return np.asarray(block["loc"]), factor @ factor.T


@pytest.mark.parametrize("seed", [0, slow(1), slow(2)])
def test_laplace_stream_of_ten_batches_is_the_exact_posterior(seed):
    laplace = bayes.Laplace(Line(), X[:1], "full", PRIOR)
    state = bayes.prior_params(laplace, {"w": jnp.zeros(SIZE)})
    prior_evidence = float(laplace.log_marginal_likelihood(state))
    assert abs(prior_evidence) < 1e-12
    order = np.random.default_rng(seed).permutation(ROWS)
    for part in batches(order):
        state = bayes.update(laplace, state, part, num_steps=1)
    mean, covariance = exact()
    np.testing.assert_allclose(np.asarray(state.mean["w"]), mean, atol=1e-10)
    np.testing.assert_allclose(covariance_of(laplace, state), covariance, atol=1e-10)
    assert float(state.num_data) == ROWS
    # The evidence too: of all rows, though each was seen once.
    x = DATA["x"]
    gram = SCALE**2 * x @ x.T + NOISE**2 * np.eye(ROWS)

    expected = stats.multivariate_normal(x @ np.full(SIZE, LOC), gram).logpdf(DATA["y"])
    assert abs(float(laplace.log_marginal_likelihood(state)) - expected) < 1e-8
    at_once = laplace.fit(state.mean, DATA)
    np.testing.assert_allclose(
        float(state.log_likelihood), float(at_once.log_likelihood), rtol=1e-10
    )


@pytest.mark.parametrize("seed", [0, slow(1), slow(2)])
def test_variational_stream_of_ten_batches_is_the_exact_posterior(seed):
    """One step a batch, whatever the draws: antithetic pairs are exact for a quadratic."""
    q = bayes.GaussianPosterior(Line(), X[:1], "full", PRIOR)
    params = bayes.prior_params(q, {"w": jnp.zeros(SIZE)})
    loc, covariance = moments(q, params)
    np.testing.assert_allclose(loc, LOC)
    np.testing.assert_allclose(covariance, SCALE**2 * np.eye(SIZE), atol=1e-12)
    for i, part in enumerate(batches(np.random.default_rng(seed).permutation(ROWS))):
        params = bayes.update(
            q, params, part, key=jax.random.key(i + seed), num_steps=1, num_samples=1
        )
    loc, covariance = moments(q, params)
    expected = exact()
    np.testing.assert_allclose(loc, expected[0], atol=1e-8)
    np.testing.assert_allclose(covariance, expected[1], atol=1e-8)
    draws = q.sample(params, KEY, 5)
    assert draws["w"].shape == (5, SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", ["diagonal", "layer"])
def test_block_posteriors_reach_the_best_of_their_kind(covariance):
    """The best Gaussian with blocks has the exact mean, and the blocks of the exact precision."""
    q = bayes.GaussianPosterior(TwoPart(), X[:1], covariance, PRIOR)
    zeros = jax.tree.map(jnp.zeros_like, q.mean(q.init(KEY)))
    start = bayes.prior_params(q, jax.tree.map(lambda w: w.astype(float), zeros))
    data = {"x": DATA["x"], "y": DATA["y"][:, None]}
    params = bayes.update(q, start, data, key=KEY, num_steps=60, num_samples=1)
    full = bayes.GaussianPosterior(TwoPart(), X[:1], "full", PRIOR)
    best = bayes.prior_params(full, jax.tree.map(lambda w: w.astype(float), zeros))
    best = bayes.update(full, best, data, key=KEY, num_steps=1, num_samples=1)
    loc, dense = moments(full, best)
    precision = np.linalg.inv(dense)
    blocks = params["posterior"]
    found = np.concatenate([np.asarray(blocks[n]["loc"]) for n in ("a", "b")])
    np.testing.assert_allclose(found, loc, atol=1e-8)
    for name, rows in (("a", slice(0, 2)), ("b", slice(2, 4))):
        factor = np.asarray(gaussian_block.scale_tril(blocks[name]))
        inverse = np.linalg.inv(factor @ factor.T)
        expected = precision[rows, rows]
        expected = np.diag(np.diag(expected)) if covariance == "diagonal" else expected
        np.testing.assert_allclose(inverse, expected, rtol=1e-8)


@pytest.mark.parametrize("size", [slow(1), slow(2), 5, slow(8)])
def test_packing_is_the_inverse(size):
    root = RNG.normal(size=(size, size))
    precision = jnp.asarray(root @ root.T + np.eye(size))
    block = streaming._pack(jnp.zeros(size), precision)
    assert block["raw_tril"].shape == (size * (size + 1) // 2,)
    factor = np.asarray(gaussian_block.scale_tril(block))
    np.testing.assert_allclose(factor @ factor.T @ precision, np.eye(size), atol=1e-10)
    np.testing.assert_allclose(np.asarray(streaming._precision(block)), precision, rtol=1e-9)
    diagonal = streaming._pack(jnp.zeros(size), jnp.diagonal(precision))
    np.testing.assert_allclose(
        np.asarray(streaming._precision(diagonal)), np.diagonal(precision), rtol=1e-9
    )


@pytest.fixture(scope="module")
def logistic():
    x = RNG.normal(size=(200, SIZE))
    y = (x @ [1.0, -1.0, 0.5] + RNG.logistic(size=200) > 0) * 1.0
    return {"x": x, "y": y}


def by_hand(parts):
    """The recursion of the online Laplace approximation in NumPy, each mode by SciPy."""
    mean, precision = np.full(SIZE, LOC), np.eye(SIZE) / SCALE**2
    for part in parts:

        def loss(w, x=part["x"], y=part["y"], m=mean, p=precision):
            return np.sum(np.logaddexp(0, x @ w) - y * (x @ w)) + 0.5 * (w - m) @ p @ (w - m)

        def slope(w, x=part["x"], y=part["y"], m=mean, p=precision):
            return x.T @ (1 / (1 + np.exp(-x @ w)) - y) + p @ (w - m)

        found = optimize.minimize(loss, mean, jac=slope, method="BFGS", options={"gtol": 1e-10})
        mean = found.x
        p = 1 / (1 + np.exp(-part["x"] @ mean))
        precision = precision + part["x"].T @ (part["x"] * (p * (1 - p))[:, None])
    return mean, np.linalg.inv(precision)


@pytest.mark.slow
def test_logistic_laplace_stream(logistic):
    """200 rows in 10 batches: the online Laplace approximation, up to one sd from all at once.

    That distance is of the method, since the modes of the first few rows are far from their means;
    the recursion by hand ends at the same place.
    """
    laplace = bayes.Laplace(Logistic(), logistic["x"][:1], "full", PRIOR)
    parts = batches(np.arange(200), logistic, 20)
    ends = []
    for stream in (parts, [logistic]):
        state = bayes.prior_params(laplace, {"w": jnp.zeros(SIZE)})
        for part in stream:
            state = bayes.update(laplace, state, part)
        covariance = covariance_of(laplace, state)
        mean, expected = by_hand(stream)
        np.testing.assert_allclose(np.asarray(state.mean["w"]), mean, atol=1e-6)
        np.testing.assert_allclose(covariance, expected, rtol=1e-5, atol=1e-9)
        ends.append((mean, np.sqrt(np.diag(covariance))))
    (loc, sd), (all_loc, all_sd) = ends
    assert np.max(np.abs(loc - all_loc) / all_sd) < 1.0
    np.testing.assert_allclose(sd, all_sd, rtol=0.25)


@pytest.mark.slow
def test_logistic_variational_stream(logistic):
    """The same stream: within 0.25 sd and 10 % of all rows at once, since it tracks the mean."""
    q = bayes.GaussianPosterior(Logistic(), logistic["x"][:1], "full", PRIOR)
    ends = []
    for stream in (batches(np.arange(200), logistic, 20), [logistic]):
        params = bayes.prior_params(q, {"w": jnp.zeros(SIZE)})
        for i, part in enumerate(stream):
            key = jax.random.key(i)
            params = bayes.update(q, params, part, key=key, num_steps=30, num_samples=16)
        loc, covariance = moments(q, params)
        ends.append((loc, np.sqrt(np.diag(covariance))))
    (loc, sd), (all_loc, all_sd) = ends
    assert np.max(np.abs(loc - all_loc) / all_sd) < 0.25
    np.testing.assert_allclose(sd, all_sd, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["diagonal", "kron", "full", "last_layer"])
def test_network_update_climbs_to_a_mode(structure):
    """No warning is raised: the gradient has vanished; and the old data is not forgotten."""
    model = nn.Sequential([MLP((4,), nn.tanh), heads.NormalHead(1, homoscedastic=True)])
    x = np.linspace(-2, 2, 40)[:, None]
    data = {"x": x, "y": np.sin(2 * x) + 0.1 * RNG.normal(size=x.shape)}
    first, second = batches(RNG.permutation(40), data, 20)
    initial = model.init(jax.random.key(1), x[:1])["params"]
    initial = jax.tree.map(lambda w: jnp.asarray(w, float), initial)
    laplace = bayes.Laplace(model, x[:1], structure, GaussianPrior(1.0))
    state = bayes.prior_params(laplace, initial)
    steps = 300
    state = bayes.update(laplace, state, first, num_steps=steps, start=initial)
    later = bayes.update(laplace, state, second, num_steps=steps)
    assert float(later.num_data) == 40
    before = laplace.layout.eigenvalues(state.curvature).sum()
    assert laplace.layout.eigenvalues(later.curvature).sum() > before


@pytest.mark.slow
def test_state_survives_a_checkpoint():
    """The state is a plain pytree: leaves out, leaves in, and the stream goes on."""
    laplace = bayes.Laplace(Line(), X[:1], "full", PRIOR)
    state = bayes.prior_params(laplace, {"w": jnp.zeros(SIZE)})
    first, second = batches(np.arange(6))
    state = bayes.update(laplace, state, first, num_steps=1)
    leaves, structure = jax.tree.flatten(state)
    restored = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])
    ends = [bayes.update(laplace, s, second, num_steps=1) for s in (state, restored)]
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_wrong_inputs_are_refused():
    q = bayes.GaussianPosterior(Line(), X[:1], "full", PRIOR)
    params = bayes.prior_params(q)
    with pytest.raises(ValueError, match="key="):
        bayes.update(q, params, DATA)
    for options, message in (
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"step_size": 1.5}, r"step_size must lie in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            bayes.update(q, params, DATA, key=KEY, **options)
    with pytest.raises(ValueError, match="one leading axis of rows"):
        bayes.update(q, params, {"x": X, "y": DATA["y"][:2]}, key=KEY)
    learned = bayes.GaussianPosterior(Line(), X[:1], "full", GaussianPrior(trainable=("scale",)))
    with pytest.raises(ValueError, match="learned"):
        bayes.prior_params(learned)
    model = nn.Sequential([MLP((4,), nn.tanh), heads.NormalHead(1)])
    with pytest.raises(ValueError, match=r"prior_params\(laplace, params\)"):
        bayes.prior_params(bayes.Laplace(model, X[:1], "last_layer"))
    logistic = bayes.Laplace(Logistic(), X[:1], "full", GaussianPrior(100.0))
    state = bayes.prior_params(logistic, {"w": jnp.zeros(SIZE)})
    far = {"w": jnp.full(SIZE, 30.0)}
    with pytest.warns(UserWarning, match="Raise num_steps"):
        bayes.update(logistic, state, LABELS, num_steps=1, start=far)


def test_what_an_update_cannot_keep_is_refused():
    model = nn.Sequential([nn.Dense(2), heads.NormalHead()])
    low = bayes.GaussianPosterior(model, jnp.zeros((1, 2)), "low_rank")
    with pytest.raises(ValueError, match="does not keep its rank"):
        bayes.prior_params(low)
    mixture = bayes.GaussianPosterior(model, jnp.zeros((1, 2)), "full", SpikeAndSlabPrior())
    with pytest.raises(ValueError, match="is not Gaussian, so no Gaussian posterior"):
        bayes.prior_params(mixture)
    stateful = nn.Sequential([nn.BatchNorm(use_running_average=True), heads.NormalHead()])
    q = bayes.GaussianPosterior(stateful, jnp.zeros((1, 2)), "full")
    with pytest.raises(ValueError, match="the collections batch_stats"):
        bayes.prior_params(q)
