#!/usr/bin/env bash
# One would guess: jax_compilation_cache_max_size limits the folder of compiled programs, and a
# write costs about the same whether the folder holds ten programs or ten thousand.
# What happens (jax 0.10.2, CPU): with a limit, every write lists the folder, stats every program
# and opens and reads a small time stamp of each, all under a lock: N programs cost N^2 / 2 opened
# files. Seen: 40 programs -> 40 stamps opened by the next write, 80 -> 80; without a limit 0 and 0.
# Why it matters: a test suite or a notebook keeps thousands of small programs (minimum time 0), for
# which each write then takes longer than to compile. Cut the folder from outside instead.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 filelock==4.2.11
cat > "$folder/count.py" <<'PY'
import sys
import jax, numpy as np

limit, path = int(sys.argv[1]), sys.argv[2]
jax.config.update("jax_compilation_cache_dir", path)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_compilation_cache_max_size", limit)
opened = []
sys.addaudithook(
    lambda event, args: opened.append(args)
    if event == "open" and str(args[0]).endswith("-atime") and "r" in (args[1] or "r") else None
)


def program(size):
    jax.jit(lambda x: 2 * x + 1)(np.ones(size)).block_until_ready()


found = []
for number in range(1, 82):
    before = len(opened)
    program(number)
    if number in (41, 81):
        found.append(len(opened) - before)
print(*found)
PY
with=$("$folder/venv/bin/python" "$folder/count.py" 1000000000 "$folder/limited")
without=$("$folder/venv/bin/python" "$folder/count.py" -1 "$folder/free")
echo "time stamps opened by the 41st and the 81st write: $with with a limit, $without without"
[ "$with" = "40 80" ] && [ "$without" = "0 0" ]
