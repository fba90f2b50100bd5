"""Mutations of the distributions: each breaks one side of a row, and the row must notice.

The mistakes are those that people make with these families. The bound is that of the rows.
"""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxprob.distributions as jd
import torch_ref.distributions as td
from parity_tests.cases.distribution_row import distribution_row
from parity_tests.engine import compare_function
from parity_tests.tolerances import MODELS
from torch_ref import random

INPUTS = {
    "a": np.array([0.7, 2.5, 6.0]),
    "b": np.array([1.4, 0.6, 2.0]),
    "x": np.array([0.4, 1.0, 2.2]),
    "q": np.array([0.2, 0.5, 0.9]),
}
COUNTS = {**INPUTS, "x": np.array([1, 3, 7])}


class SignOfBinet(td.Poisson):
    """One log-gamma with the wrong sign."""

    def _log_density(self, x):
        return super()._log_density(x) + 2.0 * td.special.binet(x)


class HalfOpen(td.Uniform):
    """Without its upper end."""

    def _invalid(self, x):
        return super()._invalid(x) | (x == self.high)


class WrongLogDet(td.Transformed):
    """The log-determinant added instead of subtracted."""

    def log_prob(self, value):
        x = self.bijector.inv(value)
        return self.distribution.log_prob(x) + self.bijector.log_abs_det_jacobian(x, value)


class SwappedTails(td.Gumbel):
    """A Gumbel distribution of minima."""

    def _tails(self, x):
        return super()._tails(x)[::-1]


class UnnormalisedWeights(td.MixtureSameFamily):
    """Logits taken for log-probabilities."""

    def _log_weights(self):
        return self.mixture_distribution.raw


class StandardDeviation(td.Normal):
    """The scale where the variance belongs."""

    variance = property(lambda self: self.scale)


class UnsplitKey(td.StudentT):
    """Both draws from one key."""

    def _draw(self, key, shape):
        spread = (self.df / 2 / td.gamma.gamma_draws(key, self.df / 2, shape)).sqrt()
        return (
            self.loc + self.scale * td.univariate.random.normal(key, shape, spread.dtype) * spread
        )


class DetachedDraw(td.Gamma):
    """A draw without its slope towards the concentration."""

    def _draw(self, key, shape):
        return td.gamma.gamma_draws(key, self.concentration.detach(), shape) / self.rate


class GammaOfTheirs(td.Gamma):
    """The sampler of jax.random: the same distribution, other numbers."""

    def _draw(self, key, shape):
        return random.gamma(key, self.concentration, shape) / self.rate


class PoissonOfTheirs(td.Poisson):
    """Likewise."""

    def _draw(self, key, shape):
        return random.poisson(key, self.rate, shape).to(self.rate.dtype)


class DetachedAngle(td.VonMises):
    """An angle without its slope towards the concentration."""

    def _draw(self, key, shape):
        return self.loc + td.von_mises.von_mises_draws(key, self.concentration.detach(), shape)


class CountsFromZero(td.Geometric):
    """Trials up to the first success, instead of the failures before it."""

    mean = property(lambda self: 1.0 / self.probs)


class NaturalLogOfTwo(td.Categorical):
    """Entropy in bits."""

    def entropy(self):
        return super().entropy() / math.log(2)


class RoundedDown(td.Quantized):
    """floor where ceil belongs."""

    def _log_density(self, x):
        return super()._log_density(x + 1.0)


def _mixture(d, a, cls=None):
    logits = (jnp if d is jd else torch).stack([a["a"], a["b"]], -1)
    parts = d.Normal(logits, 1.0 + 0.0 * logits)
    classes = d.Categorical(logits=logits)
    if cls is not None:
        classes.raw = logits
    return (cls or d.MixtureSameFamily)(classes, parts)


def _exp_of_normal(d, a, cls=None):
    bijections = __import__(f"{d.__name__}.bijections", fromlist=["Exp"])
    return (cls or d.Transformed)(d.Normal(a["a"], a["b"]), bijections.Exp())


# name -> (right, wrong twin, inputs, the quantity that tells)
MUTATIONS = {
    "wrong sign of a log-gamma": (
        lambda d, a: d.Poisson(a["a"]), lambda a: SignOfBinet(a["a"]), COUNTS, "log_prob"),
    "scale for rate": (
        lambda d, a: d.Gamma(a["a"], a["b"]), lambda a: td.Gamma(a["a"], 1.0 / a["b"]),
        INPUTS, "log_prob"),
    "failures for successes": (
        lambda d, a: d.NegativeBinomial(a["a"], logits=a["b"]),
        lambda a: td.NegativeBinomial(a["a"], logits=-a["b"]), COUNTS, "mean"),
    "half-open uniform": (
        lambda d, a: d.Uniform(0.0 * a["a"], a["x"]), lambda a: HalfOpen(0.0 * a["a"], a["x"]),
        INPUTS, "log_prob"),
    "wrong log-determinant": (
        _exp_of_normal, lambda a: _exp_of_normal(td, a, WrongLogDet), INPUTS, "log_prob"),
    "tails swapped": (
        lambda d, a: d.Gumbel(a["a"], a["b"]), lambda a: SwappedTails(a["a"], a["b"]),
        INPUTS, "cdf"),
    "weights not normalised": (
        _mixture, lambda a: _mixture(td, a, UnnormalisedWeights), INPUTS, "log_prob"),
    "standard deviation for variance": (
        lambda d, a: d.Normal(a["a"], a["b"]), lambda a: StandardDeviation(a["a"], a["b"]),
        INPUTS, "variance"),
    "one key for two draws": (
        lambda d, a: d.StudentT(a["a"], a["b"], a["b"]),
        lambda a: UnsplitKey(a["a"], a["b"], a["b"]), INPUTS, "draw"),
    "draw without a slope": (
        lambda d, a: d.Gamma(a["a"], a["b"]), lambda a: DetachedDraw(a["a"], a["b"]),
        INPUTS, "draw"),
    "another sampler": (
        lambda d, a: d.Gamma(a["a"], a["b"]), lambda a: GammaOfTheirs(a["a"], a["b"]),
        INPUTS, "draw"),
    "another sampler of counts": (
        lambda d, a: d.Poisson(a["a"]), lambda a: PoissonOfTheirs(a["a"]), COUNTS, "draw"),
    "angle without a slope": (
        lambda d, a: d.VonMises(a["a"], a["b"]), lambda a: DetachedAngle(a["a"], a["b"]),
        INPUTS, "draw"),
    "trials for failures": (
        lambda d, a: d.Geometric(logits=a["a"]), lambda a: CountsFromZero(logits=a["a"]),
        COUNTS, "mean"),
    "entropy in bits": (
        lambda d, a: d.Categorical(logits=a["a"]), lambda a: NaturalLogOfTwo(logits=a["a"]),
        INPUTS, "entropy"),
    "rounded down": (
        lambda d, a: d.Quantized(d.Normal(a["a"], a["b"])),
        lambda a: RoundedDown(td.Normal(a["a"], a["b"])), COUNTS, "log_prob"),
    "rate off by 1e-9": (
        lambda d, a: d.Exponential(a["a"]), lambda a: td.Exponential(a["a"] + 1e-9),
        INPUTS, "quantile"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_caught(name):
    right, wrong, inputs, quantity = MUTATIONS[name]
    chosen, draw = ((), True) if quantity == "draw" else ((quantity,), False)

    def build(d, a):
        return right(d, a) if d is jd else wrong(a)

    values, gradients = compare_function(
        distribution_row(name, build, inputs, chosen, draw=draw), "float64"
    )
    caught = max(values.values()) > MODELS["value"]["float64"]
    assert caught or max(gradients.values()) > MODELS["gradient"]["float64"]


class WrongSlope(jd.Gamma):
    """log x where log(b x) belongs, in the slope that is stated in closed form."""

    def _gradients(self, x, concentration, rate):
        to_x, to_a, to_b = super()._gradients(x, concentration, rate)
        return to_x, to_a - jnp.log(rate), to_b


def test_wrong_slope_is_caught():
    def build(d, a):
        return (WrongSlope if d is jd else d.Gamma)(a["a"], a["b"])

    row = distribution_row("Gamma", build, INPUTS, ("log_prob",), draw=False)
    values, gradients = compare_function(row, "float64")
    assert max(values.values()) <= MODELS["value"]["float64"]
    assert max(gradients.values()) > MODELS["gradient"]["float64"]


def test_reversed_divergence_is_caught():
    def row(swap: bool):
        def build(d, a):
            return d.Beta(a["a"], a["b"]) if d is jd or not swap else d.Beta(a["b"], a["a"])

        def other(d, a):
            return d.Beta(a["b"], a["a"]) if d is jd or not swap else d.Beta(a["a"], a["x"])

        return distribution_row("Beta", build, INPUTS, (), kl={"Beta": other}, draw=False)

    values, _ = compare_function(row(swap=False), "float64")
    assert max(values.values()) <= MODELS["value"]["float64"]
    values, _ = compare_function(row(swap=True), "float64")
    assert max(values.values()) > MODELS["value"]["float64"]
