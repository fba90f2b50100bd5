"""Time of a training step of a VAE (784-256-20, batch 128, Adam) beside PyTorch and NumPyro.

One process, the same rows, one thread; all take turns, the median of the turns counts, the first
call is its own column. A call takes several epochs, since `fit` has costs of its own: it looks
through the data and copies the params. Peers: the twin in PyTorch (its noise by torch.randn), a VAE
as users of PyTorch write it, eager and through torch.compile, NumPyro's SVI over a scan, and the
matrix products of a step alone, which no implementation can do without. Ratios are the time of a
peer over ours: above 1 we are faster.

    python benchmarks/vae_speed.py
    python benchmarks/vae_speed.py --batches 100 --turns 7 --without compile numpyro
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from statistics import median

if hasattr(os, "sched_setaffinity"):  # before XLA starts its threads
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch.nn.functional import binary_cross_entropy_with_logits  # noqa: E402

import torch_ref.random as torch_random  # noqa: E402
from jaxprob import optim, training, vae  # noqa: E402
from torch_ref import vae as torch_vae  # noqa: E402
from torch_ref.vae import latents as torch_latents  # noqa: E402

torch.set_num_threads(1)
PIXELS, HIDDEN, LATENT, BATCH, RATE = 784, 256, 20, 128, 1e-3
Run = Callable[[], object]


def start(x: np.ndarray):
    """Key, params, loss and data."""
    model, key = vae.DenseVAE(), jax.random.key(0)
    params = model.init(key, jnp.asarray(x[:1]), jnp.zeros((1, LATENT)))["params"]
    return key, params, vae.negative_elbo(model), jnp.asarray(x)


def ours(x: np.ndarray, epochs: int) -> Run:
    key, params, loss_fn, rows = start(x)
    adam, data = optim.adam(RATE), {"x": rows}

    def run():
        fitted = training.fit(
            loss_fn, params, data, optimizer=adam, epochs=epochs, batch_size=BATCH, key=key,
            progress=False,
        )  # fmt: skip
        jax.block_until_ready(fitted.params)

    return run


def bare(x: np.ndarray, epochs: int) -> Run:
    """The same loss in a scan without what `fit` watches over: non-finite values, the history."""
    key, params, loss_fn, data = start(x)
    adam = optax.adam(RATE)

    def step(carry, rows):
        params, state, key = carry
        key, loss_key = jax.random.split(key)
        slope, _ = jax.grad(loss_fn, has_aux=True)(params, {"x": data[rows]}, loss_key)
        updates, state = adam.update(slope, state)
        return (optax.apply_updates(params, updates), state, key), None

    @jax.jit
    def epoch(carry):
        order = jax.random.permutation(key, len(data)).reshape(-1, BATCH)
        return jax.lax.scan(step, carry, order)[0]

    def run():
        carry = params, adam.init(params), key
        for _ in range(epochs):
            carry = epoch(carry)
        jax.block_until_ready(carry[0])

    return run


class PlainVAE(torch.nn.Module):
    """The VAE that a user of PyTorch writes."""

    def __init__(self):
        super().__init__()
        self.encode = torch.nn.Linear(PIXELS, HIDDEN)
        self.latent = torch.nn.Linear(HIDDEN, 2 * LATENT)
        self.decode = torch.nn.Linear(LATENT, HIDDEN)
        self.pixels = torch.nn.Linear(HIDDEN, PIXELS)

    def forward(self, x):
        """The loss of a batch."""
        mean, raw = self.latent(torch.relu(self.encode(x))).chunk(2, -1)
        scale = torch.nn.functional.softplus(raw) + 1e-4
        z = mean + scale * torch.randn_like(scale)
        logits = self.pixels(torch.relu(self.decode(z)))
        nll = binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (scale.square() + mean.square() - 1.0 - 2.0 * scale.log()).sum()
        return (nll + kl) / len(x)


def torch_run(module: torch.nn.Module, loss_of: Callable, x: np.ndarray, epochs: int) -> Run:
    adam, rows = torch.optim.Adam(module.parameters(), RATE), torch.from_numpy(x)

    def run():
        for _ in range(epochs):
            for order in torch.randperm(len(rows)).split(BATCH):
                adam.zero_grad()
                loss_of(rows[order]).backward()
                adam.step()

    return run


def twin(x: np.ndarray, epochs: int) -> Run:
    module = torch_vae.DenseVAE()
    loss_fn, key = torch_vae.negative_elbo(module), torch_random.key(0)
    # not charged for repeating JAX's generator, which is there for the proofs
    torch_latents.noise = lambda key, samples, rows, size, dtype: torch.randn(
        samples, rows, size, dtype=dtype
    )
    return torch_run(module, lambda rows: loss_fn({"x": rows}, key)[0], x, epochs)


def plain(x: np.ndarray, epochs: int) -> Run:
    module = PlainVAE()
    return torch_run(module, module, x, epochs)


def compiled(x: np.ndarray, epochs: int) -> Run:
    module = PlainVAE()
    return torch_run(module, torch.compile(module), x, epochs)


def numpyro_svi(x: np.ndarray, epochs: int) -> Run:
    import numpyro
    import numpyro.distributions as dist

    def dense(name, inputs, outputs):
        kernel = numpyro.param(
            f"{name}.kernel",
            lambda key: jax.random.normal(key, (inputs, outputs)) / np.sqrt(inputs),
        )
        return kernel, numpyro.param(f"{name}.bias", jnp.zeros(outputs))

    def model(rows):
        w, b = dense("decode", LATENT, HIDDEN)
        v, c = dense("pixels", HIDDEN, PIXELS)
        with numpyro.plate("rows", len(rows)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENT), 1.0).to_event(1))
            logits = jax.nn.relu(z @ w + b) @ v + c
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=rows)

    def guide(rows):
        w, b = dense("encode", PIXELS, HIDDEN)
        v, c = dense("latent", HIDDEN, 2 * LATENT)
        mean, raw = jnp.split(jax.nn.relu(rows @ w + b) @ v + c, 2, -1)
        with numpyro.plate("rows", len(rows)):
            numpyro.sample("z", dist.Normal(mean, jax.nn.softplus(raw) + 1e-4).to_event(1))

    svi = numpyro.infer.SVI(model, guide, optax.adam(RATE), numpyro.infer.TraceMeanField_ELBO())
    data = jnp.asarray(x)
    state = svi.init(jax.random.key(0), data[:BATCH])

    @jax.jit
    def epoch(state, key):
        order = jax.random.permutation(key, len(data)).reshape(-1, BATCH)
        return jax.lax.scan(lambda s, rows: svi.update(s, data[rows]), state, order)

    def run():
        carry = state
        for i in range(epochs):
            carry, _ = epoch(carry, jax.random.key(i))
        jax.block_until_ready(carry)

    return run


def products(x: np.ndarray, epochs: int) -> Run:
    """The eleven matrix products of a step: four forward, seven backward."""
    rng = np.random.default_rng(0)
    sizes = [(PIXELS, HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, PIXELS)]
    weights = [jnp.asarray(rng.normal(size=size) / 30, jnp.float32) for size in sizes]
    data = jnp.asarray(x).reshape(-1, BATCH, PIXELS)

    @jax.jit
    def run(weights, data):
        def step(weights, rows):
            w, v, u, t = weights
            h = rows @ w
            a = h @ v
            z = a[:, :LATENT]
            g = z @ u
            slope = g @ t
            dt, dg = g.T @ slope, slope @ t.T
            du, dz = z.T @ dg, dg @ u.T
            da = jnp.concatenate([dz, dz], -1)
            dv, dh = h.T @ da, da @ v.T
            slopes = (rows.T @ dh, dv, du, dt)
            return [p - 1e-9 * s for p, s in zip(weights, slopes, strict=True)], None

        return jax.lax.scan(step, weights, data)[0]

    def epochs_of_products():
        moved = weights
        for _ in range(epochs):
            moved = run(moved, data)
        jax.block_until_ready(moved)

    return epochs_of_products


PEERS: dict[str, tuple[str, Callable[[np.ndarray, int], Run]]] = {
    "ours": ("jaxprob: fit", ours),
    "bare": ("jaxprob: the loss in a bare scan", bare),
    "twin": ("torch twin, eager", twin),
    "plain": ("torch, plain eager", plain),
    "compile": ("torch, plain, torch.compile", compiled),
    "numpyro": ("NumPyro SVI, scan", numpyro_svi),
    "products": ("matrix products alone (XLA)", products),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=50, help="batches of an epoch")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of a timed call")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--without", nargs="*", choices=list(PEERS)[1:], default=())
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(args.batches * BATCH, PIXELS)) < 0.15).astype(np.float32)
    print(f"jax {jax.__version__}, torch {torch.__version__}, load {os.getloadavg()}")
    runs, first = {}, {}
    for name, (_, make) in PEERS.items():
        if name in args.without:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                begin = time.perf_counter()
                runs[name] = make(x, args.epochs)
                runs[name]()
                first[name] = time.perf_counter() - begin
        except ImportError as error:
            print(f"{name}: not there ({error})")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.turns):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            times[name].append(time.process_time() - begin)
    steps = {name: 1e6 * median(of) / (args.batches * args.epochs) for name, of in times.items()}
    table = Table("", "us a step (CPU time)", "ratio to ours", "first call s")
    for name, step in steps.items():
        table.add_row(
            PEERS[name][0], f"{step:.0f}", f"{step / steps['ours']:.2f}", f"{first[name]:.1f}"
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
