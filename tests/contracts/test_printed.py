"""Whatever a user gets back prints on one screen: 24 lines of 100 columns."""

import dataclasses
import importlib
import inspect
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprob
from jaxprob import bayes, heads, metrics, objectives, training
from jaxprob.bayes.swag import SnapshotState, SWAGState
from jaxprob.objectives import em, estimators
from jaxprob.optim import schedules

LINES, COLUMNS = 24, 100
BIG = {f"layer_{i}": {"kernel": 1.23456789 * jnp.ones((10, 99))} for i in range(12)}
X = np.linspace(-1, 1, 8)[:, None]
NOT_RESULTS = ("Rule", "Tails")
"""Parts that others are made of, whose fields are functions."""


def named_tuples():
    """All that the public packages export; ParityReport and its parts print themselves."""
    names = [module.name for module in pkgutil.iter_modules(jaxprob.__path__)]
    packages = [importlib.import_module(f"jaxprob.{n}") for n in names if n != "__main__"]
    found = {SWAGState, SnapshotState}
    for package in (*packages, estimators, em, schedules):
        for name in getattr(package, "__all__", ()):
            thing = getattr(package, name)
            if inspect.isclass(thing) and issubclass(thing, tuple) and hasattr(thing, "_fields"):
                found.add(thing)
    return sorted((c for c in found if c.__name__ not in NOT_RESULTS), key=lambda c: c.__name__)


def assert_fits(thing):
    lines = repr(thing).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert type(thing).__name__ in lines[0]


@pytest.mark.parametrize("kind", named_tuples(), ids=lambda c: c.__name__)
def test_a_state_of_large_arrays_prints_its_sizes(kind):
    if kind.__name__ == "Chains":
        flags = jnp.zeros((3, 50), bool)
        assert_fits(kind({"w": jnp.ones((3, 50, 40))}, jnp.ones((3, 50)), None, flags, jnp.ones(3)))
    elif kind.__name__ == "LazyDraws":
        assert_fits(kind(lambda params, key: params, BIG, jax.random.split(jax.random.key(0), 9)))
    else:
        assert_fits(kind(*[BIG] * len(kind._fields)))


def deep(width):
    layers = [part for _ in range(12) for part in (nn.Dense(width), nn.tanh)]
    return nn.Sequential([*layers, heads.NormalHead()])


def density(params, batch=None):
    return -0.5 * jnp.sum(params["w"] ** 2)


def laplace_state(model, prior):
    laplace = bayes.Laplace(model, X, structure="kron", prior=prior)
    return bayes.prior_params(laplace, model.init(jax.random.key(0), X)["params"])


def results():
    """Posteriors themselves print the model and the prior that they were made of, on one line."""
    model, prior = deep(2), objectives.GaussianPrior(1.0)
    yield (
        "fitted",
        lambda: training.fit(
            objectives.map_loss(model, prior, num_data=8),
            model.init(jax.random.key(0), X)["params"],
            {"x": X, "y": X},
            optimizer=optax.adam(1e-2),
            steps=2,
            key=jax.random.key(0),
            progress=False,
        ),
    )
    yield "laplace", lambda: laplace_state(model, prior)
    yield "ensemble", lambda: bayes.DeepEnsemble(model, X, 30)
    yield "swag", lambda: bayes.SWAG(20)
    yield (
        "chains",
        lambda: bayes.SGLD(density, 0.01).run(jax.random.key(0), {"w": jnp.ones((4, 300))}, {}, 5),
    )


@pytest.mark.parametrize(
    ("name", "make"), list(results()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_posterior_prints_on_a_screen(name, make):
    assert_fits(make())


def test_a_report_prints_on_a_screen():
    y = np.random.default_rng(0).normal(size=200)
    groups = np.repeat(np.arange(40), 5)
    report = metrics.report(jaxprob.distributions.Normal(jnp.zeros(200), jnp.ones(200)), y, groups)
    assert_fits(report)
    assert "more lines: print(report)" in repr(report)
    assert repr(report).split()[-5:] == str(report).split()[-5:]  # the verdict
    few = metrics.report(jaxprob.distributions.Normal(jnp.zeros(200), jnp.ones(200)), y)
    assert repr(few).split() == str(few).split()


def test_a_predictive_and_a_log_marginal_print_on_a_screen():
    from jaxprob.vae.importance import LogMarginal

    draws = jaxprob.distributions.Normal(jnp.ones((400, 30)), jnp.ones((400, 30)))
    assert_fits(jaxprob.distributions.Predictive(draws))
    names = [field.name for field in dataclasses.fields(LogMarginal)]
    assert_fits(LogMarginal(**dict.fromkeys(names, jnp.ones(900)) | {"num_samples": 64}))
