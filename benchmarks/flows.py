"""Flows against densities whose normaliser is known.

    python benchmarks/flows.py energies     # the four energies of Rezende & Mohamed (2015)

`energies` fits a flow to each energy, between walls at +-4, by reverse KL, and estimates
KL(q || p) = E_q[log q - log p~] + log Z from fresh draws, log Z by quadrature on a grid.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxprob import flows, objectives, optim, training

ENERGIES = ("u1", "u2", "u3", "u4")
EPOCH = 500
DRAWS = 200_000
BAR = 0.05


def models() -> dict[str, flows.Flow]:
    # The targets reach to 4 and a little further: in these units splines bend all of it.
    return {
        "planar, 32 maps": flows.planar(2, 32, std=2.0),
        "spline coupling, 6 layers": flows.spline_coupling(2, 6, bins=16, bound=4.0, std=2.0),
    }


def fit(model: flows.Flow, log_density, steps: int, num_samples: int, key: jax.Array):
    """Params after annealed training: the energy comes in over the first half of the steps."""
    anneal = objectives.linear_annealing(steps // 2, start=0.1)
    loss_fn = flows.reverse_kl(model, log_density, num_samples, weight=anneal)
    schedule = optim.schedules.cosine_annealing_lr(2e-3, steps)
    return training.fit(
        loss_fn,
        model.init(key, jnp.zeros((1, 2)))["params"],
        {"row": jnp.arange(EPOCH)},
        optimizer=optim.adam(schedule),
        steps=steps,
        batch_size=1,
        key=key,
    ).params


def divergence(model, params, log_density, key) -> tuple[float, float]:
    """KL(q || p) in nats and its standard error."""
    log_z = jax.jit(lambda: flows.energies.log_normalizer(log_density))()

    @jax.jit
    def terms(key):
        x, log_q = model.apply({"params": params}, key, (DRAWS,), method="sample_and_log_prob")
        return log_q - log_density(x)

    each = np.asarray(terms(key), np.float64) + float(log_z)
    return each.mean(), each.std() / DRAWS**0.5


def energies(steps: int, num_samples: int, seed: int, only: list[str]) -> None:
    table = Table(
        "energy", "flow", "KL(q || p) (nats)", "standard error", f"below {BAR}", "seconds"
    )
    for name in only:
        log_density = flows.energies.confined(getattr(flows.energies, name))
        for label, model in models().items():
            fit_key, draw_key = jax.random.split(jax.random.key(seed))
            begin = time.perf_counter()
            params = fit(model, log_density, steps, num_samples, fit_key)
            seconds = time.perf_counter() - begin
            kl, error = divergence(model, params, log_density, draw_key)
            passed = "yes" if kl < BAR else "no"
            table.add_row(name, label, f"{kl:.4f}", f"{error:.4f}", passed, f"{seconds:.0f}")
            print(f"{name}, {label}: KL {kl:.4f} +- {error:.4f} in {seconds:.0f} s", flush=True)
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("energies")
    command.add_argument("--steps", type=int, default=6000)
    command.add_argument("--samples", type=int, default=256, help="draws of each step")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--only", nargs="+", choices=ENERGIES, default=list(ENERGIES))
    args = parser.parse_args()
    energies(args.steps, args.samples, args.seed, args.only)


if __name__ == "__main__":
    main()
