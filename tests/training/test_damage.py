"""Damaged checkpoints: the run goes on from the one before, to the same bits, and says so."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob.training import fit, fit_ensemble
from jaxprob.training.lock import DirectoryLock

KEY = jax.random.key(5)
ROWS = {"x": np.random.default_rng(0).normal(size=(7, 2))}
ADAM = optax.adam(0.1)
traced = []


def noisy(params, batch, key):
    traced.append(1)
    noise = 0.1 * jax.random.normal(key, batch["x"].shape, batch["x"].dtype)
    return jnp.mean((batch["x"] + noise) @ params["w"] ** 2), {"size": jnp.sum(params["w"] ** 2)}


def run(directory=None, data=ROWS, loss_fn=noisy, **options):
    defaults = {"optimizer": ADAM, "key": KEY, "progress": False, "epochs": 3, "batch_size": 4}
    return fit(loss_fn, {"w": jnp.ones(2)}, data, checkpoint_dir=directory,
               checkpoint_every=1 if directory else None, **defaults | options)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    with jax.numpy_rank_promotion("raise"):  # as in the tests: programs depend on it
        return directory, run(directory)


def files(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def damage(path, how):
    content = path.read_bytes()
    half = len(content) // 2
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes({
            "emptied": b"",
            "halved": content[:half],
            "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
        }[how])  # fmt: skip


LONGER = [pytest.param(how, marks=pytest.mark.slow) for how in ("emptied", "halved", "removed")]


@pytest.mark.parametrize("how", ["flipped", *LONGER])
def test_each_file_of_the_newest_checkpoint_may_be_damaged(finished, tmp_path, how):
    directory, result = finished
    names = [path.relative_to(directory / "3") for path in files(directory / "3")]
    assert len(names) > 10
    before = len(traced)
    for number, name in enumerate(names):
        copy = tmp_path / str(number)
        shutil.copytree(directory, copy)
        damage(copy / "3" / name, how)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = run(copy)
        chex.assert_trees_all_equal(found, result)
        said = [str(one.message) for one in said if "is damaged" in str(one.message)]
        if (name.name, how) == ("hashes.json", "removed"):
            assert not said  # a run that is killed may not come to write it
            continue
        assert len(said) == 1
        assert said[0].startswith(
            f"fit: the checkpoint {copy / '3'} is damaged ({copy / '3' / name} "
        )
        assert "the run goes on from the checkpoint before" in said[0]
        assert sorted(path.name for path in copy.iterdir()) == ["2", "3", "damaged-3"]
    assert len(traced) == before  # no program is traced anew


@pytest.mark.slow
def test_without_the_hashes_of_files_those_of_the_arrays_tell(finished, tmp_path):
    """As after a kill between a checkpoint and its hashes: no other numbers are ever read."""
    directory, result = finished
    state = [f for f in files(directory / "3" / "state") if f.parent.name == "d"]
    for number, path in enumerate(state):
        copy = tmp_path / str(number)
        shutil.copytree(directory, copy)
        (copy / "3" / "hashes.json").unlink()
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        (copy / "3" / path.relative_to(directory / "3")).write_bytes(bytes(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chex.assert_trees_all_equal(run(copy), result)


def test_when_all_are_damaged_the_run_says_so(finished, tmp_path):
    directory, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    for step in ("2", "3"):
        damage(copy / step / "run" / "metadata", "flipped")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(
            ValueError, match=r"holds no checkpoint that is whole: .*metadata is not what"
        ),
    ):
        run(copy)
    assert not (copy / "lock.json").exists()


def test_another_metric_of_a_stream_does_not_inherit_a_history(tmp_path):
    def renamed(params, batch, key):
        loss, metrics = noisy(params, batch, key)
        return loss, {"another": metrics["size"]}

    run(tmp_path, data=[ROWS], epochs=2)
    with pytest.raises(
        ValueError, match="another run: its metrics are loss, size, .* another, loss"
    ):
        run(tmp_path, data=[ROWS], loss_fn=renamed)
    longer = run(tmp_path, data=[ROWS], epochs=3)
    chex.assert_trees_all_equal(longer, run(data=[ROWS], epochs=3))


# Two runs in one directory.


def test_a_directory_in_use_is_refused(tmp_path):
    def log(epoch, metrics):
        with pytest.raises(
            ValueError, match=rf"fit: checkpoint_dir {tmp_path} is in use by this pr"
        ):
            run(tmp_path)
        with pytest.raises(ValueError, match="fit_ensemble: checkpoint_dir .* is in use"):
            fit_ensemble(noisy, {"w": jnp.ones((2, 2))}, ROWS, optimizer=ADAM, key=KEY, epochs=1,
                         progress=False, checkpoint_dir=tmp_path)  # fmt: skip

    first = run(tmp_path, log=log, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    chex.assert_trees_all_equal(run(tmp_path, epochs=1), first)


def test_a_lock_of_a_living_process_is_kept_and_that_of_a_dead_one_taken_over(tmp_path):
    program = (
        "import pathlib, sys; from jaxprob.training.lock import DirectoryLock; "
        f"lock = DirectoryLock(pathlib.Path({str(tmp_path)!r}), 'fit'); print('held', flush=True); "
        "sys.stdin.read()"
    )
    root = pathlib.Path(__file__).parents[2]
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, cwd=root,
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert other.stdout.readline() == "held\n"
    host = socket.gethostname()
    with pytest.raises(ValueError, match=f"in use by process {other.pid} on host {host}; two runs"):
        DirectoryLock(tmp_path, "fit")
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    DirectoryLock(tmp_path, "fit").release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ({"pid": 1, "host": "elsewhere", "began": None}, True),
        ({"pid": os.getpid(), "host": socket.gethostname(), "began": None}, False),
        ({"pid": 1, "host": socket.gethostname(), "began": "a number given again"}, False),
        ("cut short", False),
    ],
    ids=["another host", "own number", "number of another process", "no text"],
)
def test_whose_lock_it_is(tmp_path, content, refused):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "lock.json").write_text(text)
    if refused:
        with pytest.raises(ValueError, match="process 1 on host elsewhere.*delete .*lock.json"):
            DirectoryLock(tmp_path, "fit")
    else:
        DirectoryLock(tmp_path, "fit").release()
