"""A Linen model of ours drives through Flax's NNX bridge."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.supervised import GaussianRegressor


def test_linen_model_under_nnx():
    model, x = GaussianRegressor((4,)), jnp.ones((3, 2))
    bridged = nnx.bridge.ToNNX(model, rngs=nnx.Rngs(0)).lazy_init(x)
    prediction = bridged(x)
    params = nnx.to_pure_dict(nnx.state(bridged, nnx.Param))
    direct = model.apply({"params": params}, x)
    assert prediction.batch_shape == (3,)
    np.testing.assert_array_equal(prediction.mean(), direct.mean())
    assert len(jax.tree.leaves(params)) == 4
