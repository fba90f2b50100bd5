"""`fit` against a loop written by hand, and what it promises beside the numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob.training import TrainState, fit, make_step
from jaxprob.training.data import epoch_order, step_key
from tests.support.compilation import compiling_everything

ROWS, BATCH = 10, 4  # batches of 4, 4 and 2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 2))
DATA = {"x": X, "y": X @ np.array([1.0, -2.0]) + 0.1 * RNG.normal(size=ROWS)}
ZEROS = {"w": jnp.zeros(2), "b": jnp.zeros(())}
SGD = optax.sgd(0.05, momentum=0.9)
KEY = jax.random.key(3)


def noisy_loss(params, batch, key):
    """Squared error with noise on the inputs, so that it depends on the order and on the key."""
    x = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape, batch["x"].dtype)
    error = x @ params["w"] + params["b"] - batch["y"]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def run(loss_fn=noisy_loss, params=ZEROS, data=DATA, *, optimizer=SGD, key=KEY, **options):
    length = {} if "steps" in options else {"epochs": options.pop("epochs", 3)}
    defaults = {"batch_size": BATCH, "progress": False} | length
    return fit(loss_fn, params, data, optimizer=optimizer, key=key, **defaults | options)


def batches(order):
    return [order[start : start + BATCH] for start in range(0, ROWS, BATCH)]


def loop_by_hand(steps, optimizer=SGD):
    """Params, and for each epoch the metrics of its batches with their sizes."""
    step = make_step(noisy_loss, optimizer)
    state = TrainState.create(ZEROS, optimizer)
    epochs = []
    while int(state.step) < steps:
        epoch, seen = len(epochs), []
        for index, rows in enumerate(batches(np.asarray(epoch_order(KEY, epoch, ROWS)))):
            if int(state.step) < steps:
                batch = {name: jnp.asarray(values[rows]) for name, values in DATA.items()}
                state, metrics = step(state, batch, step_key(KEY, epoch, index))
                seen.append((len(rows), {name: float(value) for name, value in metrics.items()}))
        epochs.append(seen)
    return state, epochs


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [(optax.adam(0.1), 9), (SGD, 7)],
    ids=["adam, whole epochs", "sgd, ending inside an epoch"],
)
def test_fit_is_the_loop_written_by_hand(optimizer, steps):
    fitted = run(optimizer=optimizer, steps=steps)
    state, epochs = loop_by_hand(steps, optimizer)
    assert int(fitted.state.step) == int(state.step) == steps
    chex.assert_trees_all_close(fitted.state, state, rtol=1e-12)
    chex.assert_trees_all_equal(fitted.params, fitted.state.params, fitted.best_params)
    assert set(fitted.history) == {"loss", "mae"}
    for name, values in fitted.history.items():
        means = [np.average([m[name] for _, m in e], weights=[n for n, _ in e]) for e in epochs]
        np.testing.assert_allclose(values, means, rtol=1e-12)


def test_every_row_is_seen_once_in_each_epoch_and_in_another_order():
    # 2^0 + ... + 2^9 is no other sum of ten powers of two.
    data = {"id": 2.0 ** np.arange(ROWS)}

    def loss_fn(params, batch, key):
        position = jnp.mean(batch["id"]) * params["step"]  # what a batch holds, weighted by when
        return params["step"], {"ids": jnp.mean(batch["id"]), "position": position}

    fitted = run(loss_fn, {"step": jnp.zeros(())}, data, optimizer=optax.sgd(-1.0), epochs=4)
    np.testing.assert_array_equal(fitted.history["ids"] * ROWS, 2.0**ROWS - 1)
    positions = fitted.history["position"] * ROWS - 3 * np.arange(4) * (2.0**ROWS - 1)
    assert len(set(np.round(positions))) == 4


def test_the_loss_is_traced_once_for_each_shape_and_a_second_fit_compiles_nothing(caplog):
    shapes = []

    def loss_fn(params, batch, key):
        shapes.append(batch["x"].shape)
        return noisy_loss(params, batch, key)

    validation = {name: values[:7] for name, values in DATA.items()}
    other_key = jax.random.key(9)  # making a key compiles something too
    with compiling_everything(), jax.log_compiles():
        run(loss_fn, validation=validation, patience=2, log=lambda epoch, metrics: None)
        assert sorted(shapes) == [(2, 2), (4, 2), (7, 2)]
        assert any("Compiling" in record.message for record in caplog.records)
        caplog.clear()
        other = {name: values + 1 for name, values in DATA.items()}
        run(loss_fn, data=other, key=other_key, validation=validation, patience=2)
    assert len(shapes) == 3
    assert [r.message for r in caplog.records if "Compiling" in r.message] == []


def test_looking_at_a_run_does_not_change_a_bit(capsys):
    plain = run(epochs=12)
    assert len(plain.history["loss"]) == 12
    assert capsys.readouterr().out == ""
    chex.assert_trees_all_equal(run(epochs=12, progress=True), plain)
    assert f"epoch 12/12  loss {plain.history['loss'][-1]:.4g}" in capsys.readouterr().out
    chex.assert_trees_all_equal(run(epochs=12, log=lambda epoch, metrics: None), plain)


def test_log_gets_every_epoch_once_and_in_order():
    seen = []
    fitted = run(epochs=12, log=lambda epoch, metrics: seen.append((epoch, metrics)))
    assert [epoch for epoch, _ in seen] == list(range(12))
    for name in ("loss", "mae"):
        np.testing.assert_array_equal([m[name] for _, m in seen], fitted.history[name])


def test_the_key_decides_everything():
    chex.assert_trees_all_equal(run(epochs=12), run(epochs=12))
    other = run(epochs=12, key=jax.random.key(4))
    assert np.all(np.abs(run(epochs=12).params["w"] - other.params["w"]) > 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_of_the_data_stays(dtype):
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 9))
    data = {name: values.astype(dtype) for name, values in DATA.items()}
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), ZEROS)
    fitted = run(params=params, data=data, optimizer=optimizer, validation=data)
    floats = [x for x in jax.tree.leaves(fitted) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {str(x.dtype) for x in floats} == {dtype}
    assert len(floats) >= 14  # params, their copies, two moments and the history


def test_metrics_of_other_dtypes_are_averaged_in_float32():
    metrics = {"bool": True, "int": 3, "bfloat16": jnp.asarray(1.5, jnp.bfloat16), "python": 0.1}

    def loss_fn(params, batch, key):
        return jnp.mean((batch["x"] - params) ** 2), metrics

    data = {"x": np.ones(1000)}  # bfloat16 cannot count to 1000
    fitted = run(loss_fn, jnp.zeros(()), data, epochs=1, batch_size=1, validation=data)
    for name, value in metrics.items():
        for history in (fitted.history[name], fitted.history[f"validation_{name}"]):
            np.testing.assert_allclose(history, [float(value)], rtol=3e-7)


def test_the_callers_arrays_survive():
    params = {"w": jnp.zeros(2), "b": jnp.zeros(())}
    key = jax.random.key(3)
    data = {name: jnp.asarray(values) for name, values in DATA.items()}
    fitted = run(params=params, data=data, key=key, epochs=12)
    chex.assert_trees_all_equal(params, jax.tree.map(np.zeros_like, ZEROS))
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(KEY))
    np.testing.assert_array_equal(data["x"], X)
    # Going on from the state (which a step donates) takes nothing from the result either.
    before = jnp.copy(fitted.params["w"])  # a view by NumPy would keep the buffer alive
    state, _ = make_step(noisy_loss, SGD)(fitted.state, data, key)
    assert int(state.step) == 37
    np.testing.assert_array_equal(fitted.params["w"], before)
    make_step(noisy_loss, SGD)(TrainState.create(params, SGD), data, key)
    np.testing.assert_array_equal(params["w"], np.zeros(2))
