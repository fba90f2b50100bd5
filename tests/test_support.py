"""Programs that are kept: found again, never half of one, never too many, none where told."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring

from tests.support import programs
from tests.support.compilation import compiling_everything, first_time_environment
from tests.support.longer import LONGER

ROOT = pathlib.Path(__file__).parents[1]
CODE = """
import jax, numpy as np
from jax import monitoring
seen = []
monitoring.register_event_listener(lambda event, **_: seen.append(event.split("/")[-1]))
print(float(jax.jit(lambda x: 2 * x.sum() + 1)(np.arange(5.0))))
print(seen.count("cache_hits"), seen.count("cache_misses"))
"""


def life(monkeypatch, folder, **changes):
    """Compiles one program in a process of its own; returns what it says."""
    for name in programs.settings():
        monkeypatch.delenv(name, raising=False)
    settings = {**programs.settings(), "JAX_COMPILATION_CACHE_DIR": str(folder)}
    environment = {"JAX_ENABLE_COMPILATION_CACHE": "true", **os.environ, **settings, **changes}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_second_process_compiles_nothing_and_half_a_program_is_compiled_again(
    monkeypatch, tmp_path
):
    here, moved = tmp_path / "here", tmp_path / "moved"
    assert life(monkeypatch, here) == ["21.0", "0", "1"]
    here.rename(moved)
    assert life(monkeypatch, moved) == ["21.0", "1", "0"]
    (kept,) = moved.glob("*-cache")
    kept.write_bytes(kept.read_bytes()[:-20])
    assert life(monkeypatch, moved) == ["21.0", "0", "1"]
    off = first_time_environment()["JAX_ENABLE_COMPILATION_CACHE"]
    assert life(monkeypatch, moved, JAX_ENABLE_COMPILATION_CACHE=off) == ["21.0", "0", "0"]


@compiling_everything()
def compile_with_the_switch_on():
    jax.config.update("jax_enable_compilation_cache", True)
    jax.jit(lambda x: 3 * x - 1)(np.arange(7.0))


def test_tests_of_first_calls_see_the_compiler():
    before = jax.config.jax_enable_compilation_cache
    with compiling_everything():
        jax.jit(lambda x: 3 * x + 1)(np.arange(7.0))
    with pytest.raises(AssertionError, match="sought among those that are kept"):
        compile_with_the_switch_on()
    assert jax.config.jax_enable_compilation_cache == before


def test_the_programs_used_longest_ago_make_room(tmp_path):
    for i, name in enumerate(("old", "new", "read")):
        file = tmp_path / f"{name}-cache"
        file.write_bytes(b"x" * 10)
        os.utime(file, (1e9 + 10 * (name == "read"), 1e9 + i))
    os.utime(tmp_path / "old-cache", (1e9, 1e9))
    assert programs.make_room(tmp_path, 30) == (0, 3, 30)
    assert programs.make_room(tmp_path, 25) == (1, 2, 20)
    assert {file.name for file in tmp_path.iterdir()} == {"new-cache", "read-cache"}


def test_the_callers_folder_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert programs.settings()["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert programs.folder() == tmp_path / "cache" / "jaxprob" / f"programs-{programs.features()}"


FLOATS = np.array([[0.0, -0.0, 1.5, np.nan, np.inf], [1e-310, -3.0, 2.0**60, 1e-40, 7.0]])
MOVED = {
    "zeros": lambda x: jnp.zeros_like(x),
    "new axes": lambda x: x[None, :, None],
    "broadcast": lambda x: jnp.broadcast_to(x[:, None], (2, 3, 5)),
    "reshape": lambda x: x.reshape(5, 2),
    "transpose": lambda x: x.T,
    "squeeze": lambda x: x[None].squeeze(0),
    "concatenate": lambda x: jnp.concatenate([x, x[:1]]),
    "reverse": lambda x: x[:, ::-1],
    "one row": lambda x: x[1],
    "from the end": lambda x: x[-1, -2],
    "steps": lambda x: jax.lax.slice(x, (0, 1), (2, 5), (1, 2)),
    "beyond the end": lambda x: jax.lax.dynamic_slice(x, (1, 4), (2, 3)),
    "copy": jnp.copy,
    "wider": lambda x: x.astype(jnp.result_type(x.dtype, jnp.float64)),
    "count": lambda x: jax.lax.broadcasted_iota(x.dtype, x.shape, 1),
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int32", "bool"])
def test_moves_without_programs_have_the_bits_of_the_compiler(dtype):
    with np.errstate(invalid="ignore", over="ignore"):
        array = FLOATS.astype(jnp.dtype(dtype))
    x = jax.device_put(array)
    for name, move in MOVED.items():
        if name == "count" and dtype == "bool":
            continue
        eager, compiled = move(x), jax.jit(move)(x)
        assert (eager.dtype, eager.shape) == (compiled.dtype, compiled.shape), name
        assert np.asarray(eager).tobytes() == np.asarray(compiled).tobytes(), name
        assert not eager.aval.weak_type
        if name != "wider":  # which is x itself where it is wide already
            assert eager.unsafe_buffer_pointer() != x.unsafe_buffer_pointer(), name


def test_moves_compile_nothing():
    compiled = []

    def count(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    monitoring.register_event_duration_secs_listener(count)
    try:
        x = jnp.asarray(np.arange(13.0)[:, None])
        jnp.concatenate([x, jnp.zeros((2, 1))])[::-1].reshape(3, 5)
    finally:
        monitoring.unregister_event_duration_listener(count)
    assert compiled == []


def test_what_is_left_to_the_longer_proofs_is_there():
    for name in LONGER:
        path, _, test = name.partition("::")
        function = test.partition("[")[0].rpartition("::")[2]
        assert f"def {function}(" in (ROOT / path).read_text(), name
