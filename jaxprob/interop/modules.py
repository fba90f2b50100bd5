"""What a PyTorch module holds: its layers by kind, its tensors by name. Imports torch inside."""

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
      ValueError: Tensors on several devices, or on none (meta tensors).
    """
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
