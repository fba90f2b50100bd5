"""One small instance of every distribution that the package returns."""

import functools

import distrax
import jax
import jax.numpy as jnp

from jaxprob import bayes, supervised
from jaxprob.distributions import (
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Predictive,
)

B, D, K, S = 3, 2, 4, 5


@functools.cache
def start(model, draws=None):
    """Params of a model, or some of them `[draws, ...]`: constants of every program below."""

    def init(key):
        return model.init(key, jnp.ones((1, 1)))["params"]

    with jax.ensure_compile_time_eval():  # the first call may stand inside of a program
        key = jax.random.key(0)
        if draws is None:
            return jax.jit(init)(key)
        return jax.jit(jax.vmap(init))(jax.random.split(key, draws))


def normal(shift):
    return Normal(shift + jnp.arange(float(B)), 0.5)


def multivariate_normal(shift):
    return MultivariateNormal(
        shift + jnp.ones((B, D)), jnp.eye(D) + 0.1 * jnp.tril(jnp.ones((D, D)), -1)
    )


def independent(shift):
    return Independent(Normal(shift + jnp.ones((B, D)), jnp.full((B, D), 0.5)), 1)


def mixture(shift):
    logits = jnp.linspace(0.0, 1.0, B * K).reshape(B, K)
    loc = shift + jnp.linspace(-2.0, 2.0, B * K).reshape(B, K)
    return MixtureSameFamily(distrax.Categorical(logits=logits), Normal(loc, 0.7))


def mixture_of_vectors(shift):
    logits = jnp.zeros((B, K))
    loc = shift + jnp.linspace(-2.0, 2.0, B * K * D).reshape(B, K, D)
    return MixtureSameFamily(distrax.Categorical(logits=logits), Independent(Normal(loc, 0.7), 1))


def predictive(shift):
    loc = shift + jnp.linspace(-1.0, 1.0, S * B * D).reshape(S, B, D)
    return Predictive(Independent(Normal(loc, 0.5), 1))


def model_output(shift):
    model = supervised.GaussianRegressor((4,))
    return model.apply({"params": start(model)}, jnp.ones((B, 1)) * shift)


def bayesian_mlp_output(shift):
    model = bayes.BayesianMLP((4,))
    return model.apply({"params": start(model)}, jnp.ones((B, 1)) * shift, jax.random.key(1))


def prediction(shift):
    model = supervised.GaussianRegressor((4,))
    return bayes.predict(model, start(model, S), jnp.ones((B, 1)) * shift)


def independent_of_vectors(shift):
    """What a likelihood of images is: pixels, each with its channels."""
    inner = Independent(Normal(shift + jnp.ones((B, K, D)), jnp.full((B, K, D), 0.5)), 1)
    return Independent(inner, 1)


RETURNED = {
    "Normal": normal,
    "MultivariateNormal": multivariate_normal,
    "Independent": independent,
    "Independent of vectors": independent_of_vectors,
    "MixtureSameFamily": mixture,
    "MixtureSameFamily of vectors": mixture_of_vectors,
    "Predictive": predictive,
    "GaussianRegressor": model_output,
    "BayesianMLP": bayesian_mlp_output,
    "bayes.predict": prediction,
}
