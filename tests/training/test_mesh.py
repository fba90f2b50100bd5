"""Many devices and several processes: the numbers of one device, and no gather of the members."""

import functools
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob.sharding import check_shares
from jaxprob.training import fit, fit_ensemble

ROOT = pathlib.Path(__file__).parents[2]
DATA = {"x": np.ones((6, 2)), "y": np.ones(6)}
SGD = optax.sgd(0.1)
RUNS = 5  # comparisons of training that the program writes down


def loss_fn(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2), {}


def errors_of(folder, processes, dtype):
    """Runs the program on eight devices in all; returns the errors that each process found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [sys.executable, "-m", "tests.training.programs.devices", str(folder)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [*arguments, str(i), str(processes), port, dtype],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(processes)
    ]  # fmt: skip
    try:
        for process in running:
            out, problems = process.communicate(timeout=280)
            assert process.returncode == 0, out + problems[-3000:]
    finally:
        for process in running:
            process.kill()
    found = [(folder / f"errors_{i}").read_text().splitlines() for i in range(processes)]
    return [{line.split(": ")[0]: float(line.split(": ")[1]) for line in told} for told in found]


@pytest.mark.slow(60)
@pytest.mark.parametrize(
    ("processes", "dtype", "bound"),
    [(1, "float64", 1e-13), (2, "float32", 1e-6)],
)
def test_eight_devices_give_the_numbers_of_one(tmp_path, processes, dtype, bound):
    for told in errors_of(tmp_path, processes, dtype):
        print(told)
        assert len(told) >= RUNS
        assert max(told.values()) <= bound


def refuse(message, mesh, members=None, **options):
    params = {"w": jnp.zeros(2)} if members is None else {"w": jnp.zeros((members, 2))}
    train = fit if members is None else fit_ensemble
    with pytest.raises(ValueError, match=message):
        train(loss_fn, params, DATA, optimizer=SGD, epochs=1, key=jax.random.key(0),
              mesh=mesh, progress=False, **options)  # fmt: skip


def test_meshes_that_do_not_fit_are_refused():
    names = jax.make_mesh((1,), ("model",))
    refuse(r"fit: the axes of mesh must be named .* got \('model',\)\. Write jax.make_mesh", names)
    # Two of one device: the checks come before any use.
    device = jax.devices()[0]
    two = {n: jax.sharding.Mesh(np.array([device, device]), (n,)) for n in ("member", "data")}
    check = functools.partial(check_shares, where="fit")
    with pytest.raises(ValueError, match='no members to share .* has 2 .* Use the axis "data"'):
        check(two["member"], members=None, batch_size=4)
    with pytest.raises(ValueError, match="must divide the number of members; got 3. Take 4, or"):
        check(two["member"], members=3, batch_size=4)
    with pytest.raises(ValueError, match='"data" of mesh has 2 .* batch_size; got 5. Take 4'):
        check(two["data"], members=3, batch_size=5)
    check(two["data"], members=None, batch_size=4)


@pytest.mark.slow
def test_one_device_is_a_mesh_too():
    mesh = jax.make_mesh((1, 1), ("member", "data"))
    options = {"optimizer": SGD, "epochs": 2, "key": jax.random.key(0), "progress": False}
    members = {"w": jnp.arange(6.0).reshape(3, 2)}
    found = fit_ensemble(loss_fn, members, DATA, mesh=mesh, **options)
    expected = fit_ensemble(loss_fn, members, DATA, **options)
    np.testing.assert_allclose(found.params["w"], expected.params["w"], rtol=1e-12)
    np.testing.assert_allclose(found.history["loss"], expected.history["loss"], rtol=1e-12)
