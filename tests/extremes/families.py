"""The package's distributions for the laws of the table: columns `[N]` -> batch of N."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxprob import distributions as jd

__all__ = ["MAKERS"]


def stack(*columns):
    return jnp.stack(columns, axis=-1)


def odds(cls, form):
    return lambda *columns: cls(*columns[:-1], **{form: columns[-1]})


def classes(cls, form):
    return lambda *columns: cls(**{form: stack(*columns)})


def multinomial(form):
    return lambda n, *columns: jd.Multinomial(n, **{form: stack(*columns)})


def full_normal(m, n, a, b, c):
    zero = jnp.zeros_like(a)
    return jd.MultivariateNormal(stack(m, n), jnp.stack([stack(a, zero), stack(b, c)], axis=-2))


def mixture(g, h, m, n, s, t):
    weights = jd.Categorical(logits=stack(g, h))
    return jd.MixtureSameFamily(weights, jd.Normal(stack(m, n), stack(s, t)))


MAKERS: dict[str, Callable[..., Any]] = {
    name: getattr(jd, name)
    for name in (
        "Normal", "StudentT", "Laplace", "Cauchy", "Logistic", "Gumbel", "LogNormal", "Gamma",
        "InverseGamma", "Exponential", "HalfNormal", "Weibull", "Beta", "Uniform", "VonMises",
        "Poisson",
    )
}  # fmt: skip
MAKERS |= {
    "RelaxedBernoulli": lambda t, g: jd.RelaxedBernoulli(t, logits=g),
    "Transformed(Normal, Exp)": lambda m, s: jd.Transformed(jd.Normal(m, s), jd.bijections.Exp()),
    "Transformed(Normal, Sigmoid)": lambda m, s: jd.Transformed(
        jd.Normal(m, s), jd.bijections.Sigmoid(jnp.zeros((), m.dtype), jnp.ones((), m.dtype))
    ),
    "ZeroInflated(Poisson)": lambda g, r: jd.ZeroInflated(jd.Poisson(r), g),
    "Quantized(Normal)": lambda m, s: jd.Quantized(jd.Normal(m, s)),
    "Quantized(Logistic)": lambda m, s: jd.Quantized(jd.Logistic(m, s)),
    "Quantized(Gumbel)": lambda m, s: jd.Quantized(jd.Gumbel(m, s)),
    "Quantized(Logistic, 0, 255)": lambda m, s: jd.Quantized(jd.Logistic(m, s), 0, 255),
    "Dirichlet": lambda *columns: jd.Dirichlet(stack(*columns)),
    "MultivariateNormal": full_normal,
    "LowRankMultivariateNormal": lambda m, n, f, g, d, e: jd.LowRankMultivariateNormal(
        stack(m, n), stack(f, g)[..., None], stack(d, e)
    ),
    "MixtureSameFamily(Normal)": mixture,
}
for _form in ("logits", "probs"):
    for _cls in (jd.Bernoulli, jd.Geometric, jd.Binomial, jd.NegativeBinomial):
        MAKERS[f"{_cls.__name__}({_form})"] = odds(_cls, _form)
    for _cls in (jd.Categorical, jd.OneHotCategorical):
        MAKERS[f"{_cls.__name__}({_form})"] = classes(_cls, _form)
    MAKERS[f"Multinomial({_form})"] = multinomial(_form)
