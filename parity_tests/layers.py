"""One setting of a layer in three programs: ours, its twin, and `torch.nn` as its manual says.

The first two make a row for the engine; `test_nn.py` compares the third with both.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen
import jax
import numpy as np
import torch
from flax.traverse_util import unflatten_dict

from parity_tests.engine import FunctionCase

BUFFERS = ("running_mean", "running_var")

Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer, its weights and the arguments of a call.

    Attributes:
      name: Name of the row.
      ours: The Linen module.
      twin: Its twin.
      plain: The layer of torch.nn.
      call_plain: (plain, *arguments) -> outputs, in our order of axes.
      arguments: Arrays of the call, by name.
      options: What else the call takes.
    """

    name: str
    ours: flax.linen.Module
    twin: torch.nn.Module
    plain: torch.nn.Module
    call_plain: Callable
    arguments: Mapping[str, np.ndarray]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Parameters and buffers by torch's names, none of them at its start of 1 or 0."""
        rng, found = np.random.default_rng(7), {}
        for name, value in self.plain.state_dict().items():
            if name.endswith("running_var"):
                found[name] = rng.uniform(0.5, 2.0, value.shape)
            elif value.is_floating_point():
                found[name] = rng.normal(0.0, 0.5, value.shape)
        return found

    def run_ours(self, values: Values) -> list[jax.Array]:
        """Calls our layer: outputs, then the new buffers."""
        tree = {name: values[name] for name in self.weights}
        # torch differentiates nothing towards a buffer
        stats = {name: jax.lax.stop_gradient(tree.pop(name)) for name in BUFFERS if name in tree}
        variables = {"params": unflatten_dict(tree, sep="."), "batch_stats": stats}
        out, updated = self.ours.apply(
            variables,
            *self.call_arguments(values),
            **self.call_options(values),
            mutable=["batch_stats"],
        )
        stats = {**stats, **updated.get("batch_stats", {})}
        return [*jax.tree.leaves(out), *(stats[name] for name in BUFFERS if name in stats)]

    def run_twin(self, values: Values) -> list[torch.Tensor]:
        """Calls the twin with the same weights and arguments."""
        buffers = {n: values[n].detach().clone() for n in BUFFERS if n in self.weights}
        weights = {n: values[n] for n in self.weights if n not in BUFFERS}
        arguments = self.call_arguments(values)
        with _without_padding_advice():
            out = torch.func.functional_call(
                self.twin, {**weights, **buffers}, arguments, self.call_options(values)
            )
        return [*leaves(out), *buffers.values()]

    def run_plain(self, values: Values) -> list[torch.Tensor]:
        """Loads the weights into torch's layer, all of them and no other, and calls it."""
        plain = self.plain.double()
        plain.load_state_dict({name: values[name] for name in self.weights}, strict=True)
        with torch.no_grad(), _without_padding_advice():
            out = self.call_plain(plain, *self.call_arguments(values), **self.call_options(values))
        buffers = dict(plain.named_buffers())
        return [*leaves(out), *(buffers[name] for name in BUFFERS if name in buffers)]

    def case(self) -> FunctionCase:
        """The row for the engine: outputs, and gradients towards weights and arguments."""
        inputs = {**self.weights, **self.arguments}
        shapes = [
            out.shape for out in self.run_twin({n: torch.tensor(v) for n, v in inputs.items()})
        ]
        rng = np.random.default_rng(8)
        directions = {f"direction {i}": rng.normal(size=shape) for i, shape in enumerate(shapes)}

        def named(run):
            def outputs(values, key):
                found = {f"output {i}": out for i, out in enumerate(run(values))}
                # The engine differentiates the sum of all arrays, and the plain sum of a normalised
                # output does not depend on the input.
                turned = {
                    f"turned {i}": out * values[f"direction {i}"]
                    for i, out in enumerate(found.values())
                }
                return found | turned

            return outputs

        return FunctionCase(
            self.name, named(self.run_ours), named(self.run_twin), inputs | directions
        )

    def call_arguments(self, values: Values) -> tuple:
        """The arguments of the call but a mask; the states of an LSTM are a pair."""
        found = {name: values[name] for name in self.arguments if name != "mask"}
        if "cells" in found:
            found["initial"] = (found["initial"], found.pop("cells"))
        return tuple(found.values())

    def call_options(self, values: Values) -> dict[str, Any]:
        """What the call takes by name: its options, and a mask."""
        return dict(self.options) | {n: values[n] for n in self.arguments if n == "mask"}


def leaves(out: Any) -> list[torch.Tensor]:
    """All tensors of nested tuples, in order."""
    return [leaf for part in out for leaf in leaves(part)] if isinstance(out, tuple) else [out]


@contextlib.contextmanager
def _without_padding_advice() -> Iterator[None]:
    """Torch warns that padding="same" may copy where one side gets more zeros than the other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same'", UserWarning)
        yield
