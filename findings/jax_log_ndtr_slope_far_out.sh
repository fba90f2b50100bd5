#!/usr/bin/env bash
# One would guess: jax.scipy.special.log_ndtr is made for far tails, so its slope at -1e10, phi / Phi,
# is 1e10 as it is 1000.001 at -1000.
# What happens (jax 0.10.2, float64): right to 10 digits at -1000, to 6 at -1e5, to 3 at -1e7, and at
# -1e10 the slope is exactly 1: its logarithm is a difference of two numbers of the size of z^2 / 2.
# Why it matters: a censored or binned normal likelihood whose scale starts far too small has its
# largest gradient there, and it is ten orders of magnitude too small, without a NaN or an infinity.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys
import jax
from jax.scipy.special import log_ndtr

jax.config.update("jax_enable_x64", True)
slopes = {z: float(jax.grad(log_ndtr)(-z)) for z in (1e1, 1e3, 1e5, 1e7, 1e10)}
for z, slope in slopes.items():
    print(f"slope at -{z:g}: {slope!r}, right about {z + 1 / z!r}")
sys.exit(not (slopes[1e10] == 1.0 and abs(slopes[1e3] - 1000.001) < 1e-3))
PY
