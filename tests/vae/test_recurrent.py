"""The autoencoder of sequences against a loop over time in NumPy, and integrals over its latent."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import heads, nn, objectives, vae
from tests.support.latents import drawn

KEY = jax.random.key(0)
T = 3
MODEL = vae.RecurrentVAE(heads.BernoulliHead(1), latent_dim=1, hidden_size=3)
X = np.random.default_rng(1).integers(0, 2, (4, T, 1)).astype(float)
LENGTHS = np.array([2, 3, 1, 3])
PARAMS = drawn(MODEL, X, 1.5)
TOKENS = vae.RecurrentVAE(heads.CategoricalHead(4), 2, 3, "lstm", nn.Embedding(4, 2), 0.5)
WORDS = np.random.default_rng(2).integers(0, 4, (4, T))
WORD_PARAMS = jax.tree.map(lambda leaf: leaf.astype(float), drawn(TOKENS, WORDS, 1.5))
NODES, SHARES = np.polynomial.hermite_e.hermegauss(60)
SHARES = SHARES / SHARES.sum()


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


def log_likelihood(x, z):
    """log p(x | z) `[N]` of one sequence `[length, 1]` for latents `[N]`, step by step."""
    w = jax.tree.map(np.asarray, PARAMS)
    cell, out = w["decoder"], w["head"]["out"]
    h, total = np.zeros((len(z), 3)), np.zeros(len(z))
    for t in range(len(x)):
        before = [x[t - 1, 0], 1.0] if t > 0 else [0.0, 0.0]
        inputs = np.column_stack([np.broadcast_to(before, (len(z), 2)), z])
        a = inputs @ cell["weight_ih_l0"].T + cell["bias_ih_l0"]
        c = h @ cell["weight_hh_l0"].T + cell["bias_hh_l0"]
        reset, update = sigmoid(a[:, :3] + c[:, :3]), sigmoid(a[:, 3:6] + c[:, 3:6])
        h = (1 - update) * np.tanh(a[:, 6:] + reset * c[:, 6:]) + update * h
        p = sigmoid(h @ out["kernel"] + out["bias"])[:, 0]
        total += np.log(p if x[t, 0] == 1.0 else 1.0 - p)
    return total


def log_marginal(x):
    """log p(x) of one sequence, by Gauss and Hermite."""
    return np.log(SHARES @ np.exp(log_likelihood(x, NODES)))


@pytest.fixture(scope="module")
def losses():
    """Losses of binary sequences and of words, with all their slopes, compiled once a shape."""

    @jax.jit
    def binary(params, batch):
        double = vae.negative_iwae(MODEL, 3, "doubly_reparameterized")
        return jax.value_and_grad(double, has_aux=True)(params, batch, KEY)

    @jax.jit
    def words(params, batch):
        loss = vae.negative_elbo(TOKENS)
        shown = loss.evaluate(params, batch, KEY)[0]
        return jax.value_and_grad(loss, has_aux=True)(params, batch, KEY), shown

    return binary, words


def test_log_likelihood_is_the_loop_over_time():
    loss = jax.jit(vae.negative_elbo(MODEL, objectives.linear_annealing(10), num_samples=2))
    elbo, metrics = loss(PARAMS, {"x": X, "lengths": LENGTHS, "step": jnp.asarray(4)}, KEY)
    eps = np.swapaxes(jax.random.normal(jax.random.split(KEY, 3)[0], (4, 2, 1)), 0, 1)
    _, z, _ = MODEL.apply({"params": PARAMS}, X, eps, LENGTHS)
    expected = [log_likelihood(X[b, : LENGTHS[b]], np.asarray(z)[:, b, 0]).mean() for b in range(4)]
    np.testing.assert_allclose(metrics["nll"], -np.mean(expected), rtol=1e-12)
    np.testing.assert_allclose(elbo, metrics["nll"] + 0.4 * metrics["kl"], rtol=1e-12)


def agree(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_padding_changes_nothing(losses):
    """What stands behind the ends is NaN; and one sequence by itself, without lengths."""
    found = losses[0](PARAMS, {"x": X, "lengths": LENGTHS})
    behind = np.arange(T)[None] >= LENGTHS[:, None]
    agree(
        losses[0](PARAMS, {"x": np.where(behind[..., None], np.nan, X), "lengths": LENGTHS}), found
    )
    weight = np.array([1.0, 0.0, 0.0, 0.0])
    first = losses[0](PARAMS, {"x": X, "lengths": LENGTHS, "weight": weight})
    agree(losses[0](PARAMS, {"x": X[:1, :2], "weight": weight[:1]}), first)
    report = vae.diagnostics(MODEL, PARAMS, X, KEY, {"lengths": LENGTHS})
    assert report.kl > 0.0
    assert np.isfinite(report.elbo)


@pytest.mark.slow
def test_more_padding_changes_no_word_that_is_dropped(losses):
    found, shown = losses[1](WORD_PARAMS, {"x": WORDS, "lengths": LENGTHS})
    longer = np.concatenate([WORDS, WORDS[:, :2]], axis=1)
    agree(losses[1](WORD_PARAMS, {"x": longer, "lengths": LENGTHS}), (found, shown))
    assert abs(found[0][0] - shown) > 1e-3, "in prediction all words are seen"


def test_more_padding_changes_no_pixel_that_is_drawn():
    grey = np.random.default_rng(3).uniform(size=(4, T, 1))
    loss = jax.jit(vae.negative_elbo(MODEL, binarize=True))
    found = loss(PARAMS, {"x": grey, "lengths": LENGTHS}, KEY)[0]
    longer = np.concatenate([grey, grey[:, :2]], axis=1)
    np.testing.assert_allclose(
        loss(PARAMS, {"x": longer, "lengths": LENGTHS}, KEY)[0], found, rtol=1e-12
    )


def test_lengths_that_cut_nothing_draw_the_same_pixels():
    grey = np.random.default_rng(3).uniform(size=(4, T, 1))
    loss = vae.negative_elbo(MODEL, binarize=True)

    @jax.jit
    def run():
        whole = loss(PARAMS, {"x": grey, "lengths": jnp.full(4, T)}, KEY)[0]
        return whole, loss(PARAMS, {"x": grey}, KEY)[0]

    np.testing.assert_allclose(*run(), rtol=1e-12)


def test_log_marginal_is_the_integral_over_the_latent():
    """With the prior as q, so that no weight is far above the others."""
    expected = np.array([log_marginal(X[b, : LENGTHS[b]]) for b in range(4)])
    unit = {"kernel": jnp.zeros((3, 2)), "bias": jnp.array([0.0, np.log(np.e - 1.0)])}
    params = {**PARAMS, "posterior": {"out": unit}}
    value, error = vae.log_marginal(MODEL, params, X, KEY, 4000, 500, {"lengths": LENGTHS})
    assert np.all(error < 0.02)
    assert np.all(np.abs(value - expected) < 4 * error)


def test_samples_have_the_probabilities_of_the_model():
    """All eight binary sequences of three steps; a longer sample begins like a shorter one."""
    number = 20_000
    drawn_ones = np.asarray(vae.sample(MODEL, PARAMS, KEY, number, num_steps=T))[..., 0]
    every = np.array(list(itertools.product([0.0, 1.0], repeat=T)))
    p = np.array([np.exp(log_marginal(x[:, None])) for x in every])
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-10)
    found = np.array([np.mean(np.all(drawn_ones == x, axis=1)) for x in every])
    assert np.all(np.abs(found - p) < 4.5 * np.sqrt(p * (1 - p) / number))
    assert np.ptp(p) > 0.05
    longer = vae.sample(MODEL, PARAMS, KEY, number, num_steps=T + 1)
    np.testing.assert_array_equal(longer[:, :T, 0], drawn_ones)


def test_reconstructions_are_given_what_came_before():
    p = vae.reconstruct(MODEL, PARAMS, {"x": X, "lengths": LENGTHS})
    z = np.asarray(MODEL.apply({"params": PARAMS}, X, LENGTHS, method="encode").mean())
    steps = np.asarray(p.distribution.log_prob(X))
    for b, length in enumerate(LENGTHS):
        np.testing.assert_allclose(
            steps[b, :length].sum(), log_likelihood(X[b, :length], z[b])[0], rtol=1e-12
        )


@pytest.mark.slow
def test_the_most_probable_words_follow_each_other():
    codes = jax.random.normal(KEY, (2, 2))
    variables = {"params": WORD_PARAMS}
    best = TOKENS.apply(variables, codes, KEY, True, T, method="generate")
    again = TOKENS.apply(variables, codes, best, method="decode").distribution.mode()
    np.testing.assert_array_equal(again, best)


def call(model=MODEL, params=PARAMS, **batch):
    return jax.eval_shape(vae.negative_elbo(model), params, batch, KEY)


DENSE = vae.DenseVAE(3, (2,), 1)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: vae.negative_elbo(MODEL)(PARAMS, {"x": X, "lengths": LENGTHS - 1}, KEY),
         "lengths must be between 1 and T = 3"),
        (lambda: call(x=X, lengths=LENGTHS[:2]), "lengths must be integers .B. with B = 4"),
        (lambda: call(x=X.astype(int)), "Tokens .B, T. need embedding="),
        (lambda: call(DENSE, drawn(DENSE, X[..., 0]), x=X[..., 0], lengths=LENGTHS),
         "DenseVAE takes no lengths"),
        (lambda: vae.sample(MODEL, PARAMS, KEY, 2), "say how long, num_steps >= 1; got None"),
        (lambda: vae.sample(DENSE, {}, KEY, 2, num_steps=3), "leave num_steps out"),
        (lambda: vae.interpolate(MODEL, PARAMS, X, X), "needs the steps before each one"),
        (lambda: drawn(MODEL.clone(cell="rnn"), X), "cell must be one of gru, lstm; got 'rnn'"),
        (lambda: drawn(MODEL.clone(word_dropout=1.5), X), "word_dropout must lie in .0, 1."),
    ],
)  # fmt: skip
def test_refuses_what_makes_no_sense(run, message):
    with pytest.raises(ValueError, match=message):
        run()
