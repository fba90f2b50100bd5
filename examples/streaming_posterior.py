"""A posterior on a stream: batches arrive, are learned from and thrown away.

    python examples/streaming_posterior.py --seed 3

Top: a straight line with known noise. Each batch updates the posterior of its two weights, a
variational one; after the last batch it is, to rounding, that of all the data at once. Bottom: a
curve made of bumps, under a Laplace approximation; its batches come from left to right, and what
was learned on the left stays although no row is seen twice.
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxprob import bayes, distributions
from jaxprob.bayes import gaussian_block
from jaxprob.objectives import GaussianPrior

BATCHES, SHOWN = 10, (1, 3, 10)
NOISE, LINE = 0.5, np.array([0.4, -0.9])
INK, STREAM, ALL = "#333333", "#2a6fbb", "#d1495b"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3, help="Newton steps a batch of the curve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/streaming_posterior.png", help="where to draw")
    return parser.parse_args()


class Line(nn.Module):
    """Intercept and slope, noise known."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.zeros, (2,))
        loc = w[0] + w[1] * x[:, 0]
        return distributions.Normal(loc, NOISE * jnp.ones_like(loc))


class Bumps(nn.Module):
    """A weighted sum of bumps, noise known."""

    @nn.compact
    def __call__(self, x):
        centres = jnp.linspace(-3.5, 3.5, 15, dtype=x.dtype)
        loc = nn.Dense(1, use_bias=False)(jnp.exp(-2.0 * (x - centres[None]) ** 2))[:, 0]
        return distributions.Normal(loc, NOISE * jnp.ones_like(loc))


def ellipse(mean: np.ndarray, covariance: np.ndarray, mass: float) -> np.ndarray:
    """The curve around `mass` of a normal in the plane, `[2, 200]`."""
    turn = np.linspace(0, 2 * np.pi, 200)
    circle = np.sqrt(-2 * np.log(1 - mass)) * np.stack([np.cos(turn), np.sin(turn)])
    return mean[:, None] + np.linalg.cholesky(covariance) @ circle


def moments(params) -> tuple[np.ndarray, np.ndarray]:
    block = params["posterior"]["all"]  # the one group of covariance="full"
    factor = np.asarray(gaussian_block.scale_tril(block))
    return np.asarray(block["loc"]), factor @ factor.T


def stream_of_lines(axes, rng: np.random.Generator) -> None:
    x = rng.uniform(-1, 1, (4 * BATCHES, 1))
    y = LINE[0] + LINE[1] * x[:, 0] + NOISE * rng.normal(size=len(x))
    data = {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y, jnp.float32)}
    q = bayes.GaussianPosterior(Line(), x[:1], covariance="full", prior=GaussianPrior(1.0))
    # With antithetic draws one natural-gradient step is Bayes' rule for a linear model.
    options = {"key": jax.random.key(0), "num_steps": 1, "num_samples": 1}
    params = bayes.prior_params(q)
    at_once = moments(bayes.update(q, params, data, **options))
    for n in range(1, BATCHES + 1):
        rows = slice(4 * (n - 1), 4 * n)
        params = bayes.update(q, params, {k: v[rows] for k, v in data.items()}, **options)
        if n not in SHOWN:
            continue
        ax, posterior = axes[SHOWN.index(n)], moments(params)
        ax.plot(*ellipse(np.zeros(2), np.eye(2), 0.9), color="0.8", lw=1)
        for mass, alpha in ((0.5, 0.35), (0.9, 0.2)):
            ax.fill(*ellipse(*posterior, mass), color=STREAM, alpha=alpha, lw=0)
        ax.plot(*ellipse(*at_once, 0.9), color=ALL, lw=1.2, ls="--")
        ax.plot(*LINE, "+", color=INK, ms=9, mew=1.5)
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xlabel="intercept", aspect="equal")
        ax.set_title(f"after {n} batch{'es' if n > 1 else ''} ({4 * n} rows)", fontsize=10)
    gap = max(np.max(np.abs(a - b)) for a, b in zip(moments(params), at_once, strict=True))
    print(f"line: stream and all at once differ by {gap:.1e} in mean and covariance")
    axes[0].set_ylabel("slope")
    words = {"grey: prior": "0.6", "red: all at once": ALL, "blue: stream, 50, 90 %": STREAM}
    for i, (text, color) in enumerate(words.items()):
        axes[0].text(-2.3, 2.05 - 0.3 * i, text, color=color, fontsize=8)


def stream_of_curves(axes, rng: np.random.Generator, steps: int) -> None:
    x = np.sort(rng.uniform(-2.5, 2.5, (6 * BATCHES, 1)), axis=0)
    y = np.sin(2.2 * x[:, 0]) + NOISE * rng.normal(size=len(x))
    data = {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y, jnp.float32)}
    laplace = bayes.Laplace(Bumps(), x[:1], structure="full", prior=GaussianPrior(1.0))
    state = bayes.prior_params(laplace)
    at_once = bayes.update(laplace, state, data, num_steps=steps)
    grid = jnp.linspace(-3.0, 3.0, 200)[:, None]

    def band(state, level: float) -> tuple[jax.Array, jax.Array]:
        predictive = laplace.predict_glm(state, grid)
        sd = jnp.sqrt(predictive.variance() - NOISE**2)  # of the curve itself
        return distributions.Normal(predictive.mean(), sd).interval(level)

    for n in range(1, BATCHES + 1):
        rows = slice(6 * (n - 1), 6 * n)
        new = {k: v[rows] for k, v in data.items()}
        state = bayes.update(laplace, state, new, num_steps=steps)
        if n not in SHOWN:
            continue
        ax = axes[SHOWN.index(n)]
        for level, alpha in ((0.9, 0.2), (0.5, 0.35)):
            ax.fill_between(grid[:, 0], *band(state, level), color=STREAM, alpha=alpha, lw=0)
        for end in band(at_once, 0.9):
            ax.plot(grid, end, color=ALL, lw=1.2, ls="--")
        ax.plot(grid, np.sin(2.2 * grid), color=INK, lw=1)
        ax.plot(x[: rows.start], y[: rows.start], ".", color="0.6", ms=4)
        ax.plot(x[rows], y[rows], "o", color=INK, ms=4)
        ax.set(xlim=(-3, 3), ylim=(-2.7, 2.7), xlabel="x")
        ax.set_title(f"after {n} batch{'es' if n > 1 else ''} ({6 * n} rows)", fontsize=10)
    stream, batch = (float(laplace.log_marginal_likelihood(s)) for s in (state, at_once))
    print(f"curve: log-evidence of the stream {stream:.4f} nats, of all at once {batch:.4f}")
    axes[0].set_ylabel("y")
    axes[0].text(-2.9, 2.35, "black: truth, this batch; grey: rows thrown away", fontsize=8)


def main() -> None:
    args = parse_arguments()
    rng = np.random.default_rng(args.seed)
    figure, axes = plt.subplots(2, 3, figsize=(10, 6.6), layout="constrained")
    stream_of_lines(axes[0], rng)
    stream_of_curves(axes[1], rng, args.steps)
    pathlib.Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=150)
    print(f"picture: {args.out}")


if __name__ == "__main__":
    main()
