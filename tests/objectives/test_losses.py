"""Every loss is the likelihood that it says, and every regulariser the prior."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

from jaxprob import heads, objectives, optim, supervised
from jaxprob.objectives import likelihood, priors

RNG = np.random.default_rng(0)
REAL, TARGET = RNG.normal(size=(7, 2)), RNG.normal(size=(7, 2))
LABELS = RNG.integers(0, 2, (7, 2)).astype(float)
CLASSES = RNG.integers(0, 2, 7)
MODEL = heads.NormalHead()
CALLS = {
    "mse": (likelihood.mse, REAL, TARGET),
    "mae": (likelihood.mae, REAL, TARGET),
    "binary_cross_entropy": (likelihood.binary_cross_entropy, REAL, LABELS),
    "cross_entropy": (likelihood.cross_entropy, REAL, CLASSES),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_loss_is_its_likelihood(name):
    loss, prediction, y = CALLS[name]
    distribution, factor, offset = likelihood.likelihood_of(name)

    def by_likelihood(prediction):
        return factor * -jnp.mean(distribution(prediction).log_prob(y)) + offset

    value, slope = jax.value_and_grad(loss)(prediction, y)
    expected, expected_slope = jax.value_and_grad(by_likelihood)(jnp.asarray(prediction))
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_pinball_is_an_asymmetric_laplace(level):
    """Normalised by quadrature: its negative logarithm is the loss and a constant."""
    density = lambda y: math.exp(-float(likelihood.pinball(0.3, y, level)))  # noqa: E731
    total = sum(integrate.quad(density, *ends)[0] for ends in ((-np.inf, 0.3), (0.3, np.inf)))
    assert total == pytest.approx(1 / (level * (1 - level)), rel=1e-8)
    # and its best constant is the quantile
    y = np.sort(RNG.normal(size=200))
    losses = [float(likelihood.pinball(np.full(200, q), y, level)) for q in y]
    assert stats.norm.cdf(y[np.argmin(losses)]) == pytest.approx(level, abs=0.07)
    assert y[np.argmin(losses)] == pytest.approx(np.quantile(y, level, method="inverted_cdf"))


def test_poisson_loss_is_a_poisson():
    y = RNG.integers(0, 9, REAL.shape)
    expected = -stats.poisson(np.exp(REAL)).logpmf(y) - [[math.lgamma(k + 1) for k in r] for r in y]
    np.testing.assert_allclose(likelihood.poisson_nll(REAL, y), expected.mean(), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: likelihood.mse(REAL, TARGET[:, 0]), "broadcasting would compare every pair"),
        (lambda: likelihood.cross_entropy(REAL, LABELS), "write y.argmax"),
        (lambda: likelihood.likelihood_of("hinge"), "no loss 'hinge'"),
        (lambda: priors.prior_for_weight_decay(0.0, 10), "coefficient must be positive"),
        (lambda: priors.prior_for_weight_decay(1.0, 10, "l2"), "penalty must be one of"),
        (lambda: priors.weight_decay_for_prior(priors.GaussianPrior(1.0, 2.0), 3), "towards 0"),
        (lambda: priors.LaplacePrior(-1.0), "scale must be positive"),
        (lambda: objectives.SpikeAndSlabPrior(1.0, 2.0), "spike < slab"),
        (lambda: objectives.map_loss(MODEL, priors.GaussianPrior(trainable=("loc",)), 3), "learn"),
        (lambda: objectives.beta_nll(MODEL, 1.5), "beta must lie in"),
        (lambda: objectives.dropout_precision(1.0, 1e-4, 10), "rate must lie in"),
        (lambda: optim.proximal_l1(optax.sgd(0.1), 0.1, -1.0), "coefficient must be >= 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weight_decay_in_words():
    prior = priors.prior_for_weight_decay(1e-4, 10_000)
    assert str(prior) == (
        "weight decay 1e-4 on a mean loss over 10,000 rows is the prior w ~ N(0, 1^2)"
    )
    assert isinstance(prior, priors.GaussianPrior)
    twice = priors.prior_for_weight_decay(1e-4, 10_000, "coefficient |w|^2")
    assert twice.scale == pytest.approx(math.sqrt(0.5))
    assert "(coefficient |w|^2)" in str(twice)


@pytest.mark.parametrize("loss_scale", [1.0, 2.0])
@pytest.mark.parametrize("penalty", priors.PENALTIES)
def test_the_prior_has_the_gradient_of_the_penalty(penalty, loss_scale):
    """By autodiff: loss_scale x (nll - log prior / N) and loss + penalty have one gradient."""
    coefficient, rows, w = 0.03, 50, jnp.asarray(RNG.normal(size=4))
    prior = priors.prior_for_weight_decay(coefficient, rows, penalty, loss_scale)
    share = {"coefficient / 2 |w|^2": 0.5, "coefficient |w|^2": 1.0}[penalty]
    by_hand = jax.grad(lambda w: share * coefficient * jnp.sum(w**2))(w)
    by_prior = jax.grad(lambda w: -loss_scale * prior.log_prob(w) / rows)(w)
    np.testing.assert_allclose(by_prior, by_hand, rtol=1e-12)
    back = priors.weight_decay_for_prior(prior, rows, penalty, loss_scale)
    assert back == pytest.approx(coefficient, rel=1e-12)
    lasso = priors.prior_for_l1(coefficient, rows, loss_scale)
    by_prior = jax.grad(lambda w: -loss_scale * lasso.log_prob(w) / rows)(w)
    np.testing.assert_allclose(by_prior, coefficient * np.sign(w), rtol=1e-12)


def test_torchs_weight_decay_is_the_map_loss():
    """SGD with weight decay on the likelihood takes the same steps as SGD on `map_loss`."""
    model = supervised.GaussianRegressor((3,), activation=nn.tanh)
    batch = {"x": RNG.normal(size=(20, 2)), "y": RNG.normal(size=(20, 1))}
    first = jax.tree.map(
        lambda w: w.astype(float), model.init(jax.random.key(0), batch["x"])["params"]
    )
    prior = priors.prior_for_weight_decay(0.1, 20)
    runs = {
        "decay": (objectives.negative_log_likelihood(model), optim.sgd(0.1, weight_decay=0.1)),
        "prior": (objectives.map_loss(model, prior, 20), optim.sgd(0.1)),
    }
    ends = []
    for loss, optimizer in runs.values():

        @jax.jit
        def step(params, state, loss=loss, optimizer=optimizer):
            gradient, _ = jax.grad(loss, has_aux=True)(params, batch, jax.random.key(0))
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        params, state = first, optimizer.init(first)
        for _ in range(20):
            params, state = step(params, state)
        ends.append(jax.tree.leaves(params))
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_map_loss_selects_weights():
    model = heads.NormalHead()
    params = {"out": {"kernel": jnp.ones((2, 2)), "bias": jnp.full(2, 5.0)}}
    batch = {"x": RNG.normal(size=(4, 2)), "y": RNG.normal(size=(4, 1))}
    prior = priors.GaussianPrior(2.0)
    loss = objectives.map_loss(model, prior, 10, select=lambda path: path.endswith("kernel"))
    value, metrics = loss(params, batch, jax.random.key(0))
    expected = stats.norm(0, 2).logpdf(1.0) * 4
    assert float(metrics["log_prior"]) == pytest.approx(expected)
    assert float(value) == pytest.approx(float(metrics["nll"]) - expected / 10)
    nothing = objectives.map_loss(model, prior, 10, select=lambda path: path == "weight")
    with pytest.raises(ValueError, match="select takes none of the weights out/"):
        nothing(params, batch, jax.random.key(0))


@pytest.mark.parametrize(
    "prior",
    [
        priors.LaplacePrior(0.7, 0.2),
        objectives.SpikeAndSlabPrior(1.0, 0.1, 0.3),
        objectives.HorseshoePrior(0.5),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_priors_are_normalised(prior):
    log_prob = jax.jit(jax.vmap(lambda w: prior.log_prob({"w": w[None]})))
    # in the logarithm of |w|: the horseshoe has a pole at 0 and tails like 1 / w^2
    t = np.linspace(-40, 25, 20001)
    mass = sum(
        np.trapezoid(np.exp(np.asarray(log_prob(sign * np.exp(t))) + t), t) for sign in (-1, 1)
    )
    assert mass == pytest.approx(1.0, abs=2e-4)


def test_horseshoe_is_the_integral_over_its_scales():
    w = np.array([1e-8, 1e-3, 0.3, 1.0, 5.0, 1e3])
    found = jax.vmap(lambda w: objectives.HorseshoePrior(0.5).log_prob(w))(jnp.asarray(w))
    for value, log_prob in zip(w, found, strict=True):

        def integrand(t, value=value):
            scale = math.exp(t)
            return stats.norm.pdf(value, scale=0.5 * scale) * 2 / math.pi / (1 + scale**2) * scale

        points = [math.log(value), 0.0]
        expected = integrate.quad(integrand, -30, 30, points=points, limit=500, epsrel=1e-11)[0]
        assert float(log_prob) == pytest.approx(math.log(expected), rel=1e-7)


def test_dropout_precision_is_the_paper_s():
    """Gal's own choice: rate 0.05, decay from tau by lambda = p l^2 / (2 N tau)."""
    keep, length_scale, rows, tau = 0.95, 1e-2, 400, 0.25
    decay = keep * length_scale**2 / (2 * rows * tau)
    found = objectives.dropout_precision(0.05, decay, rows, prior_scale=1 / length_scale)
    assert found == pytest.approx(tau)


def test_proximal_step_finds_the_lasso():
    """Exact zeros, and the optimality conditions of the minimum (KKT) where it is not zero."""
    x = RNG.normal(size=(60, 8))
    y = x @ np.array([2.0, -1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]) + 0.1 * RNG.normal(size=60)
    coefficient, lr = 0.2, 0.2

    def loss(w):
        return 0.5 * jnp.mean((x @ w - y) ** 2)

    optimizer = optim.proximal_l1(optim.sgd(lr), lr, coefficient)

    @jax.jit
    def run(w):
        def step(carry, _):
            w, state = carry
            updates, state = optimizer.update(jax.grad(loss)(w), state, w)
            return (optax.apply_updates(w, updates), state), None

        return jax.lax.scan(step, (w, optimizer.init(w)), None, 2000)[0][0]

    w = np.asarray(run(jnp.ones(8)))
    slope = np.asarray(jax.grad(loss)(jnp.asarray(w)))
    assert 0 < (w == 0).sum() < 8
    np.testing.assert_allclose(slope[w != 0], -coefficient * np.sign(w[w != 0]), atol=1e-10)
    assert (np.abs(slope[w == 0]) <= coefficient).all()
    with pytest.raises(ValueError, match="update needs params"):
        optimizer.update(w, optimizer.init(w))
