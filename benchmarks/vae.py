"""Variational autoencoders on MNIST: log p(x) by a published protocol.

The time of a step beside PyTorch and NumPyro: `vae_speed.py`.

mnist: the one-layer protocol of Burda, Grosse & Salakhutdinov (2016): 784-200-200-[50]-200-200-784,
tanh; pixels drawn anew in each step from the grey levels; Adam (eps 1e-4), its rate
1e-3 x 10^(-i/7) for 3^i shares of the epochs, i = 0..7 (3280 epochs of batch 20 in the paper; a
cosine gets further in hundreds of epochs). The
first 50,000 training images train, the last 10,000 validate; the test set is not touched. Prints
L_k on the validation images, binarised once.

    python benchmarks/vae.py mnist --data DIR
    python benchmarks/vae.py mnist --data DIR --objective iwae --k 5 --checkpoint-dir DIR2
"""

import argparse
import json
import math
import os
import pathlib
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob import optim, training, vae

STAGES = 8


def protocol_rate(steps: int):
    """The paper's learning rates, their stages spread over `steps`."""
    ends = np.cumsum(3.0 ** np.arange(STAGES)) / sum(3.0**i for i in range(STAGES))
    boundaries = jnp.asarray(np.round(ends[:-1] * steps), jnp.int32)

    def rate(step):
        return 1e-3 * 10.0 ** (-jnp.sum(step >= boundaries) / (STAGES - 1))

    return rate


def cosine_rate(peak: float, steps: int):
    """Half a cosine from `peak` to 0: for far fewer epochs than the paper's."""
    return lambda step: peak * 0.5 * (1.0 + jnp.cos(jnp.pi * step / steps))


def load(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels of 50,000 images to train on and of 10,000 to validate on, `[N, 784]`."""
    images = np.load(folder / "mnist" / "mnist_train.npz")["x"].reshape(60_000, -1) / 255.0
    return images[:50_000].astype(np.float32), images[50_000:].astype(np.float32)


def marginal_over_rows(model, params, x, key, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """L_k and its Monte Carlo error for each row, 100 rows at a time."""
    parts = []
    for start in range(0, len(x), 100):
        part_key = jax.random.fold_in(key, start)
        rows = x[start : start + 100]
        parts.append(vae.log_marginal(model, params, rows, part_key, samples, chunk_size=25))
    value, error = zip(*parts, strict=True)
    return np.concatenate(value), np.concatenate(error)


def mean_elbo(model, params, x, key) -> float:
    """The ELBO of all rows, one draw each, its KL from the same draws for every posterior."""
    bound = jax.jit(vae.negative_elbo(model, analytic_kl=False).evaluate)
    parts = x.reshape(-1, 500, x.shape[1])
    losses = [bound(params, {"x": p}, jax.random.fold_in(key, i))[0] for i, p in enumerate(parts)]
    return -float(np.mean(losses))


def mnist(args: argparse.Namespace) -> dict:
    """Trains by the protocol; returns and prints what came of it."""
    train, validation = load(args.data)
    fields = {"hidden": (200, 200), "latent_dim": 50, "activation": nn.tanh}
    normal = args.posterior == "normal"
    model = (
        vae.DenseVAE(**fields) if normal else vae.FlowPosteriorVAE(**fields, flow=args.posterior)
    )
    init_key, fit_key, pixel_key, key = jax.random.split(jax.random.key(args.seed), 4)
    params = model.init(init_key, train[:1], jnp.zeros((1, 50)))["params"]
    share = np.clip(train.mean(0, dtype=np.float64), 1e-3, 1 - 1e-3)
    params["head"]["out"]["bias"] = jnp.asarray(np.log(share / (1 - share)), jnp.float32)
    if args.objective == "vae":
        loss_fn = vae.negative_elbo(model, num_samples=args.k, analytic_kl=normal, binarize=True)
    else:
        loss_fn = vae.negative_iwae(model, args.k, args.gradient, binarize=True)
    steps = args.epochs * -(-len(train) // args.batch_size)
    cosine = args.schedule == "cosine"
    rate = cosine_rate(args.peak, steps) if cosine else protocol_rate(steps)
    start = time.perf_counter()

    def report(epoch: int, metrics: dict) -> None:
        seconds = time.perf_counter() - start
        shown = ", ".join(f"{n} {v:.3f}" for n, v in metrics.items())
        print(f"epoch {epoch}: {shown}, {seconds:.0f} s", flush=True)

    fitted = training.fit(
        loss_fn,
        params,
        {"x": train},
        optimizer=optim.adam(rate, eps=1e-4),
        epochs=args.epochs,
        batch_size=args.batch_size,
        key=fit_key,
        checkpoint_dir=args.checkpoint_dir,
        progress=False,
        log=lambda epoch, metrics: report(epoch, metrics) if epoch % args.every == 0 else None,
    )
    seconds = time.perf_counter() - start
    x = vae.binarize(validation, pixel_key)
    elbo = mean_elbo(model, fitted.params, x, key)
    print(f"ELBO of the validation images: {elbo:.3f}", flush=True)
    found = vae.diagnostics(model, fitted.params, x[:2000], key)
    print(found, flush=True)
    start = time.perf_counter()
    value, error = marginal_over_rows(
        model, fitted.params, x[: args.eval_rows], key, args.eval_samples
    )
    result = {
        "objective": args.objective, "posterior": args.posterior, "k": args.k,
        "gradient": args.gradient, "seed": args.seed,
        "epochs": args.epochs, "batch_size": args.batch_size,
        "schedule": f"cosine from {args.peak:g}" if cosine else "stages", "train_seconds": seconds,
        "eval_samples": args.eval_samples, "eval_rows": len(value),
        "log_marginal": float(value.mean()),
        "monte_carlo_error": float(math.sqrt((error**2).sum()) / len(error)),
        "error_over_rows": float(value.std(ddof=1) / math.sqrt(len(value))),
        "validation_elbo": elbo, "active_units": found.active_units,
        "elbo": found.elbo, "kl": found.kl,
        "eval_seconds": time.perf_counter() - start,
    }  # fmt: skip
    print(json.dumps(result))
    if args.json is not None:
        with args.json.open("a") as file:
            file.write(json.dumps(result) + "\n")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_subparsers(dest="what", required=True)
    digits = what.add_parser("mnist", help="L_k by the one-layer protocol")
    digits.add_argument("--data", type=pathlib.Path, required=True)
    digits.add_argument("--objective", choices=("vae", "iwae"), default="vae")
    digits.add_argument(
        "--posterior",
        choices=("normal", "iaf", "planar", "coupling"),
        default="normal",
        help="a flow after q",
    )
    digits.add_argument("--k", type=int, default=1, help="draws for each row in training")
    digits.add_argument(
        "--gradient", default="reparameterized", help="or doubly_reparameterized, for iwae"
    )
    digits.add_argument(
        "--schedule", choices=("stages", "cosine"), default="stages", help="stages: the paper's"
    )
    digits.add_argument("--peak", type=float, default=3e-3, help="first rate of the cosine")
    digits.add_argument("--epochs", type=int, default=300)
    digits.add_argument("--batch-size", type=int, default=100)
    digits.add_argument("--eval-samples", type=int, default=5000)
    digits.add_argument("--eval-rows", type=int, default=10_000)
    digits.add_argument("--every", type=int, default=10, help="epochs between two lines")
    digits.add_argument("--seed", type=int, default=0)
    digits.add_argument("--checkpoint-dir", type=pathlib.Path, default=None)
    digits.add_argument("--json", type=pathlib.Path, default=None, help="append results here")
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}, load {os.getloadavg()}")
    mnist(args)


if __name__ == "__main__":
    main()
