"""`check_parity`: one call that says whether a Flax model and a PyTorch module are the same.

Weights are copied, then outputs (or distribution parameters and log-probs), loss, the gradient of
every parameter and k optimiser steps are compared, by default in float64, where rounding cannot
hide a mistake. On disagreement the activations are compared layer by layer.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxprob.interop.modules import describe
from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.localise import Trace, localise
from jaxprob.interop.parity.outputs import (
    gradient_errors,
    is_distribution,
    pairs,
    relative_error,
)
from jaxprob.interop.parity.report import Comparison, Finding, LayerError, ParityReport
from jaxprob.interop.parity.torch_side import TorchSide
from jaxprob.interop.parity.trace import match
from jaxprob.interop.parity.training import compare_steps
from jaxprob.types import Key, Params

if TYPE_CHECKING:
    import torch

__all__ = ["check_parity"]


def check_parity(
    flax_model: Any,
    torch_module: "torch.nn.Module",
    batch: Mapping[str, Any],
    *,
    jax_loss: Callable | None = None,
    torch_loss: Callable | None = None,
    inputs: Sequence[str] = ("x",),
    optimizer: tuple[Any, Callable] | None = None,
    steps: int = 0,
    key: Key | None = None,
    rename: Mapping[str, str] | None = None,
    params: Params | None = None,
    dtype: str = "float64",
    channels_first: Sequence[str] = (),
    jax_kwargs: Mapping[str, Any] | None = None,
) -> ParityReport:
    """Compares a Flax model with a PyTorch module; neither is changed.

    Args:
      flax_model: A Linen module (anything with Linen's `init` and `apply`).
      torch_module: The PyTorch module, in the mode (`train()` or `eval()`) that is to be compared.
      batch: Dict of arrays with leading axis B.
      jax_loss: `loss(output, batch) -> scalar`. Default: the mean negative log-prob of
        `batch["y"]` where the output is a distribution; else gradients are compared through a
        fixed random projection of the outputs.
      torch_loss: The same in PyTorch, of tensors.
      inputs: Names in `batch` that both models take as positional arguments. Entries that the Flax
        model `takes` (see `jaxprob.batches`) are given to both by name.
      optimizer: (optax transformation, parameters -> torch optimiser).
      steps: Optimisation steps to compare, each on the whole batch.
      key: For models that take an argument `key`: both get it, PyTorch as an integer tensor `[2]`.
      rename: Flax path -> torch path, where names differ (see `interop.to_torch`).
      params: Weights to start from (params, or variables with "batch_stats"); default: those of
        the torch module.
      dtype: "float64" or "float32".
      channels_first: Entries of the batch that PyTorch takes as [B, C, ...] and Flax as
        [B, ..., C]; the batch has them channels last. `torch_loss` finds them channels first.
      jax_kwargs: Keyword arguments of the Flax model, e.g. `{"train": False}`.

    Returns:
      A report; `print` it, or `require` bounds of it.

    Raises:
      ValueError: Weights that do not correspond, inputs that are missing, outputs of different
        structure, or a module in half precision.
    """
    _check(torch_module, batch, inputs, channels_first, optimizer, steps, dtype)
    with _exact(dtype), _hinted(torch_module, batch, inputs, channels_first):
        twin = TorchSide(torch_module, batch, inputs, dtype, key, channels_first, torch_loss)
        ours = FlaxSide(flax_model, batch, inputs, dtype, key, jax_kwargs or {}, jax_loss)
        for name in set(getattr(flax_model, "takes", ())) & set(batch) - set(inputs):
            ours.kwargs[name], twin.kwargs[name] = ours.batch[name], twin.batch[name]
        ours.start(twin, rename, params)
        return _compare(ours, twin, optimizer, steps, dtype)


def _compare(
    ours: FlaxSide, twin: TorchSide, optimizer: tuple | None, steps: int, dtype: str
) -> ParityReport:
    twin.require_determinism()
    jax_output, jax_calls, jax_stats = ours.forward()
    torch_output, torch_calls, torch_stats = twin.forward()
    twin.find_moved(torch_output, ours.floats(jax_output))
    comparisons = [
        Comparison("value", name, relative_error(a, b), a.shape, _shapes(a, b))
        for name, a, b in pairs(jax_output, torch_output)
    ]
    if is_distribution(jax_output) and "y" in ours.batch:
        density = jax_output.log_prob(ours.batch["y"])
        twin_density = torch_output.log_prob(twin.batch["y"])
        for name, a, b in pairs(density, twin_density, "log_prob"):
            error = relative_error(a, b)
            comparisons.append(Comparison("value", name, error, a.shape, _shapes(a, b)))
    for name, a in jax_stats.items():
        b = ours.stats_of(torch_stats)[name]
        comparisons.append(Comparison("value", name, relative_error(a, b), a.shape))
    matched = match(jax_calls, torch_calls)
    shapes_agree = all(c.error != float("inf") for c in comparisons)
    loss_error, losses = 0.0, ((), ())
    if shapes_agree and (ours.loss is not None or ours.has_default_loss(jax_output)):
        loss, twin_loss = ours.loss_value(jax_output), twin.loss_value(torch_output)
        loss_error = relative_error(loss, twin_loss)
        comparisons.append(Comparison("value", "loss", loss_error, ()))
    if shapes_agree:
        gradient, twin_gradient = ours.gradient(), ours.from_twin_gradients(twin.gradients())
        comparisons += [
            Comparison("grad", name, error, gradient[name].shape)
            for name, error in gradient_errors(gradient, twin_gradient, dtype).items()
        ]
    if steps and shapes_agree:
        assert optimizer is not None
        trajectory, losses = compare_steps(ours, twin, optimizer, steps, dtype)
        comparisons += trajectory
    comparisons += [
        Comparison("value", f"weights of {layer} as given", float("inf"), ())
        for layer, _ in ours.suspicions
    ]
    findings = [_untransposed(layer, leaf) for layer, leaf in ours.suspicions] or localise(
        ours, twin, comparisons, Trace(matched, jax_calls, torch_calls), jax_output, torch_output,
        optimizer, steps, dtype,
    )  # fmt: skip
    return ParityReport(
        dtype,
        tuple(comparisons),
        tuple(
            LayerError(m.twin.path, type(m.twin.layer).__name__, m.input_error, m.output_error)
            for m in matched
        ),
        tuple(findings),
        losses,
        _versions(),
    )


def _untransposed(layer: str, leaf: str) -> Finding:
    return Finding(
        layer,
        "in",
        "kernel not transposed",
        f"{leaf} of the given params is the module's own weight, bit for bit; Flax's kernel is its "
        "transpose (a square one passes every shape check). Use interop.from_torch.",
    )


def _shapes(a: np.ndarray, b: np.ndarray) -> str:
    return "" if a.shape == b.shape else f"shape {a.shape} in JAX, {b.shape} in PyTorch"


def _check(torch_module, batch, inputs, channels_first, optimizer, steps, dtype) -> None:
    if dtype not in ("float64", "float32"):
        raise ValueError(f"check_parity: dtype must be 'float64' or 'float32'; got {dtype!r}.")
    missing = [name for name in inputs if name not in batch]
    if missing:
        raise ValueError(
            f"check_parity: inputs names {', '.join(missing)}, but batch has {sorted(batch)}. "
            'Say which arrays the models take, e.g. inputs=("x", "mask").'
        )
    stray = [name for name in channels_first if name not in batch]
    if stray:
        raise ValueError(
            f"check_parity: channels_first names {', '.join(stray)}; batch has {sorted(batch)}."
        )
    if bool(steps) != (optimizer is not None):
        raise ValueError(
            "check_parity: optimizer= and steps= belong together; got "
            f"steps={steps} and {'an' if optimizer is not None else 'no'} optimizer."
        )
    for name, spec in describe(torch_module).tensors.items():
        if spec.dtype in ("float16", "bfloat16"):
            raise ValueError(
                f"check_parity: {name} is {spec.dtype}, in which two correct models differ by "
                "1e-3; convert first: module.float()."
            )


@contextlib.contextmanager
def _hinted(
    torch_module: Any,
    batch: Mapping[str, Any],
    inputs: Sequence[str],
    channels_first: Sequence[str],
) -> Iterator[None]:
    """What fails within for the place of the channels is said to be that."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        hint = _layout_hint(torch_module, batch, inputs, channels_first)
        if not hint:
            raise
        raise ValueError(f"{error}\n{hint}") from error
    except TypeError as error:
        if "scan body function carry" not in str(error):
            raise
        raise ValueError(
            f"{error}\ncheck_parity compares in float64 unless told: a carry that the model makes "
            "itself must have the dtype of its input (param_dtype=x.dtype of the cell), or give "
            'dtype="float32".'
        ) from error


def _layout_hint(torch_module, batch, inputs, channels_first) -> str:
    layers = (m for m in torch_module.modules() if hasattr(m, "in_channels"))
    first = next(layers, None)
    if first is None:
        return ""
    for name in inputs:
        shape, channels = np.shape(batch[name]), first.in_channels
        if len(shape) != first.weight.ndim or (shape[1] == channels) == (shape[-1] == channels):
            continue
        if shape[1] == channels:
            return (
                f'The batch is channels last, as Flax takes it: batch["{name}"] is {shape}, with '
                f"its {channels} channels on axis 1. Move them to the end, and give channels_first="
                f'("{name}",) if the PyTorch module takes them first.'
            )
        if name not in channels_first:
            return (
                f'batch["{name}"] is {shape}, with its {channels} channels last; if the PyTorch '
                f'module takes them first, give channels_first=("{name}",).'
            )
    return ""


@contextlib.contextmanager
def _exact(dtype: str) -> Iterator[None]:
    """64 bits where asked for, and no TF32 or bfloat16 inside a matmul, on either side."""
    import torch

    default, matmul = torch.get_default_dtype(), torch.backends.cuda.matmul.allow_tf32
    cudnn = torch.backends.cudnn.allow_tf32
    torch.set_default_dtype(getattr(torch, dtype))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
            yield
    finally:
        torch.set_default_dtype(default)
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = cudnn


def _versions() -> dict[str, str]:
    import flax
    import optax
    import torch

    return {
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "torch": torch.__version__,
    }
