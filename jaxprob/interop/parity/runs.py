"""What Flax's recurrent runs do with their sequences, tried on PyTorch's layer.

A run of Linen says what it does: where its sequences end, whether it runs backwards and in which
order it gives its states, and from which state it starts. PyTorch's layer is run again with these,
one after the other and then two at a time; what gives Flax's output is the cause.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxprob.interop.parity.outputs import to_numpy
from jaxprob.interop.parity.packed import first_packed, padded
from jaxprob.interop.parity.trace import Call
from jaxprob.interop.parity.variant import Variant

__all__ = ["as_flax_runs"]


class _Change(NamedTuple):
    suspect: str
    explanation: str


def as_flax_runs(twin: Call, ours: Call) -> Iterator[Variant]:
    """Yields PyTorch's recurrent layer with what Flax's runs do otherwise.

    Args:
      twin: The call of an RNN, GRU or LSTM.
      ours: The call of a `flax.linen.RNN`, or of the runs that one PyTorch layer joins.
    """
    runs = ours.runs or (ours,)
    layer = twin.layer
    if not all(isinstance(run.layer, nn.RNN) and run.raw for run in runs):
        return
    changes: dict[str, _Change] = {}
    x, ends = np.asarray(runs[0].raw[0]), runs[0].kwargs.get("seq_lengths")
    if x.ndim != 3:
        return
    own_ends = _packed_lengths(twin)
    said = _ends(ends, own_ends, x.shape[1])
    if said:
        changes["ends"] = _Change("sequence lengths", said)
    if any(map(_turned, runs)) and layer.num_layers == 1:
        changes["order"] = _Change(
            "reversed order",
            "Flax's reversed run gives its states in reversed order; give nn.RNN keep_order=True.",
        )
    if layer.num_layers == 1 and (_start(runs) is not None or len(twin.raw) > 1):
        changes["start"] = _Change(
            "initial state",
            f"Flax starts from {'a state that it is given' if _start(runs) else 'zeros'}, PyTorch "
            f"from {'another' if len(twin.raw) > 1 else 'zeros'}.",
        )
    for size in (1, 2, 3):
        for chosen in itertools.combinations(changes, size):
            words = " ".join(changes[name].explanation for name in chosen)
            yield Variant(
                changes[chosen[0]].suspect,
                words,
                lambda *args, c=chosen, **kwargs: _run(
                    twin,
                    runs,
                    ours.output,
                    ends if "ends" in c else own_ends,
                    "order" in c,
                    _start(runs) if "start" in c else _given(args),
                ),
            )


def _turned(run: Call) -> bool:
    """Whether a run gives its states in reversed order; a call may say otherwise than its layer."""
    said = {
        name: getattr(run.layer, name) if run.kwargs.get(name) is None else run.kwargs[name]
        for name in ("reverse", "keep_order")
    }
    return bool(said["reverse"] and not said["keep_order"])


def _packed_lengths(twin: Call) -> np.ndarray | None:
    packed = first_packed(twin.raw[0]) if twin.raw else None
    return None if packed is None else padded(packed)[1].sum(1)


def _ends(ours: Any, theirs: np.ndarray | None, steps: int) -> str | None:
    """How the ends of the sequences differ."""
    if theirs is None:
        if ours is None or np.all(np.asarray(ours) >= steps):
            return None
        return (
            "Flax's runs are given seq_lengths, PyTorch's sequences are not packed: its layer goes "
            "on through the padding, and a reversed pass starts there."
        )
    if ours is None:
        return (
            "PyTorch's sequences are packed, Flax's runs are given no seq_lengths: they go on "
            "through the padding, and a reversed run starts there."
        )
    own = np.asarray(ours)
    if np.array_equal(own, theirs):
        return None
    return (
        f"Flax's sequences have the lengths {own[:6].tolist()}, PyTorch's {theirs[:6].tolist()} "
        "(the first six)."
    )


def _start(runs: Sequence[Call]) -> list[Any] | None:
    """The carries that the runs of Flax are given, or None."""
    carries = [run.kwargs.get("initial_carry") for run in runs]
    return None if any(carry is None for carry in carries) else carries


def _given(args: tuple) -> Any:
    return args[1] if len(args) > 1 else None


def _run(
    twin: Call,
    runs: Sequence[Call],
    ours: np.ndarray,
    ends: Any,
    turned: bool,
    start: Any,
) -> Any:
    """PyTorch's layer on Flax's input `[B, T, ...]`; returns its states `[B, T, ...]`."""
    import torch

    layer, x = twin.layer, np.asarray(runs[0].raw[0])
    first = next(iter(layer.parameters()))
    inputs = torch.tensor(x).to(first.dtype)
    inputs = inputs if layer.batch_first else inputs.transpose(0, 1)
    state = _torch_state(start, layer, first.dtype) if isinstance(start, list) else start
    if ends is None:
        states = layer(inputs, state)[0]
    else:
        lengths = torch.tensor(np.asarray(ends)).clamp(min=1, max=x.shape[1])
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(
            inputs, lengths, batch_first=layer.batch_first, enforce_sorted=False
        )
        states = rnn.pad_packed_sequence(
            layer(packed, state)[0], batch_first=layer.batch_first, total_length=x.shape[1]
        )[0]
    states = to_numpy(states if layer.batch_first else states.transpose(0, 1)).copy()
    if turned:
        width = states.shape[-1] // len(runs)
        for i, run in enumerate(runs):
            if _turned(run):
                part = slice(i * width, (i + 1) * width)
                for row, length in enumerate(
                    [x.shape[1]] * len(x) if ends is None else np.asarray(ends).tolist()
                ):
                    states[row, :length, part] = states[row, :length, part][::-1]
    if twin.valid is not None:
        steps = twin.valid.shape[1]
        states = np.where(twin.valid[..., None], states[:, :steps], 0.0)
    elif ends is not None:
        # what Flax gives behind the ends is of no meaning, and PyTorch has nothing there
        inside = np.arange(x.shape[1]) < np.asarray(ends)[:, None]
        states = np.where(inside[..., None], states, ours)
    return torch.tensor(states)


def _torch_state(carries: list[Any], layer: Any, dtype: Any) -> Any:
    """Carries of Linen, (c, h) or h, as PyTorch's (h, c) or h `[directions, B, H]`."""
    import torch

    leaves = [jax.tree.leaves(carry) for carry in carries]
    stacked = [
        torch.stack([torch.tensor(np.asarray(part)).to(dtype) for part in parts])
        for parts in zip(*leaves, strict=True)
    ]
    return (stacked[1], stacked[0]) if len(stacked) == 2 else stacked[0]
