"""The layers in PyTorch's layout: axes, dtypes, running statistics, dropout."""

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import checked, nn
from tests.support.layers import drawn

KEY = jax.random.key(0)
RNG = np.random.default_rng(2)


def normal(*shape, dtype="float64"):
    return RNG.normal(size=shape).astype(dtype)


# layer -> shape of an input, shape of the output
SHAPES = {
    "linear": (nn.Linear(4), (3,), (4,)),
    "conv": (nn.Conv(4, (3, 2), (2, 1), (1, 0)), (6, 5, 3), (3, 4, 4)),
    "conv same": (nn.Conv(4, (4,), padding="same"), (7, 3), (7, 4)),
    "conv valid": (nn.Conv(4, (4,), padding="valid"), (7, 3), (4, 4)),
    "conv transpose": (nn.ConvTranspose(4, (3,), 2, 1, 1), (5, 3), (10, 4)),
    "layer norm": (nn.LayerNorm(), (3,), (3,)),
    "RMS norm": (nn.RMSNorm(), (3,), (3,)),
    "attention": (nn.MultiheadAttention(4, 2), (5, 4), (5, 4)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_batch_axes(name):
    """None, one and two batch axes are the same rows."""
    layer, shape, wanted = SHAPES[name]
    x = normal(2, 3, *shape)
    variables = drawn(layer, x)

    @jax.jit
    def run(x):
        flat = layer.apply(variables, x.reshape(6, *shape))
        return layer.apply(variables, x), flat, layer.apply(variables, x[1, 2])

    two, one, none = (np.asarray(out) for out in run(x))
    assert two.shape == (2, 3, *wanted)
    chex.assert_trees_all_close(two, one.reshape(two.shape), rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close(two[1, 2], none, rtol=1e-12, atol=1e-14)


DTYPES = {
    "linear": (nn.Linear(4), (2, 3)),
    "conv": (nn.Conv(4, (2,)), (2, 5, 3)),
    "conv transpose": (nn.ConvTranspose(4, (2,)), (2, 5, 3)),
    "layer norm": (nn.LayerNorm(), (2, 3)),
    "group norm": (nn.GroupNorm(2), (2, 3, 4)),
    "RMS norm": (nn.RMSNorm(), (2, 3)),
    "GRU": (nn.GRU(2), (2, 3, 2)),
    "attention": (nn.MultiheadAttention(4, 2), (2, 5, 4)),
}


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(name):
    """Float64 only where the input is; bfloat16 where input and weights are, weights float32."""
    layer, shape = DTYPES[name]

    def dtypes(x, weights=None):
        def run(x):
            variables = layer.init(KEY, x)
            cast = jax.tree.map(lambda leaf: leaf.astype(weights or leaf.dtype), variables)
            return variables, layer.apply(cast, x)

        variables, out = jax.eval_shape(run, x)
        (weight,) = {leaf.dtype.name for leaf in jax.tree.leaves(variables)}
        return weight, {leaf.dtype.name for leaf in jax.tree.leaves(out)}

    assert dtypes(normal(*shape)) == ("float64", {"float64"})
    assert dtypes(normal(*shape, dtype="float32")) == ("float32", {"float32"})
    narrow = normal(*shape, dtype="bfloat16")
    assert dtypes(narrow, "bfloat16") == ("float32", {"bfloat16"})


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(), nn.GroupNorm(1), nn.RMSNorm(eps=1e-5)], ids=lambda layer: layer.name
)
def test_narrow_inputs_have_wide_statistics(layer):
    x = normal(4, 64, dtype="bfloat16") * 30 + 100
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), drawn(layer, x))
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (narrow, x))
    out, wanted = jax.jit(lambda: (layer.apply(narrow, x), layer.apply(*wide)))()
    # one rounding to bfloat16, at the end
    np.testing.assert_allclose(out.astype(jnp.float64), wanted, rtol=2**-8, atol=1e-5)


def test_softmax_of_narrow_inputs_is_wide():
    """Weights of 4,096 equal keys: a sum in bfloat16 stops at 256."""
    layer = nn.MultiheadAttention(2, 1)
    many, one = jnp.ones((4096, 2), jnp.bfloat16), jnp.ones((1, 2), jnp.bfloat16)

    @jax.jit
    def run(params):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        outputs = layer.apply(params, one, many), layer.apply(params, one, one)
        return [out.astype(jnp.float32) for out in outputs]

    np.testing.assert_allclose(*run(drawn(layer, one)), rtol=2**-7)


@pytest.mark.parametrize(
    ("layer", "options"), [(nn.LayerNorm(), {}), (nn.BatchNorm(), {"train": True})]
)
def test_variance_takes_two_passes(layer, options):
    """E[x^2] - E[x]^2 has no digit left here: 9e6 against 1e-4, in float32."""
    x = 3000 + 0.01 * RNG.normal(size=(64, 64))
    x32 = jnp.asarray(x, jnp.float32)
    exact = np.asarray(x32, np.float64)
    axis = 0 if options else -1
    wanted = (exact - exact.mean(axis, keepdims=True)) / np.sqrt(
        exact.var(axis, keepdims=True) + 1e-5
    )
    variables = layer.init(KEY, x32, **options)
    out, _ = layer.apply(variables, x32, **options, mutable=["batch_stats"])
    np.testing.assert_allclose(out, wanted, atol=0.05)


def test_batch_norm_over_training():
    """Running statistics come to those of the data, unbiased; evaluation uses and keeps them."""
    layer, x = nn.BatchNorm(momentum=0.5), normal(6, 2, 3) * 3 + 1
    variables = layer.init(KEY, x, train=True)
    chex.assert_trees_all_equal(
        variables["batch_stats"], {"running_mean": jnp.zeros(3), "running_var": jnp.ones(3)}
    )
    params, step = variables["params"], jax.jit(layer.apply, static_argnames=("train", "mutable"))
    for _ in range(60):
        out, updated = step(variables, x, train=True, mutable=("batch_stats",))
        variables = {"params": params, **updated}
    stats, rows = variables["batch_stats"], np.asarray(x).reshape(-1, 3)
    np.testing.assert_allclose(stats["running_mean"], rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(stats["running_var"], rows.var(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(out.reshape(-1, 3).var(0), 1, rtol=1e-4)
    # without mutable: evaluation changes nothing
    evaluated = step(variables, x[:1], train=False)
    np.testing.assert_allclose(
        evaluated.reshape(-1, 3).T,
        ((rows[:2] - rows.mean(0)) / np.sqrt(rows.var(0, ddof=1) + 1e-5)).T,
        rtol=1e-12,
    )
    with pytest.raises(flax.errors.ModifyScopeVariableError):
        layer.apply(variables, x, train=True)


def test_running_statistics_have_no_gradient():
    layer, x = nn.BatchNorm(), normal(4, 3)
    variables = drawn(layer, x, train=True)

    def running(x):
        updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])[1]
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updated))

    assert (jax.jit(jax.grad(running))(x) == 0).all()


def test_dropout():
    x, layer = normal(40, 50), nn.Dropout(0.3)
    out = layer.apply({}, x, KEY)
    mask = jax.random.bernoulli(KEY, 0.7, x.shape)
    np.testing.assert_allclose(out, np.where(mask, x / 0.7, 0), rtol=1e-15)
    np.testing.assert_array_equal(layer.apply({}, x, KEY, train=False), x)
    np.testing.assert_array_equal(layer.apply({}, x, None, train=False), x)
    np.testing.assert_array_equal(nn.Dropout(0.0).apply({}, x, KEY), x)
    everything = jax.value_and_grad(lambda x: nn.Dropout(1.0).apply({}, x, KEY).sum())(x)
    assert everything[0] == 0
    assert (everything[1] == 0).all()
    assert not layer.init(KEY, x, KEY)


def test_dropout_of_float32_does_not_depend_on_the_x64_flag():
    x = normal(4, 5, dtype="float32")
    wide = nn.Dropout(0.5).apply({}, x, KEY)
    with jax.enable_x64(False):
        np.testing.assert_array_equal(nn.Dropout(0.5).apply({}, x, KEY), wide)


def test_flatten_puts_the_channel_first():
    x = jnp.arange(24.0).reshape(2, 2, 3, 2)
    np.testing.assert_array_equal(
        nn.Flatten().apply({}, x)[0], [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]
    )
    assert nn.Flatten().apply({}, x[:0]).shape == (0, 12)


def test_embedding_outside_of_its_table():
    layer = nn.Embedding(3, 2)
    variables = drawn(layer, jnp.zeros(1, int))
    lookup = jax.jit(lambda indices: layer.apply(variables, indices))
    out = lookup(jnp.array([0, 3, -1, 2]))
    np.testing.assert_array_equal(np.isnan(out).all(-1), [False, True, True, False])
    np.testing.assert_array_equal(out[3], variables["params"]["weight"][2])
    with pytest.raises(ValueError, match="indices must be in"):
        checked(lookup)(jnp.array([0, 3]))
    np.testing.assert_array_equal(checked(lookup)(jnp.array([0, 2])), out[jnp.array([0, 3])])
    small = jnp.array([255, 7], jnp.uint8)
    many = nn.Embedding(300, 2)
    assert np.isfinite(many.apply(drawn(many, small), small)).all()
