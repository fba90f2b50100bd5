"""The reference network of Bayesian regression: how well it finds the noise, and how fast.

1 input, a variational layer of 8 sigmoid units, a variational layer to (mean, scale), full
covariance within each layer: 152 + 189 = 341 parameters. Data: y = x^5 + 0.4 x eps, 500 rows.
RMSprop 0.005, 1000 epochs of batch 32.

    python benchmarks/reference_network.py accuracy    # 10 seeds, fixed and learned prior
    python benchmarks/reference_network.py speed       # against the PyTorch twin, one process
"""

import argparse
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import median_seconds

import torch_ref.random as torch_random
from jaxprob import bayes, datasets, optim, training
from jaxprob.objectives import GaussianPrior
from jaxprob.supervised import GaussianRegressor
from torch_ref import bayes as torch_bayes
from torch_ref import supervised as torch_supervised
from torch_ref import training as torch_training

ROWS, EPOCHS, BATCH = 500, 1000, 32
STEPS_PER_EPOCH = -(-ROWS // BATCH)
MEMBERS, MEMBER_EPOCHS, TORCH_STEPS = 100, 100, 300
PRIORS = {
    "N(0, 1)": GaussianPrior(1.0),
    "learned mean": GaussianPrior(1.0, trainable=("loc",)),
    "learned mean and scale": GaussianPrior(1.0, trainable=("loc", "scale")),
}
MODEL = GaussianRegressor((8,), activation=nn.sigmoid)
OPTIMIZER = optim.rmsprop(0.005)


def posterior(prior: GaussianPrior):
    q = bayes.GaussianPosterior(MODEL, jnp.zeros((1, 1)), covariance="layer", prior=prior)
    return q, bayes.negative_elbo(q, num_data=ROWS)


def accuracy(seeds: int) -> Table:
    """Root mean square error of the aleatoric scale over [-1, 1], and coverage of fresh data."""
    table = Table("prior", "scale error", "by seed", "95 % interval covers", "KL (nats)")
    grid = jnp.linspace(-1, 1, 201)[:, None]
    for name, prior in PRIORS.items():
        q, loss_fn = posterior(prior)
        errors, covered, kl = [], [], []
        for seed in range(seeds):
            keys = jax.random.split(jax.random.key(seed), 5)
            data, fresh = datasets.quintic(keys[0], ROWS), datasets.quintic(keys[4], 2000)
            fitted = training.fit(
                loss_fn,
                q.init(keys[1]),
                {"x": data.x, "y": data.y},
                optimizer=OPTIMIZER,
                epochs=EPOCHS,
                batch_size=BATCH,
                key=keys[2],
                progress=False,
            )
            draws = q.sample(fitted.params, keys[3], 200)
            scale = jnp.sqrt(bayes.predict(MODEL, draws, grid).aleatoric)
            errors.append(float(jnp.sqrt(jnp.mean((scale - 0.4 * jnp.abs(grid)) ** 2))))
            lower, upper = bayes.predict(MODEL, draws, fresh.x).interval(0.95)
            covered.append(float(jnp.mean((lower <= fresh.y) & (fresh.y <= upper))))
            kl.append(float(fitted.history["kl"][-1]))
        table.add_row(
            name,
            f"{np.mean(errors):.3f}",
            " ".join(f"{e:.3f}" for e in errors),
            f"{100 * np.mean(covered):.1f} %",
            f"{np.mean(kl):.0f}",
        )
    return table


def speed() -> Table:
    """Time per step on the same arrays: ours in steady state, the twin eager, one thread."""
    q, loss_fn = posterior(PRIORS["N(0, 1)"])
    data = datasets.quintic(jax.random.key(0), ROWS)
    arrays = {"x": jnp.asarray(data.x), "y": jnp.asarray(data.y)}
    key = jax.random.key(1)
    options = {"optimizer": OPTIMIZER, "batch_size": BATCH, "key": key, "progress": False}
    params = q.init(key)
    members = jax.vmap(q.init)(jax.random.split(key, MEMBERS))

    def single():
        jax.block_until_ready(training.fit(loss_fn, params, arrays, epochs=EPOCHS, **options))

    def ensemble():
        result = training.fit_ensemble(loss_fn, members, arrays, epochs=MEMBER_EPOCHS, **options)
        jax.block_until_ready(result)

    compile_seconds = []
    for call in (single, ensemble):
        begin = time.perf_counter()
        call()
        first = time.perf_counter() - begin
        compile_seconds.append(first)
    single_step = median_seconds(single) / (EPOCHS * STEPS_PER_EPOCH)
    ensemble_step = median_seconds(ensemble) / (MEMBER_EPOCHS * STEPS_PER_EPOCH)

    twin = torch_bayes.GaussianPosterior(
        torch_supervised.GaussianRegressor(1, (8,), activation=torch.sigmoid), covariance="layer"
    )
    twin_loss = torch_bayes.negative_elbo(twin, num_data=ROWS)
    twin_data = {name: torch.tensor(np.asarray(a)) for name, a in arrays.items()}
    twin_optimizer = torch.optim.RMSprop(twin.parameters(), 0.005)

    def eager():
        torch_training.fit(
            twin_loss,
            twin_data,
            optimizer=twin_optimizer,
            steps=TORCH_STEPS,
            batch_size=BATCH,
            key=torch_random.key(1),
        )

    eager()
    torch_step = median_seconds(eager) / TORCH_STEPS
    # The same with torch's own generator, so that the twin is not charged for repeating JAX's.
    original = torch_random.normal
    torch_bayes.gaussian_posterior.jrandom.normal = lambda key, shape, dtype: torch.randn(
        shape, dtype=dtype
    )
    try:
        torch_step_native = median_seconds(eager) / TORCH_STEPS
    finally:
        torch_bayes.gaussian_posterior.jrandom.normal = original

    table = Table("what", "us a step", "ratio", "first call (s)")
    table.add_row("torch twin, eager", f"{1e6 * torch_step:.0f}", "1", "")
    table.add_row("torch twin, torch.randn noise", f"{1e6 * torch_step_native:.0f}", "", "")
    for name, step, first, scale in (
        ("fit", single_step, compile_seconds[0], 1),
        (f"fit_ensemble, {MEMBERS} members", ensemble_step, compile_seconds[1], MEMBERS),
    ):
        ratio = f"{scale * torch_step / step:.0f} ({scale * torch_step_native / step:.0f} native)"
        table.add_row(name, f"{1e6 * step:.1f}", ratio, f"{first:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("accuracy", "speed"))
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    q, _ = posterior(PRIORS["N(0, 1)"])
    params = q.init(jax.random.key(0))["posterior"]
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(block)) for block in params.values()]
    print(f"trainable parameters: {' + '.join(map(str, sizes))} = {sum(sizes)}")
    print(f"jax {jax.__version__}, torch {torch.__version__}, {jax.devices()[0].platform}")
    Console(width=130).print(accuracy(args.seeds) if args.what == "accuracy" else speed())


if __name__ == "__main__":
    main()
