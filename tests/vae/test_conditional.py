"""The conditional VAE against a linear model, of which p(x | c) is known.

z | c ~ N(m(c), diag s(c)^2),  x | z, c ~ N(W z + V c + b, t^2)
x | c ~ N(W m + V c + b, W diag s^2 W' + t^2)
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import heads, vae
from jaxprob.heads.links import SCALE_FLOOR
from tests.flows.cases import compiled
from tests.support.latents import drawn, wide

KEY = jax.random.key(0)
_rng = np.random.default_rng(0)
X, C = _rng.normal(size=(5, 4)), _rng.normal(size=(5, 3))
HEAD = functools.partial(heads.NormalHead, homoscedastic=True)
MODEL = vae.ConditionalVAE(4, (), 2, likelihood=HEAD, learn_prior=True)
STANDARD = vae.ConditionalVAE(4, (), 2, likelihood=HEAD)
PARAMS = jax.tree.map(np.asarray, wide(drawn(MODEL, X, 0.4, condition=C)))


def exact(params, learned):
    """Mean `[B, D]` and covariance `[B, D, D]` of x given c."""
    kernel, bias = (np.asarray(params["head"]["out"][name]) for name in ("kernel", "bias"))
    scale = np.log1p(np.exp(params["head"]["raw_scale"])) + SCALE_FLOOR
    weights, direct = kernel[:2].T, kernel[2:].T
    loc, spread = np.zeros((5, 2)), np.ones((5, 2))
    if learned:
        prior = params["prior_head"]["out"]
        loc, raw = np.split(C @ prior["kernel"] + prior["bias"], 2, axis=-1)
        spread = np.log1p(np.exp(raw)) + SCALE_FLOOR
    mean = loc @ weights.T + C @ direct.T + bias
    covariance = np.einsum("il,bl,jl->bij", weights, spread**2, weights) + np.diag(scale**2)
    return mean, covariance


@pytest.fixture(scope="module", params=[True, False], ids=["learned", "standard"])
def found(request):
    """Everything that a conditional model is for, in one program; and the exact moments."""
    model = MODEL if request.param else STANDARD
    params = {k: v for k, v in PARAMS.items() if request.param or "prior" not in k}
    batch = {"x": X, "condition": C}

    @compiled
    def run():
        return {
            "marginal": vae.log_marginal(model, params, X, KEY, 20_000, 10_000, {"condition": C}),
            "elbo": vae.negative_elbo(model, num_samples=4000)(params, batch, KEY),
            "estimated": vae.negative_elbo(model, num_samples=4000, analytic_kl=False)(
                params, batch, KEY
            ),
            "iwae": vae.negative_iwae(model, 4000)(params, batch, KEY)[0],
            "sample": vae.sample(model, params, KEY, 20_000, given={"condition": C}),
            "copies": vae.reconstruct(model, params, {"x": X, "condition": C}).mean(),
            "code": model.apply({"params": params}, X, C, method="encode").mean(),
        }

    return jax.tree.map(np.asarray, run()), exact(params, request.param)


def test_log_marginal_is_exact(found):
    ours, (mean, covariance) = found
    rows = zip(X, mean, covariance, strict=True)
    truth = np.array([stats.multivariate_normal(m, s).logpdf(x) for x, m, s in rows])
    estimate = ours["marginal"]
    assert np.all(estimate.standard_error < 0.1)
    assert np.all(np.abs(estimate.value - truth) < 4.5 * estimate.standard_error)
    assert -ours["elbo"][0] < -ours["iwae"] < truth.mean() + 0.05
    assert -ours["iwae"] > truth.mean() - 0.1


def test_kl_is_the_mean_over_draws(found):
    ours, _ = found
    np.testing.assert_allclose(ours["elbo"][1]["kl"], ours["estimated"][1]["kl"], atol=0.06)


def test_samples_follow_the_condition(found):
    ours, (mean, covariance) = found
    assert ours["sample"].shape == (20_000, 5, 4)
    size = np.sqrt(np.einsum("bii->bi", covariance))
    assert np.max(np.abs(ours["sample"].mean(0) - mean) / size) < 4.5 / 141
    for row in range(5):
        gap = np.cov(ours["sample"][:, row].T) - covariance[row]
        assert np.max(np.abs(gap) / np.outer(size[row], size[row])) < 0.05


def test_reconstructions_know_the_condition(found):
    ours, _ = found
    out = PARAMS["head"]["out"]
    expected = np.concatenate([ours["code"], C], -1) @ out["kernel"] + out["bias"]
    np.testing.assert_allclose(ours["copies"], expected, rtol=1e-12)


DENSE = vae.DenseVAE(4, (), 2, likelihood=HEAD)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vae.negative_elbo(MODEL)(PARAMS, {"x": X}, KEY), "needs a condition"),
        (lambda: vae.sample(MODEL, PARAMS, KEY, 3), "needs a condition"),
        (lambda: MODEL.init(KEY, X, jnp.zeros((5, 2))), "needs a condition"),
        (
            lambda: vae.log_marginal(MODEL, PARAMS, X, KEY, 9, given={"condition": C[:, 0]}),
            r"expected \[B, C",
        ),
        (lambda: vae.reconstruct(MODEL, PARAMS, X, {"condition": C[:3]}), "condition has shape"),
        (
            lambda: vae.negative_iwae(DENSE, 2)({}, {"x": X, "condition": C}, KEY),
            "DenseVAE takes no condition",
        ),
        (
            lambda: vae.negative_elbo(MODEL)(PARAMS, {"x": X[:, :3], "condition": C}, KEY),
            r"ConditionalVAE: x has shape \(5, 3\)",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)


def test_paths_and_single_latents_keep_the_condition():
    @compiled
    def run():
        return (
            vae.interpolate(MODEL, PARAMS, X, X, 2, given={"condition": C}).mean(),
            vae.traverse(MODEL, PARAMS, X, 1, (0.5,), given={"condition": C}).mean(),
            vae.reconstruct(MODEL, PARAMS, X, {"condition": C}).mean(),
            MODEL.apply({"params": PARAMS}, X, C, method="encode").mean(),
        )

    path, moved, copies, code = map(np.asarray, run())
    np.testing.assert_allclose(path, jnp.stack([copies, copies]), rtol=1e-12)
    change = (0.5 - code[:, 1:]) * PARAMS["head"]["out"]["kernel"][1]
    np.testing.assert_allclose(moved[0] - copies, change, rtol=1e-9, atol=1e-12)
