"""Batches from an iterable, against the run over the same rows as arrays."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob.training import (
    NonFiniteError,
    StreamEndedError,
    TrainState,
    fit,
    fit_ensemble,
    make_step,
)
from jaxprob.training.data import step_key

KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
M = 2
PARAMS = {"w": jnp.asarray(RNG.normal(size=2))}
BATCHES = [{"x": RNG.normal(size=(n, 2)), "y": RNG.normal(size=n)} for n in (4, 4, 3)]
VALIDATION = {name: value + 0.5 for name, value in BATCHES[2].items()}
SGD = optax.sgd(0.1, momentum=0.5)


def noisy_loss(params, batch, key):
    x = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape, batch["x"].dtype)
    error = x @ params["w"] - batch["y"]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def run(data, loss_fn=noisy_loss, params=PARAMS, train=fit, **options):
    defaults = {"optimizer": SGD, "key": KEY, "progress": False}
    return train(loss_fn, params, data, **defaults | options)


def by_hand(epochs, params=PARAMS, key=KEY):
    state, step = TrainState.create(params, SGD), make_step(noisy_loss, SGD)
    history = []
    for epoch in range(epochs):
        losses = []
        for index, batch in enumerate(BATCHES):
            state, metrics = step(state, batch, step_key(key, epoch, index))
            losses.append(float(metrics["loss"]))
        history.append(np.average(losses, weights=[4, 4, 3]))
    return state, np.array(history)


def test_a_list_of_batches_is_trained_in_its_order_and_traced_once_for_each_shape():
    shapes = []

    def loss_fn(params, batch, key):
        shapes.append(batch["x"].shape)
        return noisy_loss(params, batch, key)

    fitted = run(BATCHES, loss_fn, epochs=3)
    state, history = by_hand(3)
    chex.assert_trees_all_close(fitted.state, state, rtol=1e-12)
    np.testing.assert_allclose(fitted.history["loss"], history, rtol=1e-12)
    assert sorted(set(shapes)) == [(3, 2), (4, 2)]
    traced = len(shapes)
    run(BATCHES, loss_fn, epochs=2)
    assert len(shapes) == traced


@pytest.mark.slow
def test_members_share_the_batches_and_validation_is_as_with_arrays():
    members = {"w": jnp.stack([PARAMS["w"], 2 * PARAMS["w"]])}
    seen = []
    fitted = run(
        BATCHES, params=members, train=fit_ensemble, epochs=2, validation=VALIDATION,
        log=lambda epoch, metrics: seen.append((epoch, metrics["loss"])),
    )  # fmt: skip
    for m, key in enumerate(jax.random.split(KEY, M)):
        state, history = by_hand(2, {"w": members["w"][m]}, key)
        np.testing.assert_allclose(fitted.params["w"][m], state.params["w"], rtol=1e-12)
        np.testing.assert_allclose(fitted.history["loss"][:, m], history, rtol=1e-12)
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert fitted.history["validation_mae"].shape == (2, M)
    alone = run(BATCHES, epochs=1, validation=VALIDATION)
    whole = {name: np.concatenate([b[name] for b in BATCHES]) for name in ("x", "y")}
    # the same key of the validation as in a run over arrays that moves nowhere
    still = {"optimizer": optax.sgd(0.0), "validation": VALIDATION, "epochs": 1}
    streamed, arrays = run(BATCHES, **still), run(whole, batch_size=4, **still)
    np.testing.assert_array_equal(
        streamed.history["validation_loss"], arrays.history["validation_loss"]
    )
    assert alone.history["validation_loss"] != arrays.history["validation_loss"]


def test_an_iterator_wants_steps_and_says_when_it_ends():
    with pytest.raises(ValueError, match="data is an iterator .generator., which can be read once"):
        run((b for b in BATCHES), epochs=1)
    with pytest.raises(StreamEndedError, match="ended after 3 batches; steps=5 were") as caught:
        run(iter(BATCHES), steps=5)
    np.testing.assert_allclose(caught.value.fitted.params["w"], by_hand(1)[0].params["w"])
    left = iter(BATCHES)
    assert int(run(left, steps=2).state.step) == 2
    assert next(left) is BATCHES[2]  # it has not read more than it needed
    assert int(run(BATCHES, steps=7).state.step) == 7
    with pytest.raises(ValueError, match="data gave no batch in epoch 0; expected at least one"):
        run([], epochs=1)


def test_a_bad_batch_is_named_by_its_number():
    bad = {**BATCHES[1], "y": np.full(4, np.nan)}
    with pytest.raises(ValueError, match=r'batch 1 of epoch 0: data\["y"\] must be finite; 4 of 4'):
        run([BATCHES[0], bad], epochs=1)
    with pytest.raises(ValueError, match="batch 1 of epoch 0: data must be a dict .* got tuple"):
        run([BATCHES[0], (1, 2)], epochs=1)

    def broken():
        yield BATCHES[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run(broken(), steps=5)


def barrier(params, batch, key):
    height = jnp.log(params["w"] - 0.5)
    return params["w"] + 0 * height + 0 * jnp.mean(batch["y"]), {"height": height}


TOWARDS_IT = {"optimizer": optax.sgd(1.0), "epochs": 4}


def test_a_step_that_is_not_finite_is_named_by_its_batch():
    with pytest.raises(NonFiniteError, match=r"step 5 \(epoch 1, batch 2\): height is nan") as e:
        run(BATCHES, barrier, {"w": jnp.asarray(5.0)}, **TOWARDS_IT)
    assert (float(e.value.fitted.params["w"]), e.value.rows) == (0.0, None)
    start = {"w": jnp.asarray([20.0, 5.0])}
    with pytest.raises(NonFiniteError, match=r"of member 1 stopped at step 5 \(epoch 1, batch 2"):
        run(BATCHES, barrier, start, fit_ensemble, **TOWARDS_IT)


@pytest.mark.slow
def test_a_member_that_failed_before_the_checkpoint_is_still_a_failure(tmp_path):
    start = {"w": jnp.asarray([20.0, 5.0])}
    options = {**TOWARDS_IT, "checkpoint_dir": tmp_path, "checkpoint_every": 1}
    for message in (r"\(epoch 1, batch 2\)", "in the run that wrote the checkpoint"):
        with pytest.raises(NonFiniteError, match=f"of member 1 stopped at step 5.*{message}") as e:
            run(BATCHES, barrier, start, fit_ensemble, **options)
        np.testing.assert_array_equal(e.value.fitted.params["w"], [8.0, 0.0])


class Shuffled:
    """Batches in an order that depends on the epoch."""

    def __init__(self):
        self.asked = []

    def set_epoch(self, epoch):
        self.asked.append(epoch)

    def __iter__(self):
        order = np.random.default_rng(self.asked[-1]).permutation(3)
        return (BATCHES[i] for i in order)


@pytest.mark.slow
def test_checkpoints_of_a_stream_go_on_to_the_same_bits(tmp_path):
    options = {"validation": VALIDATION, "patience": 9}
    expected = run(Shuffled(), epochs=5, **options)
    options |= {"checkpoint_dir": tmp_path, "checkpoint_every": 2}
    run(Shuffled(), epochs=3, **options)
    data = Shuffled()
    chex.assert_trees_all_equal(run(data, epochs=5, **options), expected)
    assert data.asked == [0, 3, 4]  # the first is for the shapes
    chex.assert_trees_all_equal(run(Shuffled(), epochs=5, **options), expected)
    with pytest.raises(ValueError, match="cannot be read again after a kill"):
        run(iter(BATCHES), steps=2, checkpoint_dir=tmp_path / "other")


def test_a_buffer_that_is_filled_again_may_be_yielded():
    """Batches are read ahead: each must be on the device in memory of its own."""
    rows = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    params = {"w": jnp.zeros(2, jnp.float32)}

    def ids(params, batch, key):
        return jnp.sum(0.0 * params["w"]), {"sum": jnp.sum(batch["x"])}

    def again():
        buffer = np.empty((1, 2), np.float32)
        for row in rows:
            buffer[:] = row
            yield {"x": buffer}

    fitted = run(again(), ids, params, steps=6)
    np.testing.assert_allclose(fitted.history["sum"], [rows.sum() / 6])


def test_data_may_be_changed_after_the_start():
    x = np.ones((8, 2), np.float32)

    def spoil(epoch, metrics):
        x[:] = 7.0

    def ids(params, batch, key):
        return jnp.sum(0.0 * params["w"]), {"sum": jnp.sum(batch["x"])}

    params = {"w": jnp.zeros(2, jnp.float32)}
    fitted = run({"x": x}, ids, params, epochs=3, batch_size=4, log=spoil)
    np.testing.assert_array_equal(fitted.history["sum"], [8.0] * 3)
