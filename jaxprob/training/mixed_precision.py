"""Mixed precision: contractions of layers in a short float, everything else as it was.

    y = wide(short(x) short(W)) + b

A layer that contracts (Dense, DenseGeneral, Conv, ConvLocal, ConvTranspose and their namesakes in
`jaxprob.nn`; any module whose only parameters are `kernel` or `weight` and `bias`, and that has
`features`) multiplies in the short float and returns its result in the float that came in; so does
the layer inside a head, a Linen attention or a Linen recurrent cell. The bias is added in the float
that came in: its gradient is a sum over batch and positions, which a short float cannot hold (in
bfloat16 256 + 1 is 256). Parameters, what a head makes of its layer's numbers, log-probs, KLs and
logsumexps are not touched. Attention and recurrent layers of `jaxprob.nn`, `OptimizedLSTMCell` and
variational layers, which multiply by parameters of other names, stay as they are.

The smallest number of float16 is 6e-8: less than a gradient of a mean over a large batch. There
each contraction scales the gradient that it gets, and scales its results back. (A loss in float16
can therefore be differentiated in reverse mode only.)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jax.extend.core.primitives import conv_general_dilated_p, dot_general_p

from jaxprob.operations.convolution import convolution_p
from jaxprob.operations.linen import fast_convolutions
from jaxprob.operations.rewriting import rewritten
from jaxprob.types import Array, Batch, Key, LossFn, Metrics, Params

__all__ = ["in_precision"]

WEIGHTS = ("kernel", "weight")

CONTRACTIONS = (conv_general_dilated_p, convolution_p, dot_general_p)


def in_precision(loss_fn: LossFn, compute_dtype: Any) -> LossFn:
    """Returns the loss with the contractions of its layers in `compute_dtype`.

    Args:
      loss_fn: The loss.
      compute_dtype: A float dtype such as `jnp.bfloat16`, or None for no change.

    Raises:
      ValueError: Not a float dtype.
    """
    if compute_dtype is None:
        return loss_fn
    try:
        dtype = jnp.dtype(compute_dtype)
        known = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise ValueError(
            f"fit: compute_dtype must be a float dtype such as jnp.bfloat16; got {compute_dtype!r}."
        )
    return ShortLoss(loss_fn, str(dtype))


@dataclasses.dataclass(frozen=True)
class ShortLoss:
    """A loss under the interceptor; equal to another of the same loss: both compile once."""

    loss_fn: LossFn
    dtype: str

    @property
    def uses_step(self) -> bool:
        """Passed on from the loss."""
        return getattr(self.loss_fn, "uses_step", False)

    @property
    def evaluate(self) -> "ShortLoss":
        """The loss for validation, in the same dtype."""
        return ShortLoss(getattr(self.loss_fn, "evaluate", self.loss_fn), self.dtype)

    def __call__(self, params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        with nn.intercept_methods(ShortLayers(jnp.dtype(self.dtype))), fast_convolutions():
            return self.loss_fn(params, batch, key)


class ShortLayers:
    """The interceptor: hands a layer's own computation to `in_short`."""

    def __init__(self, dtype: Any):
        self.dtype = dtype
        self.inside = False  # of a layer that is being traced alone

    def __call__(self, next_fun: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        call = context.method_name == "__call__"
        if self.inside or not call or not _contracts(module, args, self.dtype):
            return next_fun(*args, **kwargs)
        # The same layer once more, outside of its parent: its parameters can be handed to it.
        alone = module.clone(parent=None, name=None)

        def layer(params: Params, x: Array) -> Any:
            return alone.apply({"params": params}, x, **kwargs)

        self.inside = True
        try:
            return in_short(layer, self.dtype)(dict(module.variables["params"]), *args)
        finally:
            self.inside = False


def in_short(function: Callable[..., Any], dtype: Any) -> Callable[..., Any]:
    """Returns the function with its matrix products and convolutions in `dtype`, all else as is."""

    def replace(eqn: JaxprEqn, operands: list[Any]) -> Array | None:
        if eqn.primitive in CONTRACTIONS and all(_is_float(x) for x in operands):
            return _contraction(eqn, dtype)(*operands)
        return None

    return rewritten(function, replace)


def _contraction(eqn: JaxprEqn, dtype: Any) -> Callable[[Array, Array], Array]:
    """The product of two arrays, of which both and the result are rounded to `dtype`."""
    wide = eqn.outvars[0].aval.dtype
    params = dict(eqn.params)
    if "preferred_element_type" in params:
        params["preferred_element_type"] = dtype

    def short(a: Array, b: Array) -> Array:
        return eqn.primitive.bind(a, b, **params)

    def product(a: Array, b: Array) -> Array:
        return short(a.astype(dtype), b.astype(dtype)).astype(wide)

    if dtype != jnp.float16:
        return product
    scaled = jax.custom_vjp(product)

    def forward(a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
        return product(a, b), (a, b)

    def backward(operands: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        _, pull = jax.vjp(short, *(x.astype(dtype) for x in operands))
        largest = jnp.maximum(*(jnp.max(jnp.abs(x), initial=0) for x in operands))
        # No sum of products is larger than this, so none overflows after the division.
        bound = jnp.sum(jnp.abs(gradient)) * jnp.maximum(largest.astype(wide), 1)
        scale = jnp.where(bound == 0, 1, 2.0**15 / bound)
        results = pull((gradient * scale).astype(dtype))
        a, b = (g.astype(x.dtype) / scale for g, x in zip(results, operands, strict=True))
        return a, b

    scaled.defvjp(forward, backward)
    return scaled


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def _contracts(module: nn.Module, args: tuple, dtype: Any) -> bool:
    if module.is_initializing() or len(args) != 1 or not hasattr(module, "features"):
        return False
    if not isinstance(args[0], jax.Array) or not jnp.issubdtype(args[0].dtype, jnp.floating):
        return False
    if args[0].dtype == dtype:  # nothing to shorten
        return False
    variables = module.variables
    params = variables.get("params", {})
    names = set(params)
    return (
        set(variables) == {"params"}
        and len(names & set(WEIGHTS)) == 1
        and names <= {*WEIGHTS, "bias"}
        and all(isinstance(value, jax.Array) for value in params.values())
    )
