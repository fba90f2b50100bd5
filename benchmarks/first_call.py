"""The first call of `fit` beside that of the same loss in a bare scan, each in a new process.

Nothing is read from a cache of compiled programs (asserted). The dense VAE is that of
`vae_speed.py`; a call is one epoch of 50 batches. NumPyro takes part where it is installed.

    python benchmarks/first_call.py
    python benchmarks/first_call.py --repeats 5
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PEERS = ("ours", "bare", "numpyro")


def one(name: str) -> None:
    """Prints the seconds of a first call."""
    sys.path.insert(0, str(Path(__file__).parent))
    import jax
    import numpy as np
    from vae_speed import BATCH, PEERS, PIXELS

    assert not jax.config.jax_enable_compilation_cache
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(50 * BATCH, PIXELS)) < 0.15).astype(np.float32)
    run = PEERS[name][1](x, 1)
    begin = time.perf_counter()
    run()
    print(time.perf_counter() - begin)


def main() -> None:
    """Starts the processes in turn, and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=PEERS, help="one call in this process")
    args = parser.parse_args()
    if args.one:
        return one(args.one)
    seconds: dict[str, list[float]] = {name: [] for name in PEERS}
    for _ in range(args.repeats):
        for name in PEERS:
            done = subprocess.run(
                [sys.executable, __file__, "--one", name],
                env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                seconds[name].append(float(done.stdout.split()[-1]))
            elif "No module named 'numpyro'" not in done.stderr:
                raise RuntimeError(done.stderr)
    print(f"load {os.getloadavg()}")
    scan = statistics.median(seconds["bare"])
    for name, of in seconds.items():
        if of:
            median = statistics.median(of)
            listed = ", ".join(f"{s:.2f}" for s in sorted(of))
            print(f"{name:8} {median:.2f} s, {median / scan:.2f} of the bare scan ({listed})")


if __name__ == "__main__":
    main()
