"""200 binary latents on MNIST: which gradient estimator trains them best at equal steps.

784-200-784 with no hidden layers, the sigmoid belief network of Mnih & Gregor (2014); each image
binarised once, 50,000 to train on, the last 10,000 training images to validate on. All estimators
see the same batches, start from the same weights, and have one draw for each row. Printed is the
bound on log p(x) of validation images, by draws of q that nothing relaxes.

    python benchmarks/vae_discrete.py --data DIR
"""

import argparse
import json
import pathlib
import time

import flax.linen as nn
import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from vae import cosine_rate, load

from jaxprob import heads, objectives, optim, training, vae
from jaxprob.nn import MLP
from jaxprob.objectives import estimators as est

LATENTS, BATCH = 200, 100


class Pixels(nn.Module):
    """The encoder's features are the pixels themselves."""

    def __call__(self, x):
        """Returns the rows as they are."""
        return x


def settings(steps: int) -> dict[str, est.Estimator]:
    """Estimators, the temperature of one falling from 1 to 0.5."""
    return {
        "score function": est.score_function(),
        "score function, moving average": est.score_function("moving_average"),
        "NVIL": est.score_function("learned"),
        "NVIL, normalized": est.score_function("learned", normalize=True),
        "Gumbel-softmax": est.gumbel_softmax(objectives.linear_annealing(steps, 1.0, 0.5)),
        "straight through": est.straight_through(),
    }


def train(estimator: est.Estimator, x: np.ndarray, valid: np.ndarray, args, peak: float) -> tuple:
    """Returns the bound on validation images, its sd over them, and the seconds of training."""
    init_key, fit_key, key = jax.random.split(jax.random.key(args.seed), 3)
    model = vae.DiscreteVAE(
        Pixels(),
        heads.BernoulliHead(784),
        LATENTS,
        baseline=nn.Sequential([MLP((100,)), nn.Dense(1)]) if estimator.learns_baseline else None,
    )
    params = model.init(init_key, x[:1], init_key)["params"]
    loss_fn = vae.negative_discrete_elbo(model, estimator)
    start = time.perf_counter()
    fitted = training.fit(
        loss_fn,
        vae.with_estimator_state(params, estimator),
        {"x": x},
        optimizer=optim.adam(cosine_rate(peak, args.steps)),
        steps=args.steps,
        batch_size=BATCH,
        key=fit_key,
        progress=False,
    )
    seconds = time.perf_counter() - start
    bound = jax.jit(lambda rows, key: -loss_fn.evaluate(fitted.params, {"x": rows}, key)[0])
    parts = valid.reshape(-1, 500, 784)
    values = np.array([bound(rows, jax.random.fold_in(key, i)) for i, rows in enumerate(parts)])
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5), seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--peaks", type=float, nargs="+", default=[1e-3, 3e-3], help="first rates")
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, default=None, help="append results here")
    args = parser.parse_args()
    pixel_keys = jax.random.split(jax.random.key(2026))
    grey = load(args.data)
    x, valid = (np.asarray(vae.binarize(g, k)) for g, k in zip(grey, pixel_keys, strict=True))
    table = Table("estimator", "first rate", "validation bound", "seconds")
    for name, estimator in settings(args.steps).items():
        if args.only is not None and name not in args.only:
            continue
        for peak in args.peaks:
            value, error, seconds = train(estimator, x, valid, args, peak)
            table.add_row(name, f"{peak:g}", f"{value:.2f} +- {error:.2f}", f"{seconds:.0f}")
            print(f"{name}, {peak:g}: {value:.2f}, {seconds:.0f} s", flush=True)
            if args.json is not None:
                row = {"estimator": name, "peak": peak, "steps": args.steps, "bound": value}
                with args.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    Console().print(table)


if __name__ == "__main__":
    main()
