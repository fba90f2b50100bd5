"""The posteriors that `benchmarks/uci.py` compares: each a pytree, a loss and its draws.

A `Method` has everything about one posterior with its hyper-parameters fixed; the benchmark trains
it on all splits of a data set at once.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxprob import bayes, heads, objectives
from jaxprob.objectives import GaussianPrior
from jaxprob.types import LossFn


class Method(NamedTuple):
    """One posterior with its hyper-parameters.

    Attributes:
      family: What it is called in the table.
      setting: Its hyper-parameters, in words.
      members: Networks trained for each split, 1 but for ensembles.
      init: key -> pytree to train.
      loss: num_data -> loss in nats a row, of standardised targets.
      predictive: (trained with leading axis of members, key, data, x) -> predictive distribution.
      epochs: Passes over the training rows.
      batch_size: Rows of a batch.
      learning_rate: Where its cosine starts.
    """

    family: str
    setting: str
    members: int
    init: Callable[[jax.Array], Any]
    loss: Callable[[int], LossFn]
    predictive: Callable[[Any, jax.Array, Any, jax.Array], Any]
    epochs: int
    batch_size: int
    learning_rate: float = 1e-2

    def optimizer(self, num_data: int) -> optax.GradientTransformation:
        """Adam along a cosine, with a clipped gradient: a few rows have huge residuals."""
        steps = self.epochs * -(-num_data // min(self.batch_size, num_data))
        schedule = optax.cosine_decay_schedule(self.learning_rate, steps, alpha=0.01)
        return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule))


class Net(nn.Module):
    """One hidden layer of ReLU units, the protocol's network; dropout before both layers."""

    units: int
    homoscedastic: bool = False
    rate: float = 0.0
    heavy_tailed: bool = False

    @nn.compact
    def __call__(self, x):
        """Maps `[B, Q]` to a distribution over `[B, 1]`."""
        h = nn.Dropout(self.rate, deterministic=True)(x)
        h = nn.relu(nn.Dense(self.units)(h))
        h = nn.Dropout(self.rate, deterministic=True)(h)
        if self.heavy_tailed:
            return heads.StudentTHead()(h)
        return heads.NormalHead(homoscedastic=self.homoscedastic)(h)


def one(members: Any) -> Any:
    """The only member."""
    return jax.tree.map(lambda leaf: leaf[0], members)


def deep_ensemble(
    inputs, units, epochs, batch, scale, adversarial=None, homoscedastic=False, heavy_tailed=False
) -> Method:
    """Five networks, each at its own MAP, perhaps with adversarial training."""
    model = Net(units, homoscedastic, heavy_tailed=heavy_tailed)
    ensemble = bayes.DeepEnsemble(model, jnp.zeros((1, inputs)), 1)

    def loss(num_data: int) -> LossFn:
        prior = GaussianPrior(scale)
        # a standardised input ranges over about five units
        return ensemble.loss(adversarial, 5.0, prior, num_data)

    setting = f"{epochs} epochs, prior {scale}"
    return Method(
        "deep ensemble",
        setting
        + (f", adversarial {adversarial}" if adversarial else "")
        + (", one noise scale" if homoscedastic else "")
        + (", Student's t" if heavy_tailed else ""),
        5,
        lambda key: one(ensemble.init(key)),
        loss,
        lambda members, key, data, x: bayes.predict(model, members, x),
        epochs,
        batch,
    )


def mc_dropout(inputs, units, epochs, batch, rate, scale, num_draws=200) -> Method:
    """Dropout before both layers, one noise scale."""
    posterior = bayes.MCDropout(Net(units, True, rate), jnp.zeros((1, inputs)))
    return Method(
        "MC dropout",
        f"{epochs} epochs, rate {rate}, prior {scale}",
        1,
        posterior.init,
        lambda num_data: posterior.loss(GaussianPrior(scale), num_data),
        lambda members, key, data, x: bayes.predict(
            posterior.model, posterior.sample(one(members), key, num_draws), x
        ),
        epochs,
        batch,
    )


def variational(
    inputs,
    units,
    epochs,
    batch,
    covariance,
    homoscedastic,
    learning_rate=1e-2,
    num_samples=4,
    num_draws=200,
) -> Method:
    """A Gaussian posterior under a prior whose scale is learned layer by layer."""
    model = Net(units, homoscedastic)
    prior = GaussianPrior(0.5, trainable=("scale",))
    q = bayes.GaussianPosterior(model, jnp.zeros((1, inputs)), covariance, prior, init_scale=0.02)
    noise = "one noise scale" if homoscedastic else "noise by input"
    return Method(
        {"diagonal": "mean field", "layer": "full covariance a layer"}.get(covariance, covariance),
        f"{epochs} epochs, {noise}",
        1,
        q.init,
        lambda num_data: bayes.negative_elbo(q, num_data, num_samples),
        lambda members, key, data, x: bayes.predict(
            model, q.sample(one(members), key, num_draws), x
        ),
        epochs,
        batch,
        learning_rate,
    )


def laplace(inputs, units, epochs, batch, scale, homoscedastic) -> Method:
    """A network at its MAP with the closed-form predictive of Laplace's approximation."""
    model = Net(units, homoscedastic)
    prior = GaussianPrior(scale)
    posterior = bayes.Laplace(model, jnp.zeros((1, inputs)), "kron", prior)

    def predictive(members, key, data, x):
        with warnings.catch_warnings():  # a stochastic optimiser ends near the mode, not at it
            warnings.simplefilter("ignore", UserWarning)
            state = posterior.fit(one(members), data)
        return posterior.predict_glm(posterior.tune_prior(state), x)

    noise = "one noise scale" if homoscedastic else "noise by input"
    return Method(
        "Laplace, Kronecker factors",
        f"{epochs} epochs, prior {scale}, {noise}",
        1,
        lambda key: model.init(key, jnp.zeros((1, inputs)))["params"],
        lambda num_data: objectives.map_loss(model, prior, num_data),
        predictive,
        epochs,
        batch,
    )
