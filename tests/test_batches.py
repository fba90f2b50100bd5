"""A model that the package does not know goes wherever its batches go, and padding stays padding.

`Voice` reads sequences `[B, T, 2]` with two entries beside them and lengths; `Story` has latents, a
posterior given one entry, and a decoder given another.
"""

import functools
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxprob import batches, bayes, heads, interop, objectives, training, vae
from jaxprob.distributions import Independent, Normal
from jaxprob.nn import GRU

KEY = jax.random.key(0)
B, T = 6, 4
_rng = np.random.default_rng(0)
LENGTHS = np.array([4, 1, 3, 2, 4, 2])
BATCH = {
    "x": _rng.normal(size=(B, T, 2)),
    "y": _rng.normal(size=(B, 1)),
    "lengths": LENGTHS,
    "speaker": _rng.normal(size=(B, 2)),
    "room": _rng.normal(size=(B, 1)),
}
BEHIND = np.arange(T)[None] >= LENGTHS[:, None]
OTHER_PADDING = {**BATCH, "x": np.where(BEHIND[..., None], 1e3, BATCH["x"])}


class Voice(nn.Module):
    """The state after the last valid step, beside a speaker and a room, through one head."""

    takes = ("lengths", "speaker", "room")

    @nn.compact
    def __call__(self, x, speaker, room, lengths=None):
        _, state = GRU(3, name="rnn")(x, None, lengths)
        h = jnp.concatenate([state[-1], speaker, room], -1)
        return heads.NormalHead(1, name="head")(h)


class Story(vae.LatentVariableModel):
    """Latents of a sequence that hear the speaker; the decoder is told the room and the past."""

    takes = ("lengths", "speaker")
    decoder_takes = ("x", "room")
    latent_dim = 2

    def setup(self):
        super().setup()
        self.encoder, self.steps = GRU(3), nn.Dense(3)
        self.head = heads.NormalHead(2)

    def encode(self, x, speaker, lengths=None):
        _, state = self.encoder(batches.without_padding(x, lengths), None, lengths)
        return self.posterior(jnp.concatenate([state[-1], speaker], -1))

    def decode(self, z, room, x):
        before = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        beside = jnp.concatenate([z, jnp.broadcast_to(room, (*z.shape[:-1], 1))], -1)
        shape = (*z.shape[:-1], *before.shape[-2:])
        wide = jnp.broadcast_to(beside[..., None, :], (*shape[:-1], 3))
        h = jnp.concatenate([jnp.broadcast_to(before, shape), wide], -1)
        return Independent(self.head(nn.tanh(self.steps(h))), 1)

    def generate(self, z, key, mean=False, num_steps=1, *, room):
        x = jnp.zeros((z.shape[-2], num_steps, 2))
        for _ in range(num_steps):
            x = self.decode(z[0], room, x).mean()
        return x

    def prior(self, speaker):
        shape = (speaker.shape[0], 2)
        return Independent(Normal(jnp.zeros(shape), jnp.ones(shape)), 1)


VOICE, STORY = Voice(), Story()
LOSS = objectives.negative_log_likelihood(VOICE)


@pytest.fixture(scope="module")
def params():
    extra = {name: BATCH[name] for name in VOICE.takes}
    start = jax.jit(functools.partial(VOICE.init, **extra))(KEY, BATCH["x"])["params"]
    return jax.tree.map(lambda leaf: leaf.astype(float), start)


@pytest.fixture(scope="module")
def story():
    beside = {name: BATCH[name] for name in ("lengths", "speaker", "room")}
    start = jax.jit(functools.partial(STORY.init, **beside))
    return start(KEY, BATCH["x"], jnp.zeros((B, 2)))["params"]


def by_hand(params, batch):
    """The distribution of `Voice`, called as a Linen module is."""
    return VOICE.apply(
        {"params": params}, batch["x"], batch["speaker"], batch["room"], batch["lengths"]
    )


def test_a_fit_and_an_ensemble_see_all_that_it_takes(params):
    options = {"optimizer": optax.sgd(0.1), "steps": 1, "key": KEY, "progress": False}
    fitted = training.fit(LOSS, params, BATCH, **options)

    def nll(params):
        return -jnp.mean(by_hand(params, BATCH).log_prob(BATCH["y"]))

    gradient = jax.jit(jax.grad(nll))(params)
    for new, old, g in zip(*map(jax.tree.leaves, (fitted.params, params, gradient)), strict=True):
        np.testing.assert_allclose(new, old - 0.1 * g, rtol=1e-10, atol=1e-13)
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), params)
    both = training.fit_ensemble(LOSS, members, OTHER_PADDING, **options)
    for one, alone in zip(*map(jax.tree.leaves, (both.params, fitted.params)), strict=True):
        np.testing.assert_allclose(one[0], alone, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_prediction_takes_a_batch(params, chunk_size):
    draws = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), params)
    found = bayes.predict(VOICE, draws, OTHER_PADDING, chunk_size=chunk_size).mean()
    half = jax.tree.map(lambda leaf: 0.5 * leaf, params)
    expected = 0.5 * (by_hand(params, BATCH).mean() + by_hand(half, BATCH).mean())
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_variational_posterior_has_the_bound_of_its_draws():
    q = bayes.GaussianPosterior(VOICE, BATCH, covariance="diagonal")
    params = q.init(KEY)
    loss, metrics = bayes.negative_elbo(q, num_data=50, num_samples=2)(params, OTHER_PADDING, KEY)
    draws = q.sample(params, KEY, 2)
    each = [
        jnp.mean(by_hand(jax.tree.map(lambda w, s=s: w[s], draws), BATCH).log_prob(BATCH["y"]))
        for s in range(2)
    ]
    np.testing.assert_allclose(metrics["nll"], -np.mean(each), rtol=1e-10)
    np.testing.assert_allclose(loss, metrics["nll"] + metrics["kl"] / 50, rtol=1e-12)


@pytest.mark.parametrize(
    "structure", [pytest.param("diagonal", marks=pytest.mark.slow), "last_layer"]
)
def test_a_laplace_approximation_has_the_curvature_of_its_rows(params, structure):
    laplace = bayes.Laplace(VOICE, BATCH, structure=structure, prior=objectives.GaussianPrior(3.0))
    with pytest.warns(UserWarning, match="not"):
        state = laplace.fit(params, OTHER_PADDING)
    p = by_hand(params, BATCH)
    np.testing.assert_allclose(state.log_likelihood, jnp.sum(p.log_prob(BATCH["y"])), rtol=1e-11)
    closed = laplace.predict_glm(state, OTHER_PADDING)
    np.testing.assert_allclose(closed.mean(), p.mean(), rtol=1e-11)
    assert np.all(np.asarray(closed.variance()) > np.asarray(p.variance()))
    draws = laplace.sample(state, KEY, 2)
    linear = bayes.predict(laplace.linearized(state), draws, BATCH)
    assert linear.mean().shape == (B, 1)


def test_samplers_and_ensembles_start_from_a_batch(params):
    log_joint = bayes.log_joint(VOICE, objectives.GaussianPrior(1.0), OTHER_PADDING)
    weights = sum(jnp.sum(w**2) for w in jax.tree.leaves(params))
    count = sum(w.size for w in jax.tree.leaves(params))
    prior = -0.5 * weights - 0.5 * count * np.log(2 * np.pi)
    expected = jnp.sum(by_hand(params, BATCH).log_prob(BATCH["y"])) + prior
    np.testing.assert_allclose(log_joint(params), expected, rtol=1e-11)
    members = bayes.DeepEnsemble(VOICE, BATCH, 3).init(KEY)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(members)} == {3}


def test_latents_go_through_every_bound(story):
    extra = {name: BATCH[name] for name in ("speaker", "room", "lengths")}
    value, error = vae.log_marginal(STORY, story, BATCH["x"], KEY, 400, given=extra)
    again, _ = vae.log_marginal(STORY, story, OTHER_PADDING, KEY, 400)
    np.testing.assert_allclose(again, value, rtol=1e-10)
    iwae = -vae.negative_iwae(STORY, 200, "doubly_reparameterized")(story, OTHER_PADDING, KEY)[0]
    assert abs(iwae - jnp.mean(value)) < 5 * jnp.max(error)
    elbo, metrics = vae.negative_elbo(STORY)(story, BATCH, KEY)
    assert -elbo < jnp.mean(value) + 5 * jnp.max(error)
    report = vae.diagnostics(STORY, story, OTHER_PADDING, KEY)
    assert report.kl > 0.0
    copies = vae.reconstruct(STORY, story, BATCH["x"], given=extra)
    assert copies.mean().shape == (B, T, 2)


def test_what_one_entry_says_is_read(story):
    """The decoder's own entry moves p(x | z) and leaves q(z | x) alone; the other way round too."""
    eps = jnp.ones((B, 2))
    beside = {name: BATCH[name] for name in ("lengths", "speaker", "room")}

    def called(**changes):
        return STORY.apply({"params": story}, BATCH["x"], eps, **{**beside, **changes})

    before = called()
    q, z, p = called(room=BATCH["room"] + 1.0)
    np.testing.assert_array_equal(z, before.z)
    assert np.all(np.abs(np.asarray(p.mean() - before.p.mean())).max((1, 2)) > 1e-6)
    _, z, _ = called(speaker=BATCH["speaker"] + 1.0)
    assert np.all(np.abs(np.asarray(z - before.z)).max(-1) > 1e-6)


def test_draws_of_sequences(story):
    given = {"speaker": BATCH["speaker"], "room": BATCH["room"]}
    draws = vae.sample(STORY, story, KEY, 1, mean=True, given=given, num_steps=3)
    assert draws.shape == (B, 3, 2)


class TorchVoice(torch.nn.Module):
    """`Voice` in PyTorch."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.GRU(2, 3, batch_first=True)
        self.head = torch.nn.Module()
        self.head.out = torch.nn.Linear(6, 2)

    def forward(self, x, lengths, speaker, room):
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, state = self.rnn(packed)
        raw = self.head.out(torch.cat([state[0], speaker, room], -1))
        loc, scale = raw.chunk(2, -1)
        scale = torch.nn.functional.softplus(scale) + 1e-4
        return torch.distributions.Independent(torch.distributions.Normal(loc, scale), 1)


def test_parity_is_checked_with_what_the_model_takes():
    report = interop.check_parity(VOICE, TorchVoice(), OTHER_PADDING)
    report.require(value=1e-12, grad=1e-11)


def test_a_model_of_layers_is_declared():
    layers = [nn.Dense(3), nn.tanh]
    plain = nn.Sequential(layers)
    declared = batches.takes(plain, "lengths")
    assert declared.takes == ("lengths",)
    assert type(declared) is type(batches.takes(nn.Sequential(layers), "lengths"))
    assert isinstance(declared, nn.Sequential)
    x = jnp.ones((2, 3))
    shapes = [jax.eval_shape(m.init, KEY, x) for m in (plain, declared)]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])
    given = batches.inputs_of(declared, {"x": x, "lengths": np.array([1, 2])})
    assert list(given.extra) == ["lengths"]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"speaker": None}, r'Voice needs a speaker: batch\["speaker"\]'),
        ({"room": BATCH["room"][:2]}, r"room has shape \(2, 1\); expected \[B, ...\].* B = 6"),
        ({"x": None}, "Voice takes batch"),
        ({"condition": BATCH["room"]}, "Voice takes no condition"),
    ],
)
def test_refuses(params, batch, message):
    batch = {name: value for name, value in {**BATCH, **batch}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        LOSS(params, batch, KEY)


def test_lengths_are_not_overlooked():
    model = nn.Sequential([nn.Dense(1), heads.NormalHead(1)])
    with pytest.raises(ValueError, match="It would read the padding"):
        objectives.negative_log_likelihood(model)({}, BATCH, KEY)


@pytest.mark.parametrize("name", ["mask", "y_observed"])
def test_a_mask_has_two_names(params, name):
    seen = np.array([[True], [False], [True], [True], [False], [True]])
    y = np.where(seen, BATCH["y"], np.nan)
    found = LOSS(params, {**BATCH, "y": y, name: seen}, KEY)[0]
    terms = np.asarray(by_hand(params, BATCH).log_prob(BATCH["y"]))
    np.testing.assert_allclose(found, -np.mean(np.where(seen[:, 0], terms, 0.0)), rtol=1e-12)


def test_an_input_alone_is_not_enough(params):
    """Wherever a batch may stand, and through what wraps the model."""
    draws = jax.tree.map(lambda leaf: leaf[None], params)
    declared = batches.takes(nn.Sequential([Voice()]), "lengths", "speaker", "room")
    calls = [
        lambda: bayes.predict(VOICE, draws, BATCH["x"]),
        lambda: bayes.GaussianPosterior(VOICE, BATCH["x"]),
        lambda: objectives.negative_log_likelihood(declared)(
            {}, {"x": BATCH["x"], "y": BATCH["y"]}, KEY
        ),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="needs a speaker"):
            call()


def test_declarations_add_up_and_travel():
    model = batches.takes(batches.takes(Voice(), "mood"), "hour")
    assert model.takes == (*Voice.takes, "mood", "hour")
    again = pickle.loads(pickle.dumps(model))
    assert again.takes == model.takes
    assert type(again) is type(model)


def test_draws_of_a_prior_that_knows_no_rows_are_made_for_each_row(story):
    """`Story` told its prior's rows; a prior without any has as many draws."""

    class Plain(Story):
        takes = ("lengths", "speaker")

        def prior(self):
            return Independent(Normal(jnp.zeros(2), jnp.ones(2)), 1)

        def generate(self, z, key, mean=False, num_steps=1, *, room):
            return jnp.concatenate([z, jnp.broadcast_to(room, (*z.shape[:-1], 1))], -1)

    given = {"speaker": BATCH["speaker"], "room": BATCH["room"]}
    draws = vae.sample(Plain(), story, KEY, 5, given=given, num_steps=3)
    assert draws.shape == (5, B, 3)
    np.testing.assert_array_equal(draws[..., 2], np.broadcast_to(BATCH["room"][:, 0], (5, B)))


def test_what_is_missing_is_not_read_on_the_way():
    """Paths and single latents start from the codes of what was observed."""
    model = vae.DenseVAE(3, (2,), 2)
    x = _rng.normal(size=(4, 3))
    seen = _rng.uniform(size=x.shape) < 0.6
    params = model.init(KEY, x, jnp.zeros((4, 2)))["params"]
    filled, spoiled = np.where(seen, x, 0.0), np.where(seen, x, np.nan)
    for name in ("mask", "x_observed"):
        given = {name: seen}
        paths = [
            vae.interpolate(model, params, rows, rows, 3, given=more).mean()
            for rows, more in ((spoiled, given), (filled, {}))
        ]
        np.testing.assert_array_equal(*paths)
        moved = vae.traverse(model, params, {"x": spoiled, **given}, 1, (0.5,)).mean()
        expected = vae.traverse(model, params, filled, 1, (0.5,)).mean()
        np.testing.assert_array_equal(moved, expected)


def test_an_entry_that_is_none_is_not_there(params):
    prior = objectives.GaussianPrior(1.0)
    found = bayes.log_joint(VOICE, prior, {**BATCH, "weight": None})(params)
    np.testing.assert_array_equal(found, bayes.log_joint(VOICE, prior, BATCH)(params))
