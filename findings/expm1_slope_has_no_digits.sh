#!/usr/bin/env bash
# One would guess: d expm1(x) / dx = exp(x), so both frameworks give 4.2e-18 at x = -40 in float64,
# where exp itself has the right slope.
# What happens (jax 0.10.2, torch 2.13.0, float64): both compute the slope as expm1(x) + 1, a sum that
# cancels. At -20 it is 2e-8 off relatively, at -30 2e-4, and at -40 it is exactly 0.
# Why it matters: 1 - exp(log_tail) is how a cdf is had from its upper tail. The gradient of a cdf at
# 40 nats vanishes, and since both sides of a port lose the same digits, comparing them shows nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 torch==2.13.0
"$folder/venv/bin/python" - <<'PY'
import math, sys
import jax, jax.numpy as jnp, torch

jax.config.update("jax_enable_x64", True)
bad = True
for x in (-20.0, -30.0, -40.0):
    ours = float(jax.grad(jnp.expm1)(x))
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    torch.expm1(t).backward()
    theirs, right = float(t.grad), math.exp(x)
    print(x, "jax", ours, "torch", theirs, "right", right, "jax's exp", float(jax.grad(jnp.exp)(x)))
    bad &= abs(ours / right - 1) > 1e-9 and abs(theirs / right - 1) > 1e-9
sys.exit(not (bad and ours == theirs == 0.0))
PY
