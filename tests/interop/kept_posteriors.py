"""Small posteriors of every kind, made here and predicted from here or in another process.

`python -m tests.interop.kept_posteriors FOLDER` reads the files of a folder and writes what each
predicts.
"""

import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob import bayes, heads, interop, objectives, optim, training

KEY = jax.random.key(0)
X = np.linspace(-1, 1, 12)[:, None]
DATA = {"x": X, "y": np.sin(3 * X) + 0.1}
PRIOR = objectives.GaussianPrior(1.0)


class Kind(NamedTuple):
    owner: Any  # what the arrays belong to: a posterior or a model
    make: Callable[[], Any]
    draws: Callable[[Any], Any]


def network(width=3):
    return nn.Sequential([nn.Dense(width), nn.tanh, heads.NormalHead()])


MODEL = network()


def trained(optimizer, start=None, loss=None):
    start = MODEL.init(KEY, X)["params"] if start is None else start
    loss = objectives.map_loss(MODEL, PRIOR, num_data=len(X)) if loss is None else loss
    return training.fit(loss, start, DATA, optimizer=optimizer, steps=20, key=KEY, progress=False)


def laplace(structure):
    posterior = bayes.Laplace(MODEL, X, structure=structure, prior=PRIOR)

    def make():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # twenty steps do not reach the mode
            return posterior.fit(trained(optax.adam(0.02)).params, DATA)

    return Kind(posterior, make, lambda state: posterior.sample(state, KEY, 5))


def gaussian(covariance):
    posterior = bayes.GaussianPosterior(MODEL, X, covariance=covariance, prior=PRIOR)
    return Kind(
        posterior, lambda: posterior.init(KEY), lambda state: posterior.sample(state, KEY, 5)
    )


def swag():
    gather = bayes.SWAG(3)
    optimizer = gather.collect(optim.sgd(1e-3, 0.9), start=2, every=2)
    return Kind(
        MODEL,
        lambda: gather.state_of(trained(optimizer).state.opt_state),
        lambda state: gather.sample(state, KEY, 5),
    )


def chains():
    density = bayes.log_joint(MODEL, PRIOR, DATA)
    starts = jax.vmap(lambda key: MODEL.init(key, jnp.asarray(X))["params"])(jax.random.split(KEY))
    starts = jax.tree.map(lambda leaf: leaf.astype(float), starts)  # as the data
    sampler = bayes.HMC(density, num_warmup=10, num_steps=3)
    return Kind(MODEL, lambda: sampler.run(KEY, starts, 6), lambda state: state.draws)


def members():
    ensemble = bayes.DeepEnsemble(MODEL, X, 3)
    return Kind(ensemble, lambda: ensemble.init(KEY), ensemble.sample)


KINDS = {
    "gaussian-diagonal": lambda: gaussian("diagonal"),
    "gaussian-layer": lambda: gaussian("layer"),
    "gaussian-full": lambda: gaussian("full"),
    "laplace-diagonal": lambda: laplace("diagonal"),
    "laplace-kron": lambda: laplace("kron"),
    "laplace-full": lambda: laplace("full"),
    "laplace-last_layer": lambda: laplace("last_layer"),
    "swag": swag,
    "chains": chains,
    "members": members,
}


def predicted(kind, state):
    predictive = bayes.predict(MODEL, kind.draws(state), X)
    return np.stack([np.asarray(predictive.mean()), np.asarray(predictive.stddev())])


def main(folder):
    jax.config.update("jax_enable_x64", True)
    for name, make in KINDS.items():
        kind = make()
        state = interop.load(folder / name, model=kind.owner)
        np.save(folder / f"{name}-again.npy", predicted(kind, state))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
