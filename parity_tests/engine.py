"""The engine: runs one row in both frameworks and measures how far apart they are.

Two kinds of row. A `ModelCase` is a loss with trainable parameters: the distribution that the model
returns, the loss and its terms, every gradient, and whole training runs are compared. A
`FunctionCase` is a function of arrays: its values and the gradients of every input are compared.
Both draw their randomness from the same key inside their own framework; nothing random crosses.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax.traverse_util import flatten_dict

import torch_ref.random as torch_random
from jaxprob import interop
from jaxprob.interop.pytest_plugin import add_row

SEED = 20261121

# A row runs once, so its program is compiled in a hurry.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

SCHEDULED_STEP = 17

COLLECTIONS = "collections"
"""Entry of the params that is carried, not trained; see `jaxprob.training.step`."""

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
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
      second: See `FunctionCase`.
      fit: Whether training runs go through `training.fit` too, which is one more program to
        compile: among the quick tests, or with the longer proofs. One row of each kind has them.
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
    second: bool = False
    fit: Literal["quick", "long"] | None = None

    def later(self) -> "ModelCase":
        """The row as the second of its kind."""
        return dataclasses.replace(self, second=True)

    def fitted(self, how: Literal["quick", "long"]) -> "ModelCase":
        """The row, its training compared through `training.fit` too."""
        return dataclasses.replace(self, fit=how)

    @property
    def batch_size(self) -> int:
        """Rows of a minibatch, of which all batches are whole."""
        rows = self.num_rows
        return next(size for size in (16, 14) if rows % size == 0)

    @property
    def num_rows(self) -> int:
        """Rows of the data."""
        return len(next(iter(self.data.values())))


@dataclasses.dataclass(frozen=True, eq=False)
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
      second: Whether another row of its kind is among the quick tests, so that this one, in both
        dtypes, is left to the longer proofs.
    """

    name: str
    jax_fn: Callable
    torch_fn: Callable
    inputs: Arrays
    differentiable: bool = True
    elementwise: bool = False
    slow: bool = False
    second: bool = False


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


def to_jax(arrays: Arrays, dtype: str) -> dict[str, jax.Array]:
    """Arrays on our side; `jnp.asarray` would compile a program for each shape."""
    return {name: jax.device_put(a) for name, a in _cast(arrays, dtype).items()}


def to_torch(arrays: Arrays, dtype: str) -> dict[str, torch.Tensor]:
    """Tensors on the twin's side."""
    return {name: torch.tensor(a) for name, a in _cast(arrays, dtype).items()}


def batches(case: ModelCase, dtype: str, size: int | None = None) -> Iterator[tuple[dict, dict]]:
    """Yields the data on both sides; a loss that follows a schedule is met in the middle of it.

    Args:
      case: The row.
      dtype: "float64" or "float32".
      size: Rows of a batch; None for that of the training runs.
    """
    size = size or case.batch_size
    for start in range(0, case.num_rows, size):
        rows = {name: a[start : start + size] for name, a in case.data.items()}
        if getattr(case.jax_loss, "uses_step", False):
            rows["step"] = np.asarray(SCHEDULED_STEP, np.int32)
        yield to_jax(rows, dtype), to_torch(rows, dtype)


def both_sides(case: ModelCase, dtype: str, mutate: Callable | None = None):
    """Returns params and module that start from the same numbers.

    `mutate(params) -> params` deliberately breaks the copy, for the tests that must catch it.
    """
    params = _moved(_start(case), dtype)
    module = case.build_torch()
    interop.to_torch(params if mutate is None else mutate(params), module)
    return params, module


@functools.cache
def _start(case: ModelCase) -> Any:
    """The start of a row, in one program: operation by operation it is a hundred."""
    start = jax.jit(case.init, compiler_options=QUICK)(jax.random.key(SEED))
    return jax.tree.map(np.asarray, start)


def _moved(params: Any, dtype: str) -> Any:
    """Adds noise to a start: where zeros and identities stand, whole classes of mistake are equal.

    A triangle packed in another order, for one, changes nothing while it is diagonal. Collections
    (counts, variances) stay as they are: noise might leave the numbers that they can be.
    """
    if COLLECTIONS in params:
        state = jax.tree.map(lambda leaf: jax.device_put(leaf.astype(dtype)), params[COLLECTIONS])
        return {"params": _moved(params["params"], dtype), COLLECTIONS: state}
    rng = np.random.default_rng(SEED)

    def moved(leaf: np.ndarray) -> jax.Array:
        return jax.device_put(np.asarray(leaf + 0.2 * rng.normal(size=leaf.shape), dtype))

    return jax.tree.map(moved, params)


def trained(params: Any) -> Any:
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

    Args:
      case: The row.
      dtype: "float64" or "float32".
      mutate: See `both_sides`.
      values: Whether to compare values; else they are an empty dict.
      gradients: Whether to compare gradients; else they are an empty dict.

    Returns:
      The largest error of each over all batches. In float32, where no steps follow, the one batch
      is the whole data.
    """
    found: tuple[dict, dict] = {}, {}
    with torch_dtype(dtype):
        params, module = both_sides(case, dtype, mutate)
        size = case.batch_size if dtype == "float64" else case.num_rows
        key, twin_key = jax.random.key(SEED + 1), torch_random.key(SEED + 1)
        for batch, twin_batch in batches(case, dtype, size):
            ours, gradient, _ = program(case)(params, batch, key, values)
            with torch.no_grad():  # before the loss, which may move buffers of the module
                twins = dict(case.torch_outputs(module, twin_batch, twin_key)) if values else {}
            loss, metrics = case.torch_loss(module)(twin_batch, twin_key)
            twins |= {"loss": loss, **metrics}
            if values:
                twins = {name: value.detach().numpy() for name, value in twins.items()}
                _keep_worst(found[0], worst(ours, twins))
            if gradients:
                module.zero_grad()
                loss.backward()
                twin_gradient = interop.gradients_from_torch(module, params)
                _keep_worst(found[1], worst(flat(gradient), flat(twin_gradient)))
            if COLLECTIONS in params:
                params, module = both_sides(case, dtype, mutate)  # with its buffers as they were
    return found


def _keep_worst(found: dict[str, float], errors: Mapping[str, float]) -> None:
    for name, error in errors.items():
        found[name] = max(error, found.get(name, 0.0))


@functools.cache
def program(case: ModelCase) -> Callable:
    """Returns our side of a row as one program, compiled once: most of a row's time.

    `(params, batch, key, wanted) -> (outputs, loss and terms; gradient; new collections)`. Values,
    gradients and training steps are its calls; without `wanted` the outputs are zeros.
    """

    def run(params: Any, batch: dict, key: jax.Array, wanted: Any) -> tuple[dict, Any, Any]:
        def loss_of(weights: Any) -> tuple[jax.Array, dict]:
            whole = {**params, "params": weights} if COLLECTIONS in params else weights
            return case.jax_loss(whole, batch, key)

        (loss, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained(params))
        outputs = jax.jit(lambda: dict(case.jax_outputs(params, batch, key)))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(outputs))
        found = jax.lax.cond(wanted, outputs, lambda: jax.tree.map(jnp.asarray, zeros))
        terms = {name: value for name, value in metrics.items() if name != COLLECTIONS}
        return {**found, "loss": loss, **terms}, gradient, metrics.get(COLLECTIONS)

    return jax.jit(run, compiler_options=QUICK)


def compare_function(case: FunctionCase, dtype: str) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the errors of the values and of the gradients (empty where there are none).

    The gradients are those of the sum of all outputs, each element with a weight of its own.
    """
    with torch_dtype(dtype):
        inputs, twins = to_jax(case.inputs, dtype), to_torch(case.inputs, dtype)
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


def _is_float(value: jax.Array) -> bool:
    return jnp.issubdtype(value.dtype, jnp.floating)


def _weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights between 1 and 2, the same on both sides; equal ones would hide a wrong order."""
    rng = np.random.default_rng(sum(name.encode()))
    return rng.uniform(1.0, 2.0, shape).astype(np.float32)


def flat(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of params by path."""
    return {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(tree).items()}
