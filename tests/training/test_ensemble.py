"""`fit_ensemble`: every member is a `fit` of its own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob.training import NonFiniteError, fit, fit_ensemble
from jaxprob.training.data import epoch_order

M = 3
KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 2))
DATA = {"x": X, "y": X @ np.array([1.0, -2.0])}
MEMBERS = {"w": jnp.asarray(RNG.normal(size=(M, 2))), "b": jnp.asarray(RNG.normal(size=M))}
ADAM = optax.adam(0.1)
DOWN = optax.sgd(1.0)


def member(tree, m):
    return jax.tree.map(lambda leaf: leaf[m], tree)


def noisy_loss(params, batch, key):
    x = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape, batch["x"].dtype)
    error = x @ params["w"] + params["b"] - batch["y"]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def test_each_member_is_a_fit_with_its_own_key():
    shapes = []

    def loss_fn(params, batch, key):
        shapes.append((batch["x"].shape, params["w"].shape))
        return noisy_loss(params, batch, key)

    options = {"optimizer": ADAM, "steps": 8, "batch_size": 4, "validation": DATA}
    together = fit_ensemble(loss_fn, MEMBERS, DATA, key=KEY, progress=False, **options)
    assert sorted(shapes) == [((2, 2), (2,)), ((4, 2), (2,)), ((10, 2), (2,))]
    keys = jax.random.split(KEY, M)
    for m in range(M):
        start = member(MEMBERS, m)
        alone = fit(noisy_loss, start, DATA, key=keys[m], progress=False, **options)
        history = {name: values[:, m] for name, values in together.history.items()}
        of_member = [member(part, m) for part in together[:3]]
        chex.assert_trees_all_close(of_member, list(alone[:3]), rtol=1e-12)
        chex.assert_trees_all_close(history, alone.history, rtol=1e-12)
    # A second ensemble with the same shapes is not traced again.
    again = jax.tree.map(lambda leaf: leaf + 1, MEMBERS)
    fit_ensemble(loss_fn, again, DATA, key=KEY, progress=False, **options)
    assert len(shapes) == 3


def parabola(params, batch, key):
    w = params["w"]
    return jnp.mean(batch["a"]) * w + jnp.mean(batch["b"]) * w**2, {}


def test_each_member_stops_early_by_itself():
    # In training w falls by 1 in each epoch; the validation loss w^2 is best at w = 0.
    down, bowl = {"a": np.ones(4), "b": np.zeros(4)}, {"a": np.zeros(5), "b": np.ones(5)}
    start, seen = {"w": jnp.asarray([2.0, 7.0, 4.0])}, []
    options = {"optimizer": DOWN, "epochs": 20, "validation": bowl, "patience": 2}
    fitted = fit_ensemble(
        parabola,
        start,
        down,
        key=KEY,
        progress=False,
        log=lambda epoch, metrics: seen.append(metrics["validation_loss"]),
        **options,
    )
    np.testing.assert_array_equal(fitted.best_params["w"], [0, 0, 0])
    np.testing.assert_array_equal(fitted.params["w"], [-2, -2, -2])
    np.testing.assert_array_equal(fitted.state.step, [4, 9, 6])
    path = np.array([[s - 1 - epoch for s in (2.0, 7.0, 4.0)] for epoch in range(9)])
    path[4:, 0] = path[6:, 2] = np.nan  # nothing is recorded of a member that has stopped
    np.testing.assert_array_equal(fitted.history["validation_loss"], path**2)
    np.testing.assert_array_equal(fitted.history["loss"], path + 1)
    np.testing.assert_allclose(seen, np.nanmean(path**2, axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    ("members", "sizes"),
    [
        ({"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}, r"\(2,\), \(3,\)"),
        ({"w": jnp.zeros((3, 2)), "b": jnp.zeros(())}, r"\(\), \(3,\)"),
        ({"b": jnp.zeros(())}, r"\(\)"),
        ({"w": jnp.zeros((0, 2)), "b": jnp.zeros(0)}, r"\(0,\)"),
    ],
    ids=["two sizes", "one without axis", "no axis", "no members"],
)
def test_members_need_a_common_leading_axis(members, sizes):
    message = rf"members needs the same leading axis M; got .*{sizes}.*jax.vmap\(init\)"
    with pytest.raises(ValueError, match=message):
        fit_ensemble(noisy_loss, members, DATA, optimizer=ADAM, epochs=1, key=KEY)


def barrier(params, batch, key):
    """Pulls w down by 1 a step; its metric is NaN below 1/2, and with it the loss."""
    height = jnp.log(params["w"] - 0.5)
    return params["w"] + 0 * height, {"height": height, "id": jnp.mean(batch["id"])}


def test_a_member_that_fails_is_named_and_the_others_go_on():
    data = {"id": np.arange(10.0)}
    start = {"w": jnp.asarray([20.0, 5.0, 30.0])}
    options = {"optimizer": DOWN, "epochs": 4, "batch_size": 4, "progress": False}
    with pytest.raises(NonFiniteError, match="training of member 1 stopped at step 5 ") as caught:
        fit_ensemble(barrier, start, data, key=KEY, **options)
    error = caught.value
    found = (error.member, error.step, error.epoch, error.batch, error.term)
    assert found == (1, 5, 1, 2, "height")
    order = epoch_order(jax.random.split(KEY, M)[1], 1, 10)
    np.testing.assert_array_equal(error.rows, order[8:])
    # Three steps an epoch: the others took all twelve, the failed one kept what it had.
    np.testing.assert_array_equal(error.fitted.params["w"], [20 - 12, 5 - 5, 30 - 12])
    np.testing.assert_array_equal(error.fitted.state.step, [12, 5, 12])
    assert error.fitted.history["loss"].shape == (4, M)
    finite = [[True, True, True], [True, False, True], [True, False, True], [True, False, True]]
    np.testing.assert_array_equal(np.isfinite(error.fitted.history["loss"]), finite)
    keys = jax.random.split(KEY, M)
    for m in (0, 2):
        alone = fit(barrier, member(start, m), data, key=keys[m], **options)
        history = {name: values[:, m] for name, values in error.fitted.history.items()}
        chex.assert_trees_all_close(history, alone.history, rtol=1e-12)
