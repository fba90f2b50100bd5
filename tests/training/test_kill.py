"""An ensemble killed with SIGKILL at 20 random moments ends bit-equal to one left alone."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 20
ABOUT_THE_RUN = ("seconds_to_first_epoch", "epochs_run")


def life(result, directory, pause):
    """Starts the program; returns it once it has imported everything."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training.programs.killed_ensemble", result, directory, pause],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "start\n"
    return process


def committed(directory):
    """Numbers of the checkpoints that are whole, and whether there are traces of another."""
    folders = list(directory.iterdir()) if directory.exists() else []
    whole = [int(p.name) for p in folders if p.name.isdigit()]
    return max(whole, default=0), any(not p.name.isdigit() for p in folders)


@pytest.mark.slow
def test_twenty_kills_change_no_bit(tmp_path):
    alone = life(str(tmp_path / "alone.npz"), "none", "0")
    alone.communicate(timeout=300)
    assert alone.returncode == 0
    expected = np.load(tmp_path / "alone.npz")
    compiling = float(expected["seconds_to_first_epoch"])
    directory = tmp_path / "checkpoints"
    # One kill in each twentieth of the time that compiling and a good while of training take, in
    # random order, so that all phases are met.
    rng = np.random.default_rng(7)
    moments = rng.permutation((np.arange(KILLS) + rng.uniform(size=KILLS)) / KILLS)
    progress, interrupted = [], 0
    for moment in moments:
        before, _ = committed(directory)
        process = life(str(tmp_path / "killed.npz"), str(directory), "0.1")
        time.sleep(moment * (1.3 * compiling + 4.0))
        assert process.poll() is None, "the run must still be going when it is killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        after, saving = committed(directory)
        progress.append(after - before)
        interrupted += saving
    print(f"epochs that each life has saved: {progress}; killed while saving: {interrupted}")
    assert progress.count(0) >= 3, "some must have died before their first checkpoint"
    assert sum(p > 0 for p in progress) >= 3, "some must have died after it"
    last = life(str(tmp_path / "killed.npz"), str(directory), "0")
    last.communicate(timeout=300)
    assert last.returncode == 0
    found = np.load(tmp_path / "killed.npz")
    assert 0 < int(found["epochs_run"]) == 500 - sum(progress)
    assert set(found.files) == set(expected.files)
    for name in expected.files:
        if name not in ABOUT_THE_RUN:
            assert found[name].tobytes() == expected[name].tobytes(), name
