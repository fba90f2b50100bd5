#!/usr/bin/env bash
# One would guess: a folder of compiled programs can be copied or restored elsewhere (another home, a
# CI cache under another path) and is found again, since a program's key is made of its code, the
# compiler's options and the versions.
# What happens (jax 0.10.2, CPU): nothing is found. JAX puts the path of a cache that only GPUs have
# (xla_gpu_per_fusion_autotune_cache_dir, below the folder) into the compiler's options, on a CPU
# too, and the options into the key. Seen: 1 hit in the same folder, 0 in a copy of it; with
# jax_persistent_cache_enable_xla_caches="none" 1 and 1.
# Why it matters: a cache that a CI keeps is worth nothing where the checkout's path changes, and
# nothing says so; it only grows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/hits.py" <<'PY'
import sys
import jax, numpy as np
from jax import monitoring

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
if sys.argv[2] == "none":
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
hits = []
monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None
)
jax.jit(lambda x: 2 * x + 1)(np.ones(3)).block_until_ready()
print(len(hits))
PY
for kind in default none; do
    "$folder/venv/bin/python" "$folder/hits.py" "$folder/$kind" $kind > /dev/null
    cp -r "$folder/$kind" "$folder/copy of $kind"
    same=$("$folder/venv/bin/python" "$folder/hits.py" "$folder/$kind" $kind)
    copy=$("$folder/venv/bin/python" "$folder/hits.py" "$folder/copy of $kind" $kind)
    echo "$kind: $same hit in the same folder, $copy in a copy"
    [ "$same" = 1 ] && [ "$copy" = "$([ $kind = none ] && echo 1 || echo 0)" ]
done
