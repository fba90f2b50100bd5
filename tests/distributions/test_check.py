"""The test-kit passes every class of ours and catches each kind of broken distribution."""

import pathlib
import re
import subprocess
import sys

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import distributions as jd
from tests.distributions.examples import GOOD

KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_every_class_keeps_its_promises(name):
    make, parameters, _ = GOOD[name]
    report = jd.check_distribution(make(**parameters), KEY)
    assert report.passed
    assert len(report.findings) >= 8


def test_batches_and_the_table():
    report = jd.check_distribution(jd.Normal(jnp.arange(3.0), jnp.array([0.1, 1.0, 10.0])), KEY)
    for words in ("Normal", "normalisation", "cdf against the integral", "out of vmap", "ok"):
        assert words in str(report)


class Half(jd.Normal):
    """A normal distribution that forgot to be normalised."""

    def _log_density(self, x, loc, scale):
        return super()._log_density(x, loc, scale) + 0.01


class Biased(jd.Normal):
    def _sample_n(self, key, n):
        return super()._sample_n(key, n) + 0.2


class WrongVariance(jd.Normal):
    def variance(self):
        return self.scale


class WrongMean(jd.Exponential):
    def mean(self):
        return self.rate


class WrongCdf(jd.Logistic):
    def cdf(self, value):
        return jd.Normal(self.loc, 1.7 * self.scale).cdf(value)


class WrongQuantile(jd.Laplace):
    def quantile(self, q):
        return self.loc - self.scale * jnp.log(2 * (1 - jnp.asarray(q)))


class Cached(distrax.Distribution):
    """An exponential distribution that remembers the shape of its batch."""

    def __init__(self, rate):
        self._rate = jnp.asarray(rate)
        self._batch_shape = self._rate.shape

    event_shape = property(lambda self: ())
    batch_shape = property(lambda self: self._batch_shape)

    def log_prob(self, value):
        return jnp.where(value < 0, -jnp.inf, jnp.log(self._rate) - self._rate * value)

    def _sample_n(self, key, n):
        return jax.random.exponential(key, (n, *self.batch_shape)) / self._rate[None]


class OffSupport(jd.Exponential):
    def log_prob(self, value):
        return jnp.log(self.rate) - self.rate * jnp.abs(value)


class WrongCounts(jd.Geometric):
    def log_prob(self, value):
        return super().log_prob(value) + 0.02


class WrongVectors(jd.MultivariateNormalDiag):
    def log_prob(self, value):
        return super().log_prob(value) + 0.3


class NanSlope(jd.Normal):
    def _log_density(self, x, loc, scale):
        return super()._log_density(x, loc, scale) + 0.0 * jnp.sqrt(loc - loc)


BROKEN = {
    "not normalised": (lambda: Half(0.0, 1.0), "normalisation"),
    "biased draws": (lambda: Biased(0.0, 1.0), "draws against the density"),
    "wrong variance": (lambda: WrongVariance(0.0, 2.0), "variance"),
    "wrong mean": (lambda: WrongMean(3.0), "mean"),
    "wrong cdf": (lambda: WrongCdf(0.0, 1.0), "cdf against the integral"),
    "quantile is no inverse": (lambda: WrongQuantile(0.0, 1.0), "quantile inverts the cdf"),
    "cached batch shape": (lambda: Cached([1.0, 2.0]), "out of vmap"),
    "density off the support": (lambda: OffSupport(1.0), "-inf off the support"),
    "counts not normalised": (lambda: WrongCounts(probs=0.3), "normalisation"),
    "vectors not normalised": (
        lambda: WrongVectors(jnp.zeros(2), jnp.ones(2)), "normalisation"
    ),
    "NaN slope": (lambda: NanSlope(0.0, 1.0), "grad"),
}  # fmt: skip


QUICK = ("quantile is no inverse", "cached batch shape", "counts not normalised")
LATER = [pytest.param(name, marks=pytest.mark.slow) for name in BROKEN if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *LATER])
def test_a_broken_promise_is_found(name):
    make, check = BROKEN[name]
    with jax.numpy_rank_promotion("allow"):  # a user's class may be written in plain NumPy style
        report = jd.check_distribution(make(), KEY, raises=False)
    assert not report.passed
    assert check in {finding.check for finding in report.findings if not finding.passed}
    with pytest.raises(ValueError, match=f"checks failed(.|\n)*{check}"):
        report.require()


def test_it_raises_with_all_findings_at_once():
    class Worst(Biased, Half):
        pass

    with pytest.raises(ValueError, match="checks failed") as caught:
        jd.check_distribution(Worst(0.0, 1.0), KEY)
    assert len(str(caught.value).splitlines()) >= 3
    assert np.isfinite(jd.Normal(0.0, 1.0).log_prob(0.0))


def test_the_example_of_the_docs_runs():
    page = (
        pathlib.Path(__file__).parents[2] / "docs" / "families" / "distributions.md"
    ).read_text()
    code = re.search(r"<!-- own distribution -->\n```python\n(.*?)```", page, re.S).group(1)
    body = code[code.index("class ") : code.index("print(")].strip().splitlines()
    assert len([line for line in body if line.strip()]) < 15
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout
    assert "quantile inverts the cdf" in done.stdout
