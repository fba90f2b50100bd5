"""Trains an ensemble with checkpoints, slowly enough to be killed: see `test_kill.py`.

python -m tests.training.programs.killed_ensemble RESULT DIRECTORY SECONDS_AN_EPOCH
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.training import fit_ensemble

M, ROWS, EPOCHS = 4, 40, 500


def loss_fn(params, batch, key):
    """A small network with noise on its inputs."""
    x = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)
    h = jnp.tanh(x @ params["hidden"])
    error = h @ params["out"] - batch["y"]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def main(result: str, directory: str, pause: float) -> None:
    """Trains and writes params, best params and history."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    data = {"x": x, "y": np.sin(x[:, 0])}
    members = {
        "hidden": jnp.asarray(rng.normal(size=(M, 3, 8)), jnp.float32),
        "out": jnp.asarray(rng.normal(size=(M, 8)), jnp.float32),
    }
    times = []
    assert not jax.config.jax_enable_compilation_cache, "kills must meet the compiler too"

    def log(epoch, metrics):
        if not times:
            print("training", flush=True)
        times.append(time.time())
        time.sleep(pause)

    print("start", flush=True)
    began = time.time()
    fitted = fit_ensemble(
        loss_fn,
        members,
        data,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.01, 2000)),
        epochs=EPOCHS,
        batch_size=16,
        key=jax.random.key(1),
        validation={"x": x[:7], "y": data["y"][:7]},
        progress=False,
        log=log,
        checkpoint_dir=None if directory == "none" else directory,
        checkpoint_every=None if directory == "none" else 1,
    )
    leaves = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            (fitted.params, fitted.best_params, fitted.state, fitted.history)
        )
    }
    first = times[0] - began if times else 0.0
    np.savez(result, seconds_to_first_epoch=first, epochs_run=len(times), **leaves)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
