"""Schedules of weights, and a bound that follows one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import bayes, objectives, supervised, training

MODEL = supervised.GaussianRegressor((2,))
X = jnp.linspace(-1.0, 1.0, 8)[:, None]
DATA = {"x": X, "y": X**2}


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (objectives.linear_annealing(4), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        (objectives.linear_annealing(2, 0.5, 0.1), [0.5, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]),
        (objectives.cyclical_annealing(4), [0, 0.5, 1, 1, 0, 0.5, 1, 1, 0]),
        (objectives.cyclical_annealing(4, 1.0), [0, 0.25, 0.5, 0.75, 0, 0.25, 0.5, 0.75, 0]),
    ],
)
def test_weights_of_the_first_steps(schedule, values):
    np.testing.assert_allclose([schedule(step) for step in range(9)], values, atol=1e-15)
    np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(3, jnp.int32)), values[3])


@pytest.fixture(scope="module")
def annealed():
    q = bayes.GaussianPosterior(MODEL, X[:1], "diagonal")
    loss_fn = bayes.negative_elbo(q, 8, kl_weight=objectives.linear_annealing(4))
    return q, loss_fn


def test_the_bound_follows_its_schedule_in_training(annealed):
    q, loss_fn = annealed
    fitted = training.fit(
        loss_fn,
        q.init(jax.random.key(0)),
        DATA,
        optimizer=optax.sgd(1e-3),
        epochs=6,
        batch_size=8,
        key=jax.random.key(1),
        validation=DATA,
        progress=False,
    )
    history = fitted.history
    np.testing.assert_allclose(history["kl_weight"], [0, 0.25, 0.5, 0.75, 1, 1], atol=1e-12)
    parts = history["nll"] + history["kl_weight"] * history["kl"] / 8
    np.testing.assert_allclose(history["loss"], parts, rtol=1e-12)
    assert "validation_kl_weight" in history


def test_a_schedule_without_a_step_says_who_adds_it(annealed):
    q, loss_fn = annealed
    params = jax.eval_shape(q.init, jax.random.key(0))
    with pytest.raises(
        ValueError, match='batch\\["step"\\] is missing. training.fit and make_step'
    ):
        jax.eval_shape(loss_fn, params, DATA, jax.random.key(0))
    assert loss_fn.uses_step
    assert not bayes.negative_elbo(q, 8).uses_step


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: objectives.linear_annealing(0), "steps must be at least 1; got 0"),
        (lambda: objectives.cyclical_annealing(0), "period must be at least 1; got 0"),
        (lambda: objectives.cyclical_annealing(5, 1.5), "ramp must lie in \\(0, 1\\]; got 1.5"),
    ],
)
def test_impossible_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()
