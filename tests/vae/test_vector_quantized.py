"""Codes: the nearest one, gradients that go where they should, running averages."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import heads, training, vae
from jaxprob.distributions import Independent, Normal
from jaxprob.nn import MLP, as_params

B, D, P, C, K = 6, 4, 2, 3, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, D))
KEY = jax.random.key(0)


class Positions(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(P * C)(x).reshape(x.shape[0], P, C)


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, z):
        return heads.NormalHead(D)(MLP((4,), nn.tanh)(z.reshape(z.shape[0], -1)))


def model_of(decay):
    return vae.VQVAE(Positions(), Decoder(), K, C, decay)


AVERAGED, BY_GRADIENT = model_of(0.8), model_of(None)


def params_of(model):
    shapes = jax.eval_shape(lambda: as_params(model.init(KEY, X)))
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0.0, 0.8, leaf.shape)), shapes)
    if "collections" in params:
        params["collections"]["codebook"]["counts"] = jnp.arange(1.0, K + 1.0)
    return params


def test_first_codebook():
    """Drawn once; its averages stand for it."""
    variables = jax.jit(AVERAGED.init)(KEY, X)
    book = variables["codebook"]
    np.testing.assert_array_equal(book["codes"], book["sums"])
    np.testing.assert_array_equal(book["counts"], 1.0)
    assert np.std(book["codes"]) > 0.5
    assert "codes" not in variables["params"]
    assert "codes" in jax.eval_shape(BY_GRADIENT.init, KEY, X)["params"]


def test_the_nearest_code_and_its_decoding():
    params = params_of(AVERAGED)
    variables = {"params": params["params"], **params["collections"]}

    @jax.jit
    def run(x):
        out = AVERAGED.apply(variables, x)
        return out, AVERAGED.apply(variables, out.indices, method="decode")

    out, decoded = run(X)
    codes = np.asarray(params["collections"]["codebook"]["codes"])
    gaps = np.asarray(out.encodings)[..., None, :] - codes
    np.testing.assert_array_equal(out.indices, np.argmin(np.sum(gaps**2, axis=-1), axis=-1))
    np.testing.assert_array_equal(out.quantized, codes[out.indices])
    np.testing.assert_allclose(out.p.mean(), decoded.mean(), rtol=1e-12)
    assert out.indices.shape == (B, P)


class Scaled(nn.Module):
    """Encodings far from the codes: 1e9 + (c - 1e9) is not c."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.8)(x)
        x = nn.Dropout(1.0)(x, deterministic=not train)
        return 1e9 * Positions()(x)


class Echo(nn.Module):
    @nn.compact
    def __call__(self, z):
        z = z.reshape(z.shape[0], -1)[:, :D]
        return Independent(Normal(z, jnp.ones_like(z)), 1)


def test_the_decoder_sees_the_code_itself_and_training_is_training():
    """Dropout takes all of x away, statistics move beside the codebook."""
    model = vae.VQVAE(Scaled(), Echo(), K, C, 0.8)
    params = as_params(jax.jit(model.init)(KEY, X))
    bias = jnp.arange(P * C) * 1e-9
    params["params"]["encoder"]["Positions_0"]["Dense_0"]["bias"] = bias
    loss_fn = vae.vq_loss(model)

    @jax.jit
    def run(params):
        out = model.apply({"params": params["params"], **params["collections"]}, X)
        return out, loss_fn(params, {"x": X}, KEY)[1], loss_fn.evaluate(params, {"x": X}, KEY)[1]

    out, metrics, evaluated = run(params)
    assert np.abs(out.encodings).max() > 1e8
    np.testing.assert_array_equal(out.p.mean(), out.quantized.reshape(B, -1)[:, :D])
    codes = np.asarray(params["collections"]["codebook"]["codes"])
    gaps = np.sum((1e9 * np.asarray(bias).reshape(P, 1, C) - codes) ** 2, axis=-1)
    np.testing.assert_allclose(metrics["commitment"], gaps.min(-1).sum(), rtol=1e-5)
    assert evaluated["commitment"] > 1e16
    assert "collections" not in evaluated
    moved = metrics["collections"]
    assert jax.tree.structure(moved) == jax.tree.structure(params["collections"])
    mean = moved["batch_stats"]["encoder"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.2 * X.mean(0), rtol=1e-5, atol=1e-7)


def test_each_term_moves_what_it_should():
    """The commitment moves the encoder alone; the codes move by their own distance, by gradient."""
    params = params_of(BY_GRADIENT)
    plain, committed = vae.vq_loss(BY_GRADIENT, 0.0), vae.vq_loss(BY_GRADIENT, 2.0)

    @jax.jit
    def run(params):
        def grad(loss):
            return jax.grad(lambda w: loss(w, {"x": X}, KEY)[0])(params)

        return grad(plain), grad(committed), BY_GRADIENT.apply({"params": params}, X)

    without, with_it, out = run(params)
    for path in ("decoder", "codes"):
        jax.tree.map(np.testing.assert_array_equal, without[path], with_it[path])
    moved = jax.tree.leaves(
        jax.tree.map(
            lambda a, b: float(jnp.max(jnp.abs(a - b))), without["encoder"], with_it["encoder"]
        )
    )
    assert min(moved) > 1e-3
    expected = np.zeros((K, C))
    for e, k in zip(out.encodings.reshape(-1, C), out.indices.reshape(-1), strict=True):
        expected[k] += 2.0 * (np.asarray(params["codes"])[k] - e) / B
    np.testing.assert_allclose(with_it["codes"], expected, rtol=1e-11, atol=1e-13)


def test_the_gradient_passes_straight_through():
    """To the encoding what the decoder has at the code."""
    params = params_of(BY_GRADIENT)
    variables = {"params": params}

    @jax.jit
    def run(x):
        out = BY_GRADIENT.apply(variables, x)

        def at_code(z):
            return jnp.sum(Decoder().apply({"params": params["decoder"]}, z).log_prob(x))

        def whole(shift):
            def encoded(mdl, x):
                return mdl.encoder(x) + shift

            moved = BY_GRADIENT.apply(variables, x, method=encoded)
            passed = moved + jax.lax.stop_gradient(out.quantized - moved)
            return at_code(passed)

        loss = vae.vq_loss(BY_GRADIENT, 0.0)
        bias = jax.grad(lambda w: loss(w, {"x": x}, KEY)[0])(params)["encoder"]["Dense_0"]["bias"]
        return jax.grad(at_code)(out.quantized), jax.grad(whole)(jnp.zeros((B, P, C))), bias

    at_code, passed, bias = run(X)
    np.testing.assert_allclose(passed, at_code, rtol=1e-12)
    # the encoder's last bias moves all rows: the loss is minus their mean
    np.testing.assert_allclose(bias, -at_code.reshape(B, -1).sum(0) / B, rtol=1e-10)


BOOK = {
    "codes": RNG.normal(size=(K, C)),
    "counts": np.array([3.0, 0.4, 1.7, 0.0, 0.9]),
    "sums": RNG.normal(size=(K, C)),
}
ENCODINGS, INDICES = RNG.normal(size=(9, C)), RNG.integers(0, 3, 9)


def test_running_averages_by_loops():
    weight, decay, smoothing = RNG.uniform(0.0, 2.0, 9), 0.8, 0.3
    counts, sums = 0.8 * BOOK["counts"], 0.8 * BOOK["sums"]
    for e, k, w in zip(ENCODINGS, INDICES, weight, strict=True):
        counts[k] += (1 - decay) * w
        sums[k] += (1 - decay) * w * e
    total = counts.sum()
    smoothed = (counts + smoothing) / (total + K * smoothing) * total
    book = jax.tree.map(jnp.asarray, BOOK)
    new = vae.update_codebook(book, jnp.asarray(ENCODINGS), jnp.asarray(INDICES),
                              jnp.asarray(weight), decay, smoothing)  # fmt: skip
    np.testing.assert_allclose(new["counts"], counts, rtol=1e-12)
    np.testing.assert_allclose(new["sums"], sums, rtol=1e-12)
    np.testing.assert_allclose(new["codes"], sums / smoothed[:, None], rtol=1e-12)
    assert np.all(np.isfinite(new["codes"]))  # of the empty cell too


def test_without_smoothing_the_code_of_an_empty_cell_stays():
    """Of the others it is the mean of the cell, where nothing is kept of the past."""
    codes = jnp.asarray(BOOK["codes"])
    book = {"codes": codes, "counts": jnp.zeros(K), "sums": jnp.zeros((K, C))}
    data = jnp.asarray(ENCODINGS), jnp.asarray(INDICES)
    update = jax.jit(lambda weight: vae.update_codebook(book, *data, weight, 0.0, 0.0))
    new, nothing = update(jnp.ones(9)), update(jnp.zeros(9))
    for k in range(K):
        cell = ENCODINGS[INDICES == k]
        expected = cell.mean(0) if len(cell) else BOOK["codes"][k]
        np.testing.assert_allclose(new["codes"][k], expected, rtol=1e-12)
    np.testing.assert_array_equal(nothing["codes"], BOOK["codes"])


def test_in_the_long_run_a_code_is_the_mean_of_its_cell():
    book = jax.tree.map(jnp.asarray, BOOK)
    for _ in range(60):
        book = vae.update_codebook(book, jnp.asarray(ENCODINGS), jnp.asarray(INDICES), decay=0.5)
    for k in range(3):
        mean = ENCODINGS[INDICES == k].mean(0)
        np.testing.assert_allclose(book["codes"][k], mean, rtol=2e-5)


def test_revival_moves_unused_codes_onto_encodings():
    book, weight = jax.tree.map(jnp.asarray, BOOK), np.ones(9)
    weight[:5] = 0.0  # padding is never picked
    revive = jax.jit(lambda key: vae.revive_codes(book, jnp.asarray(ENCODINGS), key,
                                                  jnp.asarray(weight), 1.0))  # fmt: skip
    revived = revive(KEY)
    used = BOOK["counts"] >= 1.0
    np.testing.assert_array_equal(revived["codes"][used], BOOK["codes"][used])
    picked = np.asarray(revived["codes"])[~used]
    assert all(any(np.array_equal(code, e) for e in ENCODINGS[5:]) for code in picked)
    np.testing.assert_array_equal(revived["counts"][~used], 1.0)
    np.testing.assert_array_equal(revived["sums"][~used], picked)
    assert not np.array_equal(revive(jax.random.key(1))["codes"], revived["codes"])


def test_no_encoding_is_picked_twice_while_there_are_others():
    """Four unused codes: of four rows that count each is picked once; of two, each twice."""
    book = {"codes": jnp.zeros((K, C)), "counts": jnp.asarray([9.0, 0.1, 0.2, 0.0, 0.3]),
            "sums": jnp.zeros((K, C))}  # fmt: skip
    rows = jnp.asarray(ENCODINGS)

    @jax.jit
    def revive(key, weight):
        return vae.revive_codes(book, rows, key, weight, 1.0)

    four, two, none = (jnp.asarray(np.arange(9) < n, float) for n in (4, 2, 0))
    orders = set()
    for seed in range(8):
        key = jax.random.key(seed)
        picked = np.asarray(revive(key, four)["codes"])[1:]
        order = [int(np.flatnonzero(np.all(ENCODINGS == code, -1))[0]) for code in picked]
        assert sorted(order) == [0, 1, 2, 3]
        orders.add(tuple(order))
        picked = np.asarray(revive(key, two)["codes"])[1:]
        np.testing.assert_array_equal(
            np.sort(picked, 0), np.sort(np.repeat(ENCODINGS[:2], 2, 0), 0)
        )
    assert len(orders) > 3
    for a, b in zip(jax.tree.leaves(revive(KEY, none)), jax.tree.leaves(book), strict=True):
        np.testing.assert_array_equal(a, b)  # nothing to pick, nothing moved


def test_the_first_pick_has_the_probabilities_of_the_weights():
    book = {"codes": jnp.zeros((1, C)), "counts": jnp.zeros(1), "sums": jnp.zeros((1, C))}
    weight = jnp.asarray([1.0, 2.0, 5.0])
    rows = jnp.arange(3.0)[:, None] * jnp.ones((1, C))
    keys = jax.random.split(KEY, 4000)
    run = jax.jit(jax.vmap(lambda key: vae.revive_codes(book, rows, key, weight)["codes"][0, 0]))
    shares = np.bincount(np.asarray(run(keys), int), minlength=3) / 4000
    np.testing.assert_allclose(shares, weight / 8, atol=4 * 0.5 / np.sqrt(4000))


@pytest.mark.slow
def test_training_moves_the_codebook_and_revives_it():
    """Two clusters and five codes, all started in one place far from the data."""
    rows = np.concatenate([RNG.normal(2.0, 0.1, (20, D)), RNG.normal(-2.0, 0.1, (20, D))])
    params = params_of(AVERAGED)
    far = jnp.full((K, C), 30.0) + 0.1 * jnp.arange(K)[:, None]
    params["collections"]["codebook"] = {"codes": far, "sums": far, "counts": jnp.ones(K)}
    loss_fn = vae.vq_loss(AVERAGED, revive_below=0.5)
    fitted = training.fit(
        loss_fn, params, {"x": rows}, optimizer=optax.adam(0.01), epochs=40, batch_size=20,
        key=KEY, validation={"x": rows}, progress=False,
    )  # fmt: skip
    book = fitted.params["collections"]["codebook"]
    assert np.all(np.abs(book["codes"]) < 20.0)
    history = fitted.history
    assert 1.9 < history["perplexity"][-1] <= K + 1e-9
    assert history["nll"][-1] < history["nll"][0] - 1.0
    _, metrics = jax.eval_shape(loss_fn.evaluate, params, {"x": rows}, KEY)
    assert "collections" not in metrics


def test_perplexity_counts_rows_by_weight():
    params = params_of(AVERAGED)
    weight = np.zeros(B)
    weight[0] = 1.0
    loss = jax.jit(vae.vq_loss(AVERAGED))
    alone = loss(params, {"x": X[:1]}, KEY)[1]
    padded = loss(params, {"x": X, "weight": weight}, KEY)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), padded, alone)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vae.vq_loss(AVERAGED, commitment=-1.0), "commitment must not be negative"),
        (lambda: vae.vq_loss(BY_GRADIENT, revive_below=1.0), "revive_below goes with running"),
        (lambda: vae.VQVAE(Positions(), Decoder(), 0, C).init(KEY, X), "must be at least 1"),
        (lambda: model_of(1.0).init(KEY, X), "decay must lie in \\[0, 1\\); got 1.0"),
        (
            lambda: vae.VQVAE(Positions(), Decoder(), K, C + 1).init(KEY, X),
            "encoder returned shape \\(6, 2, 3\\); expected \\[B, ..., 4\\]",
        ),
        (
            lambda: vae.vq_loss(AVERAGED)(params_of(AVERAGED)["params"], {"x": X}, KEY),
            "the params have no codebook. Start from jaxprob.nn.as_params",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
