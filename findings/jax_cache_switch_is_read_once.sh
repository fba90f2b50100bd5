#!/usr/bin/env bash
# One would guess: jax.config.update("jax_enable_compilation_cache", False) turns the cache on disk
# off from then on, and True turns it on again; the flag is an ordinary setting of JAX.
# What happens (jax 0.10.2, CPU): the flag is looked at by the first compilation of the process and
# never again. Off after a first program: programs are still read and written (1 file more); on
# after a first program that met it off: nothing is kept (0 files). Only reset_cache() of
# jax.experimental.compilation_cache makes JAX look again.
# Why it matters: a benchmark of first calls that turns the cache off in the middle of a process
# measures how fast a file is read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/switch.py" <<'PY'
import pathlib, sys
import jax, numpy as np
from jax.experimental.compilation_cache import compilation_cache

first, path = sys.argv[1] == "on", pathlib.Path(sys.argv[2])
jax.config.update("jax_compilation_cache_dir", str(path))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def written(size):
    before = len(list(path.glob("*-cache")))
    jax.jit(lambda x: 2 * x + 1)(np.ones(size)).block_until_ready()
    return len(list(path.glob("*-cache"))) - before


jax.config.update("jax_enable_compilation_cache", first)
start = written(2)
jax.config.update("jax_enable_compilation_cache", not first)
turned = written(3)
compilation_cache.reset_cache()
print(start, turned, written(4))
PY
off=$("$folder/venv/bin/python" "$folder/switch.py" on "$folder/a")
on=$("$folder/venv/bin/python" "$folder/switch.py" off "$folder/b")
echo "programs written at first, after the switch, after reset_cache: on -> off $off; off -> on $on"
[ "$off" = "1 1 0" ] && [ "$on" = "0 0 1" ]
