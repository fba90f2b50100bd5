"""Rows of the distributions: densities, tails, quantiles, moments, draws and divergences."""

import distrax
import numpy as np
import torch

import jaxprob.distributions as jd
import torch_ref.distributions as td
import torch_ref.random as torch_random
from parity_tests.engine import FunctionCase

_rng = np.random.default_rng(2)
S, B, D, K = 4, 6, 2, 3


def _tril(*shape: int) -> np.ndarray:
    raw = np.tril(_rng.normal(size=(*shape, D, D)), -1)
    return raw + np.eye(D) * _rng.uniform(0.5, 1.5, (*shape, D, 1))


def _normal_jax(a, key):
    d = jd.Normal(a["loc"], a["scale"])
    return {
        "log_prob": d.log_prob(a["x"]),
        "cdf": d.cdf(a["x"]),
        "log_cdf": d.log_cdf(a["x"]),
        "survival": d.survival_function(a["x"]),
        "quantile": d.quantile(a["q"]),
        "entropy": d.entropy(),
        "sample": d.sample(seed=key, sample_shape=(2,)),
        "kl": d.kl_divergence(jd.Normal(a["x"], 0.5)),
    }


def _normal_torch(a, key):
    d = td.Normal(a["loc"], a["scale"])
    noise = torch_random.normal(key, (2, *d.batch_shape), dtype=a["x"].dtype)
    other = td.Normal(a["x"], torch.full_like(a["x"], 0.5))
    return {
        "log_prob": d.log_prob(a["x"]),
        "cdf": d.cdf(a["x"]),
        "log_cdf": d.log_cdf(a["x"]),
        "survival": d.survival_function(a["x"]),
        "quantile": d.quantile(a["q"]),
        "entropy": d.entropy(),
        "sample": d.loc + d.scale * noise,
        "kl": torch.distributions.kl_divergence(d, other),
    }


def _multivariate_jax(a, key):
    d, other = jd.MultivariateNormal(a["loc"], a["tril"]), jd.MultivariateNormal(a["x"], a["tril2"])
    return {
        "log_prob": d.log_prob(a["x"]),
        "entropy": d.entropy(),
        "kl": d.kl_divergence(other),
        "variance": d.variance(),
        "covariance": d.covariance(),
        "upper": d.interval(0.9)[1],
        "sample": d.sample(seed=key, sample_shape=(2,)),
    }


def _multivariate_torch(a, key):
    # validation is off: it compares with tril(), which has no gradient to lose, but costs an eigh
    d = td.MultivariateNormal(a["loc"], a["tril"])
    other = td.MultivariateNormal(a["x"], a["tril2"])
    noise = torch_random.normal(key, (2, *a["loc"].shape), dtype=a["x"].dtype)
    return {
        "log_prob": d.log_prob(a["x"]),
        "entropy": d.entropy(),
        "kl": torch.distributions.kl_divergence(d, other),
        "variance": d.variance,
        "covariance": d.covariance_matrix,
        "upper": d.interval(0.9)[1],
        "sample": d.loc + torch.einsum("bij,nbj->nbi", d.scale_tril, noise),
    }


def _mixture_jax(a, key):
    d = jd.MixtureSameFamily(
        distrax.Categorical(logits=a["logits"]), jd.Normal(a["locs"], a["scales"])
    )
    return {
        "log_prob": d.log_prob(a["x"]),
        "cdf": d.cdf(a["x"]),
        "survival": d.survival_function(a["x"]),
        "mean": d.mean(),
        "variance": d.variance(),
    }


def _mixture_torch(a, key):
    d = td.MixtureSameFamily(
        torch.distributions.Categorical(logits=a["logits"]), td.Normal(a["locs"], a["scales"])
    )
    return {
        "log_prob": d.log_prob(a["x"]),
        "cdf": d.cdf(a["x"]),
        "survival": d.survival_function(a["x"]),
        "mean": d.mean,
        "variance": d.variance,
    }


def _mixture_quantile_jax(a, key):
    d = jd.MixtureSameFamily(
        distrax.Categorical(logits=a["logits"]), jd.Normal(a["locs"], a["scales"])
    )
    return {"quantile": d.quantile(a["q"]), "upper": d.interval(0.99)[1], "median": d.median()}


def _mixture_quantile_torch(a, key):
    d = td.MixtureSameFamily(
        torch.distributions.Categorical(logits=a["logits"]), td.Normal(a["locs"], a["scales"])
    )
    return {"quantile": d.quantile(a["q"]), "upper": d.interval(0.99)[1], "median": d.median()}


def _predictive_jax(a, key):
    p = jd.Predictive(jd.Independent(jd.Normal(a["locs"], a["scales"]), 1))
    return {
        "log_prob": p.log_prob(a["x"]),
        "aleatoric": p.aleatoric,
        "epistemic": p.epistemic,
        "variance": p.variance(),
        "prob_above": p.prob_above(0.3),
        "mutual_information": p.mutual_information,
    }


def _predictive_torch(a, key):
    p = td.Predictive(td.Independent(td.Normal(a["locs"], a["scales"]), 1))
    return {
        "log_prob": p.log_prob(a["x"]),
        "aleatoric": p.aleatoric,
        "epistemic": p.epistemic,
        "variance": p.variance,
        "prob_above": p.prob_above(0.3),
        "mutual_information": p.mutual_information,
    }


def _predictive_interval_jax(a, key):
    p = jd.Predictive(jd.Independent(jd.Normal(a["locs"], a["scales"]), 1))
    lower, upper = p.interval(0.9)
    return {"lower": lower, "upper": upper, "q99": p.quantile(0.99), "median": p.median()}


def _predictive_interval_torch(a, key):
    p = td.Predictive(td.Independent(td.Normal(a["locs"], a["scales"]), 1))
    lower, upper = p.interval(0.9)
    return {"lower": lower, "upper": upper, "q99": p.quantile(0.99), "median": p.median()}


NORMAL = {
    "loc": _rng.normal(size=(B,)),
    "scale": _rng.uniform(0.3, 2.0, B),
    "x": _rng.normal(size=(B,)),
    "q": _rng.uniform(0.05, 0.95, B),
}
MULTIVARIATE = {
    "loc": _rng.normal(size=(B, D)),
    "tril": _tril(B),
    "x": _rng.normal(size=(B, D)),
    "tril2": _tril(B),
}
MIXTURE = {
    "logits": _rng.normal(size=(B, K)),
    "locs": 2 * _rng.normal(size=(B, K)),
    "scales": _rng.uniform(0.3, 1.0, (B, K)),
    "x": _rng.normal(size=(B,)),
    "q": _rng.uniform(0.02, 0.98, B),
}
PREDICTIVE = {
    "locs": _rng.normal(size=(S, B, D)),
    "scales": _rng.uniform(0.3, 1.0, (S, B, D)),
    "x": _rng.normal(size=(B, D)),
}

FUNCTIONS = [
    FunctionCase("Normal", _normal_jax, _normal_torch, NORMAL),
    FunctionCase("MultivariateNormal", _multivariate_jax, _multivariate_torch, MULTIVARIATE),
    FunctionCase("MixtureSameFamily", _mixture_jax, _mixture_torch, MIXTURE),
    FunctionCase(
        "MixtureSameFamily quantiles",
        _mixture_quantile_jax,
        _mixture_quantile_torch,
        MIXTURE,
        differentiable=False,  # ours has an implicit gradient, torch's bisection has none
    ),
    FunctionCase("Predictive", _predictive_jax, _predictive_torch, PREDICTIVE),
    FunctionCase(
        "Predictive quantiles",
        _predictive_interval_jax,
        _predictive_interval_torch,
        PREDICTIVE,
        differentiable=False,
    ),
]
