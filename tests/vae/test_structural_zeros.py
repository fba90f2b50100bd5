"""Probabilities of exactly 0 in latent classes: densities, EM and gradients by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.vae as twins
from jaxprob import vae
from jaxprob.objectives import em
from torch_ref.objectives import em as torch_em

SIZES = (2, 3)
MODEL = vae.LatentClassModel(3, SIZES)
INF = np.inf
PARAMS = {
    "class_logits": np.array([0.3, -0.4, -INF]),
    "item_logits": np.array(
        [
            [[0.5, -INF, 0.0], [0.1, 0.2, -INF]],
            [[0.2, 0.7, 0.0], [-INF, 0.4, -0.3]],
            [[0.0, 0.1, 0.0], [0.3, 0.1, 0.2]],
        ]
    ),
}
X = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [0, 2], [0, 1]])
IMPOSSIBLE = np.array([[1, 0]])  # neither of the classes that exist can show it


def by_hand(x, mask=None):
    """p(x, class) `[B, K]`, by products of probabilities."""
    weights = np.exp(PARAMS["class_logits"])
    joint = np.tile(weights / weights.sum(), (len(x), 1))
    for d, size in enumerate(SIZES):
        table = np.exp(PARAMS["item_logits"][:, d, :size])
        table = table / table.sum(-1, keepdims=True)
        for n, row in enumerate(x):
            if mask is None or mask[n, d]:
                joint[n] *= table[:, row[d]]
    return joint


def apply(method, *arguments):
    params = jax.tree.map(jnp.asarray, PARAMS)
    return MODEL.apply({"params": params}, *arguments, method=method)


def twin():
    module = twins.LatentClassModel(3, SIZES).double()
    module.load_state_dict({name: torch.tensor(value) for name, value in PARAMS.items()})
    return module


def test_densities_and_responsibilities_are_exact():
    joint = by_hand(X)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(apply("log_joint", X), np.log(joint), rtol=1e-12)
    np.testing.assert_allclose(apply("log_prob", X), np.log(joint.sum(-1)), rtol=1e-12)
    expected = joint / joint.sum(-1, keepdims=True)
    np.testing.assert_allclose(apply("responsibilities", X), expected, rtol=1e-12, atol=1e-15)
    mask = np.array([[False, True]])
    seen = by_hand(IMPOSSIBLE, mask).sum(-1)
    np.testing.assert_allclose(apply("log_prob", IMPOSSIBLE, mask), np.log(seen), rtol=1e-12)
    module, x = twin(), torch.tensor(X)
    np.testing.assert_allclose(module.log_prob(x).detach(), np.log(joint.sum(-1)), rtol=1e-12)
    theirs = module.responsibilities(x).detach()
    np.testing.assert_allclose(theirs, expected, rtol=1e-12, atol=1e-15)


def test_what_no_class_can_show_has_density_0_and_the_weights_of_the_classes():
    weights = by_hand(np.zeros((1, 2), int), np.zeros((1, 2), bool))
    x = torch.tensor(IMPOSSIBLE)
    for log_prob, r in (
        (apply("log_prob", IMPOSSIBLE), apply("responsibilities", IMPOSSIBLE)),
        (twin().log_prob(x).detach(), twin().responsibilities(x).detach()),
    ):
        assert log_prob[0] == -INF
        np.testing.assert_allclose(r, weights, rtol=1e-12)


def test_gradients_are_those_without_the_zeros():
    """Of a model in which each zero is a number so small that it vanishes; 0 at the zeros."""
    batch = {"x": X, "weight": np.array([1.0, 2.0, 0.5, 1.0, 0.0, 3.0])}
    loss_fn = vae.negative_log_marginal(MODEL)

    @jax.jit
    def slope(params):
        return jax.grad(lambda w: loss_fn(w, batch, jax.random.key(0))[0])(params)

    found = slope(jax.tree.map(jnp.asarray, PARAMS))
    small = slope(jax.tree.map(lambda leaf: jnp.maximum(leaf, -500.0), PARAMS))
    for name, value in PARAMS.items():
        np.testing.assert_allclose(found[name], small[name], rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(np.asarray(found[name])[np.isinf(value)], 0.0)
    assert np.any(np.abs(found["item_logits"]) > 0.01)
    # a row without any density moves nothing, and spoils nothing
    both = {"x": np.concatenate([X, IMPOSSIBLE])}
    shifted = jax.grad(lambda w: loss_fn(w, both, jax.random.key(0))[0])(
        jax.tree.map(jnp.asarray, PARAMS)
    )
    alone = jax.grad(lambda w: loss_fn(w, {"x": X}, jax.random.key(0))[0])(
        jax.tree.map(jnp.asarray, PARAMS)
    )
    for name in PARAMS:
        np.testing.assert_allclose(shifted[name] * 7 / 6, alone[name], rtol=1e-12, atol=1e-15)
    module = twin()
    value, _ = twins.negative_log_marginal(module)(
        {"x": torch.tensor(X), "weight": torch.tensor(batch["weight"])}, None
    )
    value.backward()
    for name in PARAMS:
        grad = getattr(module, name).grad
        np.testing.assert_allclose(found[name], grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("pseudo_count", [0.0, 0.5])
def test_a_step_of_em_by_hand(pseudo_count):
    """Without pseudo-counts a zero stays one; with them every cell gets its own."""
    joint = by_hand(X)
    r = joint / joint.sum(-1, keepdims=True)
    counts = r.sum(0) + pseudo_count
    params = jax.tree.map(jnp.asarray, PARAMS)
    new, objective = vae.em_step(MODEL, params, X, pseudo_count=pseudo_count)
    module = twin()
    theirs = twins.em_step(module, torch.tensor(X), pseudo_count=pseudo_count)
    if pseudo_count:
        assert objective == theirs.item() == -INF
    else:
        np.testing.assert_allclose(objective, np.log(joint.sum(-1)).sum(), rtol=1e-12)
        np.testing.assert_allclose(theirs, np.log(joint.sum(-1)).sum(), rtol=1e-12)
    expected = counts / counts.sum()
    theirs = {name: value.numpy() for name, value in module.state_dict().items()}
    for state in (new, theirs):
        np.testing.assert_allclose(np.exp(state["class_logits"]), expected, rtol=1e-12)
        for d, size in enumerate(SIZES):
            table = pseudo_count + np.stack([r[X[:, d] == c].sum(0) for c in range(size)], -1)
            got = np.exp(np.asarray(state["item_logits"]))[:, d, :size]
            for k in range(2 + (pseudo_count > 0)):
                np.testing.assert_allclose(got[k], table[k] / table[k].sum(), rtol=1e-12)
    zeros = np.isinf(PARAMS["item_logits"][:2])
    if not pseudo_count:
        assert np.all(np.asarray(new["item_logits"])[:2][zeros] == -INF)
        assert new["class_logits"][2] == -INF
    again, later = vae.em_step(MODEL, new, X, pseudo_count=pseudo_count)
    assert np.isfinite(later)
    assert later >= objective
    assert not any(np.any(np.isnan(leaf)) for leaf in jax.tree.leaves(again))


def test_one_impossible_row_does_not_spoil_a_step():
    x = np.concatenate([X, IMPOSSIBLE])
    new, objective = vae.em_step(MODEL, jax.tree.map(jnp.asarray, PARAMS), x)
    assert objective == -INF
    _, later = vae.em_step(MODEL, new, x)
    assert np.isfinite(later)  # the step made it possible


def test_sums_are_exact_in_float32():
    values = np.random.default_rng(0).normal(-5.0, 3.0, 100_001).astype(np.float32)
    exact = np.float32(values.astype(np.float64).sum())
    assert em.total(jnp.asarray(values)) == exact
    assert torch_em.total(torch.tensor(values)).item() == exact
    assert em.total(jnp.asarray([1.0, -jnp.inf, 2.0])) == -INF
    assert em.total(jnp.asarray([3.0])) == 3.0


def test_em_never_falls_in_float32_over_many_rows():
    rng = np.random.default_rng(0)
    probs = np.array([[0.9] * 4, [0.2] * 4])[rng.integers(0, 2, 100_000)]
    patterns, counts = np.unique((rng.random((100_000, 4)) < probs).astype(int), axis=0,
                                 return_counts=True)  # fmt: skip
    x = np.repeat(patterns, counts, axis=0)
    model = vae.LatentClassModel(2, (2,) * 4)
    weight = np.ones(len(x), np.float32)
    fit = vae.fit_em(model, x, jax.random.key(1), weight=weight, num_steps=60)
    assert fit.objectives.dtype == jnp.float32
    climb = np.asarray(fit.objectives, np.float64)
    assert np.all(np.diff(climb) >= 0.0)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), fit.params)
    counted = counts.astype(np.float64)
    _, exact = vae.em_step(model, params, patterns, weight=counted, pseudo_count=0.1)
    np.testing.assert_allclose(climb[-1], exact, rtol=3e-7)


@pytest.mark.parametrize("package", ["ours", "twin"])
def test_a_fall_beyond_rounding_is_shown(package):
    """A broken M-step must not look like a climb."""
    bounds = [1.0, 2.0, 2.0 - 1e-15, 1.9, 1.95]

    if package == "ours":

        def e_step(params):
            return params, jnp.asarray(bounds)[params.astype(int)]

        fit = em.fit_em(e_step, lambda s, p: s + 1, jnp.zeros(1), 5)
    else:

        def e_step(params):
            return params, torch.tensor(bounds[int(params)], dtype=torch.float64)

        fit = torch_em.fit_em(e_step, lambda s, p: s + 1, [0], 5)
    np.testing.assert_array_equal(fit.bounds, [1.0, 2.0, 2.0, 1.9, 1.95])
