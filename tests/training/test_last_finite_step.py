"""The last step that leaves a finite state is found, whatever stopped being finite first."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import training

KEY, ROWS = jax.random.key(0), 37
PARAMS = {"w": jnp.ones(20, "float32"), "b": jnp.zeros((), "float32")}


def loss_fn(params, batch, key):
    """Linear, so that each gradient is a row, whatever the params are."""
    del key
    return jnp.mean(batch["x"] @ params["w"]) + params["b"], {}


def by_hand(optimizer, data, epochs):
    """Steps one by one, looking through everything after each: (number of good ones, params)."""
    state = training.TrainState.create(PARAMS, optimizer)
    step = training.make_step(loss_fn, optimizer)
    for epoch in range(epochs):
        order = np.asarray(training.data.epoch_order(KEY, epoch, ROWS))
        for row in order:
            state, metrics = step(state, {"x": data["x"][row : row + 1]}, KEY)
            if not metrics["finite"]:
                return int(state.step), state.params
    return None


@pytest.mark.parametrize(
    ("optimizer", "planted"),
    [
        (optax.adam(1e-3), 1e25),  # only the second moment overflows
        (optax.sgd(1e20), 1e25),  # only the params do
        (optax.sgd(1e-3), np.inf),  # the gradient
        (optax.chain(optax.zero_nans(), optax.sgd(1e-3)), np.inf),
        (optax.chain(optax.sgd(1.0), optax.ema(0.5)), 1e25),
        (optax.chain(optax.adam(1e-3), optax.contrib.reduce_on_plateau()), 1e25),
    ],
    ids=["second moment", "params", "gradient", "zeroed", "none", "infinite start"],
)
def test_the_step_is_that_of_a_loop_by_hand(optimizer, planted):
    x = np.random.default_rng(0).normal(size=(ROWS, 20)).astype("float32")
    x[11] *= 1.0 if np.isinf(planted) else planted
    data = {"x": x}
    if np.isinf(planted):  # finite data, but not their product with the params
        x[11] = 3e38
    expected = by_hand(optimizer, data, 2)

    def run():
        return training.fit(
            loss_fn, PARAMS, data, optimizer=optimizer, epochs=2, batch_size=1, key=KEY,
            progress=False,
        )  # fmt: skip

    if expected is None:
        return run()
    with pytest.raises(training.NonFiniteError) as caught:
        run()
    steps, params = expected
    assert caught.value.step == steps
    for ours, theirs in zip(
        jax.tree.leaves(caught.value.fitted.params), jax.tree.leaves(params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_params_that_overflow_while_loss_and_gradient_are_finite():
    """The gradient is that of an earlier value, so that nothing but the params shows it."""
    data = {"x": np.ones((8, 1), "float32")}

    def clipped(params, batch, key):
        value = jnp.clip(params["w"], -1, 1)
        held = value + (params["w"] - jax.lax.stop_gradient(params["w"]))
        held = jnp.where(jnp.isfinite(held), held, 0.0)
        return jnp.mean(batch["x"] * held), {}

    with pytest.raises(training.NonFiniteError) as caught:
        training.fit(
            clipped, {"w": jnp.zeros((), "float32")}, data, optimizer=optax.sgd(1.3e38), epochs=1,
            batch_size=1, key=KEY, progress=False,
        )  # fmt: skip
    assert caught.value.step == 1  # the first gradient is 2, then 1: -2.6e38, and -3.9e38 is none
    np.testing.assert_allclose(caught.value.fitted.params["w"], -2.6e38, rtol=1e-6)
