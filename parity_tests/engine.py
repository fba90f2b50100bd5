"""The engine: runs one row in both frameworks and measures how far apart they are.

Two kinds of row. A `ModelCase` is a loss with trainable parameters: the distribution that the model
returns, the loss and its terms, every gradient, and whole training runs are compared. A
`FunctionCase` is a function of arrays: its values and the gradients of every input are compared.
Both draw their randomness from the same key inside their own framework; nothing random crosses.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax.traverse_util import flatten_dict

import torch_ref.random as torch_random
from jaxprob import interop, training
from jaxprob.interop.pytest_plugin import add_row
from torch_ref import training as torch_training

SEED = 20261121

# A row runs once, so its program is compiled in a hurry.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

SCHEDULED_STEP = 17

COLLECTIONS = "collections"
"""Entry of the params that is carried, not trained; see `jaxprob.training.step`."""

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ModelCase:
    """A model with a loss, on both sides.

    Attributes:
      name: Name of the row.
      init: key -> params.
      jax_loss: `loss_fn(params, batch, key) -> (loss, metrics)`.
      jax_outputs: (params, batch, key) -> arrays to compare, such as the distribution's parameters.
      build_torch: Returns a fresh module that holds the trainable parameters under the same paths.
      torch_loss: module -> `loss_fn(batch, key) -> (loss, metrics)`.
      torch_outputs: (module, batch, key) -> the same arrays.
      data: Training data, float64.
      optimizers: name -> (optax transformation, parameters -> torch optimiser).
      slow: Whether to leave the row to the longer proofs.
      runs: Whether training is compared too, which takes longest; without it gradients stand for
        it, and other rows for the loop.
    """

    name: str
    init: Callable
    jax_loss: Callable
    jax_outputs: Callable
    build_torch: Callable
    torch_loss: Callable
    torch_outputs: Callable
    data: Arrays
    optimizers: Mapping[str, tuple[optax.GradientTransformation, Callable]]
    slow: bool = False
    runs: bool = True


@dataclasses.dataclass(frozen=True)
class FunctionCase:
    """A function of arrays, on both sides.

    Attributes:
      name: Name of the row.
      jax_fn: (inputs, key) -> arrays.
      torch_fn: (inputs, key) -> the same arrays.
      inputs: Arguments, float64.
      differentiable: Whether gradients towards the float inputs are compared too.
      elementwise: Whether each element counts by itself, its error being that over max(1, its
        size): for arrays of extreme cases, of which the largest would hide all others.
      slow: Whether to leave the row to the longer proofs, since it takes long to compile.
    """

    name: str
    jax_fn: Callable
    torch_fn: Callable
    inputs: Arrays
    differentiable: bool = True
    elementwise: bool = False
    slow: bool = False


@contextlib.contextmanager
def torch_dtype(dtype: str) -> Iterator[None]:
    """Sets torch's default dtype inside a `with` block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def relative_error(actual: Any, expected: Any, elementwise: bool = False) -> float:
    """Returns max |a - b| / max |b| of one tensor (absolute where b is zero).

    Equal infinities agree; NaN is an infinite error. With `elementwise` each element is divided by
    max(1, |b|) of its own.
    """
    a, b = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape:
        raise AssertionError(f"shapes differ: {a.shape} and {b.shape}")
    if a.size == 0:
        return 0.0
    size = np.where(np.isfinite(b), np.abs(b), 0.0)
    scale = np.maximum(size, 1.0) if elementwise else np.max(size) or 1.0
    with np.errstate(invalid="ignore"):
        error = float(np.max(np.where(a == b, 0.0, np.abs(a - b)) / scale))
    return error if np.isfinite(error) else float("inf")


def worst(
    actual: Mapping[str, Any], expected: Mapping[str, Any], elementwise: bool = False
) -> dict[str, float]:
    """Returns the error of each named array; both sides must have the same names."""
    if set(actual) != set(expected):
        raise AssertionError(f"names differ: {sorted(set(actual) ^ set(expected))}")
    return {name: relative_error(actual[name], expected[name], elementwise) for name in actual}


def record(
    record_property: Callable,
    row: str,
    kind: str,
    errors: Mapping[str, float],
    dtype: str,
    tolerance,
) -> None:
    """Puts the worst of some errors into the closing table (see conftest); fails out of bounds.

    Args:
      record_property: The pytest fixture.
      row: Name of the row.
      kind: What is compared: "values", "gradients", "100 steps of adam", ...
      errors: The error of each tensor.
      dtype: "float64" or "float32".
      tolerance: Bound on all of them.
    """
    worst_name = max(errors, key=lambda name: errors[name])
    error = errors[worst_name]
    add_row(record_property, row, f"{kind}: {worst_name}", dtype, error, tolerance)
    assert error <= tolerance, (
        f"{row}: {kind} of {worst_name} ({dtype}) differ by {error:.2e}, more than {tolerance:.0e}"
    )


def _cast(arrays: Arrays, dtype: str) -> dict[str, np.ndarray]:
    return {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in arrays.items()}


def _to_jax(arrays: Arrays, dtype: str) -> dict[str, jax.Array]:
    return {name: jnp.asarray(a) for name, a in _cast(arrays, dtype).items()}


def _to_torch(arrays: Arrays, dtype: str) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(a) for name, a in _cast(arrays, dtype).items()}


def batches(case: ModelCase, dtype: str) -> tuple[dict, dict]:
    """Returns the data on both sides; a loss that follows a schedule is met in the middle of it."""
    batch, twin_batch = _to_jax(case.data, dtype), _to_torch(case.data, dtype)
    if getattr(case.jax_loss, "uses_step", False):
        batch["step"], twin_batch["step"] = (
            jnp.asarray(SCHEDULED_STEP),
            torch.tensor(SCHEDULED_STEP),
        )
    return batch, twin_batch


def both_sides(case: ModelCase, dtype: str, mutate: Callable | None = None):
    """Returns params and module that start from the same numbers.

    `mutate(params) -> params` deliberately breaks the copy, for the tests that must catch it.
    """
    params = _moved(case.init(jax.random.key(SEED)), dtype)
    module = case.build_torch()
    interop.to_torch(params if mutate is None else mutate(params), module)
    return params, module


def _moved(params: Any, dtype: str) -> Any:
    """Adds noise to a start: where zeros and identities stand, whole classes of mistake are equal.

    A triangle packed in another order, for one, changes nothing while it is diagonal. Collections
    (counts, variances) stay as they are: noise might leave the numbers that they can be.
    """
    if COLLECTIONS in params:
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params[COLLECTIONS])
        return {"params": _moved(params["params"], dtype), COLLECTIONS: state}
    rng = np.random.default_rng(SEED)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf + 0.2 * rng.normal(size=leaf.shape), dtype), params
    )


def _trained(params: Any) -> Any:
    """The params without the collections beside them."""
    return params["params"] if COLLECTIONS in params else params


def compare_outputs(case: ModelCase, dtype: str) -> dict[str, float]:
    """Returns the error of every output, the loss and its terms, from the same key."""
    return compare_model(case, dtype, gradients=False)[0]


def compare_gradients(
    case: ModelCase, dtype: str, mutate: Callable | None = None
) -> dict[str, float]:
    """Returns the error of the gradient of every parameter, from the same key."""
    return compare_model(case, dtype, mutate, values=False)[1]


def compare_model(
    case: ModelCase,
    dtype: str,
    mutate: Callable | None = None,
    *,
    values: bool = True,
    gradients: bool = True,
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the errors of values (outputs, the loss, its terms) and of gradients.

    One program on the side of JAX: most of a row's time is its compilation.

    Args:
      case: The row.
      dtype: "float64" or "float32".
      mutate: See `both_sides`.
      values: Whether to compare values; else they are an empty dict.
      gradients: Whether to compare gradients; else they are an empty dict.
    """
    with torch_dtype(dtype):
        params, module = both_sides(case, dtype, mutate)
        batch, twin_batch = batches(case, dtype)
        key, twin_key = jax.random.key(SEED + 1), torch_random.key(SEED + 1)

        def run(params: Any, batch: dict, key: jax.Array) -> tuple[dict, Any]:
            def loss_of(trained: Any) -> tuple[jax.Array, dict]:
                whole = {**params, "params": trained} if COLLECTIONS in params else trained
                return case.jax_loss(whole, batch, key)

            differentiated = jax.value_and_grad(loss_of, has_aux=True)
            takes = differentiated if gradients else lambda trained: (loss_of(trained), {})
            (loss, metrics), gradient = takes(_trained(params))
            outputs = case.jax_outputs(params, batch, key) if values else {}
            terms = {name: value for name, value in metrics.items() if name != COLLECTIONS}
            return {**outputs, "loss": loss, **terms}, gradient

        ours, gradient = jax.jit(run, compiler_options=QUICK)(params, batch, key)
        with torch.no_grad():  # before the loss, which may move buffers of the module
            twins = dict(case.torch_outputs(module, twin_batch, twin_key)) if values else {}
        loss, metrics = case.torch_loss(module)(twin_batch, twin_key)
        twins |= {"loss": loss, **metrics}
        found = {}
        if values:
            found = worst(ours, {name: value.detach().numpy() for name, value in twins.items()})
        if not gradients:
            return found, {}
        loss.backward()
        twin_gradient = interop.gradients_from_torch(module, params)
    return found, worst(_flat(gradient), _flat(twin_gradient))


def compare_training(
    case: ModelCase,
    optimizer: str,
    dtype: str,
    steps: int = 100,
    batch_size: int = 16,
    torch_optimizer: Callable | None = None,
    torch_seed: int = SEED + 2,
) -> dict[str, float]:
    """Trains on both sides from one key; returns the error of losses and of final parameters.

    Order of the rows and noise of the loss are drawn inside each framework. The last batch of an
    epoch is smaller than the others, so that case is covered too.
    """
    ours, twins = case.optimizers[optimizer]
    with torch_dtype(dtype):
        params, module = both_sides(case, dtype)
        fitted = training.fit(
            case.jax_loss,
            params,
            _to_jax(case.data, dtype),
            optimizer=ours,
            steps=steps,
            batch_size=batch_size,
            key=jax.random.key(SEED + 2),
            progress=False,
        )
        losses = torch_training.fit(
            case.torch_loss(module),
            _to_torch(case.data, dtype),
            optimizer=(torch_optimizer or twins)(module.parameters()),
            steps=steps,
            batch_size=batch_size,
            key=torch_random.key(torch_seed),
        )
        twin = interop.from_torch(module, params)
    rows = len(next(iter(case.data.values())))
    errors = worst(_flat(fitted.params), _flat(twin))
    epoch_loss = _epoch_means(np.array(losses), rows, batch_size)
    return {**errors, "loss per epoch": relative_error(fitted.history["loss"], epoch_loss)}


def _epoch_means(losses: np.ndarray, rows: int, batch_size: int) -> np.ndarray:
    """Means over the rows of each epoch, as `fit` reports them."""
    sizes = [min(batch_size, rows - start) for start in range(0, rows, batch_size)]
    means = []
    for start in range(0, len(losses), len(sizes)):
        part = losses[start : start + len(sizes)]
        means.append(np.average(part, weights=sizes[: len(part)]))
    return np.array(means)


def compare_function(case: FunctionCase, dtype: str) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the errors of the values and of the gradients (empty where there are none).

    The gradients are those of the sum of all outputs, each element with a weight of its own.
    """
    with torch_dtype(dtype):
        inputs, twins = _to_jax(case.inputs, dtype), _to_torch(case.inputs, dtype)
        key, twin_key = jax.random.key(SEED + 1), torch_random.key(SEED + 1)
        floats = {n: v for n, v in inputs.items() if jnp.issubdtype(v.dtype, jnp.floating)}
        leaves = {name: twins[name].requires_grad_(case.differentiable) for name in floats}
        twin = case.torch_fn(twins, twin_key)

        def total(part: dict) -> tuple[jax.Array, dict]:
            ours = case.jax_fn({**inputs, **part}, key)
            weighted = [_weights(n, v.shape) * v for n, v in ours.items() if _is_float(v)]
            return sum(jnp.sum(v) for v in weighted), ours

        # Values and gradients are one program: most of a row's time is its compilation.
        value_and_grad = jax.value_and_grad(total, has_aux=True)
        run = value_and_grad if case.differentiable else lambda part: (total(part), {})
        (_, ours), gradient = jax.jit(run, compiler_options=QUICK)(floats)
        values = worst(ours, {n: v.detach().numpy() for n, v in twin.items()}, case.elementwise)
        if not case.differentiable:
            return values, {}
        for name, value in twin.items():
            if value.requires_grad:
                weights = torch.from_numpy(_weights(name, value.shape)).to(value)
                (weights * value).sum().backward(retain_graph=True)
        twin_gradient = {
            name: np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
            for name, leaf in leaves.items()
        }
    return values, worst(gradient, twin_gradient, case.elementwise)


def right_and_broken(right: FunctionCase, broken: FunctionCase) -> tuple[float, float]:
    """Returns the worst error of the values beside a right twin and beside a broken one, float64.

    A mistake is caught by a row only if the row agrees without it. Both twins stand beside one
    program, with the inputs of the first row.
    """

    def jax_fn(inputs: Mapping, key: Any) -> dict:
        found = right.jax_fn(inputs, key)
        return {f"{side} {name}": v for side in ("right", "broken") for name, v in found.items()}

    def torch_fn(inputs: Mapping, key: Any) -> dict:
        sides = {"right": right.torch_fn(inputs, key), "broken": broken.torch_fn(inputs, key)}
        return {f"{side} {name}": v for side, found in sides.items() for name, v in found.items()}

    both = dataclasses.replace(right, jax_fn=jax_fn, torch_fn=torch_fn, differentiable=False)
    errors, _ = compare_function(both, "float64")
    first, second = (
        max(error for name, error in errors.items() if name.startswith(side))
        for side in ("right ", "broken ")
    )
    return first, second


def _is_float(value: jax.Array) -> bool:
    return jnp.issubdtype(value.dtype, jnp.floating)


def _weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights between 1 and 2, the same on both sides; equal ones would hide a wrong order."""
    rng = np.random.default_rng(sum(name.encode()))
    return rng.uniform(1.0, 2.0, shape).astype(np.float32)


def _flat(tree: Any) -> dict[str, np.ndarray]:
    return {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(tree).items()}
