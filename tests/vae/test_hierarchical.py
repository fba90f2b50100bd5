"""Layers of latents against a linear chain of normals, of which everything is known.

z_2 ~ N(0, 1),  z_1 | z_2 ~ N(a z_2 + b, t^2),  x | z_1 ~ N(w z_1 + v, s^2 I)
x ~ N(w b + v, (a^2 + t^2) w w' + s^2 I)
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import heads, vae
from jaxprob.distributions import Independent, Normal
from jaxprob.heads.links import SCALE_FLOOR
from jaxprob.vae.hierarchical import merge
from tests.flows.cases import compiled
from tests.support.latents import drawn

KEY = jax.random.key(0)
_rng = np.random.default_rng(0)
A, B, T, S = 0.8, 0.3, 0.7, 0.6
W, V = np.array([1.0, -0.5, 0.8]), np.array([0.2, 0.0, -1.0])
MEAN, COVARIANCE = W * B + V, (A**2 + T**2) * np.outer(W, W) + S**2 * np.eye(3)
X = _rng.multivariate_normal(MEAN, COVARIANCE, 5)
LOG_MARGINAL = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(X)
HEAD = functools.partial(heads.NormalHead, homoscedastic=True)
MODELS = {
    "bottom-up": vae.HierarchicalVAE(3, (), (1, 1), likelihood=HEAD),
    "ladder": vae.HierarchicalVAE(3, (), (1, 1), likelihood=HEAD, ladder=True),
}


def raw(scale):
    """What becomes this scale."""
    return np.log(np.expm1(scale - SCALE_FLOOR))


def layer(slope, intercept, scale):
    """Params of a NormalHead: N(slope . h + intercept, scale^2)."""
    slope = np.reshape(slope, (-1, 1))
    kernel = np.concatenate([slope, np.zeros_like(slope)], 1)
    return {"out": {"kernel": kernel, "bias": np.array([intercept, raw(scale)])}}


def exact(name):
    """Params with which p is the chain and q its posterior."""
    strength = W @ W / S**2  # precision with which x tells z_1, at w . (x - v) / |w|^2
    share, offset = W / (W @ W), -W @ V / (W @ W)
    if name == "ladder":
        told = T**2 + 1 / strength  # x tells a z_2 + b with this variance
        precision = 1 + A**2 / told
        lower = layer(share, offset, strength**-0.5)
        upper = layer(A / told * share / precision, A / told * (offset - B) / precision,
                      precision**-0.5)  # fmt: skip
    else:
        total = 1 / (A**2 + T**2) + strength
        lower = layer(strength * share / total, (strength * offset + B / (A**2 + T**2)) / total,
                      total**-0.5)  # fmt: skip
        precision = 1 + A**2 / T**2
        upper = layer(A / T**2 / precision, -A * B / T**2 / precision, precision**-0.5)
    head = {"out": {"kernel": W[None], "bias": V}, "raw_scale": np.full(3, raw(S))}
    params = {"posteriors_0": lower, "posteriors_1": upper, "priors_0": layer(A, B, T)}
    return {**params, "head": head}


FLOOR = {"bottom-up": 0.64, "ladder": 0.56}  # between the two latents


@pytest.fixture(scope="module", params=MODELS, ids=str)
def found(request):
    """The model under its exact posterior and under another, in one program."""
    model, params = MODELS[request.param], exact(request.param)
    off = jax.tree.map(np.copy, params)
    for name in ("posteriors_0", "posteriors_1"):
        off[name]["out"]["bias"] += np.array([0.2, 0.3])

    @compiled
    def run(params, off):
        def loss(p, **options):
            return vae.negative_elbo(model, **options)(p, {"x": X}, KEY)

        return {
            "every draw": loss(params, analytic_kl=False),
            "marginal": vae.log_marginal(model, off, X, KEY, 8000, 4000),
            "iwae": [vae.negative_iwae(model, n)(off, {"x": X}, KEY) for n in (1, 8000)],
            "free bits": loss(off, num_samples=8000, free_bits=FLOOR[request.param]),
            "columns": model.apply(
                {"params": off},
                model.apply({"params": off}, X, jax.random.normal(KEY, (8000, 5, 2))),
                method="kl_at_draws",
            ),
            "sample": vae.sample(model, params, KEY, 20_000),
            "copies": vae.reconstruct(model, params, X).mean(),
        }

    floor = FLOOR[request.param]
    return {**jax.tree.map(np.asarray, run(params, off)), "floor": floor}


def test_with_the_exact_posterior_every_draw_gives_log_p(found):
    loss, metrics = found["every draw"]
    np.testing.assert_allclose(-loss, LOG_MARGINAL.mean(), rtol=1e-10)
    np.testing.assert_allclose(metrics["nll"] + metrics["kl"], loss, rtol=1e-12)


def test_bounds_rise_to_log_p(found):
    truth = LOG_MARGINAL.mean()
    one, many = (-loss for loss, _ in found["iwae"])
    assert one < many - 0.02
    assert abs(many - truth) < 0.05
    estimate = found["marginal"]
    assert np.all(estimate.standard_error < 0.1)
    assert np.all(np.abs(estimate.value - LOG_MARGINAL) < 4.5 * estimate.standard_error)


def test_closed_and_estimated_kl_agree(found):
    closed, estimated = found["free bits"][1]["kl"], found["iwae"][1][1]["kl"]
    np.testing.assert_allclose(closed, estimated, atol=0.05)
    assert closed != estimated


def test_free_bits_hold_for_each_latent(found):
    columns, floor = found["columns"].mean(0), found["floor"]
    nll, kl = found["free bits"][1]["nll"], found["free bits"][1]["kl"]
    assert -(nll + kl) < LOG_MARGINAL.mean() - 0.02
    np.testing.assert_allclose(columns.sum(), kl, atol=0.05)
    assert columns.min() < floor < columns.max(), "one below the floor, one above"
    expected = nll + np.maximum(columns, floor).sum()
    np.testing.assert_allclose(found["free bits"][0], expected, atol=0.05)


def test_samples_are_those_of_the_chain(found):
    size = np.sqrt(np.diag(COVARIANCE))
    assert np.max(np.abs(found["sample"].mean(0) - MEAN) / size) < 4.5 / 141
    assert np.max(np.abs(np.cov(found["sample"].T) - COVARIANCE) / np.outer(size, size)) < 0.05


def test_reconstructions_start_from_the_posterior_mean(found):
    """Linear means of means are the mean of z_1 given x."""
    gain = (A**2 + T**2) * W @ np.linalg.inv(COVARIANCE)
    code = B + (X - MEAN) @ gain
    np.testing.assert_allclose(found["copies"], code[:, None] * W + V, rtol=1e-10)


def test_diagnostics_by_latent():
    model = MODELS["ladder"]
    report = vae.diagnostics(model, exact("ladder"), X, KEY)
    lower, upper = model.layers(report.kl_per_latent)
    assert (lower.shape, upper.shape) == ((1,), (1,))
    np.testing.assert_allclose(report.kl, lower.sum() + upper.sum(), rtol=1e-12)
    assert report.active_units == 2


def test_merging_is_the_product_of_densities():
    q, p = Independent(Normal([0.5], [0.4]), 1), Independent(Normal([[-1.0]], [[1.5]]), 1)
    merged = merge(q, p).marginal()
    grid = np.linspace(-8.0, 8.0, 4001)
    density = stats.norm.pdf(grid, 0.5, 0.4) * stats.norm.pdf(grid, -1.0, 1.5)
    density /= density.sum()
    mean = np.sum(density * grid)
    np.testing.assert_allclose(merged.loc, [[mean]], rtol=1e-10)
    np.testing.assert_allclose(merged.scale**2, [[np.sum(density * (grid - mean) ** 2)]], rtol=1e-9)


def test_lower_layers_are_drawn_anew_from_the_prior():
    model = vae.HierarchicalVAE(3, (4,), (3, 2, 2), likelihood=heads.NormalHead)
    params = drawn(model, X)
    z = _rng.normal(size=(5, 7))

    @compiled
    def run():
        def redraw(eps, keep):
            return model.apply({"params": params}, z, eps, keep, method="redraw")

        return [redraw(jnp.zeros((5, 7)), keep) for keep in (0, 1, 2)]

    kept, lowest, both = map(np.asarray, run())
    np.testing.assert_array_equal(kept, z)
    np.testing.assert_array_equal(lowest[:, 3:], z[:, 3:])
    np.testing.assert_array_equal(both[:, 5:], z[:, 5:])
    assert np.all(lowest[:, :3] != z[:, :3])
    assert np.all(both[:, :5] != z[:, :5])


LADDER = MODELS["ladder"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: drawn(LADDER.clone(latent_dims=(4,)), X), ValueError, "DenseVAE has one layer"),
        (lambda p: LADDER.apply(p, X[:, :2], jnp.zeros((5, 2))), ValueError, r"expected \[B, 3\]"),
        (lambda p: LADDER.apply(p, X, jnp.zeros((5, 3))), ValueError, "eps has shape"),
        (
            lambda p: vae.traverse(LADDER, p["params"], X, 1),
            ValueError,
            "from 0 to 0; got 1. decode reads no others",
        ),
        (
            lambda p: LADDER.apply(p, X[:, :2], X[:, :2], 2, method="redraw"),
            ValueError,
            "keep must be from 0 to 1; got 2",
        ),
        (
            lambda p: LADDER.apply(p, LADDER.apply(p, X, method="encode"), method="kl"),
            NotImplementedError,
            "depends on draws",
        ),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call({"params": exact("ladder")})
