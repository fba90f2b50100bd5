"""How the weights of one layer correspond: rules on NumPy arrays, without either framework.

A rule takes some leaves of a Flax layer to some tensors of a PyTorch layer and back. Where both
sides use one name (the layers of `jaxprob.nn` do throughout) no rule is needed: equal names have
equal layouts. The rules here are those of Linen's own layers:

    Linear           weight = kernel^T
    Conv             weight[o, i, *k] = kernel[*k, i, o]
    ConvTranspose    weight[i, o, *k] = kernel[*k, o, i] with transpose_kernel=True, else
                     weight[i, o, *k] = kernel[-*k, i, o], the taps in reverse order
    Embedding        weight = embedding
    norms            weight = scale; running_mean, running_var = batch_stats mean, var
    RNN, GRU, LSTM   gates stacked along the first axis in PyTorch's order; b_ih + b_hh = bias
    attention        in_proj_weight stacks query, key, value; heads are folded into one axis

Sources: documentation of `torch.nn` and `flax.linen` for the two layouts; every rule is tested by
equal outputs of both layers.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["KINDS", "Rule", "rules_for", "same"]

Arrays = list[np.ndarray]
Shapes = Sequence[tuple[int, ...]]
Conversion = Callable[[Arrays, Shapes], Arrays]
"""(values, wanted shapes) -> values in the other framework's layout."""


class Rule(NamedTuple):
    """Some leaves of a Flax layer against some tensors of a PyTorch layer.

    Attributes:
      flax: Paths relative to the layer, parts joined by "/".
      torch: Names relative to the layer, parts joined by ".".
      to_torch: Values of `flax` -> values of `torch`.
      to_flax: Values of `torch` -> values of `flax`.
      gradient_to_flax: The same for gradients and optimiser moments, where the map of values is a
        sum and that of gradients is not (folded biases); None where it is the same.
      words: The rule as a sentence, for manifests.
    """

    flax: tuple[str, ...]
    torch: tuple[str, ...]
    to_torch: Conversion
    to_flax: Conversion
    gradient_to_flax: Conversion | None = None
    words: str = "same layout"


def same(flax: str, torch: str | None = None) -> Rule:
    """A tensor with one layout on both sides."""
    torch = flax.replace("/", ".") if torch is None else torch
    return Rule((flax,), (torch,), _keep, _keep, words=f"{torch} = {flax}")


def rules_for(
    kind: str,
    flax: dict[str, tuple[int, ...]],
    torch: dict[str, tuple[int, ...]],
    transpose_kernel: bool | None = None,
) -> list[Rule]:
    """Returns the rules of one layer that touch any of the given names.

    Args:
      kind: A key of `KINDS`; anything else has equal names only.
      flax: Shapes of the layer's leaves by relative path.
      torch: Shapes of the layer's tensors by relative name.
      transpose_kernel: For a `ConvTranspose` whose kernel fits both ways; None means Linen's
        default, False.

    Returns:
      Rules whose names exist on one side at least; a name that exists in no rule has no partner.
    """
    equal = [same(path) for path in flax if path.replace("/", ".") in torch]
    if kind.startswith("ConvTranspose"):
        special = _conv_transpose(flax, torch, transpose_kernel)
    else:
        special = KINDS[kind](flax) if kind in KINDS else _norm_by_hand(flax, torch)
    taken = {name for rule in equal for name in (*rule.flax, *rule.torch)}
    return equal + [
        rule
        for rule in special
        if not taken.intersection((*rule.flax, *rule.torch))
        and (set(rule.flax) & set(flax) or set(rule.torch) & set(torch))
    ]


NAMES_OF_A_NORM = {"scale": ("weight", "gamma"), "bias": ("beta",)}
"""Linen's name -> what norms written by hand in PyTorch have in its place."""


def _norm_by_hand(
    flax: dict[str, tuple[int, ...]], torch: dict[str, tuple[int, ...]]
) -> list[Rule]:
    """Pairs the vectors of a Linen norm with those of a module that nobody has registered."""
    if not set(flax) <= set(NAMES_OF_A_NORM):
        return []
    return [
        same(ours, theirs)
        for ours, names in NAMES_OF_A_NORM.items()
        for theirs in names
        if ours in flax and len(flax[ours]) == 1 and torch.get(theirs) == flax[ours]
    ]


def _keep(values: Arrays, shapes: Shapes) -> Arrays:
    return values


def _transpose(values: Arrays, shapes: Shapes) -> Arrays:
    return [value.T for value in values]


def _linear(names: Collection[str]) -> list[Rule]:
    words = "weight = kernel transposed"
    return [Rule(("kernel",), ("weight",), _transpose, _transpose, words=words), same("bias")]


def _conv_to_torch(values: Arrays, shapes: Shapes) -> Arrays:
    (kernel,) = values
    n = kernel.ndim
    return [np.transpose(kernel, (n - 1, n - 2, *range(n - 2)))]


def _conv_to_flax(values: Arrays, shapes: Shapes) -> Arrays:
    (weight,) = values
    return [np.transpose(weight, (*range(2, weight.ndim), 1, 0))]


def _conv(names: Collection[str]) -> list[Rule]:
    words = "weight[o, i, *k] = kernel[*k, i, o]"
    kernel = Rule(("kernel",), ("weight",), _conv_to_torch, _conv_to_flax, words=words)
    return [kernel, same("bias")]


def _flipped_to_torch(values: Arrays, shapes: Shapes) -> Arrays:
    (kernel,) = values
    n = kernel.ndim
    return [np.transpose(np.flip(kernel, range(n - 2)), (n - 2, n - 1, *range(n - 2)))]


def _flipped_to_flax(values: Arrays, shapes: Shapes) -> Arrays:
    (weight,) = values
    spatial = range(2, weight.ndim)
    return [np.transpose(np.flip(weight, spatial), (*spatial, 0, 1))]


def _conv_transpose(
    flax: dict[str, tuple[int, ...]],
    torch: dict[str, tuple[int, ...]],
    transpose_kernel: bool | None,
) -> list[Rule]:
    if transpose_kernel is None:
        # Linen's default is False; the shapes decide where only one of the two fits.
        (*_, first, second) = flax.get("kernel", (0, 0))
        fits_default = (first, second) == torch.get("weight", (first, second))[:2]
        transpose_kernel = not fits_default
    if transpose_kernel:
        words = "weight[i, o, *k] = kernel[*k, o, i]"
        kernel = Rule(("kernel",), ("weight",), _conv_to_torch, _conv_to_flax, words=words)
    else:
        words = "weight[i, o, *k] = kernel[-*k, i, o], taps in reverse order"
        kernel = Rule(("kernel",), ("weight",), _flipped_to_torch, _flipped_to_flax, words=words)
    return [kernel, same("bias")]


def _embedding(names: Collection[str]) -> list[Rule]:
    return [same("embedding", "weight")]


def _norm(names: Collection[str]) -> list[Rule]:
    return [
        same("scale", "weight"),
        same("bias"),
        same("mean", "running_mean"),
        same("var", "running_var"),
    ]


# Recurrent layers. PyTorch stacks the gates; Linen has one kernel for each.
GATES = {"RNN": ("",), "GRU": ("r", "z", "n"), "LSTM": ("i", "f", "g", "o")}
_DIRECTIONS = {"forward_rnn": "l0", "backward_rnn": "l0_reverse"}


def _recurrent(cell: str, single: bool) -> Callable[[Collection[str]], list[Rule]]:
    def rules(names: Collection[str]) -> list[Rule]:
        # prefix in Flax ("cell/", "l1_reverse/cell/", ...) -> suffix in PyTorch
        prefixes = {name.rsplit("/", 2)[0] + "/" if name.count("/") > 1 else "" for name in names}
        found = []
        for prefix in sorted(prefixes):
            first = prefix.split("/")[0]
            part = _DIRECTIONS.get(first, first)
            layer = part if re.fullmatch(r"l\d+(_reverse)?", part) else "l0"
            found += _cell_rules(cell, prefix, "" if single else f"_{layer}")
        return found

    return rules


def _cell_rules(cell: str, prefix: str, suffix: str) -> list[Rule]:
    gates = GATES[cell]

    def leaves(side: str, leaf: str, of: Sequence[str] = gates) -> tuple[str, ...]:
        return tuple(f"{prefix}{side}{gate}/{leaf}" for gate in of)

    def stack(values: Arrays, shapes: Shapes) -> Arrays:
        return [np.concatenate([value.T for value in values])]

    def unstack(values: Arrays, shapes: Shapes) -> Arrays:
        return [part.T for part in np.split(values[0], len(gates))]

    weights = [
        Rule(leaves(s, "kernel"), (f"weight_{s}h{suffix}",), stack, unstack,
             words=f"weight_{s}h stacks the transposed kernels of gates {', '.join(gates)}")
        for s in "ih"
    ]  # fmt: skip
    # LSTMCell keeps its biases with the recurrent kernels, the other two with the input's.
    biases = leaves("h" if cell == "LSTM" else "i", "bias")
    names = (f"bias_ih{suffix}", f"bias_hh{suffix}")
    if cell != "GRU":
        words = "bias_ih + bias_hh = biases of the gates; from Flax all of it goes to bias_hh"
        return [*weights, Rule(biases, names, _to_hh, _fold, _gradient_of_hh, words)]
    words = "r, z: bias_ih + bias_hh = bias, from Flax all in bias_ih; n: in, hn kept apart"
    biases = (*biases, f"{prefix}hn/bias")
    return [*weights, Rule(biases, names, _gru_to_torch, _gru_fold, _gru_gradient, words)]


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # 0 + x must be x to the last bit, -0.0 included
    return np.where(a == 0, b, np.where(b == 0, a, a + b))


def _to_hh(values: Arrays, shapes: Shapes) -> Arrays:
    bias = np.concatenate(values)
    return [np.zeros_like(bias), bias]


def _fold(values: Arrays, shapes: Shapes) -> Arrays:
    return np.split(_sum(*values), len(shapes))


def _gradient_of_hh(values: Arrays, shapes: Shapes) -> Arrays:
    return np.split(values[1], len(shapes))


def _gru_to_torch(values: Arrays, shapes: Shapes) -> Arrays:
    r, z, n_input, n_hidden = values
    return [np.concatenate([r, z, n_input]), np.concatenate([0 * r, 0 * z, n_hidden])]


def _gru_fold(values: Arrays, shapes: Shapes) -> Arrays:
    (ir, iz, n_input), (hr, hz, n_hidden) = (np.split(value, 3) for value in values)
    return [_sum(ir, hr), _sum(iz, hz), n_input, n_hidden]


def _gru_gradient(values: Arrays, shapes: Shapes) -> Arrays:
    return [*np.split(values[0], 3), np.split(values[1], 3)[2]]


def _attention(names: Collection[str]) -> list[Rule]:
    def stack_weights(values: Arrays, shapes: Shapes) -> Arrays:
        return [np.concatenate([_heads_in(value) for value in values])]

    def stack_biases(values: Arrays, shapes: Shapes) -> Arrays:
        return [np.concatenate([value.reshape(-1) for value in values])]

    def unstack_weights(values: Arrays, shapes: Shapes) -> Arrays:
        parts = np.split(values[0], 3)
        return [part.T.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def unstack_biases(values: Arrays, shapes: Shapes) -> Arrays:
        parts = np.split(values[0], 3)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def out_to_torch(values: Arrays, shapes: Shapes) -> Arrays:
        return [values[0].reshape(-1, values[0].shape[-1]).T]

    def out_to_flax(values: Arrays, shapes: Shapes) -> Arrays:
        return [values[0].T.reshape(shapes[0])]

    roles = ("query", "key", "value")
    words = "in_proj stacks query, key, value with their heads folded into one axis"
    return [
        Rule(tuple(f"{role}/kernel" for role in roles), ("in_proj_weight",),
             stack_weights, unstack_weights, words=words),
        Rule(tuple(f"{role}/bias" for role in roles), ("in_proj_bias",),
             stack_biases, unstack_biases, words=words),
        Rule(("out/kernel",), ("out_proj.weight",), out_to_torch, out_to_flax,
             words="out_proj.weight = out kernel transposed, heads folded"),
        same("out/bias", "out_proj.bias"),
    ]  # fmt: skip


def _heads_in(kernel: np.ndarray) -> np.ndarray:
    """[E, heads, D] -> [heads * D, E]."""
    return kernel.reshape(kernel.shape[0], -1).T


KINDS: dict[str, Callable[[Collection[str]], list[Rule]]] = {
    "Linear": _linear,
    **{f"Conv{n}d": _conv for n in (1, 2, 3)},
    "Embedding": _embedding,
    "LayerNorm": _norm,
    "GroupNorm": _norm,
    "RMSNorm": _norm,
    "BatchNorm": _norm,
    "MultiheadAttention": _attention,
    **{cell: _recurrent(cell, single=False) for cell in GATES},
    **{f"{cell}Cell": _recurrent(cell, single=True) for cell in GATES},
}
"""Kinds of layer that have rules, besides ConvTranspose1d to 3d."""
