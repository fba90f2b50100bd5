"""Which optax states are which algorithm of `torch.optim`, and what each of torch's keeps.

A state belongs to an algorithm if some setting of the optax transformation takes the very steps of
the torch optimiser with the hyperparameters of its parameter group; `refusal` says where none does.
"""

import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "ALGORITHMS",
    "COUNTERS",
    "EMPTY",
    "HYPERPARAMETERS",
    "KEPT",
    "NEUTRAL",
    "WITHOUT_EFFECT",
    "WRAPPERS",
    "advice",
    "kept_by_torch",
    "refusal",
]

_ADAM = {"mu": "exp_avg", "nu": "exp_avg_sq", "count": "step"}

_OWN = {
    "SGDState": ("SGD",),
    "AdamState": ("Adam", "AdamW"),
    "AdamaxState": ("Adamax",),
    "NAdamState": ("NAdam",),
    "RAdamState": ("RAdam",),
    "AdagradState": ("Adagrad",),
    "AdadeltaState": ("Adadelta",),
    "RMSpropState": ("RMSprop",),
    "RpropState": ("Rprop",),
}
"""States of `jaxprob.optim`, whose fields bear torch's names."""

ALGORITHMS: dict[str, dict[str, dict[str, str] | None]] = {
    "optax.ScaleByAdamState": {
        **dict.fromkeys(("Adam", "AdamW", "NAdam", "RAdam"), _ADAM),
        "Adamax": {"mu": "exp_avg", "nu": "exp_inf", "count": "step"},
    },
    "optax.ScaleByRmsState": {"RMSprop": {"nu": "square_avg"}},
    "optax.ScaleByRStdDevState": {"RMSprop": {"nu": "square_avg", "mu": "grad_avg"}},
    "optax.ScaleByRssState": {"Adagrad": {"sum_of_squares": "sum"}},
    "optax.ScaleByAdaDeltaState": {"Adadelta": {"e_g": "square_avg", "e_x": "acc_delta"}},
    "optax.TraceState": dict.fromkeys(("SGD", "RMSprop"), {"trace": "momentum_buffer"}),
    **{f"jaxprob.{name}": dict.fromkeys(classes) for name, classes in _OWN.items()},
}
"""State -> torch's class -> optax's field -> torch's; None for equal names."""

EMPTY = frozenset(["optax.EmptyState", "optax.MaskedNode", "optax.ScaleState"])

COUNTERS = frozenset(
    f"optax.{name}"
    for name in ("ScaleByScheduleState", "WeightDecaySchedule", "WrappedScheduleState")
)
"""States that hold a count of steps alone."""

WRAPPERS = {
    "optax.MaskedState": "inner_state",
    "optax.PartitionState": "inner_states",
    "optax.ApplyIfFiniteState": "inner_state",
    "optax.MultiStepsState": "inner_opt_state",
    "optax.InjectStatefulHyperparamsState": "inner_state",
    "optax.InjectHyperparamsState": "inner_state",
    "optax.ZeroNansState": None,
}
"""States around others -> the field that holds those."""

KEPT = {
    "optax.ApplyIfFiniteState": ("notfinite_count", "last_finite", "total_notfinite"),
    "optax.ZeroNansState": ("found_nan",),
    "optax.MultiStepsState": ("mini_step", "acc_grads", "skip_state"),
}
"""Fields without effect on a run of finite gradients between two accumulations."""

HYPERPARAMETERS = {
    "learning_rate": "lr",
    "b1": ("betas", 0),
    "b2": ("betas", 1),
    "decay": "alpha",
    **{
        name: name
        for name in ("lr", "eps", "weight_decay", "momentum", "dampening", "alpha", "rho")
        + ("lr_decay", "momentum_decay")
    },
}
"""Injected hyperparameters -> where a parameter group has them."""

NEUTRAL = {"eps_root": 0.0}
"""Hyperparameters that torch lacks -> the value with which they do nothing."""

WITHOUT_EFFECT = ("initial_accumulator_value", "initial_scale")
"""Hyperparameters that only the first state depends on."""

_ADVICE = {
    "ScaleByAmsgradState": "optax.amsgrad takes its maximum over other quantities than torch; use "
    "jaxprob.optim.adam(amsgrad=True)",
    "ScaleByRpropState": "optax.rprop emits the update of the step before; use jaxprob.optim.rprop",
    "ScaleByRmsWithCountState": "torch's RMSprop has no bias correction; leave bias_correction out",
    "ScaleByRStdDevWithCountState": "torch's RMSprop has no bias correction; leave it out",
    "LookaheadState": "torch.optim has no slow weights; move fast_state with params.fast",
    "AddNoiseState": "torch.optim adds no noise to gradients; move the other parts of the chain",
    "ScaleByLBFGSState": "two histories of L-BFGS are not alike; start torch.optim.LBFGS afresh "
    "from the params",
    "MuonState": "torch.optim.Muon applies another momentum than optax.contrib.muon; start afresh",
    "FactoredState": "torch.optim.Adafactor scales its steps otherwise than optax; start afresh",
    "ReduceLROnPlateauState": "in torch a scheduler keeps it: move the optimiser's own part of the "
    "chain, such as state[0], and set lr and the scheduler by hand",
    "EmaState": "no optimiser of torch averages gradients so; move the other parts of the chain",
}


def advice(name: str) -> str:
    """What to do with a state that no algorithm of torch keeps."""
    short = name.rsplit(".", 1)[-1]
    fallback = "no optimiser of torch.optim keeps it; move the other parts of the chain, if any"
    return f"{short}: {_ADVICE.get(short, fallback)}"


def kept_by_torch(kind: str, group: Mapping[str, Any]) -> frozenset[str] | None:
    """The entries of a parameter's state in torch; None for a class without counterpart."""
    entries = {
        "SGD": ("momentum_buffer",) if group.get("momentum") else (),
        "Adam": ("step", "exp_avg", "exp_avg_sq"),
        "AdamW": ("step", "exp_avg", "exp_avg_sq"),
        "NAdam": ("step", "mu_product", "exp_avg", "exp_avg_sq"),
        "RAdam": ("step", "exp_avg", "exp_avg_sq"),
        "Adamax": ("step", "exp_avg", "exp_inf"),
        "Adagrad": ("step", "sum"),
        "Adadelta": ("step", "square_avg", "acc_delta"),
        "RMSprop": ("step", "square_avg"),
        "Rprop": ("step", "prev", "step_size"),
    }.get(kind)
    if entries is None:
        return None
    if group.get("amsgrad"):
        entries += ("max_exp_avg_sq",)
    if kind == "RMSprop" and group.get("momentum"):
        entries += ("momentum_buffer",)
    if kind == "RMSprop" and group.get("centered"):
        entries += ("grad_avg",)
    return frozenset(entries)


def refusal(name: str, kind: str, group: Mapping[str, Any]) -> str:
    """Why no setting of the optax transformation is torch's algorithm; empty if one is."""
    pair = (name, kind)
    if pair == ("optax.ScaleByAdamState", "NAdam"):
        # 0.96 ** momentum_decay must be 0 to the last bit
        if -math.log(0.96) * float(group["momentum_decay"]) < 750.0:
            return (
                "optax.nadam is another algorithm than torch.optim.NAdam, which warms its momentum "
                "up; use jaxprob.optim.nadam, or NAdam(momentum_decay=1e6), which is optax.nadam"
            )
    elif pair == ("optax.ScaleByAdamState", "RAdam"):
        if float(group["eps"]) != 0.0:
            return (
                "optax.radam adds eps after the bias correction, torch.optim.RAdam before; use "
                "jaxprob.optim.radam, or eps=0 on both sides"
            )
    elif pair == ("optax.ScaleByRssState", "Adagrad"):
        if float(group["eps"]) != 0.0 or float(group["lr_decay"]) != 0.0:
            return (
                "optax.adagrad adds eps inside the root and has no lr_decay; use "
                "jaxprob.optim.adagrad, or eps=0 on both sides and lr_decay=0"
            )
    elif pair == ("optax.TraceState", "SGD"):
        if float(group["dampening"]) != 0.0:
            return "optax.trace has no dampening; use jaxprob.optim.sgd, or dampening=0"
    return ""
