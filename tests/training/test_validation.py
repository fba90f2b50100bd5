"""Validation compares epochs: one weight of a schedule for all, and rows by their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import bayes, flows, heads, objectives, vae
from jaxprob.objectives.annealing import final_weight
from jaxprob.training import NonFiniteError, fit, fit_ensemble
from jaxprob.types import Loss

KEY = jax.random.key(4)
RNG = np.random.default_rng(1)
OPTIONS = {"key": KEY, "progress": False, "optimizer": optax.sgd(0.0), "epochs": 1}
N = 2500
# The weights differ from part to part, and nobody in the first part of 1024 counts at all.
PARTS = np.repeat([0.0, 5.0, 1.0], [1024, 1024, 452])
DATA = {
    "x": RNG.normal(size=N),
    "weight": PARTS * RNG.uniform(0.5, 1.5, size=N),
}
OVER_ALL = np.sum(DATA["weight"] * (DATA["x"] - 0.3) ** 2) / np.sum(DATA["weight"])
OVER_ROWS = np.mean(DATA["weight"] * (DATA["x"] - 0.3) ** 2)


def by_weights(params, batch, key):
    error = (batch["x"] - params["w"]) ** 2
    return jnp.sum(batch["weight"] * error) / jnp.sum(batch["weight"]), {}


def by_rows(params, batch, key):
    return jnp.mean(batch["weight"] * (batch["x"] - params["w"]) ** 2), {}


def without_weights(params, batch, key):
    return jnp.mean((batch["x"] - params["w"]) ** 2), {}


LOSSES = {
    "over the weights": (by_weights, OVER_ALL),
    "over the rows": (by_rows, OVER_ROWS),
    "said to be over the rows": (Loss(by_rows), OVER_ROWS),
}


def validated(loss_fn, data, train=fit, start=0.3, **options):
    rows = {name: value[..., -8:] for name, value in DATA.items()}
    params = {"w": jnp.asarray(start)}
    return train(loss_fn, params, rows, validation=data, **OPTIONS | options)


@pytest.mark.parametrize(("loss_fn", "expected"), LOSSES.values(), ids=list(LOSSES))
def test_the_loss_on_many_rows_is_that_on_all_of_them(loss_fn, expected):
    fitted = validated(loss_fn, DATA)
    np.testing.assert_allclose(fitted.history["validation_loss"], [expected], rtol=1e-12)


def test_members_and_streams_weigh_their_rows_too():
    fitted = validated(by_weights, DATA, fit_ensemble, [0.3, 0.3])
    np.testing.assert_allclose(fitted.history["validation_loss"], [[OVER_ALL] * 2], rtol=1e-12)
    own = {**DATA, "weight": np.stack([DATA["weight"], np.ones(N)])}
    rows = {"x": DATA["x"][-8:], "weight": np.ones((2, 8))}
    fitted = fit_ensemble(
        by_weights, {"w": jnp.asarray([0.3, 0.3])}, rows, validation=own, per_member=["weight"],
        **OPTIONS,
    )  # fmt: skip
    plain = np.mean((DATA["x"] - 0.3) ** 2)
    np.testing.assert_allclose(fitted.history["validation_loss"], [[OVER_ALL, plain]], rtol=1e-12)
    batch = {name: value[-8:] for name, value in DATA.items()}
    fitted = fit(by_weights, {"w": jnp.asarray(0.3)}, [batch], validation=DATA, **OPTIONS)
    np.testing.assert_allclose(fitted.history["validation_loss"], [OVER_ALL], rtol=1e-12)


def test_an_entry_that_is_no_weight_of_rows_changes_nothing():
    for weight in (DATA["x"], RNG.normal(size=(N, 2))):  # with negative numbers, with two axes
        fitted = validated(without_weights, {**DATA, "weight": weight})
        expected = np.mean((DATA["x"] - 0.3) ** 2)
        np.testing.assert_allclose(fitted.history["validation_loss"], [expected], rtol=1e-12)
    with pytest.raises(ValueError, match=r'fit: validation\["weight"\] is 0 in all rows'):
        validated(by_weights, {**DATA, "weight": np.zeros(N)})


def test_a_part_that_does_not_count_may_hold_what_is_not_finite():
    """Of rows without weight in a part of their own nothing is added, be it infinite."""
    data = {**DATA, "x": np.where(np.arange(N) < 1024, 1e300, DATA["x"])}
    fitted = validated(by_weights, data)
    np.testing.assert_allclose(fitted.history["validation_loss"], [OVER_ALL], rtol=1e-12)
    with pytest.raises(NonFiniteError, match="validation_loss is inf"):
        validated(by_weights, {**data, "weight": np.ones(N)})


# Schedules.

SCHEDULES = {
    "linear": (objectives.linear_annealing(50, 0.1, 0.7), 0.7),
    "cyclical": (objectives.cyclical_annealing(3, 0.5, 0.1, 0.9), 0.9),
    "optax": (optax.linear_schedule(0.0, 0.6, 30), 0.6),
    "cosine": (optax.cosine_decay_schedule(2.0, 30, alpha=0.25), 0.5),
    "a saw": (lambda step: (step % 100) / 99, 1.0),
    "a number": (0.3, 0.3),
}


@pytest.mark.parametrize(("schedule", "end"), SCHEDULES.values(), ids=list(SCHEDULES))
def test_a_schedule_ends_where_it_ends(schedule, end):
    assert float(final_weight(schedule, "here")) == pytest.approx(end, rel=1e-6)
    assert float(jax.jit(lambda: final_weight(schedule, "here"))()) == pytest.approx(end, rel=1e-6)


def test_a_schedule_without_an_end_says_so():
    with pytest.raises(ValueError, match="here: validation takes .* still changes .*minimum"):
        final_weight(lambda step: step / 1000, "here")
    # where members have ends of their own, each is found inside of the program
    ends = jax.vmap(lambda end: final_weight(lambda n: end * jnp.minimum(1.0, n / 5), "here"))
    np.testing.assert_array_equal(ends(jnp.arange(3.0)), np.arange(3.0))


def _neural():
    model = heads.NormalHead()
    q = bayes.GaussianPosterior(model, np.ones((1, 2)))
    batch = {"x": RNG.normal(size=(6, 2)), "y": RNG.normal(size=(6, 1))}
    return lambda weight: bayes.negative_elbo(q, 6, kl_weight=weight), q.init(KEY), batch


def _autoencoder():
    model = vae.DenseVAE(3, (4,), 2)
    batch = {"x": (RNG.normal(size=(6, 3)) > 0).astype(float)}
    params = model.init(KEY, batch["x"], jnp.zeros((6, 2)))["params"]
    return lambda weight: vae.negative_elbo(model, weight), params, batch


def _flow():
    model = flows.coupling(2, 2, hidden=(4,))
    batch = {"row": np.arange(6.0)}
    params = model.init(KEY, np.ones((1, 2)), method="log_prob")["params"]

    def loss(weight):
        return flows.reverse_kl(model, lambda x: -jnp.sum(x**2, -1), 8, weight=weight)

    return loss, params, batch


LONGER = [pytest.param(case, marks=pytest.mark.slow) for case in (_autoencoder, _flow)]


@pytest.mark.parametrize("case", [_neural, *LONGER], ids=["bayes", "vae", "flow"])
def test_every_loss_with_a_schedule_is_validated_at_its_end(case):
    """The oracle is the loss with that number as its weight."""
    loss, params, batch = case()
    for schedule in (objectives.cyclical_annealing(3), optax.linear_schedule(0.0, 1.0, 9)):
        annealed, plain = loss(schedule), loss(1.0)
        assert annealed.uses_step
        expected, _ = jax.jit(plain.evaluate)(params, batch, KEY)
        found, _ = jax.jit(annealed.evaluate)(params, batch, KEY)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        early, _ = jax.jit(annealed)(params, {**batch, "step": jnp.asarray(0)}, KEY)
        assert abs(early - expected) > 1e-3


def warming(params, batch, key):
    """Best at w = 0 under full weight, at w = 3 without."""
    weight = jnp.minimum(1.0, batch["step"] / 6.0)
    return (params["w"] - 3.0) ** 2 / 50 + weight * params["w"] ** 2, {"weight": weight}


warming.uses_step = True


@pytest.mark.parametrize(
    "kind", ["arrays", "stream", pytest.param("members", marks=pytest.mark.slow)]
)
def test_the_best_epoch_is_not_one_of_the_warm_up(kind):
    rows = {"id": np.arange(4.0)}
    start, train = {"w": jnp.asarray(3.0)}, fit
    if kind == "members":
        start, train = {"w": jnp.asarray([3.0, 3.0])}, fit_ensemble
    data = [rows] if kind == "stream" else rows
    options = {**OPTIONS, "optimizer": optax.sgd(0.2), "epochs": 15, "patience": 4}
    fitted = train(warming, start, data, validation=rows, **options)
    np.testing.assert_array_equal(fitted.history["validation_weight"], np.ones((15,)) if kind !=
                                  "members" else np.ones((15, 2)))  # fmt: skip
    loss = fitted.history["validation_loss"]
    assert np.all(np.argmin(loss, axis=0) > 6)
    np.testing.assert_allclose(fitted.best_params["w"], 3 / 51, atol=0.02)


def test_a_loss_that_says_it_itself_is_validated_as_the_function_is():
    rows = {"id": np.arange(4.0)}
    options = {**OPTIONS, "optimizer": optax.sgd(0.2), "epochs": 8}
    runs = [
        fit(loss, {"w": jnp.asarray(3.0)}, rows, validation=rows, **options).history
        for loss in (warming, Loss(warming, uses_step=True))
    ]
    np.testing.assert_array_equal(runs[0]["validation_loss"], runs[1]["validation_loss"])
