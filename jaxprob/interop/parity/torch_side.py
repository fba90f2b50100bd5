"""The PyTorch module of a parity check: a private copy, with its batch and its loss."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxprob.interop.parity.exact import exact_gradients
from jaxprob.interop.parity.outputs import (
    aligned,
    cast,
    is_distribution,
    probe,
    stand_in,
    takes_key,
    to_numpy,
)
from jaxprob.interop.parity.trace import Call, torch_calls
from jaxprob.interop.transfer import as_array, as_tensor
from jaxprob.types import Key

if TYPE_CHECKING:
    import torch

__all__ = ["TorchSide"]


class TorchSide:
    """A private copy of the PyTorch module.

    Attributes:
      module: The copy, in the dtype of the check.
      batch: Tensors on the module's device, channels first where the module takes them so.
      moved: Which of the output's arrays have their channels first, where Flax's have them last.
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        batch: Mapping[str, Any],
        inputs: Sequence[str],
        dtype: str,
        key: Key | None,
        channels_first: Sequence[str],
        loss: Callable | None,
    ):
        import torch

        self.module = copy.deepcopy(module).to(getattr(torch, dtype))
        self.loss = loss
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        self.batch = {
            name: torch.tensor(cast(np.asarray(value), dtype)).to(device)
            for name, value in batch.items()
        }
        for name in channels_first:
            # contiguous as a user's own batch is, or x.view(B, -1) in the module raises
            self.batch[name] = self.batch[name].movedim(-1, 1).contiguous()
        self.inputs = [self.batch[name] for name in inputs]
        self.moved: set[int] = set()
        self.kwargs: dict[str, Any] = {}
        if key is not None and takes_key(type(self.module).forward):
            data = np.asarray(jax.random.key_data(key)).astype(np.int64)
            self.kwargs["key"] = torch.tensor(data, device=device)
        self.start = self._copied()

    def _copied(self) -> "dict[str, torch.Tensor]":
        return {n: t.detach().clone() for n, t in self.module.state_dict().items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.start.items()}

    def load(self, values: Mapping[str, np.ndarray]) -> None:
        """Overwrites the weights of the copy; they are the start from now on."""
        state = {**self.start, **{name: as_tensor(value) for name, value in values.items()}}
        self.module.load_state_dict(state)
        self.start = self._copied()

    def reset(self) -> None:
        """Back to the start: weights, running statistics, no gradients."""
        self.module.load_state_dict(self.start)
        self.module.zero_grad(set_to_none=True)

    def __call__(self) -> Any:
        """The output of the module in its present state."""
        return self.module(*self.inputs, **self.kwargs)

    def forward(self) -> tuple[Any, list[Call], dict[str, np.ndarray]]:
        """Returns output, calls, and the state with its new running statistics."""
        import torch

        self.reset()
        output: Any = None

        def run() -> None:
            nonlocal output
            with torch.no_grad():
                output = self()

        calls = torch_calls(run, self.module)
        state = self.state()
        self.reset()
        return output, calls, state

    def require_determinism(self) -> None:
        """Raises where the module draws numbers of its own.

        Raises:
          ValueError: Two forward passes differ.
        """
        import torch

        with torch.no_grad():
            self.reset()
            first = _torch_floats(self())
            self.reset()
            second = _torch_floats(self())
        self.reset()
        if any(not torch.equal(a, b) for a, b in zip(first, second, strict=True)):
            active = [
                name
                for name, part in self.module.named_modules()
                if part.training and "Dropout" in type(part).__name__
            ]
            who = f" ({', '.join(active)} is active)" if active else ""
            raise ValueError(
                f"check_parity: two forward passes of the PyTorch module differ{who}; call "
                ".eval() first, or make the noise an input (inputs=, or an argument key)."
            )

    def loss_value(self, output: Any) -> Any:
        """The loss that is differentiated, a scalar tensor."""
        if self.loss is not None:
            return self.loss(output, self.batch)
        if is_distribution(output) and "y" in self.batch:
            return -output.log_prob(self.batch["y"]).mean()
        total: Any = 0.0
        for i, tensor in enumerate(_torch_floats(output)):
            if i in self.moved:
                array = np.moveaxis(probe(tuple(tensor.movedim(1, -1).shape), i), -1, 1)
            else:
                array = probe(tuple(tensor.shape), i)
            total = total + (tensor * tensor.new_tensor(array)).sum()
        return total

    def find_moved(self, output: Any, ours: Sequence[Any]) -> None:
        """Notes which arrays of the output are Flax's with their channels moved."""
        arrays = [to_numpy(tensor) for tensor in _torch_floats(output)]
        self.moved = {
            i
            for i, (a, b) in enumerate(zip(ours, arrays, strict=False))
            if aligned(np.asarray(a), b) is not b
        }

    def gradients(self) -> dict[str, np.ndarray]:
        """The gradient of every tensor by name, zero where there is none."""
        self.reset()
        with exact_gradients():
            self.loss_value(self()).backward()
        gradients = self.present_gradients()
        self.reset()
        return gradients

    def present_gradients(self) -> dict[str, np.ndarray]:
        """What `backward` left, zero where it left nothing."""
        named = self.module.state_dict(keep_vars=True)
        return {
            name: as_array(tensor.new_zeros(tensor.shape) if tensor.grad is None else tensor.grad)
            for name, tensor in named.items()
        }

    def state(self) -> dict[str, np.ndarray]:
        """The present weights and statistics by name."""
        return {name: as_array(tensor) for name, tensor in self.module.state_dict().items()}


def _torch_floats(output: Any) -> list[Any]:
    if is_distribution(output):
        return [stand_in(output, lambda logits: logits.log_softmax(-1))]
    if isinstance(output, Mapping):
        # as jax.tree.leaves orders them
        return [t for key in sorted(output) for t in _torch_floats(output[key])]
    if isinstance(output, list | tuple):
        return [t for part in output for t in _torch_floats(part)]
    if hasattr(output, "detach") and output.is_floating_point():
        return [output]
    return []
