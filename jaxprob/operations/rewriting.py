"""A traced function computed once more, with some of its operations done in another way.

Twin: none; PyTorch's layers need no other arithmetic.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxprob.types import Array

__all__ = ["rewritten"]

Replacement = Callable[[JaxprEqn, list[Any]], Array | None]


def rewritten(function: Callable[..., Any], replace: Replacement) -> Callable[..., Any]:
    """Returns the function with another computation of some operations, all else as it is.

    Args:
      function: A function of pytrees of arrays.
      replace: (equation, operands) -> its result, or None for what the equation says. Equations of
        inner jitted functions are seen too, those of loops and branches are not.
    """

    def other(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        results = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), replace)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return other


def _evaluate(jaxpr: Jaxpr, consts: Any, args: list[Any], replace: Replacement) -> list[Any]:
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def values(variables: Any) -> list[Any]:
        return [v.val if isinstance(v, Literal) else known[v] for v in variables]

    for eqn in jaxpr.eqns:
        operands = values(eqn.invars)
        inner = eqn.params.get("jaxpr") if eqn.primitive.name == "jit" else None
        other = replace(eqn, operands)
        if other is not None:
            results = [other]
        elif inner is not None:
            results = _evaluate(inner.jaxpr, inner.consts, operands, replace)
        else:
            bound = eqn.primitive.get_bind_params(eqn.params)
            # before JAX 0.10.2 the functions inside come apart from the other parameters
            functions, params = bound if isinstance(bound, tuple) else ((), bound)
            results = eqn.primitive.bind(*functions, *operands, **params)
            results = results if eqn.primitive.multiple_results else [results]
        known.update(zip(eqn.outvars, results, strict=True))
    return values(jaxpr.outvars)
