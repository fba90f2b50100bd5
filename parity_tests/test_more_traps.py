"""`check_parity` on whole models with one porting mistake each."""

import re

import pytest

from jaxprob import interop
from parity_tests.more_traps import CASES, build_case


def run(case, seed, mistake=True):
    pair = build_case(case, seed, mistake)
    return interop.check_parity(pair.flax_model, pair.torch_module, pair.batch, **pair.options)


def judged(case, seed):
    """(layer right?, suspect: "right", "unknown" or "wrong", first finding)."""
    report = run(case, seed)
    bounds = {"trajectory": 1e-9} if report.losses[0] else {}
    with pytest.raises(interop.ParityError):
        report.require(value=1e-10, grad=1e-10, **bounds)
    if not report.findings:
        return False, "unknown", None
    first = report.findings[0]
    named = re.search(case.suspect, first.suspect, re.IGNORECASE)
    suspect = "right" if named else "unknown" if first.suspect == "unknown" else "wrong"
    return first.layer in case.layers, suspect, first
