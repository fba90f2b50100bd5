"""Which gradient for discrete latents? First on a problem small enough to know, then on digits.

Twelve yes-or-no latents have no path for a gradient to follow. On a tiny model each estimator is
compared with the exact gradient, by enumeration: how far its average is off (bias) and how much one
estimate varies. Then each trains the same autoencoder on scikit-learn's 8 x 8 digits, where all
2^12 states can still be summed: the log-likelihood of the test digits is exact.

    python examples/vae_discrete.py
"""

import argparse
import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from jaxprob import heads, optim, training, vae
from jaxprob.distributions import Bernoulli, Independent
from jaxprob.nn import MLP
from jaxprob.objectives import estimators as est

LATENTS, DRAWS, KEYS = 12, 4, 5000
ESTIMATORS = {
    "score function": est.score_function(num_samples=DRAWS),
    "NVIL": est.score_function("learned", DRAWS),
    "leave one out": est.score_function("leave_one_out", DRAWS),
    "REBAR": est.rebar(0.5, num_samples=DRAWS),
    "straight through": est.straight_through(num_samples=DRAWS),
    "Gumbel, t = 0.5": est.gumbel_softmax(0.5, DRAWS),
    "VIMCO": est.vimco(DRAWS),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help="optimisation steps")
    parser.add_argument("--only", nargs="+", choices=[*ESTIMATORS], default=[*ESTIMATORS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/vae_discrete.png", help="where to draw")
    return parser.parse_args()


def compare(names: list[str], key: jax.Array) -> dict[str, tuple[str, str]]:
    """Returns bias and standard deviation of each, over the norm of the exact gradient, shown."""
    keys = jax.random.split(key, KEYS)
    logits, w = jnp.array([0.5, -1.0, 0.2, 0.8]), jnp.array([1.0, -2.0, 1.5, 0.5])

    def q(logits):
        return Independent(Bernoulli(logits=logits), 1)

    def f(z):
        return 3.0 + jnp.sin(2.0 * z @ w) + (z @ w) ** 2 / 4

    exact, found = est.exact_gradient(q, lambda _, z: f(z))(logits), {}
    unit = 100 / jnp.linalg.norm(exact)
    for name in names:
        estimator = ESTIMATORS[name]
        if estimator.log_mean_exp:  # VIMCO has an objective of its own
            continue
        extra = {"baseline": jnp.asarray(4.0)} if estimator.learns_baseline else {}

        def value(logits, key, estimator=estimator, extra=extra):
            return estimator(q(logits), f, key, **extra).value

        gradients = jax.jit(jax.vmap(jax.grad(value), (None, 0)))(logits, keys)
        bias = unit * jnp.linalg.norm(jnp.mean(gradients, 0) - exact)
        spread = unit * jnp.sqrt(jnp.sum(jnp.var(gradients, 0)))
        found[name] = (f"{bias:.0f} (chance {spread / KEYS**0.5:.0f}) %", f"{spread:.0f} %")
    return found


def fit(estimator: est.Estimator, train: np.ndarray, test: np.ndarray, steps: int, key: jax.Array):
    """Returns the model, its params and the validation bound after each epoch."""
    init_key, fit_key = jax.random.split(key)
    model = vae.DiscreteVAE(
        MLP((128,)),
        nn.Sequential([MLP((128,)), heads.BernoulliHead(train.shape[1])]),
        LATENTS,
        learn_prior=True,
        baseline=nn.Sequential([MLP((64,)), nn.Dense(1)]) if estimator.learns_baseline else None,
    )
    params = model.init(init_key, train[:1], init_key)["params"]
    fitted = training.fit(
        vae.negative_discrete_elbo(model, estimator),
        vae.with_estimator_state(params, estimator),
        {"x": train},
        optimizer=optim.adam(optim.schedules.cosine_annealing_lr(2e-3, steps)),
        steps=steps,
        batch_size=64,
        key=fit_key,
        validation={"x": test},
    )
    return model, fitted.params, fitted.history["validation_loss"]


def draw(curves: dict, rows: list, samples: np.ndarray, path: pathlib.Path) -> pathlib.Path:
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1.0))
    ax = left.subplots()
    for name, curve in curves.items():
        ax.plot(np.arange(1, len(curve) + 1), curve, label=name)
    ax.set(xlabel="epoch", ylabel="bound on -log p(x), test digits (nats)", xscale="log")
    ax.legend(fontsize=8)
    for axes, images in zip(right.subplots(4, 8), [*rows, samples[:8], samples[8:]], strict=True):
        for one, image in zip(axes, images, strict=True):
            one.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0.0, vmax=1.0)
            one.set(xticks=[], yticks=[])
    right.suptitle("digits, their reconstructions, two rows of samples", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def main() -> None:
    args = parse_arguments()
    tiny_key, order_key, draw_key, key = jax.random.split(jax.random.key(args.seed), 4)
    compared = compare(args.only, tiny_key)
    x = (load_digits().data > 8.0).astype(np.float32)
    order = np.asarray(jax.random.permutation(order_key, len(x)))
    test, train = x[order[:300]], x[order[300:]]
    table = Table("estimator", "bias", "sd of one draw", "test bound", "test log p(x), exact")
    curves, best = {}, (-np.inf,)
    for name in args.only:
        print(f"training with {name}")
        model, params, curves[name] = fit(ESTIMATORS[name], train, test, args.steps, key)
        exact = jax.jit(functools.partial(vae.exact_log_marginal, model))
        log_p = float(jnp.mean(exact(params, {"x": test})))
        table.add_row(name, *compared.get(name, "--"), f"{-curves[name][-1]:.2f}", f"{log_p:.2f}")
        best = max(best, (log_p, name, model, params), key=lambda entry: entry[0])
    Console(width=100).print(table)
    _, name, model, params = best
    seen = vae.reconstruct(model, params, test[:8]).mean()
    samples = vae.sample(model, params, draw_key, 16, mean=True)
    path = draw(curves, [test[:8], np.asarray(seen)], np.asarray(samples), pathlib.Path(args.out))
    print(f"best log-likelihood: {name}; picture: {path}")


if __name__ == "__main__":
    main()
