"""NUTS on posteriors whose moments are published, and what cheaper posteriors miss of them.

German credit, logistic regression: 24 standardised inputs and a bias, weights ~ N(0, 1); the
reference means and standard deviations come with the data. For each method: the largest error of a
mean, in reference standard deviations, and the range of its standard deviations over theirs.

    python benchmarks/mcmc.py --data DIR    # DIR holds german_credit_numeric.npz
"""

import argparse
import pathlib
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxprob import bayes, distributions, optim, training
from jaxprob.objectives import GaussianPrior

SIZE = 25


class Logistic(nn.Module):
    """Log-odds linear in the inputs."""

    @nn.compact
    def __call__(self, x):
        """Maps `[N, 25]` to `[N]` Bernoullis."""
        w = self.param("w", nn.initializers.normal(0.1), (SIZE,))
        return distributions.Bernoulli(logits=x @ w)


class LogisticLayer(nn.Module):
    """The same as a dense layer, which is what Kronecker factors are made for."""

    @nn.compact
    def __call__(self, x):
        """Maps `[N, 25]` to `[N]` Bernoullis."""
        logits = nn.Dense(1, use_bias=False, name="layer")(x)
        return distributions.Bernoulli(logits=logits[:, 0])


def laplace(data, structure: str, key) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the weights under a Laplace approximation.

    The mode is found by Newton steps with the full curvature; `training.fit` on
    `objectives.map_loss` ends at the same place.
    """
    model, prior = LogisticLayer(), GaussianPrior(1.0)
    full = bayes.Laplace(model, data["x"][:1], "full", prior)
    mode = bayes.update(full, bayes.prior_params(full), data).mean
    posterior = bayes.Laplace(model, data["x"][:1], structure, prior)
    state = posterior.fit(mode, data)
    draws = np.asarray(posterior.sample(state, key, 20_000)["layer"]["kernel"])[:, :, 0]
    return np.asarray(mode["layer"]["kernel"])[:, 0], draws.std(0)


def variational(model, data, covariance: str, steps: int, key) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the weights under a Gaussian posterior."""
    q = bayes.GaussianPosterior(model, data["x"][:1], covariance, GaussianPrior(1.0))
    fitted = training.fit(
        bayes.negative_elbo(q, len(data["x"]), num_samples=16),
        q.init(key),
        data,
        optimizer=optim.adam(optim.schedules.cosine_annealing_lr(0.03, steps)),
        steps=steps,
        batch_size=len(data["x"]),
        key=key,
        progress=False,
    )
    draws = np.asarray(q.sample(fitted.params, key, 20_000)["w"])
    return draws.mean(0), draws.std(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    stored = np.load(args.data / "german_credit_numeric.npz")
    x = (stored["x"] - stored["x"].mean(0)) / stored["x"].std(0)
    x = jnp.asarray(np.concatenate([x, np.ones((len(x), 1))], 1), jnp.float32)
    data = {"x": x, "y": jnp.asarray(stored["y"], jnp.float32)}
    truth = stored["logistic_identity_mean"], stored["logistic_identity_standard_deviation"]
    model, keys = Logistic(), jax.random.split(jax.random.key(0), 3)

    found = {}
    for covariance in ("diagonal", "full"):
        start = time.perf_counter()
        moments = variational(model, data, covariance, args.steps, keys[0])
        found[f"variational, {covariance}"] = (*moments, time.perf_counter() - start, None)
    for structure in ("diagonal", "kron", "full"):
        start = time.perf_counter()
        moments = laplace(data, structure, keys[0])
        found[f"Laplace, {structure}"] = (*moments, time.perf_counter() - start, None)
    log_density = bayes.log_joint(model, GaussianPrior(1.0), data)
    init = jax.vmap(lambda k: model.init(k, x[:1])["params"])(jax.random.split(keys[1], 4))
    start = time.perf_counter()
    chains = bayes.NUTS(log_density).run(keys[2], init, args.draws)
    row = chains.summary()["w"]
    found["NUTS"] = (row["mean"], row["sd"], time.perf_counter() - start, row)

    columns = ("worst mean error (sd)", "sd over reference", "worst R-hat", "least ESS", "seconds")
    table = Table("method", *columns)
    for name, (mean, sd, seconds, row) in found.items():
        error = np.max(np.abs(mean - truth[0]) / truth[1])
        ratio = sd / truth[1]
        table.add_row(
            name, f"{error:.3f}", f"{ratio.min():.2f} to {ratio.max():.2f}",
            f"{row['rhat'].max():.4f}" if row else "-",
            f"{row['ess_bulk'].min():.0f}" if row else "-", f"{seconds:.0f}",
        )  # fmt: skip
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
