"""Mixed precision: contractions in bfloat16, everything that is summed or reported in float32."""

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
    found = []

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
                found.append({str(v.aval.dtype) for v in eqn.invars})
            for inner in jax.tree.leaves(
                list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "jaxpr")
            ):
                if hasattr(inner, "jaxpr"):
                    walk(inner.jaxpr)

    walk(jax.make_jaxpr(fn)(*args).jaxpr)
    return found


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
