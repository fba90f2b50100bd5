"""Makes the outputs of two models comparable: arrays, distributions, and nests of them."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

__all__ = [
    "Pair",
    "aligned",
    "cast",
    "gradient_errors",
    "is_distribution",
    "pairs",
    "probe",
    "relative_error",
    "rounding_of_zero",
    "stand_in",
    "takes_key",
]

PROBE_SEED = 0
"""Seed of the random projection that stands for a missing loss."""

Pair = tuple[str, np.ndarray, np.ndarray]
"""(name, JAX's array, PyTorch's array)"""

ALIASES = {
    "concentration1": ("alpha",),
    "concentration0": ("beta",),
    "concentration": ("alpha",),
    "scale_diag": ("scale_diag",),
}
"""torch's name of a parameter -> other names in distrax."""


def relative_error(ours: Any, twin: Any) -> float:
    """Returns max |a - b| / max |b| (absolute where b is zero); shapes or NaN differ: infinite."""
    a, b = np.asarray(ours), np.asarray(twin)
    if a.shape != b.shape:
        return float("inf")
    if a.size == 0:
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    # both infinite with one sign, or both NaN: equal
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = float(np.max(np.where(same, 0.0, np.abs(a - b))))
        finite = np.abs(b[np.isfinite(b)])
    scale = float(np.max(finite)) if finite.size else 0.0
    error = difference / (scale or 1.0)
    return error if np.isfinite(error) else float("inf")


ZERO = {"float64": 1e-12, "float32": 1e-6}
"""A gradient this much smaller than the largest is the rounding of a zero."""


def rounding_of_zero(gradients: Mapping[str, np.ndarray], dtype: str) -> set[str]:
    """Names of gradients that are zero by their formula, up to rounding, but not zero.

    Such is that of the bias of the keys under a softmax.
    """
    sizes = {name: float(np.max(np.abs(g), initial=0.0)) for name, g in gradients.items()}
    largest = max(sizes.values(), default=0.0)
    return {name for name, size in sizes.items() if 0 < size <= ZERO[dtype] * largest}


def gradient_errors(
    ours: Mapping[str, np.ndarray], twin: Mapping[str, np.ndarray], dtype: str
) -> dict[str, float]:
    """Relative error of every gradient.

    What rounding leaves of a zero is compared with the largest gradient, not with itself.
    """
    largest = max((float(np.max(np.abs(g), initial=0.0)) for g in twin.values()), default=0.0)
    errors = {}
    for name, a in ours.items():
        b = twin[name]
        size = max(float(np.max(np.abs(g), initial=0.0)) for g in (a, b))
        if a.shape == b.shape and size <= ZERO[dtype] * largest:
            errors[name] = float(np.max(np.abs(a - b), initial=0.0)) / (largest or 1.0)
        else:
            errors[name] = relative_error(a, b)
    return errors


def is_distribution(value: Any) -> bool:
    """Whether a model returned a distribution, of either framework."""
    return hasattr(value, "log_prob") and hasattr(value, "batch_shape")


def aligned(ours: np.ndarray, twin: np.ndarray) -> np.ndarray:
    """Returns the PyTorch array in Flax's layout, where that is what fits better.

    Channels may stand last, and steps behind the rows: `[T, B, ...]` is PyTorch's default for
    sequences, of integers `[T, B]`.
    """
    if twin.ndim < 2 or (twin.ndim == 2 and twin.dtype.kind not in "iu"):
        return twin
    fitting = [a for a in (twin, np.moveaxis(twin, 1, -1)) if a.shape == ours.shape]
    swapped = np.swapaxes(twin, 0, 1)
    if twin.ndim < 4 and swapped.shape == ours.shape:
        # where other layouts fit too, only if it is equal
        if not fitting or relative_error(ours, swapped) <= SAME:
            fitting.append(swapped)
    return min(fitting, key=lambda array: relative_error(ours, array), default=twin)


SAME = 1e-6
"""Arrays this close hold the same numbers, and not by chance."""


def pairs(ours: Any, twin: Any, name: str = "output") -> Iterator[Pair]:
    """Walks two outputs in step.

    Args:
      ours: Output of the Flax model.
      twin: Output of the PyTorch module.
      name: Name of the whole.

    Yields:
      Every array with its counterpart. Distributions are taken apart into their parameters.

    Raises:
      ValueError: Structures that differ.
    """
    if ours is None and twin is None:
        return
    if is_distribution(twin) or is_distribution(ours):
        if not (is_distribution(twin) and is_distribution(ours)):
            raise ValueError(
                f"check_parity: {name} is a {type(ours).__name__} in JAX and a "
                f"{type(twin).__name__} in PyTorch; return distributions or arrays from both."
            )
        yield from _distributions(ours, twin, name)
    elif isinstance(ours, Mapping) and isinstance(twin, Mapping):
        if set(ours) != set(twin):
            raise ValueError(
                f"check_parity: {name} has the keys {sorted(ours)} in JAX and {sorted(twin)} in "
                "PyTorch; use the same names."
            )
        for key in ours:
            yield from pairs(ours[key], twin[key], _sub(name, key))
    elif isinstance(ours, list | tuple) and isinstance(twin, list | tuple):
        if len(ours) != len(twin):
            raise ValueError(
                f"check_parity: {name} has {len(ours)} parts in JAX and {len(twin)} in PyTorch."
            )
        fields = getattr(ours, "_fields", range(len(ours)))
        for key, a, b in zip(fields, ours, twin, strict=True):
            yield from pairs(a, b, _sub(name, key))
    elif hasattr(ours, "shape") and hasattr(twin, "shape"):
        a, b = np.asarray(ours), to_numpy(twin)
        yield name, a, aligned(a, b)
    else:
        raise ValueError(
            f"check_parity: {name} is a {type(ours).__name__} in JAX and a {type(twin).__name__} "
            "in PyTorch; expected arrays, distributions, or tuples or dicts of them on both sides."
        )


def to_numpy(tensor: Any) -> np.ndarray:
    """A torch tensor as an array (float64 holds every float there is)."""
    return tensor.detach().cpu().double().numpy() if tensor.is_floating_point() else (
        tensor.detach().cpu().numpy()
    )  # fmt: skip


def _sub(name: str, key: Any) -> str:
    return f"{name}.{key}" if name != "output" else str(key)


def _distributions(ours: Any, twin: Any, name: str) -> Iterator[Pair]:
    ours, twin = _inner(ours), _inner(twin)
    mixture = getattr(twin, "mixture_distribution", None)
    if mixture is not None and hasattr(ours, "mixture_distribution"):
        yield from _distributions(ours.mixture_distribution, mixture, _sub(name, "mixture"))
        components = ours.components_distribution
        their_components = getattr(twin, "component_distribution", None)
        if their_components is None:
            their_components = twin.components
        yield from _distributions(components, their_components, _sub(name, "components"))
        return
    if hasattr(ours, "components") and hasattr(twin, "components"):
        yield from _distributions(ours.components, twin.components, _sub(name, "components"))
        return
    found = False
    for parameter, value in _parameters(twin).items():
        counterpart = _attribute(ours, parameter)
        if counterpart is not None:
            found = True
            a, b = np.asarray(counterpart), to_numpy(value)
            if parameter == "logits" and "ategorical" in type(twin).__name__:
                a, b = _normalised(a), _normalised(b)  # one constant per row is free
            yield _sub(name, parameter), a, aligned(a, b)
    if not found:
        for moment in ("mean", "variance"):
            value = getattr(ours, moment)
            value = value() if callable(value) else value
            yield _sub(name, moment), np.asarray(value), to_numpy(getattr(twin, moment))


def _inner(distribution: Any) -> Any:
    """What an Independent holds."""
    while type(distribution).__name__ == "Independent":
        distribution = getattr(distribution, "base_dist", None) or distribution.distribution
    return distribution


def _parameters(twin: Any) -> dict[str, Any]:
    names = list(getattr(twin, "arg_constraints", {}))
    if "logits" in names and "probs" in names:
        names.remove("probs")  # exact where probs have long rounded to 0 or 1
    if "scale_tril" in names:
        names = ["loc", "scale_tril"]
    values = {name: getattr(twin, name, None) for name in names}
    return {name: value for name, value in values.items() if hasattr(value, "detach")}


def _attribute(ours: Any, name: str) -> Any:
    for candidate in (name, *ALIASES.get(name, ())):
        value = getattr(ours, candidate, None)
        if value is not None and not callable(value):
            return value
    return None


def _normalised(logits: np.ndarray) -> np.ndarray:
    top = np.max(logits, axis=-1, keepdims=True)
    return logits - top - np.log(np.sum(np.exp(logits - top), axis=-1, keepdims=True))


def probe(shape: tuple[int, ...], index: int) -> np.ndarray:
    """A fixed random array, the same on both sides."""
    return np.random.default_rng(PROBE_SEED + index).normal(size=shape)


def stand_in(distribution: Any, normalise: Callable) -> Any:
    """One array that stands for a distribution, under the same name in both frameworks."""
    while type(distribution).__name__ == "Independent":
        distribution = getattr(distribution, "base_dist", None) or distribution.distribution
    for name in ("loc", "logits", "rate", "concentration"):
        value = getattr(distribution, name, None)
        if value is not None and not callable(value):
            return normalise(value) if "ategorical" in type(distribution).__name__ else value
    mean = distribution.mean
    return mean() if callable(mean) else mean


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """Floats in the dtype of the check, others as they are."""
    return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array


def takes_key(function: Any) -> bool:
    """Whether a function has an argument named key."""
    try:
        return "key" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
