"""Kronecker factors against explicit Gauss-Newton matrices, and the layers they are made of."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxprob.nn as jnn
from jaxprob import distributions as d
from jaxprob import heads
from jaxprob.batches import Inputs
from jaxprob.bayes.curvature import gauss_newton
from jaxprob.bayes.kronecker import factored_gauss_newton, find_layers, last_called
from tests.bayes.test_curvature import network, paths, predict_of, start

RNG = np.random.default_rng(1)


class Convolutions(nn.Module):
    """Both layouts of a convolution and of a dense layer, a norm with weights, a free scale."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(2, (3, 2), strides=(2, 1), name="flax")(x))
        x = nn.tanh(jnn.Conv(3, (2, 2), padding=1, dilation=2, name="torch")(x))
        x = nn.LayerNorm(name="norm")(x.mean(axis=(1, 2)))
        x = nn.tanh(jnn.Linear(2, name="linear")(x))
        raw = self.param("raw_scale", nn.initializers.zeros, (1,))
        loc = nn.Dense(1, use_bias=False, name="out")(x)
        return d.Independent(d.Normal(loc, jnp.exp(raw)[None] * jnp.ones_like(loc)), 1)


@pytest.fixture(scope="module")
def images():
    model = Convolutions()
    x = RNG.normal(size=(3, 5, 4, 2))
    vector, unravel = start(model, x)
    params = unravel(vector)
    layers = find_layers(predict_of(model), params, {"x": x[:1]})
    return model, x, params, layers


@pytest.mark.slow
def test_layers_are_found_in_both_layouts(images):
    model, x, params, layers = images
    assert list(layers) == ["flax", "torch", "linear", "out"]
    leaves = paths(params)
    with nn.intercept_methods(_reconstructs(layers, leaves)):
        model.apply({"params": params}, x)
    for layer in layers.values():
        back = layer.to_leaves(layer.to_matrix({k: jnp.asarray(v) for k, v in leaves.items()}))
        for path, leaf in back.items():
            np.testing.assert_array_equal(np.asarray(leaf), leaves[path])


def _reconstructs(layers, leaves):
    """Checks that columns times weight matrix is what the layer returns."""

    def interceptor(next_fun, args, kwargs, context):
        out = next_fun(*args, **kwargs)
        name = "/".join(context.module.path)
        if context.method_name == "__call__" and name in layers:
            columns = layers[name].columns(context.module, jnp.asarray(args[0]))
            matrix = layers[name].to_matrix({k: jnp.asarray(v) for k, v in leaves.items()})
            np.testing.assert_allclose(
                np.asarray(columns @ matrix), out.reshape(-1, out.shape[-1]), atol=1e-12
            )
        return out

    return interceptor


@pytest.mark.slow
def test_kronecker_factors_of_one_row_are_exact(images):
    """For layers that see one vector; and the weights outside of them keep their diagonal."""
    model, x, params, layers = images
    data = {"x": x[:1]}
    factors, diagonal = jax.jit(
        lambda p: factored_gauss_newton(predict_of(model), p, data, layers)
    )(params)
    vector, unravel = ravel_pytree(params)
    full = jax.jit(lambda v: gauss_newton(predict_of(model, unravel), v, data))(vector)
    full = np.asarray(full)
    position = paths(unravel(jnp.arange(vector.size)))
    for name in ("linear", "out"):
        where = np.asarray(layers[name].to_matrix({k: jnp.asarray(v) for k, v in position.items()}))
        index = where.reshape(-1).astype(int)
        block = full[np.ix_(index, index)]
        np.testing.assert_allclose(np.kron(*factors[name]), block, atol=1e-12 * np.max(full))
    assert set(diagonal) == {"norm/scale", "norm/bias", "raw_scale"}
    for path, values in diagonal.items():
        expected = np.diag(full)[position[path].astype(int)]
        np.testing.assert_allclose(np.asarray(values), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
def test_kronecker_factors_are_the_means_that_they_claim(images):
    """A is the mean over rows of what single rows give; B the sum, whatever the chunks."""
    model, x, params, layers = images
    weight = jnp.array([1.0, 0.0, 2.0])
    of_rows = jax.jit(
        lambda p: [
            factored_gauss_newton(predict_of(model), p, {"x": x[n : n + 1]}, layers)[0]
            for n in range(3)
        ]
    )(params)
    found, _ = jax.jit(
        lambda p: factored_gauss_newton(
            predict_of(model), p, {"x": x, "weight": weight}, layers, chunk_size=2
        )
    )(params)
    for name in layers:
        a = sum(w * f[name][0] for w, f in zip(weight, of_rows, strict=True)) / 3.0
        b = sum(w * f[name][1] for w, f in zip(weight, of_rows, strict=True))
        np.testing.assert_allclose(np.asarray(found[name][0]), np.asarray(a), atol=1e-12)
        np.testing.assert_allclose(np.asarray(found[name][1]), np.asarray(b), atol=1e-12)


@pytest.mark.slow
def test_shared_positions_are_treated_as_independent():
    """With equal inputs and gradients at all T positions, the product is the exact block over T.

    sum_t a_t a_t^T (x) 1/T sum_t g_t g_t^T = T a a^T (x) g g^T, while the exact block of a sum
    over positions is T^2 a a^T (x) g g^T: the approximation of the source, pinned.
    """

    class Summed(nn.Module):
        @nn.compact
        def __call__(self, x):
            s = nn.Dense(2, name="shared")(x).sum(axis=1)
            return d.Independent(d.Normal(s, jnp.ones_like(s)), 1)

    x = jnp.broadcast_to(jnp.asarray(RNG.normal(size=(1, 1, 3))), (1, 4, 3))
    model = Summed()
    vector, unravel = start(model, x)
    layers = find_layers(predict_of(model), unravel(vector), {"x": x})
    factors, _ = factored_gauss_newton(predict_of(model), unravel(vector), {"x": x}, layers)
    position = paths(unravel(jnp.arange(vector.size)))
    index = layers["shared"].to_matrix({k: jnp.asarray(v) for k, v in position.items()})
    index = np.asarray(index).reshape(-1).astype(int)
    full = np.asarray(gauss_newton(predict_of(model, unravel), vector, {"x": x}))
    np.testing.assert_allclose(
        4.0 * np.kron(*factors["shared"]), full[np.ix_(index, index)], atol=1e-12
    )


@pytest.mark.slow
def test_layers_inside_a_scan_are_refused():
    """Their inputs live inside the scan; the message names the structures that do without them."""

    class Recurrent(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.RNN(nn.SimpleCell(2))(x)[:, -1]
            return d.Independent(d.Normal(nn.Dense(1)(h), jnp.ones((len(x), 1))), 1)

    x = jnp.zeros((1, 3, 2), jnp.float32)
    params = jax.eval_shape(Recurrent().init, jax.random.key(0), x)["params"]
    with pytest.raises(ValueError, match="inside a scan"):
        find_layers(predict_of(Recurrent()), params, {"x": x})


@pytest.mark.slow
def test_last_called_layer():
    x = jnp.ones((1, 2))
    model = network(heads.NormalHead(1))
    params = model.init(jax.random.key(0), x)["params"]
    assert last_called(model, params, Inputs((x,), {})) == "layers_1"
    deep = jnn.MLP((3, 2))
    wrapped = nn.Sequential([deep])
    params = wrapped.init(jax.random.key(0), x)["params"]
    assert last_called(wrapped, params, Inputs((x,), {})) == "layers_0/hidden_1"
