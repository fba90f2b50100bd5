"""Transformations and wrappers that are an algorithm of torch: moved right in both directions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxprob import interop, optim
from parity_tests.engine import torch_dtype
from tests.interop.optimizer_runs import (
    LR,
    PARAMS,
    from_torch_and_on,
    jax_run,
    module_of,
    of_module,
    to_torch_and_on,
    torch_run,
)

LABELS = {"kernel": "a", "bias": "b"}
NO_BIAS = {"kernel": True, "bias": False}


def rms(**arguments):
    return optax.rmsprop(LR, decay=0.99, eps_in_sqrt=False, **arguments)


def plain(kind, **options):
    return lambda module: getattr(torch.optim, kind)(module.parameters(), lr=LR, **options)


def grouped(kind, **options):
    """The bias ten times as fast."""

    def make(module):
        groups = [{"params": [module.weight]}, {"params": [module.bias], "lr": 10 * LR}]
        return getattr(torch.optim, kind)(groups, lr=LR, **options)

    return make


def weight_only(kind, **options):
    return lambda module: getattr(torch.optim, kind)([module.weight], lr=LR, **options)


def two(build):
    """A transformation for each label, the second ten times as fast."""
    return optax.partition({"a": build(LR), "b": build(10 * LR)}, LABELS)


PAIRS = {
    "adam": (optax.adam(LR), plain("Adam")),
    "adam, schedule": (optax.adam(lambda count: LR), plain("Adam")),
    "adamw": (optax.adamw(LR, weight_decay=0.01), plain("AdamW")),
    "adamax": (optax.adamax(LR), plain("Adamax")),
    "adadelta": (optax.adadelta(LR), plain("Adadelta")),
    "adagrad": (optax.adagrad(LR, 0.0, eps=0.0), plain("Adagrad", eps=0.0)),
    "radam": (optax.radam(LR, eps=0.0), plain("RAdam", eps=0.0)),
    "nadam": (optax.nadam(LR), plain("NAdam", momentum_decay=1e6)),
    "sgd": (optax.sgd(LR), plain("SGD")),
    "sgd momentum": (optax.sgd(LR, 0.9), plain("SGD", momentum=0.9)),
    "sgd nesterov": (optax.sgd(LR, 0.9, True), plain("SGD", momentum=0.9, nesterov=True)),
    "rmsprop": (rms(), plain("RMSprop")),
    "rmsprop momentum": (rms(momentum=0.9), plain("RMSprop", momentum=0.9)),
    "rmsprop centered": (
        rms(momentum=0.5, centered=True),
        plain("RMSprop", momentum=0.5, centered=True),
    ),
    "rmsprop, trace inside": (
        optax.chain(
            optax.scale_by_rms(0.99, eps_in_sqrt=False), optax.trace(0.9), optax.scale(-LR)
        ),
        plain("RMSprop", momentum=0.9),
    ),
    "ours: sgd": (
        optim.sgd(LR, 0.9, dampening=0.1),
        plain("SGD", momentum=0.9, dampening=0.1),
    ),
    "ours: amsgrad": (optim.adam(LR, amsgrad=True), plain("Adam", amsgrad=True)),
    "ours: adamw": (optim.adamw(LR), plain("AdamW")),
    "ours: adamax": (optim.adamax(LR), plain("Adamax")),
    "ours: nadam": (optim.nadam(LR), plain("NAdam")),
    "ours: radam": (optim.radam(LR), plain("RAdam")),
    "ours: adagrad": (optim.adagrad(LR, lr_decay=0.1), plain("Adagrad", lr_decay=0.1)),
    "ours: adadelta": (optim.adadelta(LR), plain("Adadelta")),
    "ours: rmsprop": (
        optim.rmsprop(LR, momentum=0.9, centered=True),
        plain("RMSprop", momentum=0.9, centered=True),
    ),
    "ours: rprop": (optim.rprop(LR), plain("Rprop")),
    "two groups": (two(optax.adam), grouped("Adam")),
    "two groups, trace": (
        two(lambda lr: optax.rmsprop(lr, 0.99, eps_in_sqrt=False, momentum=0.9)),
        grouped("RMSprop", momentum=0.9),
    ),
    "two groups, ours": (two(optim.nadam), grouped("NAdam")),
    "two groups, one without state": (
        optax.partition({"a": optax.sgd(LR, 0.9), "b": optax.sgd(10 * LR)}, LABELS),
        lambda module: torch.optim.SGD(
            [
                {"params": [module.weight], "momentum": 0.9},
                {"params": [module.bias], "lr": 10 * LR},
            ],
            lr=LR,
        ),
    ),
    "frozen": (
        optax.partition({"a": optax.adam(LR), "b": optax.set_to_zero()}, LABELS),
        weight_only("Adam"),
    ),
    "masked": (
        optax.chain(
            optax.masked(optax.adam(LR), NO_BIAS),
            optax.masked(optax.set_to_zero(), {"kernel": False, "bias": True}),
        ),
        weight_only("Adam"),
    ),
    "decay masked": (
        optax.adamw(LR, weight_decay=0.01, mask=NO_BIAS),
        lambda module: torch.optim.AdamW(
            [{"params": [module.weight]}, {"params": [module.bias], "weight_decay": 0.0}], lr=LR
        ),
    ),
    "flatten": (optax.flatten(optax.sgd(LR, 0.9)), plain("SGD", momentum=0.9)),
    "flatten, trace": (optax.flatten(rms(momentum=0.9)), plain("RMSprop", momentum=0.9)),
    "apply_if_finite": (optax.apply_if_finite(optim.adam(LR), 3), plain("Adam")),
    "MultiSteps": (
        optax.MultiSteps(optax.adam(LR), 1).gradient_transformation(),
        plain("Adam"),
    ),
    "zero_nans": (optax.chain(optax.zero_nans(), optax.sgd(LR, 0.9)), plain("SGD", momentum=0.9)),
    "named_chain": (
        optax.named_chain(("first", optax.trace(0.9)), ("rate", optax.scale(-LR))),
        plain("SGD", momentum=0.9),
    ),
    "inject": (optax.inject_hyperparams(optax.adam)(LR), plain("Adam")),
    "inject, ours": (optax.inject_hyperparams(optim.adamw)(LR), plain("AdamW")),
    "inject, schedule": (optax.inject_hyperparams(optax.adam)(lambda count: LR), plain("Adam")),
    "inject, two groups": (
        two(optax.inject_hyperparams(optax.adamw)),
        grouped("AdamW", weight_decay=1e-4),
    ),
    "inject, trace": (
        optax.inject_hyperparams(optax.rmsprop, static_args="initial_scale")(
            LR, decay=0.99, eps_in_sqrt=False, momentum=0.9
        ),
        plain("RMSprop", momentum=0.9),
    ),
}
QUICK = ("adam", "nadam", "rmsprop momentum", "ours: nadam", "two groups", "frozen",
         "flatten, trace", "inject, two groups")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "at"),
    [
        pytest.param(name, at, marks=[pytest.mark.slow(4)] * (at == 7 or name not in QUICK))
        for name in PAIRS
        for at in (1, 7)
    ],
)
def test_the_other_framework_goes_on(name, at):
    tx, make = PAIRS[name]
    with torch_dtype("float64"):
        for arguments in ({"step": at}, {"step": at, "transformation": tx}):
            params, state = jax_run(tx, PARAMS, tx.init(jax.tree.map(jnp.asarray, PARAMS)), at)
            if name != "sgd" or "transformation" in arguments:  # else it says that nothing is kept
                to_torch_and_on(tx, params, state, make, 5, name, **arguments)
            module = module_of(PARAMS)
            optimizer = make(module)
            torch_run(module, optimizer, at)
            from_torch_and_on(tx, module, optimizer, 5, name, **arguments)
            # what came from torch and back is what torch has
            params = jax.tree.map(jnp.asarray, of_module(module))
            state = interop.optimizer_from_torch(
                optimizer, module, tx.init(params), params, step=at + 5
            )
            if name == "sgd":
                continue
            fresh = interop.optimizer_to_torch(
                state, params, module, make(module), step=at + 5
            ).state_dict()
            for number, entry in optimizer.state_dict()["state"].items():
                for field, value in entry.items():
                    if field != "step" or float(value) != 0:
                        np.testing.assert_allclose(
                            fresh["state"][number][field], value, rtol=1e-14, atol=1e-300
                        )


def test_steps_are_counted_for_each_parameter():
    """The bias was frozen for three steps, so that torch has counted seven and four."""
    with torch_dtype("float64"):
        module = module_of(PARAMS)
        optimizer = torch.optim.Adam(module.parameters(), lr=LR)
        module.bias.requires_grad_(False)
        torch_run(module, optimizer, 3)
        module.bias.requires_grad_(True)
        params = jax.tree.map(jnp.asarray, of_module(module))
        one, each = (
            optax.adam(LR),
            optax.partition({"a": optax.adam(LR), "b": optax.adam(LR)}, LABELS),
        )
        with pytest.raises(ValueError, match="no 'exp_avg' for bias.*set_to_zero"):
            interop.optimizer_from_torch(optimizer, module, one.init(params), params)
        torch_run(module, optimizer, 4)
        with pytest.raises(ValueError, match="bias 4, weight 7.*optax.partition"):
            interop.optimizer_from_torch(optimizer, module, one.init(params), params)
        from_torch_and_on(each, module, optimizer, 5, "each")
        params = jax.tree.map(jnp.asarray, of_module(module))
        state = interop.optimizer_from_torch(optimizer, module, each.init(params), params)
        fresh = torch.optim.Adam(module.parameters(), lr=LR)
        interop.optimizer_to_torch(state, params, module, fresh)
        assert [float(fresh.state[p]["step"]) for p in module.parameters()] == [12, 9]
        to_torch_and_on(each, params, state, plain("Adam"), 5, "each")


def test_injected_hyperparameters_are_moved():
    tx = two(optax.inject_hyperparams(optax.adamw))
    params, state = jax_run(tx, PARAMS, tx.init(jax.tree.map(jnp.asarray, PARAMS)), 2)
    module = module_of(params)
    with torch_dtype("float64"):
        optimizer = torch.optim.AdamW([{"params": [p]} for p in module.parameters()], lr=9.0)
        interop.optimizer_to_torch(state, params, module, optimizer)
        found = [(g["lr"], g["weight_decay"], g["betas"]) for g in optimizer.param_groups]
        assert found == [(LR, 1e-4, (0.9, 0.999)), (10 * LR, 1e-4, (0.9, 0.999))]
        optimizer.param_groups[1]["lr"] = 0.125
        optimizer.param_groups[1]["betas"] = (0.5, 0.75)
        state = interop.optimizer_from_torch(optimizer, module, tx.init(params), params)
        hyper = state.inner_states["b"].inner_state.hyperparams
        assert [float(hyper[k]) for k in ("learning_rate", "b1", "b2")] == [0.125, 0.5, 0.75]
        one = torch.optim.AdamW(module.parameters(), lr=LR)
        with pytest.raises(ValueError, match="group 0 .* learning_rate 0.05 and 0.5"):
            interop.optimizer_to_torch(tx.init(params), params, module, one)


def test_transpose_kernel_and_rename_reach_the_moments():
    layer = nn.ConvTranspose(2, (3,), transpose_kernel=True, name="up")
    params = {"up": layer.init(jax.random.key(0), jnp.ones((1, 4, 2)))["params"]}
    tx = optax.adam(LR)
    rng = np.random.default_rng(0)
    gradients = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)
    _, state = tx.update(gradients, tx.init(params), params)
    module = torch.nn.ModuleDict({"down": torch.nn.ConvTranspose1d(2, 2, 3)})
    module = module.to(getattr(torch, str(params["up"]["bias"].dtype)))
    how = {"transpose_kernel": True, "rename": {"up": "down"}}
    optimizer = torch.optim.Adam(module.parameters(), lr=LR)
    interop.optimizer_to_torch(state, params, module, optimizer, **how)
    moments = interop.to_torch(state[0].mu, module, **how)
    found = optimizer.state[module["down"].weight]["exp_avg"]
    np.testing.assert_array_equal(found.numpy(), moments["down"].weight.detach().numpy())
    back = interop.optimizer_from_torch(optimizer, module, tx.init(params), params, **how)
    jax.tree.map(np.testing.assert_array_equal, back, state)


NEEDS_MORE = (
    "move fast_state",
    "in torch a scheduler keeps it",
    "torch.optim.LBFGS has no counterpart",
)
"""Refusals of states at their start: the update takes more than gradients of these parameters."""


@pytest.mark.parametrize(
    ("tx", "make", "message"),
    [
        (optax.nadam(LR), plain("NAdam"), "another algorithm than torch.optim.NAdam.*1e6"),
        (optax.radam(LR), plain("RAdam"), "eps after the bias correction"),
        (optax.adagrad(LR), plain("Adagrad"), "eps inside the root"),
        (optax.amsgrad(LR), plain("Adam", amsgrad=True), r"optim.adam\(amsgrad=True\)"),
        (optax.adam(LR), plain("Adam", amsgrad=True), "bias has no 'max_exp_avg_sq'"),
        (optax.rprop(LR), plain("Rprop"), "jaxprob.optim.rprop"),
        (optax.lion(LR), plain("Adam"), "ScaleByLionState: no optimiser of torch.optim keeps it"),
        (optax.yogi(LR), plain("Adam"), "another algorithm than torch.optim.Adam"),
        (optax.lamb(LR), plain("Adam"), "another algorithm than torch.optim.Adam"),
        (optax.sign_sgd(LR), plain("SGD"), "another algorithm than torch.optim.SGD"),
        (optax.adam(LR), plain("Adam", eps=1e-6), "or has other hyperparameters"),
        (optax.adam(LR), weight_only("Adam"), "does not hold bias"),
        (
            optax.rmsprop(lambda count: LR, 0.99, eps_in_sqrt=False, momentum=0.9),
            plain("RMSprop", momentum=0.9),
            "scheduled learning rate is inside the trace",
        ),
        (optax.sgd(LR, 0.9), plain("SGD"), "which its group switches off"),
        (
            optax.partition({"a": optax.adam(LR), "b": optax.set_to_zero()}, LABELS),
            plain("Adam"),
            "bias has no 'exp_avg'.*masks or freezes belongs in no group",
        ),
        (optax.adam(LR, mu_dtype="bfloat16"), plain("Adam"), "bfloat16.*leave mu_dtype out"),
        (
            optax.MultiSteps(optax.adam(LR), 3).gradient_transformation(),
            plain("Adam"),
            "in the middle of an accumulation",
        ),
        (
            optax.lookahead(optax.adam(LR), 2, 0.5),
            plain("Adam"),
            "move fast_state",
        ),
        (optim.proximal_l1(optim.sgd(LR, 0.9), LR, 0.1), plain("SGD", momentum=0.9), r"\[1\]"),
        (
            optax.chain(optim.sgd(LR, 0.9), optim.schedules.reduce_lr_on_plateau(LR)),
            plain("SGD", momentum=0.9),
            "in torch a scheduler keeps it",
        ),
        (
            two(optax.inject_hyperparams(optax.sgd)),
            grouped("SGD"),
            "label without moments.*by hand",
        ),
        (optax.adam(LR), weight_only("Muon"), "torch.optim.Muon has no counterpart"),
        (optax.lbfgs(), plain("LBFGS"), "torch.optim.LBFGS has no counterpart"),
        (
            optax.inject_hyperparams(optax.adam)(LR, eps_root=1e-8),
            plain("Adam"),
            "eps_root is 1e-08; torch has none",
        ),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*no attribute")
def test_what_torch_does_otherwise_is_refused_by_name(tx, make, message):
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    with torch_dtype("float64"):
        if message not in NEEDS_MORE:
            params, state = jax_run(tx, params, state, 1)
        module = module_of(PARAMS)
        optimizer = make(module)
        before = optimizer.state_dict()
        with pytest.raises(ValueError, match=message):
            interop.optimizer_to_torch(state, params, module, optimizer, step=1, transformation=tx)
        assert str(optimizer.state_dict()) == str(before)
