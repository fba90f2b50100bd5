"""Linen's own convolutions by `conv_general_dilated` of this package, while a context lasts.

`nn.Conv` and `nn.ConvTranspose` reach XLA through the name `lax` of their module. Within the
context their functions run with another `lax`, whose convolutions are those of `convolution.py`:
everything else that a layer does (masks, padding modes, dtypes) stays its own.

Twin: none; torch's own convolutions.
"""

import contextlib
import functools
import inspect
import types
from typing import Any

import flax.linen as nn
from jax import lax
from jax.extend.core.primitives import conv_general_dilated_p

from jaxprob.operations.convolution import conv_general_dilated
from jaxprob.operations.rewriting import rewritten
from jaxprob.types import Array

__all__ = ["fast_convolutions"]


def fast_convolutions() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which Linen's convolutions are fast in loops and under `vmap`.

    Only the innermost interceptor of Linen's methods changes anything, so enter this one last.
    """
    return nn.intercept_methods(_interceptor)


def _interceptor(next_fun: Any, args: tuple, kwargs: dict, context: Any) -> Any:
    # Others that come after this one want to see the call.
    if context.method_name == "__call__" and next_fun is context.orig_method:
        own = OWN.get(inspect.unwrap(type(context.module).__call__))
        if own is not None:
            return own(context.module, *args, **kwargs)
    return next_fun(*args, **kwargs)


def _conv_transpose(lhs: Array, rhs: Array, *args: Any, **kwargs: Any) -> Array:
    """`jax.lax.conv_transpose`, which is a convolution once its padding is worked out."""

    def as_lax(lhs: Array, rhs: Array) -> Array:
        return lax.conv_transpose(lhs, rhs, *args, **kwargs)

    def replace(eqn: Any, operands: list[Any]) -> Array | None:
        if eqn.primitive is not conv_general_dilated_p:
            return None
        known = inspect.signature(conv_general_dilated).parameters
        return conv_general_dilated(
            *operands, **{name: eqn.params[name] for name in known if name in eqn.params}
        )

    return rewritten(as_lax, replace)(lhs, rhs)


def _with_fast_lax(layer: type[nn.Module]) -> tuple[Any, Any]:
    """The function of a layer, and the same with another `lax`."""
    function: Any = inspect.unwrap(layer.__call__)
    fast = types.SimpleNamespace(**vars(lax))
    fast.conv_general_dilated, fast.conv_transpose = conv_general_dilated, _conv_transpose
    own = types.FunctionType(
        function.__code__,
        {**function.__globals__, "lax": fast},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    own.__kwdefaults__ = function.__kwdefaults__
    return function, functools.wraps(function)(own)


OWN = dict(_with_fast_lax(layer) for layer in (nn.Conv, nn.ConvTranspose))
"""By the function of a class: a class of somebody's own with another function stays as it is."""
