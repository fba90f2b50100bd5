"""What stays behind of a run: its result, and no more than the last programs."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob import training
from jaxprob.training import programs
from jaxprob.training.programs import Programs

KEY = jax.random.key(0)
DATA = {"x": np.arange(6.0).reshape(3, 2)}


def test_programs_of_old_runs_are_forgotten():
    """A loop with a new loss and a new optimiser in each turn must not grow for ever."""
    losses = []
    for turn in range(programs.KEPT + 2):

        def loss_fn(params, batch, key, turn=turn):
            return jnp.mean((batch["x"] @ params["w"] - turn) ** 2), {}

        losses.append(weakref.ref(loss_fn))
        training.fit(
            loss_fn, {"w": jnp.zeros(2)}, DATA, optimizer=optax.sgd(0.1), epochs=1, key=KEY,
            progress=False,
        )  # fmt: skip
    del loss_fn
    gc.collect()
    assert [ref() is None for ref in losses[:2]] == [True, True]
    assert losses[-1]() is not None


def test_a_run_like_one_before_is_traced_once(monkeypatch):
    """The smaller last batch is another shape, so there are two traces."""
    traced = []

    def loss_fn(params, batch, key):
        traced.append(batch["x"].shape)
        return jnp.mean((batch["x"] @ params["w"]) ** 2), {}

    sgd = optax.sgd(0.1)
    for _ in range(2):
        training.fit(
            loss_fn, {"w": jnp.ones(2)}, DATA, optimizer=sgd, epochs=2, batch_size=2, key=KEY,
            progress=False,
        )  # fmt: skip
    assert sorted(set(traced)) == [(1, 2), (2, 2)]
    assert len(traced) <= 4  # the check of the data looks at one row of it too


def test_static_arguments_are_known_by_value():
    calls = []

    def scaled(x, *, by):
        calls.append(by)
        return x * by

    program = Programs(scaled, ("by",))
    assert [float(program(2.0, by=by)) for by in (3, 4, 3)] == [6.0, 8.0, 6.0]
    assert calls == [3, 4]


def test_results_outlive_the_state_that_is_trained_further():
    sgd = optax.sgd(0.1)

    def loss_fn(params, batch, key):
        return jnp.mean((batch["x"] @ params["w"] - 1) ** 2), {}

    fitted = training.fit(
        loss_fn, {"w": jnp.ones(2)}, DATA, optimizer=sgd, epochs=1, key=KEY, progress=False
    )
    before = np.array(fitted.params["w"])
    training.make_step(loss_fn, sgd)(fitted.state, DATA, KEY)  # donates the state
    np.testing.assert_array_equal(fitted.params["w"], before)
