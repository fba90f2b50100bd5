#!/usr/bin/env bash
# One would guess: XLA's --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE compiles faster than the
# default; its help text offers FAST_RUNTIME and FAST_COMPILE.
# What happens (jaxlib 0.10.2, x86-64, two cores): a gradient of a small network takes about as much
# CPU time to compile under the preset as without it, while three plain flags (optimisation level 0,
# the older loop emitters, one module for LLVM) take half. Seen: 5.9 s, 6.1 s with the preset, 3.1 s
# with the three flags.
# Why it matters: programs that run once (tests, parity proofs, notebooks) spend most of their time
# in LLVM, and the flag named after that need does not serve it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/compile.py" <<'PY'
import time
import jax, jax.numpy as jnp, numpy as np


def loss(weights, x, key):
    for i, w in enumerate(weights):
        h = jnp.tanh(x @ w)
        scale = jnp.std(h, axis=-1, keepdims=True) + 1e-3
        noise = jax.random.normal(jax.random.fold_in(key, i), h.shape)
        x = jax.nn.softplus(h / scale) + 0.1 * noise + jax.lax.cumsum(h, axis=1)
    return jnp.mean(jax.scipy.special.logsumexp(x, axis=-1) ** 2)


weights = [np.ones((5, 5), np.float32)] * 6
args = weights, np.ones((7, 5), np.float32), jax.random.key(0)
lowered = [
    jax.jit(jax.grad(lambda w, x, k, n=n: n * loss(w, x, k))).lower(*args) for n in range(1, 6)
]
start = time.process_time()
for program in lowered:
    program.compile()
print(time.process_time() - start)
PY
seconds() { XLA_FLAGS="$1" "$folder/venv/bin/python" "$folder/compile.py"; }
default=$(seconds "")
preset=$(seconds "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE")
plain=$(seconds "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
echo "CPU seconds: default $default, preset $preset, three flags $plain"
python3 -c "import sys; d, p, q = map(float, sys.argv[1:]); sys.exit(not (p > 0.8 * d and q < 0.7 * d))" "$default" "$preset" "$plain"
