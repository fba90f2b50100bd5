"""The Flax model of a parity check, with its batch, its weights and its loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.interop.correspondence import Link, correspond
from jaxprob.interop.modules import Description, describe
from jaxprob.interop.parity.outputs import cast, is_distribution, probe, stand_in, takes_key
from jaxprob.interop.parity.torch_side import TorchSide
from jaxprob.interop.parity.trace import Call, carries_in, linen_calls, transpose_kernels
from jaxprob.interop.paths import Path, Tree, torch_path
from jaxprob.interop.transfer import as_array, convert_to_flax, convert_to_torch
from jaxprob.types import Key, Params

__all__ = ["FlaxSide"]


class FlaxSide:
    """The Flax model.

    Attributes:
      variables: Collections, in the dtype of the check.
      batch: Arrays.
      loss: The user's loss, or None.
      links: How the weights correspond.
      suspicions: (layer, leaf) of given weights that are the module's own in the wrong layout.
    """

    def __init__(
        self,
        model: Any,
        batch: Mapping[str, Any],
        inputs: Sequence[str],
        dtype: str,
        key: Key | None,
        kwargs: Mapping[str, Any],
        loss: Callable | None,
    ):
        self.model, self.dtype, self.kwargs, self.loss = model, dtype, dict(kwargs), loss
        self.batch = {name: jnp.asarray(cast(np.asarray(v), dtype)) for name, v in batch.items()}
        self.inputs = [self.batch[name] for name in inputs]
        if key is not None and takes_key(type(model).__call__):
            self.kwargs["key"] = key
        self.variables: dict[str, Any] = {}
        self.links: list[Link] = []
        self.mutable: list[str] = []
        self.suspicions: list[tuple[str, str]] = []

    def start(
        self,
        twin: TorchSide,
        rename: Mapping[str, str] | None,
        params: Params | None,
    ) -> None:
        """Finds the structure, pairs the weights and copies them, from PyTorch unless given."""
        description = describe(twin.module)
        renames = {tuple(_split(k)): tuple(_split(v)) for k, v in (rename or {}).items()}
        self.path_of = lambda path: _renamed(path, renames, description)
        calls: list[Call] = []

        def init() -> Any:
            nonlocal calls
            out = None

            def run() -> None:
                nonlocal out
                out = self.model.init(jax.random.key(0), *self.inputs, **self.kwargs)

            calls = linen_calls(run, self.path_of)
            return out

        with self._intercepted():
            shapes = jax.eval_shape(init)
        shapes = {name: tree for name, tree in shapes.items() if name in ("params", "batch_stats")}
        shapes = jax.tree.map(self._as_dtype, shapes)
        self.tree = Tree.of(shapes)
        flags = transpose_kernels(calls)
        self.links = correspond(
            "check_parity", self.tree, description, rename, flags, constants=True
        )
        if params is None:
            state = twin.module.state_dict(keep_vars=True)
            values = convert_to_flax(self.links, self.tree, lambda name: as_array(state[name]))
            self.variables = self.tree.rebuild(values)
        else:
            self.variables = self._given(params, shapes)
            self.suspicions = untransposed(self.links, self.flat(self.variables), twin.state())
            twin.load(convert_to_torch(self.links, Tree.of(self.variables), twin.shapes()))
        if twin.module.training and "batch_stats" in self.variables:
            self.mutable = ["batch_stats"]

    def _given(self, params: Params, shapes: Any) -> dict[str, Any]:
        tree = Tree.of(params)
        given = jax.tree.map(
            lambda leaf: jnp.asarray(cast(np.asarray(leaf), self.dtype)),
            {"params": params} if tree.bare else dict(params),
        )
        if "batch_stats" in shapes and "batch_stats" not in given:
            raise ValueError(
                'check_parity: the model has running statistics; pass params={"params": ..., '
                '"batch_stats": ...}.'
            )
        found = {path: tuple(leaf.shape) for path, leaf in Tree.of(given).leaves.items()}
        wanted = {path: tuple(leaf.shape) for path, leaf in self.tree.leaves.items()}
        wrong = sorted(
            "/".join(path) for path in {*found, *wanted} if found.get(path) != wanted.get(path)
        )
        if wrong:
            raise ValueError(
                "check_parity: params do not have the structure of the Flax model: "
                f"{', '.join(wrong)}."
            )
        return given

    def _as_dtype(self, leaf: Any) -> Any:
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(leaf.shape, self.dtype if floating else leaf.dtype)

    def _intercepted(self):
        return nn.intercept_methods(carries_in(self.dtype))

    def apply(self, variables: Any) -> tuple[Any, Any]:
        """Returns (output, new running statistics)."""
        with self._intercepted():
            if self.mutable:
                return self.model.apply(
                    variables, *self.inputs, mutable=self.mutable, **self.kwargs
                )
            return self.model.apply(variables, *self.inputs, **self.kwargs), {}

    def outputs_of(self, variables: Any) -> Any:
        """The arrays of the output, of variables."""
        return [jnp.asarray(array) for array in _floats(self.apply(variables)[0])]

    def forward(self) -> tuple[Any, list[Call], dict[str, np.ndarray]]:
        """Returns output, calls and new running statistics, evaluated outside of jit."""
        result: Any = None

        def run() -> None:
            nonlocal result
            result = self.apply(self.variables)

        calls = linen_calls(run, self.path_of)
        output, stats = result
        return output, calls, self.flat(stats) if stats else {}

    def has_default_loss(self, output: Any) -> bool:
        """Whether a loss follows from the output and the batch."""
        return is_distribution(output) and "y" in self.batch

    def loss_value(self, output: Any) -> Any:
        """The loss that is differentiated, a scalar."""
        if self.loss is not None:
            return self.loss(output, self.batch)
        if self.has_default_loss(output):
            return -jnp.mean(output.log_prob(self.batch["y"]))
        return sum(
            jnp.sum(array * probe(array.shape, i)) for i, array in enumerate(_floats(output))
        )

    def floats(self, output: Any) -> list[Any]:
        """The arrays of an output that a gradient passes, in the order of the probes."""
        return _floats(output)

    def loss_of(self, variables: Any) -> tuple[Any, Any]:
        """Returns (loss, new running statistics) of variables."""
        output, stats = self.apply(variables)
        return self.loss_value(output), stats

    def gradient(self) -> dict[str, np.ndarray]:
        """The gradient of every parameter by its path."""

        def of_params(params: Any) -> Any:
            return self.loss_of({**self.variables, "params": params})[0]

        return self.flat({"params": jax.jit(jax.grad(of_params))(self.variables["params"])})

    def from_twin_gradients(self, gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """PyTorch's gradients in the layout of the params."""
        links = [link for link in self.links if link.flax[0][0] == "params"]
        values = convert_to_flax(links, self.tree, gradients.__getitem__, gradients=True)
        return {_name(path): np.asarray(value) for path, value in values.items()}

    def from_twin_state(self, twin: TorchSide) -> dict[str, np.ndarray]:
        """PyTorch's present weights and statistics in the layout of the variables."""
        return self.stats_of(twin.state())

    def stats_of(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A PyTorch state in the layout of the variables."""
        values = convert_to_flax(self.links, self.tree, state.__getitem__)
        return {_name(path): np.asarray(value) for path, value in values.items()}

    def flat(self, variables: Any) -> dict[str, np.ndarray]:
        """Arrays by name."""
        return {_name(path): np.asarray(leaf) for path, leaf in Tree.of(variables).leaves.items()}

    def layer_of(self, name: str) -> str:
        """Path in the PyTorch module of the layer that holds a leaf."""
        for link in self.links:
            if name in map(_name, link.flax):
                return link.layer
        return ""


def untransposed(
    links: list[Link], given: dict[str, np.ndarray], state: Mapping[str, np.ndarray]
) -> list[tuple[str, str]]:
    """Finds kernels that hold the module's own weight as it is, where the layout is another.

    A square kernel passes every check of shapes; its bits tell.
    """
    found = []
    for link in links:
        if len(link.flax) != 1 or len(link.torch) != 1:
            continue
        (path,), (name,) = link.flax, link.torch
        leaf, own = given[_name(path)], state[name]
        (right,) = link.rule.to_torch([leaf], [own.shape])
        if leaf.shape == own.shape and np.array_equal(leaf, own) and not np.array_equal(right, own):
            found.append((link.layer, _name(path)))
    return found


def _floats(output: Any) -> list[Any]:
    if is_distribution(output):
        return [stand_in(output, jax.nn.log_softmax)]
    leaves = jax.tree.leaves(output, is_leaf=is_distribution)
    flat = [
        part for leaf in leaves for part in (_floats(leaf) if is_distribution(leaf) else [leaf])
    ]
    return [leaf for leaf in flat if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]


def _split(path: str) -> list[str]:
    return [part for part in path.replace(".", "/").split("/") if part]


def _renamed(path: Path, renames: dict[Path, Path], description: Description) -> str:
    for old in sorted(renames, key=len, reverse=True):
        if path[: len(old)] == old:
            path = renames[old] + path[len(old) :]
            break
    return ".".join(torch_path(path, description))


def _name(path: Path) -> str:
    return "/".join(path[1:] if path[0] == "params" else path)
