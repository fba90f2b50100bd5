"""Every transformation of optax against every optimiser of torch: moved right, or refused.

The names are found by inspection, so that a new one of either package is tried at once.
"""

import inspect
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest
import torch

from parity_tests.engine import torch_dtype
from tests.interop.optimizer_runs import (
    LR,
    PARAMS,
    from_torch_and_on,
    jax_run,
    module_of,
    to_torch_and_on,
    torch_run,
)

REQUIRED = {
    "learning_rate": LR,
    "step_size": -LR,
    "decay": 0.9,
    "inner": optax.adam(LR),
    "optimizer": optax.adam(LR),
    "fast_optimizer": optax.adam(LR),
    "base_optimizer": optax.adam(LR),
    "opt": optax.adam(LR),
    "adv_optimizer": optax.sgd(LR),
    "mask": {"kernel": True, "bias": False},
    "freeze_mask": {"kernel": False, "bias": True},
    "transforms": {"a": optax.adam(LR), "b": optax.set_to_zero()},
    "param_labels": {"kernel": "a", "bias": "b"},
    "inner_factory": optax.adam,
    "should_transform_fn": lambda step, **kwargs: True,
    "step_size_fn": lambda count: -LR,
    "f": lambda updates, params=None: updates,
    "measure": lambda updates: 0.0,
    "measures": {"norm": optax.tree.norm},
    "measure_name": "norm",
    "tx": optax.adam(LR),
    "args": (optax.adam(LR),),
    "max_delta": 100.0,
    "max_norm": 100.0,
    "threshold": 100.0,
    "clipping": 100.0,
    "weight_decay": 1e-2,
    "eta": 0.01,
    "gamma": 0.5,
    "key": 0,
    "seed": 0,
    "max_consecutive_errors": 3,
    "sync_period": 2,
    "slow_step_size": 0.5,
    "every_k_schedule": 1,
    "max_linesearch_steps": 5,
    "max_backtracking_steps": 5,
    "l2_norm_clip": 1.0,
    "noise_multiplier": 0.1,
    "hessian_diagonal_fn": None,
}
"""By the name of the argument, for all functions."""


def builders():
    """All functions of optax that return a transformation, and the classes that are one."""
    found = {}
    for module in (optax, optax.contrib):
        for name, thing in vars(module).items():
            if name.startswith("_") or not callable(thing) or isinstance(thing, type(optax)):
                continue
            try:
                returned = str(inspect.signature(thing).return_annotation)
            except (TypeError, ValueError):
                continue
            if "GradientTransformation" in returned or name in ("MultiSteps", "monitor"):
                found[f"{module.__name__}.{name}"] = thing
    return found


BUILDERS = builders()


def build(name):
    """The transformation with its defaults, as one that descends."""
    function = BUILDERS[name]
    signature = inspect.signature(function)
    arguments, rest = {}, ()
    for argument in signature.parameters.values():
        if argument.kind is argument.VAR_POSITIONAL:
            rest = REQUIRED["args"] if "named" not in name else (("one", optax.adam(LR)),)
        elif argument.default is argument.empty and argument.kind is not argument.VAR_KEYWORD:
            arguments[argument.name] = REQUIRED[argument.name]
    if "key" in signature.parameters:  # numbers at random
        arguments["key"] = jax.random.key(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # functions that optax will drop
        built = function(*rest, **arguments)
    if not hasattr(built, "init"):  # a factory, as inject_hyperparams returns
        built = built(learning_rate=LR)
    if isinstance(built, optax.MultiSteps):
        built = built.gradient_transformation()
    descends = {"learning_rate", "max_learning_rate", "inner", "optimizer", "fast_optimizer", "tx"}
    descends |= {"base_optimizer", "transforms", "inner_factory", "args", "step_size", "opt"}
    if descends & set(signature.parameters):
        return built
    return optax.chain(built, optax.scale(-LR))


TORCH = {
    "SGD": [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {}],
    "Adam": [{}, {"amsgrad": True}],
    "AdamW": [{"weight_decay": 1e-4}],
    "NAdam": [{}, {"momentum_decay": 1e6}],
    "RAdam": [{}, {"eps": 0.0}],
    "Adagrad": [{}, {"eps": 0.0}],
    "RMSprop": [{"alpha": 0.9}, {"alpha": 0.9, "momentum": 0.9, "centered": True}],
}
"""Options to try beside the defaults of a class."""


def optimizers():
    classes = [
        name
        for name, cls in vars(torch.optim).items()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)
        and cls is not torch.optim.Optimizer
    ]  # fmt: skip
    return [(name, options) for name in sorted(classes) for options in TORCH.get(name, [{}])]


OPTIMIZERS = optimizers()


def makers():
    """(name of the class, options, function from a module to the optimiser)."""

    def maker(kind, options):
        def make(module):
            parameters = [module.weight] if kind == "Muon" else module.parameters()
            return getattr(torch.optim, kind)(parameters, lr=LR, **options)

        return make

    return [(kind, options, maker(kind, options)) for kind, options in OPTIMIZERS]


def agrees(move, at, transformation):
    """Whether the state was moved, and then right; refusals are sentences of ours."""
    for step in ({}, {"step": at}):
        try:
            move(**step, transformation=transformation)
        except ValueError as error:
            if not str(error).startswith(("optimizer_to_torch: ", "optimizer_from_torch: ")):
                raise
        else:
            return True
    return False


NEEDS_MORE = {
    "lbfgs", "polyak_sgd", "scale_by_polyak", "scale_by_backtracking_linesearch",
    "scale_by_zoom_linesearch", "lookahead", "measure_with_ema", "momo", "momo_adam",
    "scale_by_muon", "scale_by_distance_over_gradients", "differentially_private_aggregate",
    "dpsgd", "reduce_on_plateau", "sophia",
}  # fmt: skip
"""Whose update takes more than gradients of these parameters (one promotes ranks, which the tests
forbid): their state stays at its start."""


def try_all(name, at):
    """The torch optimisers with which a transformation of optax agreed, by direction."""
    moved = set()
    tx = build(name)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    if name.removeprefix("optax.").removeprefix("contrib.") not in NEEDS_MORE:
        params, state = jax_run(tx, params, state, at)
    for kind, options, make in makers():
        what = (name, kind, tuple(options))
        if agrees(partial(to_torch_and_on, tx, params, state, make, 5, what), at, tx):
            moved.add((kind, "to"))
        module = module_of(PARAMS)
        optimizer = make(module)
        if kind not in ("LBFGS", "SparseAdam", "Muon"):
            torch_run(module, optimizer, at)
        if agrees(partial(from_torch_and_on, tx, module, optimizer, 5, what), at, tx):
            moved.add((kind, "from"))
    return moved


MOVED = {"adam": "Adam", "adamw": "AdamW", "adamax": "Adamax", "nadam": "NAdam", "sgd": "SGD",
         "scale_by_adadelta": "Adadelta", "scale_by_adam": "Adam", "trace": "SGD", "chain": "Adam",
         "named_chain": "Adam", "flatten": "Adam", "apply_if_finite": "Adam", "MultiSteps": "Adam",
         "inject_hyperparams": "Adam"}  # fmt: skip
"""What must be moved with the defaults (`test_optimizer_state_pairs` has the other options)."""


@pytest.mark.slow(120)
@pytest.mark.parametrize("at", [1, 7])
@pytest.mark.parametrize("name", BUILDERS)
def test_every_transformation_is_moved_right_or_refused(name, at):
    with torch_dtype("float64"):
        moved = try_all(name, at)
    expected = MOVED.get(name.removeprefix("optax."))
    if expected:
        assert {(expected, "to"), (expected, "from")} <= moved
