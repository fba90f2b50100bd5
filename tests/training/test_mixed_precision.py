"""Mixed precision: contractions in bfloat16, everything that is summed or reported in float32."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

from jaxprob import nn as jnn
from jaxprob.heads import NormalHead
from jaxprob.objectives import negative_log_likelihood
from jaxprob.training import fit, fit_ensemble
from jaxprob.training.mixed_precision import in_precision
from tests.support.jaxprs import equations

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
DATA = {"x": RNG.normal(size=(12, 6, 6, 2)).astype("float32"),
        "y": RNG.normal(size=(12, 1)).astype("float32")}  # fmt: skip


class Network(nn.Module):
    """One of each layer, and what must stay as it is between them."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(3, (3, 3))(x))
        x = nn.tanh(jnn.Conv(4, (3, 3))(x))
        x = nn.LayerNorm()(x.reshape(len(x), -1))
        x = nn.tanh(nn.Dense(5)(x))
        x = jnn.LayerNorm()(nn.tanh(jnn.Linear(5)(x)))
        return NormalHead(1)(nn.DenseGeneral(4)(x))


MODEL = Network()
PARAMS = jax.tree.map(
    lambda w: w.astype("float32"), MODEL.init(KEY, jnp.asarray(DATA["x"]))["params"]
)
LOSS = negative_log_likelihood(MODEL)


def contractions(fn, *args):
    """Dtypes of the operands of every matrix product and convolution."""
    return [
        {str(v.aval.dtype) for v in eqn.invars}
        for eqn in equations(fn, *args)
        if eqn.primitive.name in ("dot_general", "convolution")
    ]


def test_every_contraction_is_short_and_every_result_is_not():
    short = in_precision(LOSS, jnp.bfloat16)
    assert contractions(LOSS, PARAMS, DATA, KEY) == 6 * [{"float32"}]
    dtypes = contractions(short, PARAMS, DATA, KEY)
    assert dtypes == 6 * [{"bfloat16"}]  # two convolutions, three layers, the head's layer
    shapes = jax.eval_shape(jax.value_and_grad(short, has_aux=True), PARAMS, DATA, KEY)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(shapes)} == {"float32"}


@pytest.mark.slow
def test_loss_and_gradient_are_close_to_those_in_long_floats():
    short = in_precision(LOSS, jnp.bfloat16)
    (loss, metrics), gradient = jax.jit(jax.value_and_grad(short, has_aux=True))(PARAMS, DATA, KEY)
    assert {str(v.dtype) for v in (loss, metrics["nll"])} == {"float32"}
    assert {str(g.dtype) for g in jax.tree.leaves(gradient)} == {"float32"}
    expected, exact = jax.jit(jax.value_and_grad(lambda *a: LOSS(*a)[0]))(PARAMS, DATA, KEY)
    assert 0 < abs(float(loss / expected) - 1) < 0.02
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(exact), strict=True):
        assert np.linalg.norm(a - b) <= 0.1 * np.linalg.norm(b) + 1e-3


def test_log_probs_stay_long():
    seen = []

    def loss_fn(params, batch, key):
        prediction = MODEL.apply({"params": params}, batch["x"])
        log_prob = prediction.log_prob(batch["y"])
        seen.extend([prediction.distribution.loc.dtype, log_prob.dtype])
        return -jnp.mean(log_prob), {}

    jax.eval_shape(in_precision(loss_fn, "bfloat16"), PARAMS, DATA, KEY)
    assert {str(dtype) for dtype in seen} == {"float32"}


@pytest.mark.slow
def test_training_in_short_floats_keeps_long_params():
    options = {"optimizer": optax.adam(0.01), "epochs": 2, "key": KEY, "progress": False}
    short = fit(LOSS, PARAMS, DATA, compute_dtype=jnp.bfloat16, **options)
    long = fit(LOSS, PARAMS, DATA, **options)
    assert {str(w.dtype) for w in jax.tree.leaves(short.params)} == {"float32"}
    assert short.history["loss"].dtype == np.float32
    np.testing.assert_allclose(short.history["loss"], long.history["loss"], rtol=0.05)
    assert np.any(short.history["loss"] != long.history["loss"])


@pytest.mark.slow
def test_ensembles_too_and_a_second_fit_is_not_traced_again():
    traces = []

    def loss_fn(params, batch, key):
        traces.append(1)
        return LOSS(params, batch, key)

    members = jax.tree.map(lambda w: jnp.stack([w, w]), PARAMS)
    options = {"optimizer": optax.adam(0.01), "epochs": 2, "key": KEY, "progress": False}
    for _ in range(2):
        fitted = fit_ensemble(loss_fn, members, DATA, compute_dtype="bfloat16", **options)
        assert len(traces) == 1
    assert {str(w.dtype) for w in jax.tree.leaves(fitted.params)} == {"float32"}


IMAGES = (64, 14, 14, 2)
SEQUENCES = (64, 20, 4)
# layer -> shape of its input; each contracts over many rows or positions
LAYERS = {
    "Dense": (nn.Dense(4), IMAGES),
    "DenseGeneral": (nn.DenseGeneral((2, 3), axis=(-2, -1)), IMAGES),
    "DenseGeneral with batch": (nn.DenseGeneral(3, batch_dims=(0,)), (2, 800, 4)),
    "Conv": (nn.Conv(4, (3, 3)), IMAGES),
    "ConvLocal": (nn.ConvLocal(2, (3,)), (64, 6, 2)),
    "ConvTranspose": (nn.ConvTranspose(4, (3, 3), (2, 2)), IMAGES),
    "attention": (nn.MultiHeadDotProductAttention(2), SEQUENCES),
    "GRUCell": (nn.RNN(nn.GRUCell(3)), SEQUENCES),
    "LSTMCell": (nn.RNN(nn.LSTMCell(3)), SEQUENCES),
    "OptimizedLSTMCell": (nn.RNN(nn.OptimizedLSTMCell(3)), SEQUENCES),
    "our Linear": (jnn.Linear(4), IMAGES),
    "our Conv": (jnn.Conv(4, (3, 3), stride=2), IMAGES),
    "our ConvTranspose": (jnn.ConvTranspose(4, (3, 3), groups=2), IMAGES),
    "our MADE": (jnn.MADE(4, (6,)), SEQUENCES),
}


def means_of(layer, shape):
    """Params in float32, data, and the mean output as a loss of both."""
    x = jnp.asarray(np.random.default_rng(1).normal(1.0, 1.0, shape), jnp.float32)
    params = layer.init(KEY, x)["params"]

    def loss_fn(params, batch, key):
        return jnp.mean(layer.apply({"params": params}, batch["x"])), {}

    return params, {"x": x}, loss_fn


QUICK = [("Conv", "bfloat16"), ("GRUCell", "bfloat16"), ("our Linear", "float16")]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow)
        for case in itertools.product(LAYERS, ("bfloat16", "float16"))
    ],
)
def test_gradients_of_means_are_those_in_float32(name, dtype):
    """Against float32 itself: a short sum over 12,544 positions would stop at a 64th of it."""
    params, batch, loss_fn = means_of(*LAYERS[name])

    def gradient(loss):
        return jax.grad(lambda params: loss(params, batch, KEY)[0])

    @jax.jit
    def run(params):
        short = in_precision(loss_fn, dtype)
        member = jax.vmap(gradient(short))(jax.tree.map(lambda w: jnp.stack([w, 2 * w]), params))
        return gradient(loss_fn)(params), gradient(short)(params), member

    exact, alone, members = run(params)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(exact))
    for path, expected in jax.tree.leaves_with_path(exact):
        for found in (alone, jax.tree.map(lambda w: w[0], members)):
            error = np.abs(dict(jax.tree.leaves_with_path(found))[path] - expected).max()
            # rounded operands and cotangents; a recurrent cell rounds once more in each step
            # (attention's bias of keys has no gradient: softmax does not see a shift)
            size = max(np.abs(expected).max(), 2**-7 * largest)
            assert error <= 2**-7 * size, (jax.tree_util.keystr(path), error)


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_float16_neither_loses_nor_overflows_gradients(size):
    """Cotangents far below 6e-8 and sums far above 65504."""
    params, batch, loss_fn = means_of(jnn.Linear(4), (64, 2))

    def scaled(params, batch, key):
        loss, metrics = loss_fn(params, batch, key)
        return size * loss, metrics

    found = jax.grad(in_precision(scaled, "float16"), has_aux=True)(params, batch, KEY)[0]
    column = size * np.asarray(batch["x"], np.float64).mean(0) / 4  # d mean(x W^T + b) / dW
    np.testing.assert_allclose(found["weight"], np.tile(column, (4, 1)), rtol=2**-9)
    np.testing.assert_allclose(found["bias"], size / 4, rtol=1e-6)


def test_a_fit_moves_the_bias_as_float32_does():
    """Plain gradient descent: the bias falls by the learning rate times its gradient, 1/4."""
    params, batch, loss_fn = means_of(nn.Conv(4, (3, 3)), (64, 28, 28, 1))
    fitted = fit(
        loss_fn, params, {"x": np.asarray(batch["x"])}, optimizer=optax.sgd(1.0), epochs=1,
        batch_size=64, key=KEY, compute_dtype=jnp.bfloat16, progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(fitted.params["bias"], -0.25, rtol=1e-6)


def test_a_schedule_goes_through_and_other_dtypes_are_refused(monkeypatch):
    def loss_fn(params, batch, key):
        return batch["step"] * params["w"], {}

    loss_fn.uses_step = True
    assert in_precision(loss_fn, "bfloat16").uses_step
    assert in_precision(loss_fn, "bfloat16") == in_precision(loss_fn, jnp.bfloat16)
    assert in_precision(loss_fn, None) is loss_fn
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for bad in ("int8", "short", 3.5):
        with pytest.raises(ValueError, match="compute_dtype must be a float dtype such as jnp.bf"):
            in_precision(LOSS, bad)
