"""Values of the data: what JAX can hold, and what may stand where nothing was observed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import heads, objectives
from jaxprob.training import TrainState, fit, fit_ensemble, make_step
from jaxprob.training.values import seen_values

KEY = jax.random.key(1)
SGD = optax.sgd(0.1)
X = np.ones((6, 2), np.float32)
OPTIONS = {"optimizer": SGD, "key": KEY, "progress": False, "epochs": 1}


def loss_fn(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2), {}


def with_one(value, dtype):
    y = np.ones(6, dtype)
    y[3] = value
    return y


TOO_LARGE = {
    "int64": (with_one(2**31, np.int64), "int32", 2**31, "floats"),
    "negative": (with_one(-(2**31) - 1, np.int64), "int32", -(2**31) - 1, "floats"),
    "uint64": (with_one(2**32, np.uint64), "uint32", 2**32, "floats"),
    "float64": (with_one(-1e39, np.float64), "float32", "-1e", "Rescale"),
}
IDS = list(TOO_LARGE)


@pytest.mark.parametrize(("y", "dtype", "value", "fix"), TOO_LARGE.values(), ids=IDS)
def test_numbers_that_would_wrap_are_refused_by_name_index_and_value(y, dtype, value, fix):
    message = rf'"y"\] holds 1 values that {dtype} cannot .* index \(3,\): {value}.*{fix}.*x64'
    with jax.enable_x64(False):
        one, two = {"w": jnp.zeros(2)}, {"w": jnp.zeros((2, 2))}
        good = {"x": X, "y": np.ones(6)}
        with pytest.raises(ValueError, match=r"fit: data\[" + message):
            fit(loss_fn, one, {"x": X, "y": y}, **OPTIONS)
        with pytest.raises(ValueError, match=r"fit: validation\[" + message):
            fit(loss_fn, one, good, validation={"x": X, "y": y}, **OPTIONS)
        with pytest.raises(ValueError, match=r"fit_ensemble: data\[" + message):
            fit_ensemble(loss_fn, two, {"x": X, "y": y}, **OPTIONS)
        with pytest.raises(ValueError, match=r"fit: batch 1 of epoch 0: data\[" + message):
            fit(loss_fn, one, [good, {"x": X, "y": y}], **OPTIONS)
        with pytest.raises(ValueError, match=r"make_step: batch\[" + message):
            make_step(loss_fn, SGD)(TrainState.create(one, SGD), {"x": X, "y": y}, KEY)


def test_numbers_that_fit_are_kept_to_the_last_one():
    def largest(params, batch, key):
        return 0.0 * params["w"], {"largest": jnp.max(batch["y"])}

    params = {"w": jnp.zeros(())}
    found = fit(largest, params, {"y": np.array([2**40])}, **OPTIONS).history["largest"]
    assert found == [2**40]
    with jax.enable_x64(False):
        params = {"w": jnp.zeros((), jnp.float32)}
        for y in (np.array([2**31 - 1, -(2**31)]), np.array([3e38]), np.array([2**31], np.uint32)):
            found = fit(largest, params, {"y": y}, **OPTIONS).history["largest"]
            assert found == [np.float32(y.max())]


# What was not observed.

SHAPE = (4, 3, 2)
MASK = np.arange(24).reshape(SHAPE) % 5 > 0
LENGTHS = np.array([3, 1, 2, 3])
PADDED = np.broadcast_to(np.arange(3) < LENGTHS[:, None], (4, 3))[..., None] | np.zeros(SHAPE, bool)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, None),
        ({"mask": MASK}, MASK),
        ({"x_observed": MASK, "mask": ~MASK}, MASK),
        ({"y_observed": MASK}, None),
        ({"mask": MASK[:, :, 0]}, None),
        ({"lengths": LENGTHS}, PADDED),
        ({"lengths": LENGTHS, "mask": MASK}, MASK & PADDED),
    ],
    ids=["all", "mask", "own", "another's", "another shape", "lengths", "both"],
)
def test_what_is_read_of_an_entry(entries, expected):
    found = seen_values({"x": np.zeros(SHAPE), **entries}, "x")
    if expected is None:
        assert found is None
    else:
        np.testing.assert_array_equal(np.broadcast_to(found, SHAPE), expected)


def test_what_is_read_of_an_entry_of_each_members_own():
    own = {"x": np.zeros((2, *SHAPE)), "mask": MASK, "lengths": LENGTHS}
    found = seen_values(own, "x", ("x",))
    np.testing.assert_array_equal(np.broadcast_to(found, (2, *SHAPE)), [MASK & PADDED] * 2)
    # a shared entry is read wherever one of the members reads it
    shared = {"x": np.zeros(SHAPE), "mask": np.stack([MASK, ~MASK])}
    assert seen_values(shared, "x", ("mask",)).all()
    # the second axis of an entry that is no sequence is not time
    flat = {"x": np.zeros(SHAPE), "condition": np.zeros((4, 3)), "y": np.zeros((4, 2))}
    assert seen_values({**flat, "lengths": LENGTHS}, "y") is None
    assert seen_values({**flat, "lengths": LENGTHS}, "condition") is None


def test_nan_under_a_mask_trains_as_any_other_number():
    x = np.random.default_rng(0).normal(size=(8, 2))
    y, seen = x[:, :1].copy(), np.arange(8)[:, None] != 3
    model = heads.NormalHead()
    params = model.init(KEY, x)["params"]
    nll = objectives.negative_log_likelihood(model)
    runs = []
    for hidden in (0.5, np.nan, np.inf):
        y[3] = hidden
        data = {"x": x, "y": y.copy(), "mask": seen}
        fitted = fit(nll, params, data, validation=data, **OPTIONS)
        runs.append([*jax.tree.leaves(fitted.params), fitted.history["validation_loss"]])
        assert np.all(np.isfinite(runs[-1][-1]))
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r'data\["y"\] must be finite; 1 of 8 .* \(3, 0\): inf'):
        fit(nll, params, {**data, "mask": ~seen}, **OPTIONS)


def test_nan_behind_the_ends_of_sequences_is_not_read():
    def mean_of_steps(params, batch, key):
        valid = jnp.arange(3)[None] < batch["lengths"][:, None]
        steps = jnp.where(valid[..., None], batch["x"], 0.0)
        return jnp.sum(steps) * params["w"], {}

    x = np.where(PADDED, 1.0, np.nan)
    params, data = {"w": jnp.ones(())}, {"x": x, "lengths": LENGTHS}
    fitted = fit(mean_of_steps, params, data, **OPTIONS)
    np.testing.assert_allclose(fitted.history["loss"], [PADDED.sum()])
    data["x"] = np.where(np.arange(24).reshape(SHAPE) == 1, np.nan, 1.0)
    with pytest.raises(ValueError, match=r'data\["x"\] must be finite; 1 of 24 .* \(0, 0, 1\)'):
        fit(mean_of_steps, params, data, **OPTIONS)
