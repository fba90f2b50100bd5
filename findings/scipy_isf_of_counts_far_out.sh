#!/usr/bin/env bash
# One would guess: isf, the inverse of the survival function, is there for small tails, so that
# poisson(0.5).isf(1e-17) is 15: its sf(14) is 1.5e-17 and its sf(15) 4.5e-19.
# What happens (scipy 1.17.1): from about 1e-17 down poisson's isf is NaN and geom's is infinite,
# without an error, though their sf is right there to 14 digits; nbinom's isf is right. The generic
# isf is ppf(1 - q), and 1 - 1e-17 is 1; geom's own formula takes the logarithm of that 0.
# Why it matters: an oracle for tail quantiles of counts, taken by name, is NaN for one family, inf for
# another and right for a third. Search their sf instead.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys
import numpy as np
import scipy.stats as st

k, tail = np.arange(400), 1e-20
found = {}
for name, law in (("poisson", st.poisson(0.5)), ("geom", st.geom(0.4)), ("nbinom", st.nbinom(3, 0.4))):
    right = int(np.argmax(law.sf(k) <= tail))
    found[name] = law.isf(tail), right
    print(name, "isf(1e-20) =", law.isf(tail), "right", right, "since sf there is", law.sf(right))
sys.exit(
    not (
        np.isnan(found["poisson"][0])
        and np.isinf(found["geom"][0])
        and found["nbinom"][0] == found["nbinom"][1]
    )
)
PY
