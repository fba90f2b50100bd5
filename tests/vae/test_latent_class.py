"""Latent classes against tables of all events, and EM against loops and its own promise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import logsumexp

from jaxprob import training, vae
from jaxprob.vae import latent_class

SIZES, K = (2, 4, 3), 3
MODEL = vae.LatentClassModel(K, SIZES)
RNG = np.random.default_rng(0)
PARAMS = {
    "class_logits": jnp.asarray(RNG.normal(size=K)),
    "item_logits": jnp.asarray(RNG.normal(size=(K, len(SIZES), max(SIZES)))),
}
EVENTS = np.array(list(itertools.product(*map(range, SIZES))))
X = np.stack([RNG.integers(0, size, 30) for size in SIZES], axis=1)
MASK = RNG.random(X.shape) < 0.7
KEY = jax.random.key(0)


def probabilities():
    """Class weights `[K]` and a list of tables `[K, C_d]`, by NumPy."""
    w = np.exp(PARAMS["class_logits"])
    tables = [np.exp(np.asarray(PARAMS["item_logits"])[:, d, :c]) for d, c in enumerate(SIZES)]
    return w / w.sum(), [t / t.sum(1, keepdims=True) for t in tables]


def joint_of(row, seen):
    w, tables = probabilities()
    factors = [tables[d][:, row[d]] for d in range(len(SIZES)) if seen[d]]
    return w * np.prod(factors, axis=0) if factors else w


@pytest.fixture(scope="module")
def facts():
    """Everything that is asked of the model, as one program."""

    def ask(x, mask=None, method="log_prob"):
        return MODEL.apply({"params": PARAMS}, x, mask, method=method)

    @jax.jit
    def run():
        masked = ask(X, MASK), ask(X, MASK, "responsibilities")
        whole = MODEL.apply({"params": PARAMS}).log_prob(EVENTS)
        bad = ask(np.array([[0, 3, 3], [2, 0, 0]]))
        return ask(EVENTS), masked, whole, ask(EVENTS, np.zeros(EVENTS.shape, bool)), bad

    return jax.device_get(run())


def test_log_prob_of_all_events(facts):
    log_prob, _, as_distribution, nothing_seen, impossible = facts
    expected = [joint_of(row, (True,) * 3).sum() for row in EVENTS]
    np.testing.assert_allclose(np.exp(log_prob), expected, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_prob).sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(as_distribution, log_prob, rtol=1e-12)
    np.testing.assert_allclose(nothing_seen, 0.0, atol=1e-14)
    np.testing.assert_array_equal(impossible, -np.inf)


def test_missing_values_are_summed_out(facts):
    """The marginal is the sum of the joint over all values of what is missing."""
    log_prob, (masked, responsibilities), *_ = facts
    table = dict(zip(map(tuple, EVENTS), np.exp(log_prob), strict=True))
    for n, (row, seen) in enumerate(zip(X, MASK, strict=True)):
        fits = [p for event, p in table.items() if np.all((row == event) | ~seen)]
        np.testing.assert_allclose(np.exp(masked[n]), sum(fits), rtol=1e-12)
        joint = joint_of(row, seen)
        np.testing.assert_allclose(responsibilities[n], joint / joint.sum(), rtol=1e-12)


def test_one_step_of_em_by_loops():
    weight, a = RNG.uniform(0.0, 2.0, len(X)), 0.3
    classes = np.full(K, a)
    tables = [np.full((K, size), a) for size in SIZES]
    for row, seen, w in zip(X, MASK, weight, strict=True):
        r = joint_of(row, seen)
        r = w * r / r.sum()
        classes += r
        for d in range(len(SIZES)):
            if seen[d]:
                tables[d][:, row[d]] += r
    new, _ = jax.jit(lambda p: vae.em_step(MODEL, p, X, MASK, weight, a))(PARAMS)
    np.testing.assert_allclose(np.exp(new["class_logits"]), classes / classes.sum(), rtol=1e-12)
    for d, table in enumerate(tables):
        found = np.exp(np.asarray(new["item_logits"])[:, d, : SIZES[d]])
        np.testing.assert_allclose(found, table / table.sum(1, keepdims=True), rtol=1e-12)


def test_em_climbs_to_where_the_gradient_is_zero():
    """Its objective never falls, and at the end nothing is left of its gradient."""
    fitted = vae.fit_em(
        MODEL, X, KEY, mask=MASK, pseudo_count=0.5, num_steps=2000, num_restarts=2
    )  # fmt: skip
    climb = np.asarray(fitted.objectives)
    assert np.all(np.diff(climb) > -1e-10)
    assert climb[-1] > climb[0] + 1.0

    @jax.jit
    @jax.grad
    def gradient(params):
        return vae.em_step(MODEL, params, X, MASK, pseudo_count=0.5)[1]

    for leaf in jax.tree.leaves(gradient(fitted.params)):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-5)


def test_a_row_that_counts_twice_is_two_rows():
    times = RNG.integers(0, 3, len(X))

    @jax.jit
    def run(params):
        once = vae.em_step(MODEL, params, np.repeat(X, times, axis=0), None, None, 0.1)
        return once, vae.em_step(MODEL, params, X, None, times.astype(float), 0.1)

    for a, b in zip(*map(jax.tree.leaves, run(PARAMS)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_without_pseudo_counts_no_value_is_seen_and_nothing_breaks():
    """A value that never occurs gets probability 0, and no NaN."""
    rows = np.zeros((4, 3), int)
    model = vae.LatentClassModel(K, list(SIZES))
    fitted = vae.fit_em(model, rows, KEY, pseudo_count=0.0, num_steps=5)
    log_prob = model.apply({"params": fitted.params}, rows, method="log_prob")
    np.testing.assert_allclose(log_prob, 0.0, atol=1e-12)
    assert np.all(np.isfinite(fitted.objectives))


def test_what_is_not_counted_keeps_its_table_and_changes_nothing():
    """A column that nobody shows, and a class whose responsibilities underflow in float32.

    A step of the others, and what the next one climbs, are those of a model that has neither.
    """
    short = jax.tree.map(lambda leaf: leaf.astype("float32"), PARAMS)
    short["class_logits"] = jnp.array([0.3, -0.2, -300.0], "float32")
    kept = {"class_logits": short["class_logits"][:2], "item_logits": short["item_logits"][:2, ::2]}
    rest = vae.LatentClassModel(2, SIZES[::2])
    kept["item_logits"] = kept["item_logits"][..., : max(SIZES[::2])]

    @jax.jit
    def step_and_next(params, others):
        mask = MASK & np.array([True, False, True])
        params, _ = vae.em_step(MODEL, params, X, mask)
        others, _ = vae.em_step(rest, others, X[:, ::2], mask[:, ::2])
        _, objective = vae.em_step(MODEL, params, X, mask)
        _, expected = vae.em_step(rest, others, X[:, ::2], mask[:, ::2])
        return params, objective, others, expected

    params, objective, others, expected = step_and_next(short, kept)
    np.testing.assert_allclose(objective, expected, rtol=1e-6)
    found, exists = np.asarray(params["item_logits"]), np.arange(4) < np.array(SIZES)[:, None]
    np.testing.assert_allclose(found[:2, ::2, :3], others["item_logits"], atol=1e-5)
    logits = np.where(exists, short["item_logits"], -np.inf)
    old = logits - logsumexp(logits, axis=-1, keepdims=True)
    for where in ((2,), (slice(None), 1)):
        new = np.where(exists, found, -np.inf)[where]
        np.testing.assert_allclose(new, old[where], rtol=1e-5)


def test_a_restart_that_failed_is_not_the_best(monkeypatch):
    """And a row that counts 0 times may hold anything."""
    keys, right = jax.random.split(KEY, 2), latent_class.initial_classes

    def spoiled(model, x, key, *rest):
        bad = jnp.all(jax.random.key_data(key) == jax.random.key_data(keys[0]))
        return jax.tree.map(lambda w: jnp.where(bad, jnp.nan, w), right(model, x, key, *rest))

    monkeypatch.setattr(latent_class, "initial_classes", spoiled)
    x, weight = np.concatenate([X, [[7, -1, 2]]]), np.append(np.ones(len(X)), 0.0)
    fitted = vae.fit_em(MODEL, x, KEY, weight=weight, num_steps=3, num_restarts=2)
    assert np.all(np.isfinite(fitted.objectives))


def test_a_row_that_counts_0_times_may_hold_anything():
    """In a compiled step, and in the gradient of the loss."""
    weight, loss_fn = np.append(np.ones(len(X)), 0.0), vae.negative_log_marginal(MODEL)

    @jax.jit
    def run(x):
        def loss(params):
            return loss_fn(params, {"x": x, "weight": weight}, KEY)[0]

        return jax.grad(loss)(PARAMS), vae.em_step(MODEL, PARAMS, x, None, weight)

    found, expected = (run(np.concatenate([X, [row]])) for row in ([7, -1, 2], [1, 0, 2]))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_both_fits_recover_two_simulated_classes():
    classes = RNG.integers(0, 2, 600)
    probs = np.array([[0.9, 0.8, 0.9, 0.2], [0.1, 0.3, 0.2, 0.9]])
    x = (RNG.random((600, 4)) < probs[classes]).astype(int)
    model = vae.LatentClassModel(2, (2,) * 4)
    by_em = vae.fit_em(model, x, KEY, num_steps=300, num_restarts=3).params
    start = jax.tree.map(lambda w: w.astype(float), model.init(jax.random.key(2))["params"])
    by_gradient = training.fit(
        vae.negative_log_marginal(model), start, {"x": x}, optimizer=optax.adam(0.05),
        epochs=400, batch_size=600, key=KEY, progress=False,
    ).params  # fmt: skip
    for params in (by_em, by_gradient):
        found = np.asarray(jax.nn.softmax(params["item_logits"], axis=-1))[..., 1]
        found = found[np.argsort(-found[:, 0])]
        np.testing.assert_allclose(found, probs, atol=0.08)
    losses = [
        -np.mean(model.apply({"params": p}, x, method="log_prob")) for p in (by_em, by_gradient)
    ]
    np.testing.assert_allclose(*losses, atol=2e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vae.LatentClassModel(0, (2,)).init(KEY), "num_classes must be at least 1"),
        (lambda: vae.fit_em(MODEL, X, KEY, num_steps=0), "must be at least 1"),
        (
            lambda: vae.em_step(MODEL, PARAMS, X[:, :2]),
            "x has shape \\(30, 2\\); expected \\[B, 3\\]",
        ),
        (lambda: vae.em_step(MODEL, PARAMS, X, MASK[:, :2]), "mask has shape"),
        (
            lambda: vae.fit_em(MODEL, np.where(np.arange(3) == 0, 5, X), KEY, weight=np.ones(30)),
            "x must be a value of its variable.*30 of 90 .*first at index \\(0, 0\\): 5",
        ),
        (
            lambda: vae.em_step(MODEL, PARAMS, np.array([[0, 0, 3]])),
            "x must be a value of its variable.*first at index \\(0, 2\\): 3",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
