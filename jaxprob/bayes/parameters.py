"""What a model predicts, as numbers: the parameters of a distribution, taken out and put back.

Put back through the constructor, never by replacing leaves: a distribution may keep a normalised
form of its parameters (logits that sum to one, for one), along which the density has no slope.

Twin: none; a torch distribution shows its parameters as attributes.
"""

from typing import Any

import distrax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxprob.distributions import Independent, MixtureSameFamily
from jaxprob.distributions.constraints import Constraint, to_constrained
from jaxprob.types import Array

__all__ = ["from_real", "parameters", "to_real", "vector_of", "with_parameters", "with_vector"]


def parameters(distribution: Any) -> dict[str, Any]:
    """Returns the parameters that a model can learn, by name, nested as the distribution is.

    Raises:
      ValueError: A distribution that does not keep its parameters under their names.
    """
    if isinstance(distribution, Independent):
        return {"distribution": parameters(distribution.distribution)}
    if isinstance(distribution, MixtureSameFamily):
        return {
            "components": parameters(distribution.components_distribution),
            "mixture": parameters(distribution.mixture_distribution),
        }
    held = {name: getattr(distribution, f"_{name}") for name in _learned(distribution)}
    if not held:
        raise ValueError(
            f"{type(distribution).__name__} has no parameters under the names of its "
            "arg_constraints. End the model with a head of jaxprob.heads."
        )
    return held


def with_parameters(distribution: Any, values: dict[str, Any]) -> Any:
    """Returns the same distribution with other parameters; what is not learned stays."""
    if isinstance(distribution, Independent):
        inner = with_parameters(distribution.distribution, values["distribution"])
        return Independent(inner, distribution.reinterpreted_batch_ndims)
    if isinstance(distribution, MixtureSameFamily):
        return MixtureSameFamily(
            with_parameters(distribution.mixture_distribution, values["mixture"]),
            with_parameters(distribution.components_distribution, values["components"]),
        )
    fixed = {
        name: getattr(distribution, f"_{name}")
        for name, constraint in distribution.arg_constraints.items()
        if constraint.discrete
    }
    return type(distribution)(**fixed, **values)


def vector_of(distribution: distrax.Distribution) -> Array:
    """Returns the parameters as one vector `[E]`."""
    return ravel_pytree(parameters(distribution))[0]


def with_vector(distribution: distrax.Distribution, eta: Array) -> Any:
    """The inverse of `vector_of`: the same distribution with the parameters `eta` `[E]`."""
    return with_parameters(distribution, ravel_pytree(parameters(distribution))[1](eta))


def to_real(distribution: Any) -> dict[str, Any]:
    """Returns the parameters in unconstrained form: a log-scale for a scale."""
    return _through(distribution, parameters(distribution), inverse=True)


def from_real(distribution: Any, values: dict[str, Any]) -> Any:
    """The inverse of `to_real`."""
    return with_parameters(distribution, _through(distribution, values, inverse=False))


def _through(distribution: Any, values: dict[str, Any], inverse: bool) -> dict[str, Any]:
    if isinstance(distribution, Independent):
        return {
            "distribution": _through(distribution.distribution, values["distribution"], inverse)
        }
    if isinstance(distribution, MixtureSameFamily):
        parts = {
            "components": distribution.components_distribution,
            "mixture": distribution.mixture_distribution,
        }
        return {name: _through(part, values[name], inverse) for name, part in parts.items()}
    changed = {}
    for name, constraint in _learned(distribution).items():
        bijection = to_constrained(constraint)
        changed[name] = (bijection.inverse if inverse else bijection.forward)(values[name])
    return changed


def _learned(distribution: Any) -> dict[str, Constraint]:
    """Constraints of the parameters that are real numbers and that the distribution holds."""
    return {
        name: constraint
        for name, constraint in getattr(distribution, "arg_constraints", {}).items()
        if not constraint.discrete
        and _is_float(getattr(distribution, "__dict__", {}).get(f"_{name}"))
    }


def _is_float(value: Any) -> bool:
    return value is not None and jnp.issubdtype(jnp.result_type(value), jnp.floating)
