"""MC dropout: a draw is the network with units taken out by hand, and it is one function."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import bayes, heads, training
from jaxprob import distributions as jd
from jaxprob import nn as jnn
from jaxprob.objectives import GaussianPrior, dropout_precision, prior_for_weight_decay

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 3))
Y = np.sin(X[:, :1])
KEY = jax.random.key(0)
RATES, NOISE = (0.4, 0.25), 0.5


class Net(nn.Module):
    """Two dropout layers, of either kind, in a model that knows of training."""

    ours: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False):
        for i, (width, rate) in enumerate(zip((5, 4), RATES, strict=True)):
            x = jnp.tanh(nn.Dense(width, name=f"dense_{i}")(x))
            if self.ours:
                x = jnn.Dropout(rate)(x, None, train=train)
            else:
                x = nn.Dropout(rate, deterministic=not train)(x)
        return heads.NormalHead(1, name="head")(x)


@pytest.fixture(scope="module")
def mc():
    return bayes.MCDropout(Net(), X[:1])


@pytest.fixture(scope="module")
def params(mc):
    return jax.tree.map(lambda leaf: leaf.astype(float), jax.jit(mc.init)(KEY))


def masks_of(key, rates=RATES):
    """What stands in the module's docstring, written out: layer i has fold_in(key, i)."""
    return [
        np.asarray(jax.random.bernoulli(jax.random.fold_in(key, i), 1 - rate, (1, width)))[0]
        for i, (rate, width) in enumerate(zip(rates, (5, 4), strict=True))
    ]


def thinned(params, masks, rates=RATES):
    """The weights of the deterministic network that a draw is: rows of the next kernel scaled."""
    out = jax.tree.map(np.array, params)
    nexts = (out["dense_1"], out["head"]["out"])
    for layer, mask, rate in zip(nexts, masks, rates, strict=True):
        layer["kernel"] *= mask[:, None] / (1 - rate)
    return out


@functools.partial(jax.jit, static_argnums=0)
def moments(model, draws, x):
    return jax.vmap(lambda w: model.apply(w, x).distribution.loc)(draws)


@pytest.mark.parametrize("ours", [False, True], ids=["flax", "jaxprob"])
def test_a_draw_is_the_network_without_those_units(ours, params):
    mc = bayes.MCDropout(Net(ours), X[:1])
    keys = jax.random.split(jax.random.key(5), 6)
    draws = mc.sample(params, jax.random.key(5), 6)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(draws)} == {6}
    found = moments(mc.model, draws, X)
    assert len({float(value) for value in found[:, 0, 0]}) > 1
    for s in range(6):
        weights = thinned(params, masks_of(keys[s]))
        expected = Net().apply({"params": weights}, X).distribution.loc
        np.testing.assert_allclose(found[s], expected, rtol=1e-12)


def test_one_rate_for_all_layers(params):
    mc = bayes.MCDropout(Net(), X[:1], rate=0.5)
    draws = mc.sample(params, jax.random.key(5), 1)
    key = jax.random.split(jax.random.key(5), 1)[0]
    weights = thinned(params, masks_of(key, (0.5, 0.5)), (0.5, 0.5))
    expected = Net().apply({"params": weights}, X).distribution.loc
    np.testing.assert_allclose(moments(mc.model, draws, X)[0], expected, rtol=1e-12)


def test_predictions_do_not_depend_on_the_chunks(mc, params):
    draws = mc.sample(params, jax.random.key(1), 5)
    whole = moments(mc.model, draws, X)
    chunks = [moments(mc.model, draws, part) for part in np.split(X, 7)]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), whole, rtol=1e-12)


def test_the_mean_network_drops_nothing(mc, params):
    expected = Net().apply({"params": params}, X).mean()
    np.testing.assert_array_equal(mc.model.apply(mc.mean(params), X).mean(), expected)
    own = jax.jit(Net().init)(KEY, X)["params"]
    jax.tree.map(np.testing.assert_array_equal, params, own)


def test_the_adapter_is_compiled_once(mc, params):
    traces = []

    def apply(model, draws):
        traces.append(1)
        return jax.vmap(lambda w: model.apply(w, X).mean())(draws)

    run = jax.jit(apply, static_argnums=0)
    run(mc.model, mc.sample(params, KEY, 3))
    run(bayes.MCDropout(Net(), X[:1]).model, mc.sample(params, jax.random.key(9), 3))
    assert len(traces) == 1


class Line(nn.Module):
    """y ~ N((x z) w, NOISE^2) with inputs dropped."""

    rate: float

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.normal(1.0), (x.shape[-1],))
        return jd.Normal(nn.Dropout(self.rate)(jnp.asarray(x)) @ w, NOISE)


@pytest.mark.parametrize("seed", [0, 1])
def test_training_masks_differ_from_row_to_row(seed):
    """The rows are equal, so the targets that leave no error say which inputs each row kept."""
    mc = bayes.MCDropout(Line(0.5), np.ones((1, 6)))
    w, x, key = 2.0 ** np.arange(6), np.ones((500, 6)), jax.random.key(seed)
    y = np.asarray(jax.random.bernoulli(jax.random.fold_in(key, 0), 0.5, x.shape) / 0.5) @ w
    assert len(np.unique(y)) == 64
    nll = mc.loss()({"w": w}, {"x": x, "y": y}, key)[1]["nll"]
    np.testing.assert_allclose(nll, np.log(NOISE) + 0.5 * np.log(2 * np.pi), rtol=1e-12)
    other = mc.loss()({"w": w}, {"x": x, "y": y}, jax.random.key(seed + 7))[1]["nll"]
    assert other > nll + 10


def test_prior_and_precision_belong_together():
    """The weight decay of the loss, read as a prior, and the noise that it goes with."""
    mc, params = bayes.MCDropout(Line(0.4), X[:1]), {"w": RNG.normal(size=3)}
    decay, rows = 1e-3, 200
    prior = prior_for_weight_decay(decay, rows)
    batch = {"x": X, "y": Y[:, 0]}
    plain = mc.loss()(params, batch, KEY)[0]
    loss, metrics = mc.loss(prior, rows)(params, batch, KEY)
    np.testing.assert_allclose(loss, plain - prior.log_prob(params) / rows, rtol=1e-12)
    np.testing.assert_allclose(metrics["nll"], plain, rtol=1e-12)
    # the decay's prior standard deviation is (c N)^-1/2 for c/2 |w|^2, so tau = 1 - rate
    tau = dropout_precision(0.4, decay / 2, rows, prior_scale=prior.scale)
    np.testing.assert_allclose(tau, 0.6, rtol=1e-12)


def test_spread_of_the_draws_is_that_of_the_masks():
    """One linear layer: Var = rate / (1 - rate) sum_i (x_i w_i)^2, in closed form."""
    mc, w = bayes.MCDropout(Line(0.3), X[:1]), RNG.normal(size=3)
    draws = mc.sample({"w": w}, jax.random.key(2), 4000)
    found = np.asarray(jax.vmap(lambda v: mc.model.apply(v, X).loc)(draws))
    variance = 0.3 / 0.7 * ((X * w) ** 2).sum(1)
    assert (np.abs(found.mean(0) - X @ w) < 4 * np.sqrt(variance / 4000)).all()
    np.testing.assert_allclose(found.var(0), variance, rtol=0.1)


@pytest.mark.slow
def test_convolution_and_batch_statistics():
    """Masks of single pixels or of whole channels, shared by all rows; statistics are carried."""

    class Conv(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            x = nn.Conv(2, (2, 2))(x)
            x = nn.BatchNorm(use_running_average=not train)(x)
            x = nn.Dropout(0.5, broadcast_dims=(1, 2))(x, deterministic=not train)
            self.sow("intermediates", "dropped", x)
            return heads.NormalHead(1)(x.reshape(x.shape[0], -1))

    images = RNG.uniform(1, 2, size=(4, 3, 3, 1))
    mc = bayes.MCDropout(Conv(), images[:1])
    start = jax.jit(mc.init)(KEY)
    assert set(start) == {"params", "collections"}
    loss_fn = mc.loss()
    _, metrics = jax.jit(loss_fn)(start, {"x": images, "y": np.ones((4, 1))}, KEY)
    before = start["collections"]["batch_stats"]["BatchNorm_0"]["mean"]
    after = metrics["collections"]["batch_stats"]["BatchNorm_0"]["mean"]
    assert not np.allclose(before, after)
    draws = mc.sample(start, jax.random.key(3), 8)
    watch = jax.vmap(lambda w: mc.model.apply(w, images, mutable=["intermediates"])[1])
    state = jax.jit(watch)(draws)
    zero = np.asarray(state["intermediates"]["dropped"][0]) == 0  # [S, B, H, W, C]
    assert (zero == zero[:, :1, :1, :1]).all()
    assert 0 < zero.mean() < 1


class Counter(nn.RNNCellBase):
    """Adds, at each step, the dropout of ones: a state that is the sum of its masks."""

    @nn.compact
    def __call__(self, carry, x):
        carry = carry + nn.Dropout(0.5)(jnp.ones_like(carry))
        return carry, carry

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((*input_shape[:-1], 6))

    @property
    def num_feature_axes(self):
        return 1


def test_a_mask_in_a_cell_is_that_of_the_whole_sequence():
    class Recurrent(nn.Module):
        @nn.compact
        def __call__(self, x):
            w = self.param("w", nn.initializers.ones, (6,))
            return jd.Normal(nn.RNN(Counter())(x)[:, -1] @ w, 1.0)

    x = RNG.normal(size=(3, 5, 2))
    mc = bayes.MCDropout(Recurrent(), x[:1])
    draws = mc.sample({"w": 2.0 ** np.arange(6)}, KEY, 4)
    masks = jax.jit(jax.vmap(lambda v: mc.model.apply(v, x).loc))(draws) / (5 * 2)
    masks = np.asarray(masks)
    np.testing.assert_array_equal(masks, masks[:, :1] * np.ones((1, 3)))
    assert (masks == np.round(masks)).all()  # a sum of powers of two, each taken 5 times or never
    assert len(np.unique(masks)) > 1


@pytest.mark.slow
def test_it_trains():
    x = np.linspace(-2, 2, 60)[:, None]
    data = {"x": x, "y": np.sin(2 * x) + 0.1 * RNG.normal(size=x.shape)}
    mc = bayes.MCDropout(Net(), x[:1], rate=0.05)
    fitted = training.fit(
        mc.loss(GaussianPrior(1.0), 60), mc.init(KEY), data,
        optimizer=optax.adam(0.02), epochs=400, key=KEY, progress=False,
    )  # fmt: skip
    mean = moments(mc.model, mc.sample(fitted.params, KEY, 200), x).mean(0)
    assert np.sqrt(np.mean((mean - data["y"]) ** 2)) < 0.3


def test_bad_input(mc, params):
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\); got 1.0"):
        bayes.MCDropout(Net(), X[:1], rate=1.0)

    class Bare(nn.Module):
        @nn.compact
        def __call__(self, x):
            return heads.NormalHead(1)(x)

    with pytest.raises(ValueError, match="Bare calls no dropout layer in prediction"):
        bayes.MCDropout(Bare(), X[:1])

    class Attends(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.MultiHeadDotProductAttention(1, dropout_rate=0.1, deterministic=True)
            return heads.NormalHead(1)(layer(x[:, None])[:, 0])

    with pytest.raises(ValueError, match="drops attention weights by itself"):
        bayes.MCDropout(Attends(), X[:1])
    with pytest.raises(ValueError, match="num_data must be the number of rows .* got None"):
        mc.loss(GaussianPrior(1.0))
    with pytest.raises(ValueError, match="num_draws must be at least 1; got 0"):
        mc.sample(params, KEY, 0)
