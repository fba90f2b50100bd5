"""Discretised mixtures of logistics against SciPy and mpmath."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import special, stats

from jaxprob.heads import DiscretizedLogisticMixtureHead
from jaxprob.heads.links import SCALE_FLOOR

D, K, H, LEVELS = 2, 3, 4, 256
HEAD = DiscretizedLogisticMixtureHead(D, K, LEVELS)
RNG = np.random.default_rng(5)
FEATURES = RNG.normal(size=(1, H))
PARAMS = {
    name: {"kernel": RNG.normal(0.0, 0.4, (H, D * K)), "bias": RNG.normal(0.0, 0.3, D * K)}
    for name in ("logits", "loc", "scale")
}
EVERY = np.arange(LEVELS)


def parts():
    """Weights, centres and scales of the components `[D, K]`, in levels."""
    raw = {n: (FEATURES @ p["kernel"] + p["bias"]).reshape(D, K) for n, p in PARAMS.items()}
    half = (LEVELS - 1) / 2
    scale = half * (np.logaddexp(raw["scale"], 0.0) + SCALE_FLOOR)
    return special.softmax(raw["logits"], -1), half * (1 + raw["loc"]), scale


def table():
    """P(y = level) `[D, 256]`."""
    weights, loc, scale = (a[..., None] for a in parts())
    cdf = stats.logistic(loc, scale).cdf(EVERY + 0.5)
    cdf[..., -1] = 1.0
    return np.sum(weights * np.diff(cdf, axis=-1, prepend=0.0), axis=1)


@pytest.fixture(scope="module")
def found():
    """All that is compared: one program."""

    @jax.jit
    def run(params, key):
        p = HEAD.apply({"params": params}, FEATURES)
        every = jnp.broadcast_to(EVERY[:, None, None], (LEVELS, 1, D))
        each = p.distribution
        draws = p.sample(seed=key, sample_shape=(20_000,))
        return {
            "log_prob": each.log_prob(every)[:, 0].T,
            "cdf": each.cdf(every)[:, 0].T,
            "mean": p.mean()[0],
            "variance": p.variance()[0],
            "draws": draws[:, 0],
        }

    return run(PARAMS, jax.random.key(0))


def test_levels_have_the_probabilities_of_scipy(found):
    expected = table()
    np.testing.assert_allclose(np.exp(found["log_prob"]), expected, rtol=1e-10)
    np.testing.assert_allclose(np.exp(found["log_prob"]).sum(-1), 1.0, rtol=1e-13)
    np.testing.assert_allclose(found["cdf"], np.cumsum(expected, -1), rtol=1e-10)


def test_moments_and_draws(found):
    p = table()
    mean = p @ EVERY
    variance = p @ EVERY**2 - mean**2
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(found["variance"], variance, rtol=1e-10)
    draws = np.asarray(found["draws"])
    assert draws.min() >= 0.0
    assert draws.max() <= LEVELS - 1
    assert np.all(np.abs(draws.mean(0) - mean) < 4 * np.sqrt(variance / len(draws)))
    for target in range(D):
        shares = np.bincount(draws[:, target].astype(int), minlength=LEVELS) / len(draws)
        assert np.max(np.abs(np.cumsum(shares - p[target]))) < 1.95 / np.sqrt(len(draws))


def test_values_are_checked_against_the_levels():
    """Not inside jit, where they cannot be: a mixture's bounds have an axis more than a value."""
    rows = RNG.normal(size=(4, H))
    p = HEAD.apply({"params": PARAMS}, rows)
    inside = np.tile([0.0, 255.0], (4, 1))
    compiled = jax.jit(lambda y: HEAD.apply({"params": PARAMS}, rows).log_prob(y))(inside)
    np.testing.assert_allclose(p.log_prob(inside), compiled, rtol=1e-12)
    message = r"1 of 8 values break this, the first at index \(2, 1\): 256.0"
    outside = inside + np.array([[0, 0], [0, 0], [0, 1], [0, 0]])
    with pytest.raises(ValueError, match=message):
        p.log_prob(outside)


def test_keeps_its_digits_far_from_the_data():
    """A level that is hundreds of scales away: the cdfs round to 0 or 1, log p does not."""
    head = DiscretizedLogisticMixtureHead(1, 1, LEVELS)
    params = {name: {"kernel": np.zeros((H, 1)), "bias": np.zeros(1)} for name in PARAMS}
    params["loc"]["bias"] = np.array([1.0])
    params["scale"]["bias"] = np.array([np.log(np.expm1(0.002))])
    p = head.apply({"params": params}, FEATURES).distribution
    scale = mp.mpf(0.002 + SCALE_FLOOR) * 127.5
    with mp.workdps(600):

        def cdf(x):
            return 1 / (1 + mp.exp(-(mp.mpf(x) - 255) / scale))

        for level in (0, 3, 200, 254, 255):
            below = cdf(level - 0.5) if level > 0 else mp.mpf(0)
            above = cdf(level + 0.5) if level < 255 else mp.mpf(1)
            expected = float(mp.log(above - below))
            value = float(p.log_prob(np.full((1, 1), level))[0, 0])
            assert abs(value - expected) < 1e-12 * max(1.0, abs(expected)), level
