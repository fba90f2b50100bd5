"""Schedules (`uses_step`) and collections, each against a loop written by hand."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob.training import NonFiniteError, TrainState, fit, fit_ensemble, make_step
from jaxprob.training.data import epoch_order, step_key

KEY = jax.random.key(2)
RNG = np.random.default_rng(3)
ROWS, BATCH, M = 10, 4, 2
DATA = {"x": RNG.normal(size=(ROWS, 3)), "y": RNG.normal(size=(ROWS, 1))}
SGD = optax.sgd(0.1, momentum=0.5)
OPTIONS = {"batch_size": BATCH, "key": KEY, "progress": False}


def annealed(params, batch, key):
    """A square whose pull to zero grows with the steps taken."""
    weight = batch["step"] / 4.0
    error = jnp.mean((batch["x"] @ params["w"] - batch["y"][:, 0]) ** 2)
    return error + weight * jnp.sum(params["w"] ** 2), {"weight": weight, "error": error}


annealed.uses_step = True


def by_hand(weights, steps, key=KEY):
    """Momentum SGD on `annealed`, with the gradient by hand; steps, weights and their history."""
    w, velocity, path = np.array(weights), np.zeros(3), []
    while len(path) < steps:
        epoch, batch = divmod(len(path), 3)
        rows = np.asarray(epoch_order(key, epoch, ROWS))[batch * BATCH : (batch + 1) * BATCH]
        x, y = DATA["x"][rows], DATA["y"][rows, 0]
        gradient = 2 * x.T @ (x @ w - y) / len(rows) + 2 * len(path) / 4.0 * w
        velocity = 0.5 * velocity + gradient
        path.append(w)
        w = w - 0.1 * velocity
    return w, path


def test_a_loss_with_a_schedule_gets_the_number_of_steps():
    steps = 7
    fitted = fit(
        annealed, {"w": jnp.ones(3)}, DATA, optimizer=SGD, steps=steps, validation=DATA, **OPTIONS
    )
    w, _ = by_hand(np.ones(3), steps)
    np.testing.assert_allclose(fitted.params["w"], w, rtol=1e-12)
    # rows of the batches 4, 4, 2; validation stands at the last step of the run each time
    means = [(0 * 4 + 1 * 4 + 2 * 2) / 40, (3 * 4 + 4 * 4 + 5 * 2) / 40, 6 / 4]
    np.testing.assert_allclose(fitted.history["weight"], means, rtol=1e-12)
    np.testing.assert_allclose(fitted.history["validation_weight"], [6 / 4] * 3)


def test_members_follow_the_schedule_and_the_single_step_too():
    start = RNG.normal(size=(M, 3))
    fitted = fit_ensemble(annealed, {"w": jnp.asarray(start)}, DATA, optimizer=SGD, steps=4,
                          **OPTIONS)  # fmt: skip
    for m, key in enumerate(jax.random.split(KEY, M)):
        np.testing.assert_allclose(fitted.params["w"][m], by_hand(start[m], 4, key)[0], rtol=1e-12)
    step = make_step(annealed, SGD)
    state = TrainState.create({"w": jnp.ones(3)}, SGD)
    for expected in range(3):
        state, metrics = step(state, DATA, KEY)
        assert float(metrics["weight"]) == expected / 4


def test_a_wrapper_that_loses_uses_step_is_named():
    def run(loss_fn, data=DATA):
        return fit(loss_fn, {"w": jnp.ones(3)}, data, optimizer=SGD, steps=2, **OPTIONS)

    message = r'reads batch\["step"\], but has no attribute uses_step = True.*functools.wraps'
    with pytest.raises(ValueError, match=message):
        run(lambda *args: annealed(*args))
    with pytest.raises(ValueError, match=message):
        run(functools.partial(annealed))

    @functools.wraps(annealed)
    def wrapped(*args):
        return annealed(*args)

    assert run(wrapped).history["weight"] == pytest.approx([0.125])
    with pytest.raises(ValueError, match='entry "step" of their own. Rename that entry'):
        run(annealed, {**DATA, "step": np.arange(ROWS)})
    with pytest.raises(KeyError, match="other"):  # any other missing entry is the loss's own affair
        run(lambda params, batch, key: (batch["other"], {}))


class Normalised(nn.Module):
    """A linear map of batch-normalised inputs."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.8)(x)
        return nn.Dense(1)(x)


def statistics_loss(params, batch, key):
    weights = {name: value for name, value in params.items() if name != "collections"}
    out, new = Normalised().apply(
        {"params": weights, **params["collections"]}, batch["x"], True, mutable=["batch_stats"]
    )
    return jnp.mean((out - batch["y"]) ** 2), {"size": jnp.mean(out), "collections": new}


def start_with_statistics(key):
    variables = Normalised().init(key, jnp.asarray(DATA["x"]), False)
    variables = jax.tree.map(lambda leaf: leaf.astype("float64"), variables)
    return {**variables["params"], "collections": {"batch_stats": variables["batch_stats"]}}


def running_statistics(key, steps):
    """Flax's rule, by hand: mean and variance of each batch, folded in with momentum 0.8."""
    mean, var = np.zeros(3), np.ones(3)
    for step in range(steps):
        epoch, batch = divmod(step, 3)
        rows = np.asarray(epoch_order(key, epoch, ROWS))[batch * BATCH : (batch + 1) * BATCH]
        mean = 0.8 * mean + 0.2 * DATA["x"][rows].mean(axis=0)
        var = 0.8 * var + 0.2 * DATA["x"][rows].var(axis=0)
    return {"mean": mean, "var": var}


def test_collections_are_written_back_and_never_trained():
    params = start_with_statistics(KEY)
    adam = optax.adamw(0.1, weight_decay=0.5)  # would pull the statistics to zero
    fitted = fit(statistics_loss, params, DATA, optimizer=adam, steps=7, validation=DATA, **OPTIONS)
    found = fitted.params["collections"]["batch_stats"]["BatchNorm_0"]
    expected = running_statistics(KEY, 7)
    chex.assert_trees_all_close(found, expected, rtol=1e-12)
    assert set(fitted.history) == {"loss", "size", "validation_loss", "validation_size"}
    moments = fitted.state.opt_state[0].mu
    assert set(moments) == {"BatchNorm_0", "Dense_0"}
    # the same weights as a loop that differentiates the params alone
    step = make_step(statistics_loss, adam)
    state = TrainState.create(params, adam)
    for number in range(7):
        epoch, batch = divmod(number, 3)
        rows = np.asarray(epoch_order(KEY, epoch, ROWS))[batch * BATCH : (batch + 1) * BATCH]
        part = {name: jnp.asarray(values[rows]) for name, values in DATA.items()}
        state, metrics = step(state, part, step_key(KEY, epoch, batch))
    assert "collections" not in metrics
    chex.assert_trees_all_close(fitted.params, state.params, rtol=1e-12)


@pytest.mark.slow
def test_each_member_has_its_own_collections():
    keys = jax.random.split(KEY, M)
    members = jax.vmap(start_with_statistics)(keys)
    fitted = fit_ensemble(statistics_loss, members, DATA, optimizer=SGD, steps=4, **OPTIONS)
    for m, key in enumerate(keys):
        found = fitted.params["collections"]["batch_stats"]["BatchNorm_0"]
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, m=m: leaf[m], found), running_statistics(key, 4), rtol=1e-12
        )


def counting(params, batch, key):
    """Counts its calls in a collection; the loss is NaN from the third step."""
    count = params["collections"]["count"]
    bad = jnp.where(count >= 2, jnp.nan, 0.0)
    return params["w"] + bad + 0 * jnp.mean(batch["x"]), {"collections": {"count": count + 1}}


def test_a_step_that_is_not_finite_leaves_the_collections():
    params = {"w": jnp.asarray(1.0), "collections": {"count": jnp.zeros((), jnp.int32)}}
    with pytest.raises(NonFiniteError, match="stopped at step 2") as caught:
        fit(counting, params, DATA, optimizer=SGD, steps=7, **OPTIONS)
    assert int(caught.value.fitted.params["collections"]["count"]) == 2


def with_collections(new):
    return lambda params, batch, key: (params["w"] ** 2, {"collections": new})


def test_collections_that_do_not_fit_are_named():
    def run(loss_fn, collections):
        params = {"w": jnp.asarray(1.0), **collections}
        return fit(loss_fn, params, DATA, optimizer=SGD, steps=1, **OPTIONS)

    with pytest.raises(ValueError, match='params have no entry "collections" to keep them in'):
        run(with_collections({"mean": jnp.zeros(2)}), {})
    start = {"collections": {"mean": jnp.zeros(2), "var": jnp.ones(2)}}
    message = r"\['mean'\]: \[2\] -> \[3\], \['var'\]: \[2\] -> None"
    with pytest.raises(ValueError, match=message):
        run(with_collections({"mean": jnp.zeros(3)}), start)
    kept = run(lambda params, batch, key: (params["w"] ** 2, {}), start)
    chex.assert_trees_all_equal(kept.params["collections"], start["collections"])
