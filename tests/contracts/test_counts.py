"""A number of draws, steps or rows is a whole number: every public function says so by name.

The functions are found by looking: whatever is public and has a parameter annotated `int`. Each is
called with a bad value in that place and anything at all in the others, so the check must come
before any of them is looked at.
"""

import functools
import importlib
import inspect
from unittest import mock

import flax.linen as nn
import numpy as np
import pytest

PACKAGES = (
    "bayes", "datasets", "distributions", "flows", "metrics", "objectives", "objectives.em",
    "objectives.estimators", "objectives.priors", "optim", "optim.schedules", "plot", "training",
    "vae",
)  # fmt: skip

NO_COUNT = {
    "axis": "a position, which may be negative",
    "epoch of LengthBuckets.set_epoch": "the number of an epoch, from 0",
    "keep": "the number of a layer, from 0",
    "latent": "the number of a latent, from 0",
    "reinterpreted_batch_ndims": "axes of a distribution, whose own check is in `distrax`",
    "num_leading": "axes, perhaps none",
    "num_weights": "what a posterior hands down",
    "num_rows of Report": "a result, which nobody makes by hand",
    "num_samples of Estimator": "a result of the factories, which are here",
    "num_samples of LogMarginal": "a result, which nobody makes by hand",
}
MAY_BE_ZERO = {"cooldown", "num_warmup of run", "patience of reduce_lr_on_plateau", "rank of SWAG"}


def is_count(parameter, owner):
    known = {parameter.name, f"{parameter.name} of {owner}"} & set(NO_COUNT)
    return parameter.annotation in (int, int | None) and not known


def public_functions():
    """(name, function, parameter) of every count that a caller may give."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(f"jaxprob.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and not issubclass(value, nn.Module | tuple):
                members = inspect.getmembers(value, inspect.isfunction)
                functions = {f"{name}.{n}": f for n, f in members if n[0] != "_"} | {name: value}
            else:
                functions = {name: value} if inspect.isfunction(value) else {}
            for full, function in functions.items():
                for parameter in inspect.signature(function).parameters.values():
                    if is_count(parameter, full):
                        found[f"{package}.{full}({parameter.name})"] = (function, parameter.name)
    return found


FOUND = public_functions()


def test_they_are_found():
    """So that a search that finds nothing does not pass for a package without faults."""
    assert len(FOUND) > 60
    for name in ("vae.sample(num)", "bayes.HMC.run(num_draws)", "training.fit(epochs)"):
        assert name in FOUND


def wrong_values(name):
    """What is no count; an array is none, since nothing that is compiled could depend on it."""
    function, parameter = FOUND[name]
    zero_is_good = {parameter, f"{parameter} of {function.__name__}"} & MAY_BE_ZERO
    return [2.5, True, np.array(3), *([] if zero_is_good else [0])]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in FOUND for value in wrong_values(name)]
)
def test_what_is_no_count_is_refused(name, value):
    function, parameter = FOUND[name]
    plain = inspect.unwrap(function)  # without the type checks that users do not have
    if inspect.isclass(function):
        plain = functools.partial(inspect.unwrap(function.__init__), object.__new__(function))
    arguments = {
        p.name: mock.MagicMock(spec=p.annotation if inspect.isclass(p.annotation) else None)
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    with pytest.raises(ValueError, match=parameter):
        plain(**{**arguments, parameter: value})
