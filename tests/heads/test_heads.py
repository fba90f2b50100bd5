"""Every head: shapes, units, extremes, and what its distribution claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import heads, objectives

H, B = 4, 5
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(B, H))

# head -> (options, shape of the targets)
HEADS = {
    "NormalHead": ({"features": 2, "target_mean": (1.0, -2.0), "target_std": (0.5, 2.0)}, (B, 2)),
    "StudentTHead": ({"features": 2}, (B, 2)),
    "LaplaceHead": ({"target_std": 3.0}, (B, 1)),
    "LogNormalHead": ({"target_mean": 1.0}, (B, 1)),
    "GammaHead": ({"features": 2, "target_mean": 3.0}, (B, 2)),
    "BetaHead": ({"features": 2}, (B, 2)),
    "PoissonHead": ({"features": 2, "target_mean": 4.0}, (B, 2)),
    "NegativeBinomialHead": ({"zero_inflated": True}, (B, 1)),
    "BernoulliHead": ({"features": 3}, (B, 3)),
    "CategoricalHead": ({"num_classes": 3}, (B,)),
    "MixtureHead": ({"components": 3, "features": 2, "target_std": (1.0, 2.0)}, (B, 2)),
    "DiscretizedLogisticMixtureHead": ({"features": 2, "num_components": 3, "levels": 7}, (B, 2)),
    "MultivariateNormalHead": ({"features": 3, "target_std": (1.0, 2.0, 3.0)}, (B, 3)),
    "QuantileHead": ({"levels": (0.1, 0.5, 0.9), "features": 2}, (B, 2)),
}


def build(name, key=0, dtype="float64", **options):
    head = getattr(heads, name)(**(HEADS[name][0] | options))
    params = jax.eval_shape(lambda k: head.init(k, FEATURES.astype(dtype)), jax.random.key(0))
    rng = np.random.default_rng(key)
    return head, jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(dtype), params)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", HEADS)
def test_shapes_dtypes_and_gradients(name, dtype):
    """Moderate features, and huge ones: every loss and gradient is finite in both dtypes."""
    head, params = build(name, dtype=dtype)
    shape = HEADS[name][1]
    traces = []

    @jax.jit
    def run(params, h, key):
        traces.append(1)
        distribution = head.apply(params, h)
        y = jax.lax.stop_gradient(head.apply(params, h / 200.0).sample(seed=key))
        loss = objectives.negative_log_likelihood(head)
        return (
            y,
            distribution.log_prob(y),
            jax.value_and_grad(loss, has_aux=True)(params["params"], {"x": h, "y": y}, key),
        )

    for size in (1.0, 200.0):
        h = (size * FEATURES).astype(dtype)
        y, log_prob, ((loss, _), gradient) = run(params, h, jax.random.key(1))
        assert y.shape == shape
        assert log_prob.shape == (B,)
        assert log_prob.dtype == loss.dtype == dtype
        assert np.isfinite(log_prob).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))
    assert len(traces) == 1


@pytest.mark.parametrize("name", [n for n in HEADS if n != "CategoricalHead"])
def test_leading_axes_are_batch(name):
    head, params = build(name)
    alone = head.apply(params, FEATURES)
    stacked = head.apply(params, np.stack([FEATURES, 2 * FEATURES])[:, None])
    assert stacked.batch_shape == (2, 1, B)
    assert stacked.event_shape == alone.event_shape
    np.testing.assert_allclose(np.asarray(stacked.mean())[0, 0], alone.mean(), rtol=1e-12)


@pytest.mark.parametrize("name", ["NormalHead", "LaplaceHead", "StudentTHead", "QuantileHead"])
def test_units_shift_and_stretch(name):
    """The same weights in other units are the same prediction in these units."""
    unit = build(name, features=1, target_mean=0.0, target_std=1.0)
    other = build(name, features=1, target_mean=30.0, target_std=7.0)
    a, b = (head.apply(params, FEATURES) for head, params in (unit, other))
    np.testing.assert_allclose(
        b.quantile(0.3), 30.0 + 7.0 * np.asarray(a.quantile(0.3)), rtol=1e-10
    )
    np.testing.assert_allclose(b.mean(), 30.0 + 7.0 * np.asarray(a.mean()), rtol=1e-10)


def test_counts_are_proportional_to_exposure():
    exposure = RNG.uniform(0.1, 20.0, (B, 2))
    for name in ("PoissonHead", "NegativeBinomialHead"):
        head, params = build(name, features=2)
        once = np.asarray(head.apply(params, FEATURES).mean())
        found = head.apply(params, FEATURES, exposure).mean()
        np.testing.assert_allclose(found, exposure * once, rtol=1e-12)
        with pytest.raises(ValueError, match=r"exposure has shape \(5,\); expected .* \(5, 2\)"):
            head.apply(params, FEATURES, exposure[:, 0])


def test_negative_binomial_in_words_of_scipy():
    head, params = build("NegativeBinomialHead", features=1, zero_inflated=False)
    out = np.asarray(FEATURES @ params["params"]["out"]["kernel"] + params["params"]["out"]["bias"])
    mean, total = np.exp(out[:, 0]), np.exp(out[:, 1])
    y = np.array([0, 1, 2, 5, 9])[:, None]
    expected = stats.nbinom(total, total / (total + mean)).logpmf(y[:, 0])
    found = head.apply(params, FEATURES)
    np.testing.assert_allclose(found.log_prob(y), expected, rtol=1e-10)
    np.testing.assert_allclose(
        np.asarray(found.variance())[:, 0], mean + mean**2 / total, rtol=1e-10
    )


def test_gamma_and_beta_by_mean_and_concentration():
    head, params = build("GammaHead", features=1, target_mean=3.0)
    out = np.asarray(FEATURES @ params["params"]["out"]["kernel"] + params["params"]["out"]["bias"])
    mean, shape = 3.0 * np.exp(out[:, 0]), np.exp(out[:, 1])
    expected = stats.gamma(shape, scale=mean / shape).logpdf(1.7)
    found = head.apply(params, FEATURES).log_prob(np.full((B, 1), 1.7))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    head, params = build("BetaHead", features=1)
    out = np.asarray(FEATURES @ params["params"]["out"]["kernel"] + params["params"]["out"]["bias"])
    mean, total = 1 / (1 + np.exp(-out[:, 0])), 2 * np.exp(out[:, 1])
    expected = stats.beta(mean * total + 1e-4, (1 - mean) * total + 1e-4).logpdf(0.3)
    found = head.apply(params, FEATURES).log_prob(np.full((B, 1), 0.3))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_multivariate_factor():
    head, params = build("MultivariateNormalHead")
    distribution = head.apply(params, FEATURES)
    covariance = np.asarray(distribution.covariance())
    assert np.linalg.eigvalsh(covariance).min() > 0
    off = covariance - np.einsum("bii,ij->bij", covariance, np.eye(3))
    assert np.abs(off).min(initial=1.0, where=~np.eye(3, dtype=bool)) > 1e-6
    y = RNG.normal(size=(B, 3))
    loc = np.asarray(distribution.mean())
    expected = [
        stats.multivariate_normal(m, c).logpdf(row)
        for m, c, row in zip(loc, covariance, y, strict=True)
    ]
    np.testing.assert_allclose(distribution.log_prob(y), expected, rtol=1e-9)


@pytest.mark.parametrize("size", [0.0, 1.0, 50.0])
def test_quantiles_never_cross(size):
    levels = (0.01, 0.1, 0.3, 0.5, 0.95, 0.99)
    head, params = build("QuantileHead", levels=levels)
    params = jax.tree.map(lambda w: size * w, params)
    distribution = head.apply(params, FEATURES)
    values = np.stack([distribution.quantile(q) for q in levels])
    assert (np.diff(values, axis=0) > 0).all()
    if size == 0.0:  # a zero layer states a standard normal
        expected = stats.norm.ppf(levels)[:, None, None]
        np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), atol=3e-4)


def test_mixture_starts_spread_over_the_targets():
    head = heads.MixtureHead(components=4, features=2, target_mean=10.0, target_std=3.0)
    params = head.init(jax.random.key(0), FEATURES)
    components = head.apply(params, jnp.zeros((1, H))).components_distribution.distribution
    expected = 10.0 + 3.0 * stats.norm.ppf([0.125, 0.375, 0.625, 0.875])
    for target in range(2):
        np.testing.assert_allclose(np.sort(components.loc[0, :, target]), expected, rtol=1e-5)
    np.testing.assert_allclose(components.scale, 3.0 * (0.25 + 1e-4), rtol=1e-4)


def test_for_target_knows_every_kind():
    kinds = {
        "binary": heads.BernoulliHead(),
        "class": heads.CategoricalHead(num_classes=3),
        "real": heads.NormalHead(),
        "heavy_tailed": heads.StudentTHead(),
        "multimodal": heads.MixtureHead(),
        "positive": heads.GammaHead(),
        "count": heads.PoissonHead(),
        "overdispersed_count": heads.NegativeBinomialHead(),
        "bounded": heads.BetaHead(),
        "quantiles": heads.QuantileHead(),
    }
    for kind, expected in kinds.items():
        options = {"num_classes": 3} if kind == "class" else {}
        assert heads.for_target(kind, **options) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heads.for_target("counts"), "no kind of target 'counts'; choose one of binary"),
        (lambda: heads.for_target("class"), "CategoricalHead takes num_classes"),
        (lambda: heads.for_target("real", components=3), "NormalHead takes features"),
        (
            lambda: build("DiscretizedLogisticMixtureHead", levels=1),
            "levels must be at least 2 and num_components at least 1; got 1 and 3",
        ),
        (lambda: build("QuantileHead", levels=(0.5, 0.1)), "rising probabilities"),
        (lambda: build("QuantileHead", levels=(0.5,)), "at least two"),
        (lambda: build("QuantileHead", levels=(0.0, 0.5)), "in \\(0, 1\\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
