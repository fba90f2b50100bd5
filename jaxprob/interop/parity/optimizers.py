"""Which optax transformation was taken for the torch optimiser: found by running the candidates."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import optax

from jaxprob import optim
from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.outputs import relative_error
from jaxprob.interop.parity.report import Comparison, Finding
from jaxprob.interop.parity.schedules import schedules_apart
from jaxprob.interop.parity.settings import clipped, decayed, settings_apart
from jaxprob.interop.parity.torch_side import TorchSide
from jaxprob.interop.parity.training import jax_steps, torch_steps

__all__ = ["suspect_optimizer"]

MAX_STEPS = 20
"""Enough to tell any two of these algorithms apart."""


def suspect_optimizer(
    ours: FlaxSide,
    twin: TorchSide,
    wrong: Sequence[Comparison],
    optimizer: tuple[Any, Callable],
    steps: int,
    closed: float,
) -> Finding:
    """Explains a trajectory that parts though values and gradients agree at its start."""
    steps = min(steps, MAX_STEPS)
    found, _ = jax_steps(ours, optimizer[0], steps)
    twin.reset()
    built = optimizer[1](twin.module.parameters())
    name, group = _algorithm(built), dict(built.param_groups[0])
    if any(link.rule.gradient_to_flax for link in ours.links):
        return _two_biases(ours, twin, optimizer, steps, found, closed)
    settings = _settings(group)
    apart = clipped(ours, twin, optimizer) or schedules_apart(ours, twin, optimizer, steps)
    if not apart and len(built.param_groups) > 1:
        apart = decayed(ours, twin, optimizer)  # the candidates know one group
    if apart:
        return Finding("", "optimizer", apart[0], f"{apart[1]} PyTorch runs {name}({settings}).")
    for suspect, words, candidate in _candidates(name, group):
        variables, _ = jax_steps(ours, candidate, steps)
        if _distance(ours, variables, found) <= closed:
            return Finding(
                "",
                "optimizer",
                suspect,
                f"{words} PyTorch runs {name}({settings}).{_advice(name)}",
            )
    apart = settings_apart(ours, twin, optimizer)
    if apart:
        return Finding("", "optimizer", apart[0], f"{apart[1]} PyTorch runs {name}({settings}).")
    worst = max(wrong, key=lambda c: c.error)
    return Finding(
        "",
        "optimizer",
        "unknown",
        f"{worst.name} differs by {worst.error:.1e} after the steps, though the first gradient "
        f"agrees; PyTorch runs {name}({settings}).{_advice(name)}",
    )


def _algorithm(optimizer: Any) -> str:
    """The algorithm of torch.optim that an optimiser is, or is made from."""
    kinds = type(optimizer).__mro__
    own = (k for k in kinds if k.__module__.startswith("torch.optim.") and hasattr(k, "step"))
    return next(own, kinds[0]).__name__


def _advice(name: str) -> str:
    own = name.lower()
    return f" Write jaxprob.optim.{own} with the same arguments." if hasattr(optim, own) else ""


def _distance(ours: FlaxSide, variables: Any, others: Any) -> float:
    a, b = ours.flat(variables), ours.flat(others)
    return max(relative_error(a[name], b[name]) for name in a)


def _settings(group: dict) -> str:
    hidden = ("params", "foreach", "maximize", "capturable", "differentiable", "fused")
    return ", ".join(f"{k}={v}" for k, v in group.items() if k not in hidden)


def _two_biases(ours, twin, optimizer, steps, found, closed) -> Finding:
    """Tries the module with one bias of each pair frozen."""
    import torch

    layers = sorted({link.layer for link in ours.links if link.rule.gradient_to_flax})
    frozen = []
    for link in ours.links:
        if not link.rule.gradient_to_flax:
            continue
        parameter = dict(twin.module.named_parameters())[link.torch[1]]
        gru = len(link.flax) == 4
        keep = 2 * parameter.shape[0] // 3 if gru else parameter.shape[0]
        other = dict(twin.module.named_parameters())[link.torch[0]]
        target = parameter if gru else other

        def cut(gradient, keep=keep):
            return torch.cat([torch.zeros_like(gradient[:keep]), gradient[keep:]])

        frozen.append(target.register_hook(cut))
    torch_steps(twin, optimizer[1], steps)
    state = ours.from_twin_state(twin)
    for handle in frozen:
        handle.remove()
    twin.reset()
    flat = ours.flat(found)
    error = max(relative_error(flat[name], state[name]) for name in flat)
    suspect = "two biases" if error <= closed else "unknown"
    return Finding(
        layers[0],
        "in",
        suspect,
        "PyTorch trains b_ih and b_hh apart, Flax their sum: the sum moves twice as fast. Use the "
        "recurrent layers of jaxprob.nn, or freeze one of the two in PyTorch.",
    )


def _candidates(name: str, group: dict) -> Iterator[tuple[str, str, Any]]:
    """(suspect, sentence, transformation) for what is commonly written instead."""
    lr = group["lr"]
    decay = group.get("weight_decay", 0.0)
    b1, b2 = group.get("betas", (0.9, 0.999))
    eps = group.get("eps", 1e-8)
    if name in ("Adam", "AdamW", "NAdam", "RAdam", "Adamax"):
        amsgrad = group.get("amsgrad", False)
        plain = optim.adam(lr, betas=(b1, b2), eps=eps)
        if name not in ("Adam", "AdamW"):
            yield "another algorithm", f"Flax runs Adam, PyTorch {name}.", plain
        if amsgrad:
            own = optim.adamw if name == "AdamW" else optim.adam
            yield (
                "amsgrad",
                "PyTorch keeps the maximum of the second moment, Flax does not.",
                own(lr, betas=(b1, b2), eps=eps, weight_decay=decay),
            )
        decoupled = name == "AdamW" or group.get("decoupled_weight_decay", False)
        if decay:
            yield "weight decay", "Flax decays no weights.", plain
        if decay and not decoupled:
            yield (
                "decoupled weight decay",
                "Flax decays the weights themselves (AdamW), PyTorch adds the L2 gradient.",
                optim.adamw(lr, betas=(b1, b2), eps=eps, weight_decay=decay),
            )
        if decay and decoupled:
            yield (
                "L2 instead of decoupled weight decay",
                "Flax adds the L2 gradient, PyTorch decays the weights (AdamW).",
                optim.adam(lr, betas=(b1, b2), eps=eps, weight_decay=decay),
            )
        yield (
            "default weight decay",
            "optax.adamw decays by 1e-4 unless told, torch.optim.AdamW by 1e-2.",
            optax.adamw(lr, b1=b1, b2=b2, eps=eps),
        )
        yield (
            "eps inside the root",
            "Flax adds eps inside the square root.",
            optax.adam(lr, b1=b1, b2=b2, eps=0.0, eps_root=eps),
        )
        if (b1, b2) != (0.9, 0.999):
            usual = optim.adam(lr, eps=eps, weight_decay=decay)
            yield "betas", "Flax has betas (0.9, 0.999).", usual
        for other in ((0.9, b) for b in (0.9, 0.95, 0.98, 0.99, 0.9999)):
            if name in ("Adam", "AdamW") and other != (b1, b2):
                own = optim.adamw if name == "AdamW" else optim.adam
                yield (
                    "betas",
                    f"Flax has betas {other}.",
                    own(lr, betas=other, eps=eps, weight_decay=decay),
                )
        if decay and name == "AdamW":
            yield (
                "biases not decayed",
                "Flax decays matrices only (a mask), PyTorch every parameter of the group.",
                optax.adamw(lr, b1=b1, b2=b2, eps=eps, weight_decay=decay, mask=_matrices),
            )
        for other in (1e-8, 1e-7, 1e-6, 1e-5, 1e-3):
            if other != eps:
                yield (
                    "eps",
                    f"Flax has eps={other:g}.",
                    optim.adam(lr, betas=(b1, b2), eps=other, weight_decay=decay),
                )
        if amsgrad:
            yield (
                "amsgrad",
                "optax.amsgrad takes the maximum of the corrected moment, PyTorch of the raw one.",
                optax.amsgrad(lr, b1=b1, b2=b2, eps=eps),
            )
        yield "nadam", "optax.nadam has no schedule of the momentum.", optax.nadam(lr, b1, b2, eps)
        yield "radam", "optax.radam places eps after the correction.", optax.radam(lr, b1, b2, eps)
        yield "adamax", "Flax runs Adamax.", optim.adamax(lr, betas=(b1, b2), eps=eps)
    elif name == "RMSprop":
        alpha = group["alpha"]
        yield (
            "decay and eps of RMSprop",
            "optax.rmsprop decays by 0.9 unless told (PyTorch 0.99) and adds eps inside the root.",
            optax.rmsprop(lr),
        )
        yield (
            "eps inside the root",
            "optax.rmsprop adds eps inside the square root (eps_in_sqrt), PyTorch outside.",
            optax.rmsprop(lr, decay=alpha, eps=eps),
        )
        yield (
            "decay of RMSprop",
            "Flax decays by 0.9, PyTorch by alpha.",
            optim.rmsprop(lr, alpha=0.9, eps=eps),
        )
    elif name == "SGD":
        momentum = group["momentum"]
        options = {"momentum": momentum, "weight_decay": decay}
        if momentum:
            yield "momentum", "Flax has no momentum.", optim.sgd(lr, weight_decay=decay)
            yield (
                "nesterov",
                "Only one side has Nesterov's momentum.",
                optax.chain(
                    optax.add_decayed_weights(decay),
                    optax.sgd(lr, momentum, nesterov=not group["nesterov"]),
                ),
            )
        if group["dampening"]:
            yield "dampening", "Flax's momentum has no dampening.", optim.sgd(lr, **options)
        if decay:
            yield (
                "weight decay",
                "Flax decays no weights.",
                optim.sgd(
                    lr, momentum=momentum, dampening=group["dampening"], nesterov=group["nesterov"]
                ),
            )
        yield (
            "decay after the momentum",
            "Flax decays after the momentum.",
            optax.chain(
                optax.trace(momentum, group["nesterov"]),
                optax.add_decayed_weights(decay),
                optax.scale(-lr),
            ),
        )
    elif name == "Adagrad":
        yield (
            "initial accumulator",
            "optax.adagrad starts its sum at 0.1, PyTorch at 0; and it adds eps inside the root.",
            optax.adagrad(lr),
        )
        yield "eps of Adagrad", "Flax adds eps inside the root.", optax.adagrad(lr, 0.0)
    elif name == "Rprop":
        yield "late Rprop", "optax.rprop is one step late (its PR 1725).", optax.rprop(lr)
    others = {
        "SGD": (optim.sgd(lr),),
        "Adam": (optim.adam(lr),),
        "AdamW": (optim.adamw(lr), optax.adamw(lr)),
        "RMSprop": (optim.rmsprop(lr), optax.rmsprop(lr)),
        "Adagrad": (optim.adagrad(lr), optax.adagrad(lr)),
    }
    for other, algorithms in others.items():
        if other != name:
            for algorithm in algorithms:
                yield "another algorithm", f"Flax runs {other}.", algorithm
    if group.get("maximize"):
        words = "PyTorch climbs (maximize=True), Flax descends."
        for algorithm in _same_algorithm(name, group, lr):
            yield "maximize", words, algorithm
    for factor in (10.0, 0.1, 2.0, 0.5):
        for algorithm in _same_algorithm(name, group, lr * factor):
            yield "learning rate", f"Flax has lr={lr * factor:g}.", algorithm


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _same_algorithm(name: str, group: dict, lr: float) -> Iterator[Any]:
    decay = group.get("weight_decay", 0.0)
    if name == "Adam":
        yield optim.adam(lr, group["betas"], group["eps"], decay, amsgrad=group["amsgrad"])
    elif name == "AdamW":
        yield optim.adamw(lr, group["betas"], group["eps"], decay, amsgrad=group["amsgrad"])
    elif name == "SGD":
        yield optim.sgd(lr, group["momentum"], group["dampening"], decay, group["nesterov"])
    elif name == "RMSprop":
        yield optim.rmsprop(lr, group["alpha"], group["eps"], decay)
