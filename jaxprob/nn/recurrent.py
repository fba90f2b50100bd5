"""Recurrent networks, their weights in PyTorch's layout.

    RNN    h' = tanh(a + c),  a = W_ih x + b_ih,  c = W_hh h + b_hh
    GRU    r, z = sigmoid(a_r + c_r), sigmoid(a_z + c_z);  n = tanh(a_n + r c_n)
           h' = (1 - z) n + z h
    LSTM   i, f, o = sigmoid(a + c) of each, g = tanh(a_g + c_g)
           c' = f c + i g;  h' = o tanh(c')

The gates are stacked along the first axis of each weight, in the order r, z, n and i, f, g, o. The
GRU needs both biases (r multiplies one of them); elsewhere the second is redundant, but it trains:
with PyTorch's two biases an adaptive optimiser moves their sum at double speed, as it does there.

Input projections are one matmul for all time steps; the scan holds only what depends on h.

Twin: `torch_ref/nn/recurrent.py`. Sources: Elman, "Finding structure in time" (1990); Cho et al.,
"Learning phrase representations using RNN encoder-decoder" (2014), in the variant of
`torch.nn.GRU`; Hochreiter & Schmidhuber, "Long short-term memory" (1997), with forget gates.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Float, Integer

from jaxprob.batches import valid_steps
from jaxprob.distributions.validation import align
from jaxprob.nn.initializers import fan_in_uniform, param_dtype
from jaxprob.requirements import by_name, require_choice, require_count
from jaxprob.types import AnyArray, Array

__all__ = ["GRU", "LSTM", "RNN"]

State = tuple[Array, ...]
"""What a cell carries from step to step, each `[B, H]`; its first entry is the output."""

Cell = Callable[[State, Array, Array], State]
"""(state, a, c) -> state, with the projections of the equations above, `[B, gates * H]`."""


@by_name("Inputs have the size of x: torch's RNN(10, 20) is RNN(20).")
class RNN(nn.Module):
    """`torch.nn.RNN`, batch first.

    Parameters of layer l: `weight_ih_l{l}` `[H, in]`, `weight_hh_l{l}` `[H, H]`, `bias_ih_l{l}` and
    `bias_hh_l{l}` `[H]`; of its backward direction the same with the suffix `_reverse`.

    Attributes:
      hidden_size: Size of the state H.
      num_layers: Number of layers; each reads the outputs of the one below.
      bidirectional: Whether a second network reads backwards in time.
      bias: Whether there are biases.
      nonlinearity: "tanh" or "relu".
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    nonlinearity: str = "tanh"

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "B T D"],
        initial: Float[AnyArray, "N B H"] | None = None,
        lengths: Integer[AnyArray, " B"] | None = None,
    ) -> tuple[Float[Array, "B T O"], Float[Array, "N B H"]]:
        """Runs over sequences.

        Args:
          x: Inputs `[B, T, D]`.
          initial: First states `[layers * directions, B, H]`, forward before backward; default 0.
          lengths: Valid steps of each sequence, 0 to T; default T. What stands behind them changes
            nothing, NaN included: outputs are 0 there, final states are those of the last valid
            step, and the backward direction starts at each sequence's own end. A sequence of
            length 0 keeps its first state.

        Returns:
          Outputs `[B, T, H * directions]` and final states `[layers * directions, B, H]`.

        Raises:
          ValueError: Wrong shapes, lengths outside [0, T], or an unknown nonlinearity.
        """
        require_choice("RNN", ("tanh", "relu"), nonlinearity=self.nonlinearity)
        activation = jnp.tanh if self.nonlinearity == "tanh" else jax.nn.relu
        outputs, (final,) = _run(self, partial(_rnn_cell, activation), 1, x, (initial,), lengths)
        return outputs, final


@by_name("Inputs have the size of x: torch's GRU(10, 20) is GRU(20).")
class GRU(nn.Module):
    """`torch.nn.GRU`, batch first; names and arguments as in `RNN`, weights `[3 H, ...]`.

    Attributes:
      hidden_size: Size of the state H.
      num_layers: Number of layers; each reads the outputs of the one below.
      bidirectional: Whether a second network reads backwards in time.
      bias: Whether there are biases.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "B T D"],
        initial: Float[AnyArray, "N B H"] | None = None,
        lengths: Integer[AnyArray, " B"] | None = None,
    ) -> tuple[Float[Array, "B T O"], Float[Array, "N B H"]]:
        """Runs over sequences; arguments, results and errors are those of `RNN`."""
        outputs, (final,) = _run(self, _gru_cell, 3, x, (initial,), lengths)
        return outputs, final


@by_name("Inputs have the size of x: torch's LSTM(10, 20) is LSTM(20).")
class LSTM(nn.Module):
    """`torch.nn.LSTM`, batch first; names and arguments as in `RNN`, weights `[4 H, ...]`.

    Attributes:
      hidden_size: Size of the state H.
      num_layers: Number of layers; each reads the outputs of the one below.
      bidirectional: Whether a second network reads backwards in time.
      bias: Whether there are biases.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "B T D"],
        initial: tuple[Float[AnyArray, "N B H"], Float[AnyArray, "N B H"]] | None = None,
        lengths: Integer[AnyArray, " B"] | None = None,
    ) -> tuple[Float[Array, "B T O"], tuple[Float[Array, "N B H"], Float[Array, "N B H"]]]:
        """Runs over sequences; as `RNN`, but states are pairs (h, c), in PyTorch's order."""
        outputs, (h, c) = _run(self, _lstm_cell, 4, x, _pair(initial), lengths)
        return outputs, (h, c)


def _pair(initial) -> tuple[AnyArray | None, AnyArray | None]:
    """The first states (h, c) of an LSTM."""
    if initial is None:
        return None, None
    if not isinstance(initial, tuple | list) or len(initial) != 2:
        raise ValueError(
            f"LSTM: initial must be a pair (h, c) of arrays; got {type(initial).__name__}. "
            "Write (h, zeros) for a first memory of zeros."
        )
    return initial[0], initial[1]


def _rnn_cell(activation: Callable[[Array], Array], state: State, a: Array, c: Array) -> State:
    return (activation(a + c),)


def _gru_cell(state: State, a: Array, c: Array) -> State:
    (h,) = state
    a_r, a_z, a_n = jnp.split(a, 3, axis=-1)
    c_r, c_z, c_n = jnp.split(c, 3, axis=-1)
    r, z = jax.nn.sigmoid(a_r + c_r), jax.nn.sigmoid(a_z + c_z)
    n = jnp.tanh(a_n + r * c_n)
    return ((1 - z) * n + z * h,)


def _lstm_cell(state: State, a: Array, c: Array) -> State:
    _, memory = state
    i, f, g, o = jnp.split(a + c, 4, axis=-1)
    memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(memory), memory


def _run(
    module: "RNN | GRU | LSTM",
    cell: Cell,
    gates: int,
    x: AnyArray,
    initial: tuple[AnyArray | None, ...],
    lengths: AnyArray | None,
) -> tuple[Array, State]:
    """Runs all layers and directions; one scan for each."""
    owner, directions = type(module).__name__, 1 + module.bidirectional
    if x.ndim != 3:
        raise ValueError(f"{owner}: x must be [B, T, D]; got shape {x.shape}. Add the batch axis.")
    require_count(owner, hidden_size=module.hidden_size, num_layers=module.num_layers)
    batch, time, _ = x.shape
    shape = (module.num_layers * directions, batch, module.hidden_size)
    for given in initial:
        if given is not None and jnp.shape(given) != shape:
            raise ValueError(
                f"{owner}: initial must be [layers * directions, B, H] = {shape}; got "
                f"{jnp.shape(given)}."
            )
    valid = None if lengths is None else valid_steps(owner, lengths, batch, time)
    if valid is not None:
        # Beside the states below: 0 * NaN would be NaN in the gradient of the weights.
        x = jnp.where(valid[..., None], x, 0)
    zeros = jnp.zeros(shape[1:], x.dtype)
    outputs, finals = jnp.asarray(x), []
    for layer in range(module.num_layers):
        ends = []
        for direction in range(directions):
            suffix = f"l{layer}" + "_reverse" * direction
            weights = _parameters(module, suffix, gates, outputs)
            index = layer * directions + direction
            start = tuple(zeros if given is None else given[index] for given in initial)
            ends.append(_scan(cell, outputs, weights, start, valid, reverse=direction == 1))
        outputs = jnp.concatenate([output for output, _ in ends], axis=-1)
        finals += [state for _, state in ends]
    return outputs, tuple(jnp.stack(states) for states in zip(*finals, strict=True))


def _parameters(module, suffix: str, gates: int, x) -> tuple[AnyArray | None, ...]:
    """Weights and biases of one layer and direction, all drawn from U(+-1/sqrt(H))."""
    hidden, dtype = module.hidden_size, param_dtype(x)
    init, rows = fan_in_uniform(hidden), gates * hidden
    weight_ih = module.param(f"weight_ih_{suffix}", init, (rows, x.shape[-1]), dtype)
    weight_hh = module.param(f"weight_hh_{suffix}", init, (rows, hidden), dtype)
    if not module.bias:
        return weight_ih, weight_hh, None, None
    bias_ih = module.param(f"bias_ih_{suffix}", init, (rows,), dtype)
    bias_hh = module.param(f"bias_hh_{suffix}", init, (rows,), dtype)
    return weight_ih, weight_hh, bias_ih, bias_hh


def _scan(
    cell: Cell, x, weights: tuple, start: tuple[AnyArray, ...], valid: Array | None, reverse: bool
) -> tuple[Array, State]:
    """One direction of one layer: `[B, T, D]` to outputs `[B, T, H]` and the final state.

    Backwards the scan begins in the padding; a state that is held there is still the first one at
    the sequence's end, so nothing needs to be turned round.
    """
    x, weight_ih, weight_hh, bias_ih, bias_hh = promote_dtype(x, *weights)
    start = tuple(jnp.asarray(s, x.dtype) for s in start)
    projected = x @ weight_ih.T
    if bias_ih is not None:
        projected = projected + align(bias_ih, 3)
    recurrent = weight_hh.T

    def step(state: State, inputs):
        a, advance = inputs
        c = state[0] @ recurrent
        if bias_hh is not None:
            c = c + align(bias_hh, 2)
        new = cell(state, a, c)
        if advance is not None:
            new = tuple(jnp.where(advance, n, s) for n, s in zip(new, state, strict=True))
        return new, new[0]

    flags = None if valid is None else jnp.moveaxis(valid, 1, 0)[..., None]
    final, outputs = jax.lax.scan(
        step, start, (jnp.moveaxis(projected, 1, 0), flags), reverse=reverse
    )
    outputs = jnp.moveaxis(outputs, 0, 1)
    if valid is not None:
        outputs = jnp.where(valid[..., None], outputs, 0)
    return outputs, final
