"""Weights of rows: batches that do not count, and what is refused before the first step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import batches, heads, objectives, training

KEY = jax.random.key(0)
X = jnp.linspace(-1.0, 1.0, 9).reshape(9, 1)
MODEL = nn.Sequential([nn.Dense(2), jnp.tanh, heads.NormalHead()])


def fit(weight):
    return training.fit(
        objectives.negative_log_likelihood(MODEL),
        MODEL.init(KEY, X)["params"],
        {"x": X, "y": X, "weight": weight},
        optimizer=optax.sgd(0.1),
        epochs=3,
        batch_size=4,
        key=KEY,
        progress=False,
    )


def test_a_batch_of_rows_that_do_not_count_changes_nothing():
    fitted = fit(jnp.zeros(9).at[2].set(1.0))  # two of three batches of each epoch do not count
    assert np.all(np.isfinite(jnp.concatenate([w.ravel() for w in jax.tree.leaves(fitted.params)])))
    loss, slope = jax.value_and_grad(lambda v: batches.weighted_mean(v, {"weight": jnp.zeros(3)}))(
        jnp.array([1.0, 2.0, 3.0])
    )
    assert float(loss) == 0.0
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (jnp.ones(9).at[4].set(-30.0), r'data\["weight"\] must be at least 0; got -30.0 at row 4'),
        (jnp.zeros(9), r'data\["weight"\] is 0 in all rows, so there is nothing to train on'),
    ],
)
def test_weights_that_cannot_be_are_refused(weight, words):
    with pytest.raises(ValueError, match=words):
        fit(weight)
