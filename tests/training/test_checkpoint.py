"""Checkpoints: a run in pieces is the run in one piece, bit by bit."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob.training import NonFiniteError, fit, fit_ensemble

KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 2))
DATA = {"x": X, "y": X @ np.array([1.0, -2.0])}
PARAMS = {"w": jnp.asarray(RNG.normal(size=2)), "b": jnp.zeros(()), "empty": jnp.zeros((0, 3))}
MEMBERS = {"w": jnp.asarray(RNG.normal(size=(3, 2))), "b": jnp.zeros(3)}
ADAM = optax.adam(0.1)
# the state holds a key, a count and two moments
NOISY_ADAM = optax.chain(optax.add_noise(0.1, 0.55, 7), ADAM)
VALIDATION = {"x": X[:5], "y": DATA["y"][:5] + 0.3}


def noisy_loss(params, batch, key):
    x = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape, batch["x"].dtype)
    error = x @ params["w"] + params["b"] - batch["y"]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def run(directory=None, *, every=1, data=DATA, params=PARAMS, **options):
    defaults = {"optimizer": ADAM, "batch_size": 4, "key": KEY, "progress": False}
    length = {} if {"epochs", "steps"} & set(options) else {"epochs": 4}
    return fit(noisy_loss, params, data, checkpoint_dir=directory,
               checkpoint_every=every if directory else None,
               **defaults | length | options)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory with a finished run of two epochs, and its result."""
    directory = tmp_path_factory.mktemp("run") / "deep" / "checkpoints"
    return directory, run(directory, epochs=2, validation=VALIDATION, patience=5)


def test_more_epochs_go_on_to_the_same_bits(finished):
    directory, first = finished
    assert sorted(int(p.name) for p in directory.iterdir()) == [1, 2]
    seen = []
    options = {"validation": VALIDATION, "patience": 5}
    again = run(directory, epochs=2, log=lambda epoch, metrics: seen.append(epoch), **options)
    chex.assert_trees_all_equal(again, first)
    assert seen == []  # a finished run returns at once
    longer = run(directory, epochs=4, log=lambda epoch, metrics: seen.append(epoch), **options)
    assert seen == [2, 3]
    chex.assert_trees_all_equal(longer, run(epochs=4, **options))
    assert sorted(int(p.name) for p in directory.iterdir()) == [3, 4]  # older ones are removed
    with pytest.raises(ValueError, match=r"is 4 epochs long already; got a length of 3\. Give at"):
        run(directory, epochs=3, **options)


def test_another_run_is_told_what_differs(finished):
    directory, _ = finished
    options = {"validation": VALIDATION, "patience": 5}

    def refuses(message, **changed):
        with pytest.raises(ValueError, match="belongs to another run: " + message):
            run(directory, **options | changed)

    refuses("batch_size is 4 in the checkpoint and 5 here. Give the", batch_size=5)
    refuses("patience is 5 in the checkpoint and None here", patience=None)
    refuses(r"key is key<fry>\[\] with hash \w+ in the .* and key<fry>\[\] with hash",
            key=jax.random.key(6))  # fmt: skip
    refuses(r"data\['x'\] is float64\[10, 2\] with hash \w+ in .* and float64\[10, 2\] with hash",
            data={**DATA, "x": X + 1})  # fmt: skip
    shifted = {**PARAMS, "b": jnp.zeros((), jnp.float32)}
    refuses(r"params\['b'\] is float64\[\] .* and float32\[\] with hash .* here; optimizer_state",
            params=shifted)  # fmt: skip
    refuses(r"optimizer_state.*not there", optimizer=optax.sgd(0.1))
    refuses(r".*validation\['x'\] is .* in the checkpoint and not there here", validation=None,
            patience=None)  # fmt: skip
    with pytest.raises(ValueError, match="holds checkpoints, and resume=False starts afresh"):
        run(directory, resume=False, **options)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="checkpoint_dir must be a directory; .* is a file"):
        run(tmp_path / "file")


@pytest.mark.slow
def test_steps_that_end_inside_an_epoch_go_on_from_its_start(tmp_path):
    short = run(tmp_path, steps=7, every=10)
    chex.assert_trees_all_equal(run(tmp_path, steps=7, every=10), short)
    with pytest.raises(ValueError, match="has taken 7 steps already; got steps=6"):
        run(tmp_path, steps=6)
    chex.assert_trees_all_equal(run(tmp_path, steps=9, every=10), run(steps=9))
    run(tmp_path / "whole epochs", epochs=3)
    with pytest.raises(ValueError, match="has taken 9 steps already; got steps=8"):
        run(tmp_path / "whole epochs", steps=8)


@pytest.mark.slow
def test_early_stopping_survives_and_the_best_is_restored(tmp_path):
    options = {"optimizer": NOISY_ADAM, "validation": VALIDATION, "patience": 2,
               "batch_size": 4, "key": KEY, "progress": False}  # fmt: skip
    whole = fit_ensemble(noisy_loss, MEMBERS, DATA, epochs=30, **options)
    stopped = np.isnan(whole.history["loss"]).sum(axis=0)
    assert len(set(stopped)) > 1, "the test wants members that stop at different epochs"
    for epochs in (3, 9, 30):
        parts = fit_ensemble(noisy_loss, MEMBERS, DATA, epochs=epochs, checkpoint_dir=tmp_path,
                             checkpoint_every=2, **options)  # fmt: skip
    chex.assert_trees_all_equal(parts, whole)
    best = np.nanargmin(whole.history["validation_loss"], axis=0)
    assert np.any(best < len(whole.history["loss"]) - 1)


def test_a_run_that_fails_keeps_its_last_good_checkpoint(tmp_path):
    def barrier(params, batch, key):
        return params["w"] + 0 * jnp.log(params["w"] - 0.5), {}

    data = {"id": np.arange(7.0)}
    options = {"optimizer": optax.sgd(1.0), "batch_size": 3, "key": KEY, "progress": False,
               "checkpoint_dir": tmp_path, "checkpoint_every": 1, "epochs": 9}  # fmt: skip
    for _ in range(2):  # the second time from the checkpoint after epoch 0
        with pytest.raises(NonFiniteError, match="stopped at step 5 .epoch 1, batch 2.") as caught:
            fit(barrier, {"w": jnp.asarray(5.0)}, data, **options)
        assert len(caught.value.fitted.history["loss"]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["1"]
