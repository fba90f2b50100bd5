"""Every way out of a run keeps its result: Ctrl-C, and whatever else raises."""

import itertools
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob.training import Fitted, NonFiniteError, StreamEndedError, fit, fit_ensemble
from jaxprob.training.interrupts import Interrupts

KEY = jax.random.key(5)
ROWS = {"id": np.arange(4.0)}
DOWN = optax.sgd(1.0)


@pytest.fixture(autouse=True)
def heard():
    """Interrupts are heard also where a shell has started the tests in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def fall(params, batch, key):
    """Each step takes 1 from w."""
    return params["w"] + 0.0 * jnp.mean(batch["id"]), {}


def run(data=ROWS, loss_fn=fall, start=100.0, train=fit, **options):
    defaults = {"optimizer": DOWN, "key": KEY, "progress": False, "batch_size": 4}
    return train(loss_fn, {"w": jnp.asarray(start)}, data, **defaults | options)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def interrupt_later(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def result_of(caught):
    fitted = caught.value.fitted
    assert isinstance(fitted, Fitted)
    assert np.all(np.asarray(fitted.params["w"]) == 100.0 - np.asarray(fitted.state.step))
    return fitted


def test_an_interrupt_waits_for_the_end_of_the_epoch():
    seen = []

    def log(epoch, metrics):
        seen.append(epoch)
        if epoch == 2:
            interrupt()
            seen.append("still here")

    for train, start in ((fit, 100.0), (fit_ensemble, [100.0, 100.0])):
        seen.clear()
        with pytest.raises(
            KeyboardInterrupt, match=f"{train.__name__}: interrupted; .*`fitted`"
        ) as e:
            run(start=start, train=train, epochs=30, log=log)
        last = [epoch for epoch in seen if epoch != "still here"][-1]
        assert seen.count("still here") == 1
        assert 2 <= last < 9  # the epochs of one look are reported together
        fitted = result_of(e)
        assert np.all(fitted.state.step == last + 1)
        assert len(fitted.history["loss"]) == last + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_without_progress_is_interrupted_soon():
    run(epochs=10)  # compiled before the clock starts
    began = time.monotonic()
    interrupt_later(1.0)
    with pytest.raises(KeyboardInterrupt) as e:
        run(epochs=10**7, start=100.0, optimizer=optax.sgd(0.0))
    assert time.monotonic() - began < 20.0
    assert isinstance(e.value.fitted, Fitted)


def test_a_source_that_does_not_answer_delays_nothing():
    release = threading.Event()

    def blocked():
        yield from [ROWS] * 2
        release.wait(60.0)

    began = time.monotonic()
    interrupt_later(3.0)
    with pytest.raises(KeyboardInterrupt) as e:
        run(blocked(), steps=9)
    release.set()
    assert time.monotonic() - began < 30.0
    assert int(result_of(e).state.step) == 2


def test_a_stream_is_interrupted_between_two_steps():
    def endless():
        for number in itertools.count():
            if number == 20:
                os.kill(os.getpid(), signal.SIGINT)
            yield ROWS

    with pytest.raises(KeyboardInterrupt) as e:
        run(endless(), steps=10**9)
    assert int(result_of(e).state.step) > 10


def test_a_second_interrupt_is_raised_at_once_and_other_handlers_are_left_alone():
    with Interrupts("fit") as interrupts:
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        with pytest.raises(KeyboardInterrupt, match="fit: interrupted"):
            interrupts.look()
        interrupts.look()  # heard once
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with Interrupts("fit"):
            interrupt()
            assert heard == [1]
    finally:
        signal.signal(signal.SIGINT, before)
    alone = []
    thread = threading.Thread(target=lambda: alone.append(run(epochs=2)))
    thread.start()
    thread.join()
    assert int(alone[0].state.step) == 2


def broken():
    yield from [ROWS] * 3
    raise OSError("the disk is gone")


STOPS = {
    "reader": (broken, {"steps": 9}, OSError, "the disk is gone", 3),
    "bad batch": (
        lambda: [ROWS, ROWS, {"id": np.full(4, np.nan)}], {"epochs": 1}, ValueError, "batch 2", 2,
    ),
    "short": (lambda: iter([ROWS] * 3), {"steps": 9}, StreamEndedError, "after 3 batches", 3),
}  # fmt: skip


@pytest.mark.parametrize(("data", "options", "kind", "message", "steps"), STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("members", [None, 2], ids=["one", "ensemble"])
def test_what_stops_a_stream_leaves_the_steps_before(data, options, kind, message, steps, members):
    options = options if members is None else {**options, "train": fit_ensemble}
    with pytest.raises(kind, match=message) as e:
        run(data(), start=100.0 if members is None else [100.0] * members, **options)
    assert np.all(result_of(e).state.step == steps)


def test_a_log_that_raises_and_a_callback_that_raises():
    def log(epoch, metrics):
        if epoch == 1:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more") as e:
        run(epochs=20, log=log)
    assert int(result_of(e).state.step) >= 2

    def inside(params, batch, key):
        jax.debug.callback(explode, params["w"])
        return fall(params, batch, key)

    def explode(w):
        if w < 98.0:
            raise RuntimeError("within")

    with pytest.raises(Exception, match="within") as e:
        run(epochs=20, loss_fn=inside)
    assert isinstance(e.value.fitted, Fitted)
    np.testing.assert_array_equal(e.value.fitted.params["w"], 100.0)
    assert any("holds the start" in note for note in e.value.__notes__)


def test_a_checkpoint_that_can_not_be_written_leaves_the_result(tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    def full(self, step, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(OSError, match="No space left") as e:
        run(epochs=3, checkpoint_dir=tmp_path, checkpoint_every=2)
    assert int(result_of(e).state.step) == 2
    # the last write fails in the background, when the training itself is over
    monkeypatch.undo()
    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", full_disk)
    with pytest.raises(OSError, match="No space left") as e:
        run(epochs=3, checkpoint_dir=tmp_path / "other", checkpoint_every=5)
    assert int(result_of(e).state.step) == 3
    assert not (tmp_path / "other" / "lock.json").exists()


def full_disk(self):
    raise OSError(28, "No space left on device")


def test_a_step_that_is_not_finite_keeps_what_it_kept():
    def barrier(params, batch, key):
        return params["w"] + 0.0 * jnp.log(params["w"] - 97.5), {}

    with pytest.raises(NonFiniteError, match="stopped at step 3 ") as e:
        run(epochs=9, loss_fn=barrier)
    assert int(result_of(e).state.step) == 3
    with pytest.raises(NonFiniteError, match="step 0 .* no learning rate helps: look for targets"):
        run(epochs=9, loss_fn=barrier, start=97.0)
