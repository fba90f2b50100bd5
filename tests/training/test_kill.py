"""An ensemble killed with SIGKILL at random moments ends bit-equal to one left alone.

Eight moments by default, as many as the environment variable JAXPROB_KILLS says otherwise: a life
takes about fifteen seconds, most of which is the start of Python and of the compiler.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.support.compilation import first_time_environment

ROOT = pathlib.Path(__file__).parents[2]
KILLS = int(os.environ.get("JAXPROB_KILLS", "8"))
EARLY = KILLS // 3
ABOUT_THE_RUN = ("seconds_to_first_epoch", "epochs_run")


def life(result, directory, pause):
    """Starts the program; returns it once it has imported everything."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training.programs.killed_ensemble", result, directory, pause],
        cwd=ROOT,
        env={**first_time_environment(), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
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


@pytest.mark.heavy(90)
def test_kills_change_no_bit(tmp_path):
    alone = life(str(tmp_path / "alone.npz"), "none", "0")
    alone.communicate(timeout=300)
    assert alone.returncode == 0
    expected = np.load(tmp_path / "alone.npz")
    compiling = float(expected["seconds_to_first_epoch"])
    directory = tmp_path / "checkpoints"
    # Some while it starts and compiles, most of them while it trains and saves; in random order.
    rng = np.random.default_rng(7)
    early = compiling * (np.arange(EARLY) + rng.uniform(size=EARLY)) / EARLY
    later = 2.0 * (np.arange(KILLS - EARLY) + rng.uniform(size=KILLS - EARLY)) / (KILLS - EARLY)
    moments = rng.permutation([(False, s) for s in early] + [(True, s) for s in later])
    progress, interrupted = [], 0
    for training, seconds in moments:
        before, _ = committed(directory)
        process = life(str(tmp_path / "killed.npz"), str(directory), "0.05")
        if training:
            assert process.stdout.readline() == "training\n"
        time.sleep(seconds)
        assert process.poll() is None, "the run must still be going when it is killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        after, saving = committed(directory)
        progress.append(after - before)
        interrupted += saving
    print(f"epochs that each life has saved: {progress}; killed while saving: {interrupted}")
    assert progress.count(0) >= EARLY // 2, "some must have died before they saved anything"
    assert sum(p > 0 for p in progress) >= KILLS // 4, "some must have died after it"
    last = life(str(tmp_path / "killed.npz"), str(directory), "0")
    last.communicate(timeout=300)
    assert last.returncode == 0
    found = np.load(tmp_path / "killed.npz")
    assert 0 < int(found["epochs_run"]) == 500 - sum(progress)
    assert set(found.files) == set(expected.files)
    for name in expected.files:
        if name not in ABOUT_THE_RUN:
            assert found[name].tobytes() == expected[name].tobytes(), name
