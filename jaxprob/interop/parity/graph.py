"""Every operation of a forward pass with its values, on either side."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

__all__ = ["Node", "jax_graph", "torch_graph"]

LARGEST = 2_000_000
"""Values with more elements are not kept."""

INLINED = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""Parameters of primitives that hold what they call."""


class Node(NamedTuple):
    """One value of a forward pass.

    Attributes:
      name: Operation, "" for an input, a weight or a constant.
      words: The operation with the numbers that it was given.
      arguments: Positions of the values that it read.
      value: What it gave.
      replay: Values of the arguments -> value (PyTorch's nodes alone).
    """

    name: str
    words: str
    arguments: tuple[int, ...]
    value: np.ndarray
    replay: Callable | None = None


def jax_graph(function: Callable, *args: Any) -> list[Node]:
    """The values of a function of arrays, in the order of execution, compiled as one program."""
    closed = jax.make_jaxpr(function)(*args)
    shape: list[tuple[str, str, tuple[int, ...]]] = []

    def run(consts: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
        values: list[Any] = []
        shape.clear()

        def keep(value: Any, name: str, words: str, arguments: tuple[int, ...]) -> int:
            values.append(value)
            shape.append((name, words, arguments))
            return len(values) - 1

        def literal(atom: Any, places: dict) -> int:
            if isinstance(atom, core.Literal):
                return keep(jax.numpy.asarray(atom.val), "", "", ())
            return places[atom]

        def walk(jaxpr: Any, inputs: Sequence[int], constants: Sequence[Any]) -> list[int]:
            places = dict(zip(jaxpr.invars, inputs, strict=True))
            for variable, value in zip(jaxpr.constvars, constants, strict=True):
                places[variable] = keep(value, "", "", ())
            for eqn in jaxpr.eqns:
                arguments = [literal(atom, places) for atom in eqn.invars]
                inner = next((eqn.params[n] for n in INLINED if n in eqn.params), None)
                if inner is not None and eqn.primitive.name not in ("scan", "while", "cond"):
                    body = getattr(inner, "jaxpr", inner)
                    given = arguments[len(arguments) - len(body.invars) :]
                    outputs = walk(body, given, getattr(inner, "consts", ()))
                else:
                    bound = [values[i] for i in arguments]
                    params, functions = eqn.primitive.get_bind_params(eqn.params), ()
                    if isinstance(params, tuple):  # JAX before 0.10
                        functions, params = params
                    made = eqn.primitive.bind(*functions, *bound, **params)
                    made = made if eqn.primitive.multiple_results else [made]
                    words = _jax_words(eqn)
                    outputs = [keep(v, eqn.primitive.name, words, tuple(arguments)) for v in made]
                places.update(zip(eqn.outvars, outputs, strict=True))
            return [literal(atom, places) for atom in jaxpr.outvars]

        walk(closed.jaxpr, [keep(leaf, "", "", ()) for leaf in leaves], consts)
        return [v if getattr(v, "size", 0) <= LARGEST and _is_number(v) else None for v in values]

    found = jax.jit(run)(closed.consts, jax.tree.leaves(args))
    return [
        Node(name, words, arguments, np.empty(0) if value is None else np.asarray(value))
        for (name, words, arguments), value in zip(shape, found, strict=True)
    ]


def _is_number(value: Any) -> bool:
    return not jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)


SHOWN = ("axes", "axis", "dimensions", "permutation", "padding_config", "window_dimensions",
         "start_indices", "dimension")  # fmt: skip


def _jax_words(eqn: Any) -> str:
    numbers = [
        f"{float(atom.val):.6g}"
        for atom in eqn.invars
        if isinstance(atom, core.Literal) and np.ndim(atom.val) == 0
    ]
    numbers += [f"{n}={eqn.params[n]}" for n in SHOWN if n in eqn.params]
    name = eqn.primitive.name
    return f"{name}({', '.join(numbers)})" if numbers else name


def torch_graph(run: Callable[[], Any]) -> list[Node]:
    """The values of a PyTorch computation, in the order of execution."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten, tree_unflatten

    nodes: list[Node] = []
    places: dict[int, int] = {}
    kept: list[Any] = []

    def keep(tensor: Any, name: str, words: str, arguments: tuple, replay: Any = None) -> None:
        kept.append(tensor)  # so that no other tensor gets its id
        value = np.empty(0)
        if tensor.numel() <= LARGEST:
            value = tensor.detach().cpu().numpy().copy()
        nodes.append(Node(name, words, arguments, value, replay))
        places[id(tensor)] = len(nodes) - 1

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            flat, spec = tree_flatten((args, kwargs or {}))
            for leaf in flat:
                if isinstance(leaf, torch.Tensor) and id(leaf) not in places:
                    keep(leaf, "", "", ())
            where = [i for i, leaf in enumerate(flat) if isinstance(leaf, torch.Tensor)]
            arguments = tuple(places[id(flat[i])] for i in where)

            def replay(values: Sequence[np.ndarray]) -> Any:
                leaves = list(flat)
                for i, value in zip(where, values, strict=True):
                    leaves[i] = torch.tensor(value).to(flat[i].dtype)
                own_args, own_kwargs = tree_unflatten(leaves, spec)
                made = func(*own_args, **own_kwargs)
                made = next(t for t in tree_flatten(made)[0] if isinstance(t, torch.Tensor))
                return made.cpu().numpy()

            output = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__.strip("_")
            numbers = [_number(leaf) for leaf in flat if isinstance(leaf, int | float | bool)]
            words = f"{name}({', '.join(numbers)})" if numbers else name
            for number, tensor in enumerate(tree_flatten(output)[0]):
                if isinstance(tensor, torch.Tensor):
                    keep(tensor, name, words, arguments, None if number else replay)
            return output

    with torch.no_grad(), Record():
        run()
    return nodes


def _number(value: float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
