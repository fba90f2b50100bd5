#!/usr/bin/env bash
# One would guess: with jax_enable_x64 on, a chain may still start from float32 weights, as a network
# that was trained in float32 has them; all of jax and optax take them.
# What happens (blackjax 1.7.1, jax 0.10.2): the warm-up (window_adaptation) of hmc and of nuts raises
# a TypeError from inside a scan or a cond, "must have equal types": the sampler's own numbers are
# made in the default float, which is float64 then, and the position comes back wider than it went
# in. With float64 weights, or with x64 off, the same call draws.
# Why it matters: switching x64 on for a careful log-density breaks a sampler whose weights were kept
# in float32. Cast the start to the default float, and the draws back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q blackjax==1.7.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys
import blackjax, jax, jax.numpy as jnp

def outcome(algorithm, dtype, x64, **options):
    jax.config.update("jax_enable_x64", x64)
    start = {"m": jnp.zeros(2, dtype)}
    log_density = lambda p: -0.5 * jnp.sum((p["m"] - 1) ** 2)
    warmup = blackjax.window_adaptation(algorithm, log_density, **options)
    try:
        (state, _), _ = warmup.run(jax.random.key(0), start, 30)
    except TypeError as error:
        print(options, dtype, "x64", x64, "TypeError:", str(error)[:70])
        return "TypeError"
    print(options, dtype, "x64", x64, state.position["m"].dtype)
    return "draws"

cases = [(blackjax.hmc, {"num_integration_steps": 5}), (blackjax.nuts, {})]
seen = [
    outcome(algorithm, dtype, x64, **options)
    for algorithm, options in cases
    for dtype, x64 in (("float32", False), ("float64", True), ("float32", True))
]
sys.exit(seen != ["draws", "draws", "TypeError"] * 2)
PY
