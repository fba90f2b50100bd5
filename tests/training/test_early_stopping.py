"""Validation data: what is evaluated, which epoch is the best, and when training stops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.training import fit

KEY = jax.random.key(3)


def parabola(params, batch, key):
    return jnp.mean(batch["a"]) * params["w"] + jnp.mean(batch["b"]) * params["w"] ** 2, {}


# Training moves w down by 1 in each epoch; the validation loss w^2 is best at w = 0.
DOWNHILL, BOWL = {"a": np.ones(3), "b": np.zeros(3)}, {"a": np.zeros(5), "b": np.ones(5)}


def go_down(validation, **options):
    start, one_step = {"w": jnp.asarray(5.0)}, optax.sgd(1.0)
    options |= {"optimizer": one_step, "validation": validation, "key": KEY, "progress": False}
    return fit(parabola, start, DOWNHILL, **options)


def test_early_stopping_keeps_the_best_epoch():
    fitted = go_down(BOWL, epochs=50, patience=3)
    np.testing.assert_allclose(fitted.history["validation_loss"], [16, 9, 4, 1, 0, 1, 4, 9])
    assert set(fitted.history) == {"loss", "validation_loss"}
    assert {len(values) for values in fitted.history.values()} == {8}
    assert (float(fitted.best_params["w"]), float(fitted.params["w"])) == (0.0, -3.0)
    assert int(fitted.state.step) == 8


def test_without_patience_the_best_epoch_is_kept_all_the_same():
    fitted = go_down(BOWL, epochs=9)
    assert (float(fitted.best_params["w"]), float(fitted.params["w"])) == (0.0, -4.0)
    assert len(fitted.history["loss"]) == 9


def test_an_equal_validation_loss_is_no_better():
    flat = {"a": np.zeros(5), "b": np.zeros(5)}
    fitted = go_down(flat, epochs=50, patience=2)
    assert len(fitted.history["loss"]) == 3
    assert float(fitted.best_params["w"]) == 4.0


def test_validation_runs_over_all_rows_with_the_params_after_the_epoch():
    rows = 1500  # more than one batch of 1024, and a rest
    x = np.random.default_rng(1).normal(size=(rows, 2))
    validation, data = {"x": x, "y": x[:, 0]}, {"x": x[:7], "y": x[:7, 1]}

    def loss_fn(params, batch, key):
        error = batch["x"] @ params["w"] - batch["y"]
        return jnp.mean(error**2), {"bias": jnp.mean(error)}

    start, options = {"w": jnp.zeros(2)}, {"optimizer": optax.sgd(0.1), "key": KEY}
    fitted = fit(loss_fn, start, data, validation=validation, epochs=1, progress=False, **options)
    loss, metrics = loss_fn(fitted.params, validation, KEY)
    assert set(fitted.history) == {"loss", "bias", "validation_loss", "validation_bias"}
    np.testing.assert_allclose(fitted.history["validation_loss"], [loss], rtol=1e-12)
    np.testing.assert_allclose(fitted.history["validation_bias"], [metrics["bias"]], rtol=1e-10)
