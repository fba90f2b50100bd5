"""`conv_general_dilated` against that of `jax.lax`: values, derivatives, batching, its uses."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxprob import bayes, training
from jaxprob.heads import NormalHead
from jaxprob.nn import Conv, conv_general_dilated
from jaxprob.objectives import negative_log_likelihood
from jaxprob.operations.linen import fast_convolutions
from jaxprob.training.mixed_precision import in_precision
from tests.support.jaxprs import equations

KEY = jax.random.key(0)


def draw_case(seed):
    """Arrays and arguments of a random convolution with something in its result."""
    rng = np.random.default_rng(seed)
    while True:
        axes, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
        size, kernel = rng.integers(3, 7, axes), rng.integers(1, 4, axes)
        stride, dilation, spread = rng.integers(1, 4, (3, axes))
        if rng.random() < 0.5:
            spread = np.ones_like(spread)
        pads = rng.integers(-1, 4, (axes, 2))
        reach = spread * (size - 1) + 1 + pads.sum(1) - dilation * (kernel - 1) - 1
        if (reach >= 0).all() and (pads.min() >= 0 or seed % 3 == 0):
            break
    spatial = "DHW"[-axes:]
    numbers = [
        (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        (f"NC{spatial}", f"OI{spatial}", f"NC{spatial}"),
        (f"{spatial}NC", f"I{spatial}O", f"C{spatial}N"),
    ][seed % 3]
    lengths = dict(zip(spatial, size, strict=True)) | {"N": 2, "C": 2 * groups}
    taps = dict(zip(spatial, kernel, strict=True)) | {"I": 2, "O": 3 * groups}
    x = rng.normal(size=[lengths[c] for c in numbers[0]])
    w = rng.normal(size=[taps[c] for c in numbers[1]])
    arguments = (
        tuple(stride.tolist()), [tuple(p) for p in pads.tolist()], tuple(spread.tolist()),
        tuple(dilation.tolist()), numbers, groups,
    )  # fmt: skip
    return jnp.asarray(x), jnp.asarray(w), arguments


def everything(convolve, x, w):
    """Value, gradients, products with the Hessian, and all of it under `vmap` in three ways."""

    def total(x, w):
        return jnp.sum(jnp.sin(convolve(x, w)))

    def of(x, w):
        slopes = jax.grad(total, (0, 1))
        directions = (jnp.cos(x), jnp.full_like(w, 0.3))
        return convolve(x, w), jax.jvp(slopes, (x, w), directions)

    xs, ws = jnp.stack([x, 2 * x, -x]), jnp.stack([w, w + 1, 0.5 * w])
    nested = jax.vmap(jax.vmap(convolve, (0, None)), (None, 0))
    return (
        of(x, w),
        jax.vmap(of, (0, None))(xs, w),
        jax.vmap(of, (None, 0))(x, ws),
        jax.vmap(of)(xs, ws),
        jax.grad(lambda a: jnp.sum(jnp.sin(nested(*a))))((xs, ws)),
    )


def require_close(ours, theirs, bound):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = max(float(jnp.max(jnp.abs(b))), 1e-30)
        assert float(jnp.max(jnp.abs(a - b))) <= bound * scale


@pytest.mark.parametrize("seed", range(6))
def test_random_convolutions_equal_lax(seed):
    x, w, arguments = draw_case(seed)
    results = [
        jax.jit(lambda x, w, c=c: everything(lambda x, w: c(x, w, *arguments), x, w))(x, w)
        for c in (conv_general_dilated, lax.conv_general_dilated)
    ]
    require_close(*results, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 46))
def test_more_random_convolutions_equal_lax(seed):
    test_random_convolutions_equal_lax(seed)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_short_floats_equal_lax(dtype, bound):
    """In float32 other code of XLA computes it than in float64."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 9, 9, 8)), dtype)
    w = jnp.asarray(rng.normal(size=(3, 3, 4, 16)), dtype)
    results = []
    for c in (conv_general_dilated, lax.conv_general_dilated):

        def convolve(x, w, c=c):
            return c(x, w, (2, 2), "SAME", None, None, ("NHWC", "HWIO", "NHWC"), 2)

        results.append(jax.jit(lambda x, w, f=convolve: everything(f, x, w))(x, w))
    assert {leaf.dtype for leaf in jax.tree.leaves(results[0])} == {jnp.dtype(dtype)}
    require_close(*jax.tree.map(lambda a: a.astype("float64"), results), bound)


@pytest.mark.parametrize("groups", [6, 48])
def test_many_groups_equal_lax(groups):
    """One channel a group, joined to blocks; and blocks of which there are several."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, 5, 5, 2 * groups)))
    w = jnp.asarray(rng.normal(size=(3, 3, 2, groups)))
    arguments = ((1, 1), ((1, 1), (1, 1)), None, None, ("NHWC", "HWIO", "NHWC"), groups)
    results = []
    for c in (conv_general_dilated, lax.conv_general_dilated):

        def total(x, w, c=c):
            y = c(x, w, *arguments)
            return jnp.sum(jnp.sin(y)), y

        results.append(jax.value_and_grad(total, (0, 1), has_aux=True)(x, w))
    require_close(*results, 1e-12)


def test_large_results_of_many_kernels_equal_lax():
    """With more numbers than `SMALL` the kernels are gone through apart."""
    rng = np.random.default_rng(2)
    x, ws = rng.normal(size=(9, 20, 20, 2)), rng.normal(size=(3, 3, 3, 2, 5))
    results = []
    for c in (conv_general_dilated, lax.conv_general_dilated):

        def total(x, ws, c=c):
            one = lambda x, w: c(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # noqa: E731
            return jnp.sum(jnp.sin(jax.vmap(one, (None, 0))(x, ws)))

        results.append(jax.jit(jax.grad(total, (0, 1)))(x, ws))
    require_close(*results, 1e-12)


def test_what_has_no_fast_path_is_left_to_lax():
    numbers = ("NWC", "WIO", "NWC")
    whole = conv_general_dilated(
        jnp.ones((1, 4, 1), int), jnp.ones((2, 1, 1), int), (1,), "VALID", dimension_numbers=numbers
    )
    assert whole.tolist() == [[[2], [2], [2]]]
    none = conv_general_dilated(
        jnp.ones((0, 4, 1)), jnp.ones((2, 1, 3)), (1,), "VALID", dimension_numbers=numbers
    )
    assert none.shape == (0, 3, 3)
    with pytest.raises(ValueError, match="feature_group_count"):
        conv_general_dilated(
            jnp.ones((1, 4, 2)), jnp.ones((2, 3, 1)), (1,), "VALID", dimension_numbers=numbers
        )


def test_arguments_that_lax_refuses_are_refused():
    x, w = jnp.ones((1, 4, 2)), jnp.ones((2, 2, 1))
    numbers = lax.ConvDimensionNumbers((0, 2, 1), (2, 1, 0), (0, 0, 1))
    with pytest.raises(ValueError, match="unique|distinct|dimension"):
        conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=numbers)
    with pytest.raises((ValueError, TypeError), match="positive"):
        conv_general_dilated(x, w, (-1,), [(0, 0)], dimension_numbers=("NWC", "WIO", "NWC"))


def test_arrays_of_an_explicit_mesh_keep_their_sharding():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    numbers = ("NWC", "WIO", "NWC")
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones((2, 4, 1)), NamedSharding(mesh, PartitionSpec("data")))
        w = jax.device_put(jnp.ones((2, 1, 3)), NamedSharding(mesh, PartitionSpec()))

        def total(x, w):
            return jnp.sum(conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=numbers) ** 2)

        slope = jax.jit(jax.grad(total))(x, w)
    assert jax.typeof(slope).sharding.spec[0] == "data"


def test_shards_equal_lax():
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))

    def loss(w, x, c):
        rows = PartitionSpec("data")

        def one(w, x):
            y = c(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
            return lax.psum(jnp.sum(y**2), "data")

        return jax.shard_map(one, mesh=mesh, in_specs=(PartitionSpec(), rows),
                             out_specs=PartitionSpec())(w, x)  # fmt: skip

    w, x = jnp.ones((2, 1, 3)), jnp.arange(8.0).reshape(2, 4, 1)
    ours, theirs = (
        jax.grad(loss)(w, x, c) for c in (conv_general_dilated, lax.conv_general_dilated)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# Where a user's layers of Linen meet it.


class Network(nn.Module):
    """Two layers of Linen and one of ours."""

    @nn.compact
    def __call__(self, x):
        """Maps `[B, 6, 6, 1]`."""
        x = nn.tanh(nn.Conv(3, (3, 3), (2, 2))(x))
        x = nn.tanh(nn.ConvTranspose(2, (3, 3), (2, 2))(x))
        return NormalHead(1)(Conv(2, (3, 3))(x).reshape(len(x), -1))


MODEL = Network()
X = jnp.linspace(-1, 1, 4 * 36).reshape(4, 6, 6, 1)
DATA = {"x": X, "y": X.mean((1, 2))}
PARAMS = MODEL.init(KEY, X)["params"]


def names_of(function, *args):
    """The names of all primitives of a function."""
    return [eqn.primitive.name for eqn in equations(function, *args)]


def plain_loss(params, batch, key):
    """As a user writes it, without our objectives."""
    del key
    return -jnp.mean(MODEL.apply({"params": params}, batch["x"]).log_prob(batch["y"])), {}


@pytest.mark.parametrize("loss_fn", [plain_loss, negative_log_likelihood(MODEL)])
@pytest.mark.parametrize("compute_dtype", [None, jnp.bfloat16])
def test_training_takes_the_fast_path(loss_fn, compute_dtype):
    step = training.make_step(in_precision(loss_fn, compute_dtype), optax.sgd(0.1))
    state = training.TrainState.create(PARAMS, optax.sgd(0.1))
    names = names_of(step, state, DATA, KEY)
    assert names.count("convolution") >= 5  # 3 forward, 2 towards the input
    assert names.count("convolution_kernel_gradient") == 3
    assert "conv_general_dilated" not in names


def test_predictions_and_draws_take_the_fast_path():
    draws = jax.tree.map(lambda w: jnp.stack([w, w]), PARAMS)
    names = names_of(lambda d: bayes.predict(MODEL, d, X).mean(), draws)
    assert names.count("convolution") == 3
    assert "conv_general_dilated" not in names
    apart = [MODEL.apply({"params": PARAMS}, X).mean()]
    np.testing.assert_allclose(bayes.predict(MODEL, draws, X).mean(), apart[0], rtol=1e-12)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv(4, (3,), padding="CIRCULAR"),
        nn.Conv(4, (3,), padding="REFLECT", kernel_dilation=2),
        nn.Conv(4, (3, 2), (2, 1), "VALID", feature_group_count=2, use_bias=False),
        nn.ConvTranspose(3, (3,), (2,), padding="CIRCULAR"),
        nn.ConvTranspose(3, (4,), (3,), "SAME", kernel_dilation=2, transpose_kernel=True),
        nn.ConvTranspose(3, (2, 3), padding=((1, 0), (0, 2)), mask=jnp.ones((2, 3, 2, 3)) / 2),
    ],
    ids=lambda layer: f"{type(layer).__name__} {layer.padding}",
)
def test_layers_of_linen_keep_their_options(layer):
    x = jnp.asarray(
        np.random.default_rng(0).normal(size=(2, 3, 7, *[6] * (len(layer.kernel_size) - 1), 2))
    )
    alone = layer.init_with_output(KEY, x)
    with fast_convolutions():
        ours = layer.init_with_output(KEY, x)
        names = names_of(lambda v: layer.apply(v, x), alone[1])
    assert "convolution" in names
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_layers_of_somebody_else_and_other_interceptors_are_left_alone():
    class Doubled(nn.Conv):
        """A layer with a function of its own."""

        @nn.compact
        def __call__(self, inputs):
            """Twice the inputs."""
            return 2 * inputs

    seen = []

    def look(next_fun, args, kwargs, context):
        seen.append(context.module.path)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(look), fast_convolutions():
        np.testing.assert_array_equal(Doubled(1, (3,)).apply({}, X), 2 * X)
        MODEL.apply({"params": PARAMS}, X)
    assert {("Conv_0",), ("ConvTranspose_0",)} <= set(seen)
    with fast_convolutions(), nn.intercept_methods(look):
        names = names_of(lambda p: MODEL.apply({"params": p}, X).mean(), PARAMS)
    assert names.count("conv_general_dilated") == 2  # of Linen: the other one came last
