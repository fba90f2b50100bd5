"""Bad input and NaN: the message names the argument, what came and the fix; nothing is lost."""

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

from jaxprob.training import NonFiniteError, TrainState, fit, fit_ensemble, make_step
from jaxprob.training.data import epoch_order

X, Y = np.ones((6, 2)), np.ones(6)
KEY = jax.random.key(1)
SGD = optax.sgd(0.1)
WITH_NAN = np.where(np.arange(12).reshape(6, 2) == 7, np.nan, 1.0)
WITH_INFINITY = np.where(np.arange(6) >= 4, np.inf, 1.0)


def loss_fn(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2), {}


def run(data, **options):
    params = {"w": jnp.zeros(2)}
    length = {} if {"epochs", "steps"} & set(options) else {"epochs": 1}
    return fit(loss_fn, params, data, optimizer=SGD, key=KEY, progress=False, **length, **options)


@pytest.fixture
def user_side(monkeypatch):
    """As for a user: without the type hook of the tests, which would answer first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("user_side")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, Y), r'data must be a dict of arrays .*"x": x, "y": y.* got tuple'),
        (X, r"data must be a dict of arrays .* got ndarray"),
        ({}, r"data must be a dict of arrays .* got dict"),
        (
            {"x": X, "y": Y[:5]},
            r'data must share their leading axis; got "x" \(6, 2\), "y" \(5,\)\. Each row of x '
            r"needs its row of y",
        ),
        (
            {"x": X[:0], "y": Y[:0]},
            r'data\["x"\] has shape \(0, 2\), no rows; expected at least one. Check how',
        ),
        (
            {"x": WITH_NAN, "y": Y},
            r'data\["x"\] must be finite; 1 of 12 values are not, the first at index \(3, 1\): '
            r"nan\. Drop those rows",
        ),
        (
            {"x": X, "y": jnp.asarray(WITH_INFINITY)},
            r'data\["y"\] must be finite; 2 of 6 values are not, the first at index \(4,\): inf',
        ),
        (
            {"x": X, "y": np.array(list("abcdef"), object)},
            r'data\["y"\] has dtype object; expected numbers. Encode',
        ),
        (
            {"x": X, "y": np.array(list("abcdef"))},
            r'data\["y"\] has dtype <U1; expected numbers. Encode',
        ),
        (
            {"x": X, "y": Y, "temperature": 2.0},
            r'data\["temperature"\] is a single number; expected an array with leading axis N',
        ),
    ],
    ids=[
        "tuple", "array", "empty dict", "rows differ", "no rows", "nan in x", "inf in y",
        "objects", "text", "scalar",
    ],
)  # fmt: skip
def test_bad_data(data, message):
    with pytest.raises(ValueError, match="fit: .*" + message):
        run(data)


def test_validation_data_are_checked_like_data():
    with pytest.raises(ValueError, match=r'fit: validation\["x"\] must be finite; 1 of 12'):
        run({"x": X, "y": Y}, validation={"x": WITH_NAN, "y": Y})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": None}, "give either epochs or steps; got epochs=None and steps=None"),
        ({"epochs": 2, "steps": 3}, "give either epochs or steps; got epochs=2 and steps=3"),
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"steps": -1}, "steps must be at least 1; got -1"),
        ({"epochs": 2.5}, r"epochs must be a whole number; got 2\.5"),
        ({"batch_size": "32"}, "batch_size must be a whole number; got '32'"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"patience": 3}, "patience counts epochs .* needs validation=.*; got None"),
        (
            {"patience": 0, "validation": {"x": X, "y": Y}},
            "patience must be at least 1; got 0",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else ", ".join(value),
)
@pytest.mark.usefixtures("user_side")
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match="fit: " + message):
        run({"x": X, "y": Y}, **options)


@pytest.mark.usefixtures("user_side")
@pytest.mark.parametrize(
    ("key", "got"),
    [(0, "got 0"), (jax.random.split(KEY, 2), r"got an array key<fry>\[2\]"), (None, "got None")],
    ids=["a seed", "two keys", "none"],
)
def test_bad_keys(key, got):
    options = {"optimizer": SGD, "epochs": 1, "key": key, "progress": False}
    with pytest.raises(ValueError, match=rf"fit: key must be one key, .*random.key\(0\); {got}"):
        fit(loss_fn, {"w": jnp.zeros(2)}, {"x": X, "y": Y}, **options)


def test_a_key_of_the_older_kind_is_the_same_key():
    options = {"optimizer": SGD, "epochs": 1, "batch_size": 4, "progress": False}
    runs = [
        fit(loss_fn, {"w": jnp.zeros(2)}, {"x": X * np.arange(6.0)[:, None], "y": Y}, key=key,
            **options).params
        for key in (jax.random.key(1), jax.random.PRNGKey(1))
    ]  # fmt: skip
    chex.assert_trees_all_equal(*runs)


# Seven rows in batches of 3, 3 and 1: three steps an epoch.
IDS = {"id": np.arange(7.0)}


def falling(name, height):
    """A loss that pulls w from 5 down by 1 in each step, and a metric of it."""

    def loss_fn(params, batch, key):
        value = height(params["w"])
        return params["w"] + 0 * value, {name: value} if name else {}

    return loss_fn


def fall(loss_fn, params, **options):
    one_step = optax.sgd(1.0)
    return fit(loss_fn, params, IDS, optimizer=one_step, batch_size=3, key=KEY, **options)


@pytest.mark.parametrize("name", ["height", ""], ids=["metric", "no metrics"])
@pytest.mark.parametrize("step", [3, 4, 5], ids=["first batch", "within", "rest of the rows"])
def test_a_nan_in_the_loss_stops_at_its_step_and_keeps_the_step_before(name, step):
    loss_fn, start = falling(name, lambda w: jnp.log(w - 0.5)), {"w": jnp.asarray(float(step))}
    with pytest.raises(NonFiniteError) as caught:
        fall(loss_fn, start, epochs=9, progress=False)
    error = caught.value
    assert isinstance(error, FloatingPointError)
    assert isinstance(error, ValueError)
    term = name or "loss"
    found = (error.step, error.epoch, error.batch, error.term, error.member)
    assert found == (step, 1, step - 3, term, None)
    np.testing.assert_array_equal(error.rows, epoch_order(KEY, 1, 7)[3 * (step - 3) :][:3])
    message = str(error)
    assert f"stopped at step {step} (epoch 1, batch {step - 3}): {term} is nan" in message
    for fix in ("error.fitted.params", "learning rate", "clip the gradient", "error.rows"):
        assert fix in message
    before = fall(loss_fn, start, steps=step, progress=False)
    assert float(before.params["w"]) == 0.0
    chex.assert_trees_all_equal(error.fitted.params, before.params)
    chex.assert_trees_all_equal(error.fitted.state, before.state)
    np.testing.assert_array_equal(np.isfinite(error.fitted.history["loss"]), [True, False])


def test_progress_and_log_meet_the_same_nan():
    loss_fn, start = falling("height", lambda w: jnp.log(w - 0.5)), {"w": jnp.asarray(5.0)}
    seen = []
    with pytest.raises(NonFiniteError, match="stopped at step 5 "):
        fall(loss_fn, start, epochs=9, log=lambda epoch, metrics: seen.append(epoch))
    assert seen == [0, 1]


def root(params, batch, key):
    """Finite at 0, where the derivative of the square root is infinite."""
    inner = params["layer"]["w"]
    return jnp.sum(jnp.sqrt(inner)) + jnp.mean(batch["id"]) * params["b"], {"nll": params["b"]}


def test_a_gradient_that_is_not_finite_is_named_by_its_path():
    params = {"layer": {"w": jnp.asarray([1.0, 0.0, 4.0])}, "b": jnp.asarray(2.0)}
    with pytest.raises(
        NonFiniteError, match=r"step 0 .*\['layer'\]\['w'\] is inf \(1 values\)"
    ) as e:
        fall(root, params, epochs=1, progress=False)
    assert e.value.term == "gradient of ['layer']['w']"
    assert (e.value.step, e.value.epoch, e.value.batch, len(e.value.rows)) == (0, 0, 0, 3)
    chex.assert_trees_all_equal(e.value.fitted.params, params)


def test_an_optimizer_that_makes_a_nan_is_named_and_its_step_is_not_applied():
    # Adam without its epsilon divides 0 by 0 where a gradient is 0.
    def loss_fn(params, batch, key):
        return params["used"] ** 2 + 0 * params["unused"], {}

    params = {"used": jnp.asarray(1.0), "unused": jnp.asarray(1.0)}
    adam = optax.adam(0.1, eps=0.0)
    with pytest.raises(NonFiniteError, match="optimizer's step of .'unused'. is nan") as caught:
        fit(loss_fn, params, IDS, optimizer=adam, epochs=1, key=KEY, progress=False)
    chex.assert_trees_all_equal(caught.value.fitted.params, params)


def test_a_metric_that_is_not_finite_stops_though_the_loss_is_finite():
    def loss_fn(params, batch, key):
        return params["w"], {"ratio": 1.0 / jnp.maximum(params["w"] - 2, 0)}

    with pytest.raises(NonFiniteError, match="stopped at step 3 .* ratio is inf") as caught:
        fall(loss_fn, {"w": jnp.asarray(5.0)}, epochs=4, progress=False)
    assert float(caught.value.fitted.params["w"]) == 2.0


def test_an_overflow_of_the_optimizers_state_alone_is_named():
    # The square of the gradient overflows in float32; Adam's step is then 0, as finite as can be.
    def loss_fn(params, batch, key):
        return jnp.float32(1e20) * params["w"], {}

    params = {"w": jnp.asarray(1.0, jnp.float32)}
    with pytest.raises(NonFiniteError, match=r"step 0 .* optimizer's state .*nu.* is inf"):
        fit(loss_fn, params, IDS, optimizer=optax.adam(0.1), epochs=1, key=KEY, progress=False)


@pytest.mark.parametrize("step", [0, 1, 5, 10, 11, 12, 15])
@pytest.mark.parametrize(
    ("optimizer", "term"),
    [(optax.adam(0.1), "state .*nu.* is inf"), (optax.sgd(1e19), "step of .'w'. is -inf")],
    ids=["state", "params"],
)
def test_what_only_the_state_shows_is_found_at_its_step(optimizer, term, step):
    # Eleven whole batches and a rest. Of the overflow of Adam's square nothing ever shows in loss,
    # gradient or params.
    def loss_fn(params, batch, key):
        slope = jnp.where(batch["step"] == step, 1e20, 1e-20)
        return slope.astype(jnp.float32) * params["w"], {}

    loss_fn.uses_step = True
    params, rows = {"w": jnp.asarray(1.0, jnp.float32)}, {"id": np.arange(34.0)}
    options = {"optimizer": optimizer, "batch_size": 3, "key": KEY, "progress": False}
    with pytest.raises(NonFiniteError, match=rf"step {step} .* optimizer's {term}") as caught:
        fit(loss_fn, params, rows, epochs=3, **options)
    error = caught.value
    assert (error.epoch, error.batch) == divmod(step, 12)
    if step:
        before = fit(loss_fn, params, rows, steps=step, **options)
        chex.assert_trees_all_equal(error.fitted.params, before.params)
        chex.assert_trees_all_equal(error.fitted.state, before.state)
    else:
        chex.assert_trees_all_equal(error.fitted.params, params)


def test_params_that_are_not_finite_at_the_start_do_not_train():
    params = {"w": jnp.asarray(1.0), "unused": jnp.asarray(np.inf)}
    with pytest.raises(NonFiniteError, match="step 0 "):
        fall(lambda p, batch, key: (p["w"], {}), params, epochs=2, progress=False)


def test_an_optimizer_whose_state_starts_at_infinity_may_train():
    plateau = optax.chain(optax.sgd(1.0), optax.contrib.reduce_on_plateau())
    fitted = fit(lambda p, batch, key: (p["w"], {}), {"w": jnp.asarray(5.0)}, IDS,
                 optimizer=plateau, epochs=1, key=KEY, progress=False)  # fmt: skip
    assert float(fitted.params["w"]) == 4.0


def test_a_validation_metric_that_is_not_finite_stops_after_its_epoch():
    def loss_fn(params, batch, key):
        return params["w"], {"room": jnp.log(params["w"] + batch["floor"][0])}

    data, validation = {"floor": np.full(7, 9.0)}, {"floor": np.zeros(2)}
    with pytest.raises(NonFiniteError, match="after epoch 1 .step 6.: validation_room is") as e:
        fit(loss_fn, {"w": jnp.asarray(5.5)}, data, optimizer=optax.sgd(1.0), batch_size=3,
            epochs=9, validation=validation, key=KEY, progress=False)  # fmt: skip
    error = e.value
    found = (error.term, error.step, error.epoch, error.batch, error.rows, error.member)
    assert found == ("validation_room", 6, 1, None, None, None)
    assert (float(error.fitted.params["w"]), float(error.fitted.best_params["w"])) == (-0.5, 2.5)
    start = {"w": jnp.asarray([50.0, 5.5])}
    with pytest.raises(NonFiniteError, match="of member 1 stopped after epoch 1 ") as e:
        fit_ensemble(loss_fn, start, data, optimizer=optax.sgd(1.0), batch_size=3,
                     epochs=4, validation=validation, key=KEY, progress=False)  # fmt: skip
    np.testing.assert_array_equal(e.value.fitted.params["w"], [50 - 12, -0.5])


def test_lbfgs_gets_what_its_line_search_needs():
    a = np.random.default_rng(0).normal(size=(8, 3))
    y = a @ np.array([1.0, -2.0, 0.5])

    def loss_fn(params, batch, key):
        return jnp.mean((batch["a"] @ params["w"] - batch["y"]) ** 2), {}

    params = {"w": jnp.zeros(3)}
    fitted = fit(loss_fn, params, {"a": a, "y": y}, optimizer=optax.lbfgs(), epochs=12,
                 key=KEY, progress=False)  # fmt: skip
    np.testing.assert_allclose(fitted.params["w"], [1.0, -2.0, 0.5], atol=1e-6)


def test_make_step_leaves_the_state_where_a_step_is_not_finite():
    params = {"layer": {"w": jnp.asarray([1.0, 0.0])}, "b": jnp.asarray(2.0)}
    state, metrics = make_step(root, SGD)(TrainState.create(params, SGD), IDS, KEY)
    chex.assert_trees_all_equal(state, TrainState.create(params, SGD))
    assert float(metrics["loss"]) == 1.0 + 3.0 * 2.0
