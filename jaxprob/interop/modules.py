"""What a PyTorch module holds: its layers by kind, its tensors by name. Imports torch inside."""

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxprob.interop.layouts import KINDS, Rule

if TYPE_CHECKING:
    import torch

__all__ = ["Description", "Spec", "describe", "register"]

IGNORED = "num_batches_tracked"
"""A counter that only torch.nn.BatchNorm(momentum=None) reads; Flax has none."""

COMPOSITE = ("MultiheadAttention", "RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell")
"""Kinds whose rules cover the modules inside them too."""


WITHOUT_COUNTERPART = {
    "add_zero_attn": ((False,), "a key of zeros that no attention of Flax adds"),
    "max_norm": ((None,), "which rescales rows of the table when they are looked up"),
    "scale_grad_by_freq": ((False,), "which divides gradients by the counts in the batch"),
}
"""Options of torch's layers -> (values without effect, what they do)."""

LINEN_PADDING = {"circular": "CIRCULAR", "reflect": "REFLECT"}


class Spec(NamedTuple):
    """Shape and dtype of a tensor.

    Attributes:
      shape: Its shape.
      dtype: NumPy's name of its dtype.
      trainable: Whether it is a parameter (a buffer otherwise).
    """

    shape: tuple[int, ...]
    dtype: str
    trainable: bool


class Description(NamedTuple):
    """A module's state, as far as a transfer needs it.

    Attributes:
      layers: Path of each layer with a layout of its own -> its kind.
      tensors: Every persistent tensor by its name in the state_dict.
      modules: All module paths, those inside included.
      tied: Groups of names that are one tensor.
    """

    layers: dict[str, str]
    tensors: dict[str, Spec]
    modules: frozenset[str]
    tied: tuple[tuple[str, ...], ...] = ()


def register(module_type: type, rules: Iterable[Rule] | Callable[[dict], list[Rule]]) -> None:
    """Teaches the transfer a layer of your own.

    Args:
      module_type: The `torch.nn.Module` subclass.
      rules: Its `Rule`s, or a function from the shapes of its Flax leaves by relative path to
        rules. A later registration of the same type replaces the earlier.

    Raises:
      TypeError: Not a type.
    """
    if not isinstance(module_type, type):
        raise TypeError(f"register: expected a class of modules; got {module_type!r}.")
    kind = f"{module_type.__module__}.{module_type.__qualname__}"
    fixed = None if callable(rules) else list(rules)
    _REGISTERED[module_type] = kind
    KINDS[kind] = rules if callable(rules) else lambda names: list(fixed or ())


_REGISTERED: dict[type, str] = {}


def describe(module: "torch.nn.Module") -> Description:
    """Lists the layers and tensors of a module.

    Args:
      module: Any module.

    Returns:
      Its description.

    Raises:
      ValueError: Tensors on several devices, or on none (meta tensors); lazy layers that have no
        shape yet; or options of a layer that no layer of Flax has.

    Warns:
      UserWarning: A padding other than zeros, which is part of the layer and not of its weights.
    """
    _require_counterparts(module)
    tensors, places = {}, {}
    owners: dict[int, list[str]] = {}
    for name, tensor in _state(module):
        tensors[name] = Spec(
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            _is_parameter(tensor),
        )
        places.setdefault(tensor.device.type, name)
        owners.setdefault(id(tensor), []).append(name)
    if len(places) > 1 or "meta" in places:
        listed = ", ".join(f"{name} on {device}" for device, name in sorted(places.items()))
        raise ValueError(
            f"the module's tensors must be on one device and hold values; got {listed}. "
            "Move the whole module first, e.g. module.to('cpu')."
        )
    return Description(
        layers=_layers(module),
        tensors=tensors,
        modules=frozenset(name for name, _ in module.named_modules(remove_duplicate=False)),
        tied=tuple(tuple(names) for names in owners.values() if len(names) > 1),
    )


def _require_counterparts(module: "torch.nn.Module") -> None:
    """Refuses what weights alone can't carry over, all of it in one message."""
    problems = []
    for path, part in module.named_modules():
        if not type(part).__module__.startswith("torch.nn"):
            continue
        name, kind = path or "the module", type(part).__name__
        if getattr(part, "has_uninitialized_params", lambda: False)():
            problems.append(
                f"{name} ({kind}) has no shapes yet: call the module on an example first"
            )
        problems += [
            f"{name} ({kind}) has {option}={getattr(part, option)!r}, {why}"
            for option, (plain, why) in WITHOUT_COUNTERPART.items()
            if getattr(part, option, plain[0]) not in plain
        ]
        if kind.startswith("BatchNorm") and part.momentum is None:
            problems.append(
                f"{name} ({kind}) has momentum=None, the average of all batches; set it to the "
                "weight of the newest batch, such as 0.1 (running statistics travel as they are)"
            )
        padding = getattr(part, "padding_mode", "zeros")
        if padding == "replicate":
            problems.append(f"{name} ({kind}) has padding_mode='replicate': pad by jnp.pad instead")
        elif padding != "zeros":
            warnings.warn(
                f"{name} ({kind}) has padding_mode={padding!r}, which is no weight: a layer "
                f"of Linen needs padding={LINEN_PADDING[padding]!r}; jaxprob.nn pads by zeros.",
                stacklevel=4,
            )
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(
            f"the module has layers that no layer of Flax computes:\n  {listed}\n"
            "Give the module layers without these options."
        )


def _state(module: "torch.nn.Module") -> list[tuple[str, Any]]:
    """All parameters and persistent buffers under every name that they have."""
    wanted = module.state_dict(keep_vars=True)
    return [(n, t) for n, t in wanted.items() if n.rsplit(".", 1)[-1] != IGNORED]


def _is_parameter(tensor: Any) -> bool:
    import torch

    return isinstance(tensor, torch.nn.Parameter)


def _layers(module: "torch.nn.Module") -> dict[str, str]:
    layers: dict[str, str] = {}
    inside: tuple[str, ...] = ()
    for path, part in module.named_modules(remove_duplicate=False):
        if any(path.startswith(prefix) for prefix in inside):
            continue
        kind = kind_of(part)
        if kind is None:
            continue
        layers[path] = kind
        if kind in COMPOSITE:
            inside += (f"{path}." if path else "",)
    return layers


def kind_of(part: "torch.nn.Module") -> str | None:
    """Returns the kind of a single module, the most special class first, or None."""
    for cls in type(part).__mro__:
        if cls in _REGISTERED:
            return _REGISTERED[cls]
        name = cls.__name__
        if cls.__module__.startswith("torch.nn"):
            if name.startswith(("BatchNorm", "SyncBatchNorm", "InstanceNorm")):
                return "BatchNorm"
            if name in KINDS or name.startswith("ConvTranspose"):
                return name
    return None
