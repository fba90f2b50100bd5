"""Fitting by likelihood and by energy against closed forms; the energies themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxprob import flows, objectives, optim, training
from tests.flows.cases import CONDITION, B, Z, compiled, drawn

LINEAR = flows.Flow(2, (flows.LULinear(2),))


def test_negative_log_likelihood_and_its_weights():
    variables = drawn(LINEAR, Z[:, :2])
    weight = np.array([1.0, 0.0, 2.0, 0.5, 3.0])
    loss_fn = compiled(flows.negative_log_likelihood(LINEAR))
    log_prob = np.asarray(LINEAR.apply(variables, Z[:, :2]))
    loss, metrics = loss_fn(variables["params"], {"x": Z[:, :2]}, jax.random.key(0))
    assert loss == metrics["nll"]
    np.testing.assert_allclose(loss, -log_prob.mean(), rtol=1e-12)
    batch = {"x": Z[:, :2], "weight": weight}
    loss, _ = loss_fn(variables["params"], batch, jax.random.key(0))
    np.testing.assert_allclose(loss, -np.average(log_prob, weights=weight), rtol=1e-12)


@pytest.mark.slow
def test_fit_finds_the_maximum_of_the_likelihood():
    """For a linear flow that is the sample covariance, with a loss known in closed form."""
    x = np.random.default_rng(1).multivariate_normal([1.0, -2.0], [[2.0, 0.9], [0.9, 0.7]], 200)
    loss_fn = flows.negative_log_likelihood(LINEAR)
    params = jax.tree.map(jnp.zeros_like, drawn(LINEAR, Z[:, :2])["params"])
    schedule = optim.schedules.cosine_annealing_lr(0.1, 400)
    options = {"optimizer": optim.adam(schedule), "steps": 400, "batch_size": 200}
    options |= {"key": jax.random.key(0), "progress": False}
    fitted = training.fit(loss_fn, params, {"x": x}, **options)
    covariance = np.cov(x.T, bias=True)
    best = -stats.multivariate_normal(x.mean(0), covariance).logpdf(x).mean()
    found, _ = loss_fn(fitted.params, {"x": x}, jax.random.key(0))
    assert best - 1e-12 <= found <= best + 1e-5


def test_reverse_kl_of_the_right_flow_has_no_noise():
    """Where q = p every draw gives -log Z; with half the weight, that and half of log p~ more."""
    variables = drawn(LINEAR, Z[:, :2])
    log_factor = 1.7

    def log_density(x):
        return LINEAR.apply(variables, x) + log_factor

    loss, _ = flows.reverse_kl(LINEAR, log_density, 3)(variables["params"], {}, jax.random.key(0))
    np.testing.assert_allclose(loss, -log_factor, rtol=1e-10)
    schedule = objectives.linear_annealing(10, start=0.0, end=1.0)
    tempered = flows.reverse_kl(LINEAR, log_density, 3, weight=schedule)
    assert tempered.uses_step
    loss, metrics = tempered(variables["params"], {"step": jnp.asarray(5)}, jax.random.key(0))
    expected = -log_factor + 0.5 * metrics["log_density"]
    np.testing.assert_allclose(loss, expected, rtol=1e-10)


def test_reverse_kl_given_a_condition():
    """One flow for all rows: the mean over rows, weighted, of each row's own loss."""
    model = flows.coupling(2, 2, (4,))
    variables = drawn(model, Z[:, :2], CONDITION)

    def log_density(x, condition):
        return -0.5 * jnp.sum((x - condition[None]) ** 2, axis=-1)

    loss_fn = flows.reverse_kl(model, log_density, 4, condition="y")
    weight = np.array([1.0, 0.0, 2.0, 0.5, 3.0])
    key = jax.random.key(2)

    @compiled
    def run(condition):
        batch = {"y": condition, "weight": weight}
        loss, _ = loss_fn(variables["params"], batch, key)
        x, log_q = model.apply(variables, key, (4,), condition, method="sample_and_log_prob")
        return loss, log_q - log_density(x, condition)

    loss, each = run(CONDITION)
    assert each.shape == (4, B)
    np.testing.assert_allclose(loss, np.average(each.mean(0), weights=weight), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flows.reverse_kl(LINEAR, lambda x: x, 0), "num_samples must be at least 1"),
        (
            lambda: flows.reverse_kl(LINEAR, lambda x: x)(
                drawn(LINEAR, Z[:, :2])["params"], {}, jax.random.key(0)
            ),
            r"log_density returned shape \(256, 2\); expected .* \(256,\)",
        ),
        (
            lambda: flows.negative_log_likelihood(LINEAR)(
                {}, {"x": Z, "mask": Z > 0}, jax.random.key(0)
            ),
            r'batch\["mask"\] speaks of single elements.*weigh whole rows',
        ),
        (
            lambda: flows.negative_log_likelihood(LINEAR)({}, {"x": Z}, jax.random.key(0)),
            r'batch\["x"\] has shape \(5, 3\); expected \[B, 2\]',
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def w(x1):
    return (
        np.sin(2 * np.pi * x1 / 4),
        3 * np.exp(-0.5 * ((x1 - 1) / 0.6) ** 2),
        3 / (1 + np.exp(-(x1 - 1) / 0.3)),
    )


def test_energies_are_those_of_the_table():
    x1, x2 = np.random.default_rng(0).uniform(-2.5, 2.5, (2, 9))
    w1, w2, w3 = w(x1)
    bell = lambda a, s: np.exp(-0.5 * (a / s) ** 2)  # noqa: E731
    expected = {
        "u1": 0.5 * ((np.hypot(x1, x2) - 2) / 0.4) ** 2
        - np.log(bell(x1 - 2, 0.6) + bell(x1 + 2, 0.6)),
        "u2": 0.5 * ((x2 - w1) / 0.4) ** 2,
        "u3": -np.log(bell(x2 - w1, 0.35) + bell(x2 - w1 + w2, 0.35)),
        "u4": -np.log(bell(x2 - w1, 0.4) + bell(x2 - w1 + w3, 0.35)),
    }
    for name, values in expected.items():
        found = getattr(flows.energies, name)(np.stack([x1, x2], -1))
        np.testing.assert_allclose(found, values, rtol=1e-10)


def test_the_centre_of_the_ring_has_a_gradient():
    """By symmetry no slope along x1, and beside the ring's kink none along x2: 0, not NaN."""
    gradient = jax.grad(flows.energies.u1)
    np.testing.assert_array_equal(gradient(jnp.zeros(2)), 0.0)
    beside, h = jnp.array([0.0, 1e-3]), 1e-6
    up, down = (flows.energies.u1(beside.at[1].add(s)) for s in (h, -h))
    np.testing.assert_allclose(gradient(beside)[1], (up - down) / (2 * h), rtol=1e-6)


def test_normalizers():
    """Bands are normal along x2, so that their integral is one over x1; the ring by SciPy.

    The walls have a kink in their second derivative: the midpoint rule is good to 1e-6 there.
    """
    root, softness = np.sqrt(2 * np.pi), 0.2
    length = 14.0 + softness * root
    expected = {"u2": 0.4 * root * length, "u3": 0.7 * root * length, "u4": 0.75 * root * length}

    def ring(r):
        def around(angle):
            x1 = r * np.cos(angle)
            return np.exp(-0.5 * ((x1 - 2) / 0.6) ** 2) + np.exp(-0.5 * ((x1 + 2) / 0.6) ** 2)

        return r * np.exp(-0.5 * ((r - 2) / 0.4) ** 2) * integrate.quad(around, 0, 2 * np.pi)[0]

    expected["u1"] = integrate.quad(ring, 0, 6)[0]
    for name, integral in expected.items():
        log_density = flows.energies.confined(getattr(flows.energies, name), 7.0, softness)
        found = compiled(lambda f=log_density: flows.energies.log_normalizer(f, 9.0, 600))()
        np.testing.assert_allclose(found, np.log(integral), atol=5e-6)
