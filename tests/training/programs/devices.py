"""Trains and predicts on many devices and writes down what it finds: see `test_mesh.py`.

python -m tests.training.programs.devices FOLDER PROCESS NUM_PROCESSES PORT DTYPE
"""

import os
import pathlib
import re
import sys

FOLDER, PROCESS, PROCESSES, PORT, DTYPE = sys.argv[1:]
DEVICES = 8 // int(PROCESSES)
FLAGS = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{FLAGS} --xla_force_host_platform_device_count={DEVICES}"

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

jax.config.update("jax_enable_x64", DTYPE == "float64")
if int(PROCESSES) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{PORT}", int(PROCESSES), int(PROCESS))

from jaxprob import bayes, heads, sharding, training  # noqa: E402
from jaxprob.nn import MLP  # noqa: E402
from jaxprob.objectives import negative_log_likelihood  # noqa: E402
from jaxprob.training import loop  # noqa: E402
from jaxprob.training import start as beginning  # noqa: E402

M, ROWS, BATCH = 8, 38, 8  # the last batch has 6 rows: no number of devices divides it
MODEL = nn.Sequential([MLP((5,)), heads.NormalHead()])
KEY = jax.random.key(1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 3)).astype(DTYPE)
DATA = {"x": X, "y": np.sin(X[:, :1])}
VALIDATION = {"x": X[:10] + 1, "y": np.cos(X[:10, :1])}


def noisy(params, batch, key):
    """Noise of the batch's own shape: it must not depend on where a row is computed."""
    noise = 0.1 * jax.random.normal(key, batch["x"].shape, batch["x"].dtype)
    loss, metrics = negative_log_likelihood(MODEL)(params, {**batch, "x": batch["x"] + noise}, key)
    return loss, metrics


def init(key):
    params = MODEL.init(key, jnp.asarray(X))["params"]
    return jax.tree.map(lambda w: w.astype(DTYPE), params)


def members():
    """The same start on every process, as NumPy."""
    return jax.tree.map(np.asarray, jax.vmap(init)(jax.random.split(KEY, M)))


OPTIONS = {"optimizer": optax.adam(0.01), "batch_size": BATCH, "key": KEY, "epochs": 6,
           "validation": VALIDATION, "patience": 4}  # fmt: skip


def whole(tree):
    """For the comparison alone: everything on every process."""
    return jax.tree.map(sharding.to_host, tree)


def compare(found, expected, what):
    """Writes down the largest relative error by tensor norm."""
    errors = [
        np.max(np.abs(a - b)) / np.max(np.abs(b))
        for a, b in zip(jax.tree.leaves(whole(found)), jax.tree.leaves(expected), strict=True)
    ]
    with (pathlib.Path(FOLDER) / f"errors_{PROCESS}").open("a") as file:
        file.write(f"{what}: {max(errors):.3g}\n")


def main() -> None:
    """Every mesh against one device of this process."""
    one = training.fit_ensemble(noisy, members(), DATA, progress=False, **OPTIONS)
    one = (one.params, one.best_params, one.history)
    expected = jax.tree.map(np.asarray, one)
    shapes = {"members": (8,), "members and data": (4, 2), "data": (8,)}
    axes = {"members": ("member",), "members and data": ("member", "data"), "data": ("data",)}
    for what, shape in shapes.items():
        mesh = jax.make_mesh(shape, axes[what])
        # one process shows its progress, the others don't: they must not wait for each other
        fitted = training.fit_ensemble(
            noisy, members(), DATA, mesh=mesh, progress=PROCESS == "0", **OPTIONS
        )
        compare((fitted.params, fitted.best_params, fitted.history), expected, what)
        share = M // mesh.shape.get("member", 1)
        for leaf in jax.tree.leaves((fitted.params, fitted.best_params, fitted.state)):
            assert leaf.sharding.mesh.shape == mesh.shape
            assert {s.data.shape[0] for s in leaf.addressable_shards} == {share}
            assert len(leaf.addressable_shards) == DEVICES
    if PROCESSES == "1":
        no_gather()
    mesh = jax.make_mesh((8,), ("data",))
    start = init(KEY)
    alone = training.fit(noisy, start, DATA, progress=False, **OPTIONS)
    start = jax.tree.map(np.asarray, start)
    fitted = training.fit(noisy, start, DATA, mesh=mesh, progress=False, **OPTIONS)
    compare(
        (fitted.params, fitted.history),
        jax.tree.map(np.asarray, (alone.params, alone.history)),
        "one model",
    )  # noqa: E501
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(fitted.params))
    checkpointed()
    if "mesh" in bayes.predict.__annotations__:
        predicted(expected[0])


def no_gather() -> None:
    """Reads the compiled program: devices tell each other whether to go on, and nothing else."""
    mesh = sharding.require_mesh("fit_ensemble", jax.make_mesh((8,), ("member",)))
    plan = loop.Plan(noisy, optax.adam(0.01), BATCH, 6, None, None, True, mesh)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    data = training.data.as_device_data(DATA, "data", everywhere)
    first = beginning.first_member(plan, members(), jax.random.split(KEY, M), False)
    state = beginning.start(plan, first, data, None)
    text = loop.run_epochs.lower(state, jnp.int32(6), data, None, plan=plan).compile().as_text()
    assert "all-reduce" in text
    for name in ("all-gather", "all-to-all", "collective-permute", "collective-broadcast"):
        assert name not in text, name
    sizes = re.findall(r"= (\w+\[[\d,]*\])\S* all-reduce", text)
    assert sizes
    assert set(sizes) <= {"pred[]", "s32[]", "u8[]"}, sizes


def checkpointed() -> None:
    """Half a run on eight devices, the other half on another mesh."""
    options = {**OPTIONS, "patience": None, "progress": False}
    expected = training.fit_ensemble(noisy, members(), DATA, **options)
    expected = jax.tree.map(np.asarray, (expected.params, expected.history))
    folder = pathlib.Path(FOLDER) / "checkpoints"
    for epochs, mesh in ((3, jax.make_mesh((8,), ("member",))),
                         (6, jax.make_mesh((4, 2), ("member", "data")))):  # fmt: skip
        options["epochs"] = epochs
        fitted = training.fit_ensemble(
            noisy, members(), DATA, mesh=mesh, checkpoint_dir=folder, checkpoint_every=1, **options
        )
    compare((fitted.params, fitted.history), expected, "checkpointed")


def predicted(draws) -> None:
    """Draws shared out over devices."""
    x = X[:16]
    expected = bayes.predict(MODEL, draws, x)
    expected = [np.asarray(v) for v in (expected.mean(), expected.variance())]
    for shape, axes in (((8,), ("member",)), ((4, 2), ("member", "data"))):
        mesh = jax.make_mesh(shape, axes)
        predictive = bayes.predict(MODEL, draws, x, mesh=mesh)
        leaf = jax.tree.leaves(predictive.components_distribution)[0]
        assert {s.data.size for s in leaf.addressable_shards} == {leaf.size // 8}
        found = jax.jit(lambda p: (p.mean(), p.variance()))(predictive)
        compare(list(found), expected, f"prediction {axes}")


if __name__ == "__main__":
    main()
