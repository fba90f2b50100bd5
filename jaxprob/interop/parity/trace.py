"""Intermediate activations of both models, layer by layer, in the order of execution."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.interop.parity.outputs import aligned, relative_error, to_numpy
from jaxprob.interop.parity.packed import first_packed, padded

if TYPE_CHECKING:
    import torch

__all__ = ["Call", "Matched", "linen_calls", "match", "torch_calls", "transpose_kernels"]


class Call(NamedTuple):
    """One call of one layer.

    Attributes:
      path: Path in the PyTorch module.
      layer: The Linen module or torch module.
      inputs: Array inputs, channels as on that side.
      output: First array output.
      kwargs: Keyword arguments.
      raw: Positional arguments as they were.
      valid: Where a packed sequence has steps `[B, T]`; None for other arrays.
      runs: Of a PyTorch layer that Flax has as several runs, these.
    """

    path: str
    layer: Any
    inputs: list[np.ndarray]
    output: np.ndarray
    kwargs: Mapping[str, Any]
    raw: tuple
    valid: np.ndarray | None = None
    runs: "tuple[Call, ...]" = ()


class Matched(NamedTuple):
    """A call on both sides, with its errors."""

    ours: Call
    twin: Call
    input_error: float
    output_error: float


def carries_in(dtype: str) -> Callable:
    """An interceptor: recurrent cells start in the dtype of the check.

    Linen makes the first carry in `param_dtype`, whatever the params are, and its scan then refuses
    the second.
    """

    def interceptor(next_fn, args, kwargs, context):
        layer = context.module
        is_run = isinstance(layer, nn.RNN) and context.method_name == "__call__"
        if not is_run or len(args) > 1 or kwargs.get("initial_carry") is not None:
            return next_fn(*args, **kwargs)
        shape = args[0].shape
        time = 0 if layer.time_major else args[0].ndim - (layer.cell.num_feature_axes + 1)
        carry = layer.cell.initialize_carry(jax.random.key(0), shape[:time] + shape[time + 1 :])
        carry = jax.tree.map(lambda c: c.astype(dtype), carry)
        return next_fn(*args, **{**kwargs, "initial_carry": carry})

    return interceptor


def transpose_kernels(calls: list[Call]) -> dict[str, bool]:
    """What the transposed convolutions of a Linen model were made with, by torch path."""
    return {
        call.path: bool(call.layer.transpose_kernel)
        for call in calls
        if isinstance(call.layer, nn.ConvTranspose)
    }


def linen_calls(run: Callable[[], Any], path_of: Callable[[tuple[str, ...]], str]) -> list[Call]:
    """Runs a Linen model and records the calls of its submodules, inner ones first.

    Args:
      run: Applies the model.
      path_of: Linen path -> path in the PyTorch module.
    """
    calls: list[Call] = []

    def interceptor(next_fn, args, kwargs, context):
        output = next_fn(*args, **kwargs)
        if context.method_name == "__call__":
            kwargs = dict(kwargs)
            calls.append(
                Call(
                    _path(context.module, path_of),
                    context.module,
                    _arrays(args),
                    _first(_sequence(context.module, output)),
                    kwargs,
                    args,
                )
            )
        return output

    with nn.intercept_methods(interceptor):
        run()
    return calls


def _path(layer: Any, path_of: Callable[[tuple[str, ...]], str]) -> str:
    """Path in the PyTorch module; a run of a cell goes by the name that its cell is given there."""
    path = tuple(layer.path)
    own = path_of(path)
    if not isinstance(layer, nn.RNN):
        return own
    bound = layer.cell.scope is not None  # else it is bound within the run, under the run's name
    inner = tuple(layer.cell.path) if bound else (*path, "cell")
    cell = path_of(inner)
    unnamed = (".".join(inner), f"{own}.{inner[-1]}")  # nobody gave the cell a name of its own
    return own if cell in unnamed else cell


def torch_calls(run: Callable[[], Any], module: "torch.nn.Module") -> list[Call]:
    """Runs a PyTorch module and records the calls of its submodules, inner ones first."""
    calls: list[Call] = []

    def hook_for(path: str) -> Callable:
        def hook(layer, args, kwargs, output):
            args = tuple(_kept(arg) for arg in args)
            packed = first_packed(output)
            if packed is None:
                arrays, result, valid = _arrays(args), _first(output), None
            else:
                result, valid = padded(packed)
                packed_input = first_packed(args[0]) if args else None
                first = [] if packed_input is None else [padded(packed_input)[0]]
                arrays = [*first, *_arrays(args)]
            calls.append(Call(path, layer, arrays, result, dict(kwargs), args, valid))

        return hook

    handles = [
        part.register_forward_hook(hook_for(path), with_kwargs=True)
        for path, part in module.named_modules()
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _kept(value: Any) -> Any:
    """A tensor as it is now: what comes behind may write over it."""
    return value.clone() if hasattr(value, "detach") and hasattr(value, "clone") else value


def _arrays(values: Any) -> list[np.ndarray]:
    return [_array(value) for value in values if _is_array(value)]


def _is_array(value: Any) -> bool:
    if isinstance(value, jax.Array):
        return not jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and not isinstance(
            value, jax.core.Tracer
        )
    if getattr(value, "is_nested", False):
        return False  # sequences that a fast path has packed
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _array(value: Any) -> np.ndarray:
    return to_numpy(value).copy() if hasattr(value, "detach") else np.asarray(value)


def _sequence(layer: Any, output: Any) -> Any:
    """What a recurrent layer of Linen gives, without the carry that it may return in front."""
    carries = isinstance(layer, nn.RNN) and isinstance(output, tuple) and len(output) == 2
    return output[1] if carries else output


def _first(output: Any) -> np.ndarray:
    """The main array of an output: of a recurrent layer the sequence, not the carry."""
    if _is_array(output):
        return _array(output)
    if isinstance(output, list | tuple):
        for part in output:
            if _is_array(part):
                return _array(part)
    return np.empty(0)


def match(ours: list[Call], twins: list[Call]) -> list[Matched]:
    """Pairs the calls by path and count, in JAX's order of completion."""
    waiting: dict[str, list[Call]] = {}
    for call in twins:
        waiting.setdefault(call.path, []).append(call)
    matched = []
    for call in _joined(ours, waiting):
        if not call.path or not waiting.get(call.path):
            continue  # the whole model, or a layer that only Flax has
        if not call.output.size:
            continue  # a recurrent cell inside a scan, under the name of the layer that runs it
        twin = waiting[call.path].pop(0)
        if not twin.output.size:
            continue
        if twin.valid is not None:
            call = _within(call, twin.valid)
        matched.append(
            Matched(
                call,
                twin,
                _error(call.inputs[:1], twin.inputs[:1]),
                relative_error(call.output, aligned(call.output, twin.output)),
            )
        )
    return matched


def _within(call: Call, valid: np.ndarray) -> Call:
    """A call of Flax on padded sequences, with zeros where PyTorch's packed ones have no steps."""
    rows, steps = valid.shape

    def cut(array: np.ndarray) -> np.ndarray:
        if array.ndim < 3 or array.shape[0] != rows or array.shape[1] < steps:
            return array
        return np.where(valid[..., None], array[:, :steps], 0.0)

    return call._replace(inputs=[cut(array) for array in call.inputs], output=cut(call.output))


def _error(ours: list[np.ndarray], twins: list[np.ndarray]) -> float:
    return max(
        (relative_error(a, aligned(a, b)) for a, b in zip(ours, twins, strict=False)), default=0.0
    )


_DIRECTION = re.compile(r"(.+)\.l(\d+)(_reverse)?")


def _is_recurrent(calls: "Sequence[Call] | None") -> bool:
    """Whether a path of PyTorch is a layer that stacks and joins runs; `l1` may be any layer."""
    return bool(calls) and hasattr(calls[0].layer, "bidirectional")


def _joined(ours: list[Call], torch_paths: Mapping[str, Sequence[Call]]) -> Iterator[Call]:
    """The calls, and one for each stacked PyTorch RNN whose layers Flax has apart.

    Flax's runs "rnn.l0" and "rnn.l0_reverse" are one call of "rnn" in PyTorch.
    """
    names: dict[str, set[str]] = {}
    for call in ours:
        found = _DIRECTION.fullmatch(call.path)
        if found and call.output.size and _is_recurrent(torch_paths.get(found[1])):
            names.setdefault(found[1], set()).add(call.path)
    seen: dict[str, dict[str, Call]] = {}
    for call in ours:
        yield call
        found = _DIRECTION.fullmatch(call.path)
        if not found or call.path not in names.get(found[1], ()) or not call.output.size:
            continue
        runs = seen.setdefault(found[1], {})
        runs[call.path] = call
        if len(runs) == len(names[found[1]]):
            top = max(int(path.rsplit(".l", 1)[1].removesuffix("_reverse")) for path in runs)
            last = [
                runs[path]
                for path in sorted(runs)
                if path.endswith((f".l{top}", f".l{top}_reverse"))
            ]
            first = runs[min(runs)]
            if len({part.output.shape[:-1] for part in last}) == 1:
                output = np.concatenate([part.output for part in last], axis=-1)
                yield first._replace(path=found[1], output=output, runs=tuple(last))
            seen.pop(found[1])
