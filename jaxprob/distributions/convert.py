"""Distributions of distrax and of TFP (on JAX), as the classes of this package.

A module may return distrax's or TFP's own distributions. They are converted where its output is
taken, inside the function that is jitted or mapped, for distrax's own classes do not all survive
the way out of `jit` and `vmap`.
"""

from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from tensorflow_probability.substrates.jax import distributions as tfd

from jaxprob.distributions.base import Distribution
from jaxprob.distributions.bernoulli import Bernoulli
from jaxprob.distributions.beta import Beta
from jaxprob.distributions.binomial import Binomial, NegativeBinomial
from jaxprob.distributions.categorical import Categorical, OneHotCategorical
from jaxprob.distributions.counts import Geometric, Poisson
from jaxprob.distributions.deterministic import Deterministic
from jaxprob.distributions.dirichlet import Dirichlet
from jaxprob.distributions.gamma import Gamma, InverseGamma
from jaxprob.distributions.independent import Independent
from jaxprob.distributions.location_scale import Cauchy, Gumbel, Laplace, Logistic
from jaxprob.distributions.mixture import MixtureSameFamily
from jaxprob.distributions.multinomial import Multinomial
from jaxprob.distributions.multivariate_normal import MultivariateNormal
from jaxprob.distributions.multivariate_normal_diag import MultivariateNormalDiag
from jaxprob.distributions.normal import Normal
from jaxprob.distributions.positive import Exponential, HalfNormal, LogNormal, Weibull
from jaxprob.distributions.quantized import Quantized
from jaxprob.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from jaxprob.distributions.student_t import StudentT
from jaxprob.distributions.transformed import Transformed
from jaxprob.distributions.uniform import Uniform
from jaxprob.distributions.von_mises import VonMises

__all__ = ["convert", "convert_outputs", "is_distribution"]


def convert(distribution: Any) -> Any:
    """Returns the same distribution as a class of `jaxprob.distributions`.

    Args:
      distribution: Ours, which is returned as it is; distrax's or TFP's, with whatever
        distributions it is made of; or a class of the user's own that derives from
        `distrax.Distribution`, which is returned as it is too.

    Raises:
      ValueError: A class of distrax or TFP that has no counterpart here.
      TypeError: Something that is no distribution.
    """
    if not is_distribution(distribution):
        raise TypeError(
            f"convert: got {type(distribution).__name__}; expected a distribution of jaxprob, "
            "distrax or tensorflow_probability.substrates.jax."
        )
    distribution = _unwrapped(distribution)
    formula = _FORMULAS.get(type(distribution))
    if formula is not None:
        return formula(distribution)
    wrapped = type(distribution).__module__ == MADE  # it may draw or differentiate otherwise
    for base, general in _GENERAL:
        if isinstance(distribution, base) and not wrapped and not _is_users(distribution):
            return general(distribution)
    if isinstance(distribution, Distribution) or _is_users(distribution):
        return distribution  # pyright: ignore[reportReturnType]
    kind = type(distribution)
    raise ValueError(
        f"convert: {_library(distribution)}'s {kind.__name__} has no counterpart in "
        "jaxprob.distributions. Return one that has, or a class of your own: derive it from "
        "jaxprob.distributions.Univariate (a log-density, tails, draws) or Distribution, and try "
        "it with jaxprob.distributions.check_distribution."
    )


def convert_outputs(outputs: Any) -> Any:
    """Returns what a module returned, with every distribution in it converted."""

    def leaf(node: Any) -> Any:
        return convert(node) if is_distribution(node) else node

    return jax.tree.map(leaf, outputs, is_leaf=is_distribution)


def is_distribution(node: Any) -> bool:
    """Whether `convert` has a word to say about it."""
    return isinstance(node, distrax.Distribution | tfd.Distribution)


def _unwrapped(distribution: Any) -> Any:
    """Returns TFP's distribution where distrax has made a class around it.

    Such a class asks the distribution itself for what it has not; a method knows whose it is.
    """
    if not isinstance(distribution, tfd.Distribution) or not isinstance(
        distribution, distrax.Distribution
    ):
        return distribution
    return distribution.__getattr__("copy").__self__  # pyright: ignore[reportAttributeAccessIssue]


MADE = "abc"
"""Module of a class that a wrapper makes at run time: that of its metaclass."""


def _library(distribution: Any) -> str:
    kinds = (kind.__module__ for kind in type(distribution).__mro__)
    return next(name for name in kinds if name != MADE).partition(".")[0]


def _is_users(distribution: Any) -> bool:
    return _library(distribution) not in ("distrax", "tensorflow_probability", "jaxprob")


def _same(family: type, *names: str, **renamed: str) -> Callable[[Any], Any]:
    """The family with the parameters of these names; those renamed stand as ours=theirs."""

    def formula(d: Any) -> Any:
        ours = {name: getattr(d, name) for name in names}
        return family(**ours, **{name: getattr(d, theirs) for name, theirs in renamed.items()})

    return formula


def _logits_or_probs(family: type, *names: str) -> Callable[[Any], Any]:
    """The family with logits or probabilities, whichever is held."""

    def formula(d: Any) -> Any:
        stored = d.parameters if isinstance(d, tfd.Distribution) else vars(d)
        held = {name: stored.get(name, stored.get(f"_{name}")) for name in ("logits", "probs")}
        given = {name: value for name, value in held.items() if value is not None}
        return family(**{name: getattr(d, name) for name in names}, **given)

    return formula


def _rate_or_log(family: type, *names: str) -> Callable[[Any], Any]:
    """The family with a rate that TFP may hold as its logarithm."""

    def formula(d: Any) -> Any:
        log_rate = getattr(d, "log_rate", None)
        rate = d.rate if log_rate is None else jnp.exp(log_rate)
        return family(**{name: getattr(d, name) for name in names}, rate=rate)

    return formula


def _independent(d: Any) -> Distribution:
    inner = convert(d.distribution)
    if inner is d.distribution and isinstance(d, Independent):
        return d
    return Independent(inner, int(d.reinterpreted_batch_ndims))


def _mixture(d: Any) -> Distribution:
    weights, components = convert(d.mixture_distribution), convert(d.components_distribution)
    if isinstance(d, MixtureSameFamily):
        return d if components is d.components_distribution else type(d)(weights, components)
    batch = components.batch_shape
    held = weights._held  # pyright: ignore[reportAttributeAccessIssue]
    name = "probs" if weights._logits is None else "logits"  # pyright: ignore[reportAttributeAccessIssue]
    return MixtureSameFamily(Categorical(**{name: jnp.broadcast_to(held, batch)}), components)


def _mixture_of_two(d: Any) -> Distribution:
    first, second = convert(d._component_a), convert(d._component_b)
    if type(first) is not type(second):
        raise ValueError(
            f"convert: a mixture of {first.name} and {second.name} is not of one family; "
            "MixtureSameFamily needs one."
        )
    batch = len(first.batch_shape)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b], axis=batch), first, second)
    prob = jnp.broadcast_to(d.prob_a, first.batch_shape)
    return MixtureSameFamily(Categorical(probs=jnp.stack([prob, 1.0 - prob], axis=-1)), both)


def _transformed(d: Any) -> Distribution:
    inner = convert(d.distribution)
    if isinstance(d, Transformed):
        return d if inner is d.distribution else Transformed(inner, d.bijector)
    return Transformed(inner, distrax.as_bijector(d.bijector))


def _quantized(d: Any) -> Distribution:
    inner = convert(d.distribution)
    if isinstance(d, Quantized) and inner is d.distribution:
        return d
    return Quantized(inner, d.low, d.high)  # pyright: ignore[reportArgumentType]


def _diagonal(d: Any) -> Distribution:
    loc = d.mean()
    return MultivariateNormalDiag(loc, jnp.broadcast_to(d.stddev(), loc.shape))


def _full(d: Any) -> Distribution:
    return MultivariateNormal(d.mean(), covariance=d.covariance())


_FORMULAS: dict[type, Callable[[Any], Distribution]] = {
    distrax.Bernoulli: _logits_or_probs(Bernoulli),
    distrax.Beta: _same(Beta, concentration1="alpha", concentration0="beta"),
    distrax.Categorical: _logits_or_probs(Categorical),
    distrax.Deterministic: _same(Deterministic, "loc", "atol", "rtol"),
    distrax.Dirichlet: _same(Dirichlet, "concentration"),
    distrax.Gamma: _same(Gamma, "concentration", "rate"),
    distrax.Gumbel: _same(Gumbel, "loc", "scale"),
    distrax.Independent: _independent,
    Independent: _independent,
    distrax.Laplace: _same(Laplace, "loc", "scale"),
    distrax.LogStddevNormal: _same(Normal, "loc", "scale"),
    distrax.Logistic: _same(Logistic, "loc", "scale"),
    distrax.MixtureOfTwo: _mixture_of_two,
    distrax.MixtureSameFamily: _mixture,
    MixtureSameFamily: _mixture,
    distrax.Multinomial: _logits_or_probs(Multinomial, "total_count"),
    distrax.MultivariateNormalDiag: _diagonal,
    distrax.Normal: _same(Normal, "loc", "scale"),
    distrax.OneHotCategorical: _logits_or_probs(OneHotCategorical),
    distrax.Quantized: _quantized,
    Quantized: _quantized,
    distrax.Transformed: _transformed,
    Transformed: _transformed,
    distrax.Uniform: _same(Uniform, "low", "high"),
    distrax.VonMises: _same(VonMises, "loc", "concentration"),
    tfd.Bernoulli: _logits_or_probs(Bernoulli),
    tfd.Beta: _same(Beta, "concentration1", "concentration0"),
    tfd.Binomial: _logits_or_probs(Binomial, "total_count"),
    tfd.Categorical: _logits_or_probs(Categorical),
    tfd.Cauchy: _same(Cauchy, "loc", "scale"),
    tfd.Deterministic: _same(Deterministic, "loc", "atol", "rtol"),
    tfd.Dirichlet: _same(Dirichlet, "concentration"),
    tfd.Exponential: _rate_or_log(Exponential),
    tfd.Gamma: _rate_or_log(Gamma, "concentration"),
    tfd.Geometric: _logits_or_probs(Geometric),
    tfd.Gumbel: _same(Gumbel, "loc", "scale"),
    tfd.HalfNormal: _same(HalfNormal, "scale"),
    tfd.Independent: _independent,
    tfd.InverseGamma: _same(InverseGamma, "concentration", rate="scale"),
    tfd.Laplace: _same(Laplace, "loc", "scale"),
    tfd.LogNormal: _same(LogNormal, "loc", "scale"),
    tfd.Logistic: _same(Logistic, "loc", "scale"),
    tfd.MixtureSameFamily: _mixture,
    tfd.Multinomial: _logits_or_probs(Multinomial, "total_count"),
    tfd.MultivariateNormalDiag: _diagonal,
    tfd.NegativeBinomial: _logits_or_probs(NegativeBinomial, "total_count"),
    tfd.Normal: _same(Normal, "loc", "scale"),
    tfd.OneHotCategorical: _logits_or_probs(OneHotCategorical),
    tfd.Poisson: _rate_or_log(Poisson),
    tfd.RelaxedBernoulli: _logits_or_probs(RelaxedBernoulli, "temperature"),
    tfd.RelaxedOneHotCategorical: _logits_or_probs(RelaxedOneHotCategorical, "temperature"),
    tfd.StudentT: _same(StudentT, "df", "loc", "scale"),
    tfd.TransformedDistribution: _transformed,
    tfd.Uniform: _same(Uniform, "low", "high"),
    tfd.VonMises: _same(VonMises, "loc", "concentration"),
    tfd.Weibull: _same(Weibull, "concentration", "scale"),
}
# Classes with subclasses that differ in how their parameters are given only.
_GENERAL: list[tuple[type, Callable[[Any], Distribution]]] = [
    (distrax.MultivariateNormalFromBijector, _full),
    (distrax.OneHotCategorical, _logits_or_probs(OneHotCategorical)),
    (distrax.Categorical, _logits_or_probs(Categorical)),
    (tfd.MultivariateNormalTriL, _full),
    (tfd.MultivariateNormalFullCovariance, _full),
]
