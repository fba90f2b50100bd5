"""Mixed precision: contractions of layers in a short float, everything else as it was.

A layer that contracts (Dense, DenseGeneral, Conv, ConvTranspose and their namesakes in
`jaxprob.nn`; any module whose only parameters are `kernel` or `weight` and `bias`, and that has
`features`) gets its inputs and parameters rounded to the short float and returns its result in the
float that came in; so does the layer inside a head. Parameters, what a head makes of its layer's
numbers, log-probs, KLs and logsumexps are not touched. Recurrent cells, attention of `jaxprob.nn`
and variational layers, which have parameters of other names, stay as they are.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.types import Array, Batch, Key, LossFn, Metrics, Params

__all__ = ["in_precision"]

WEIGHTS = ("kernel", "weight")


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
        with nn.intercept_methods(functools.partial(_contract_in, jnp.dtype(self.dtype))):
            return self.loss_fn(params, batch, key)


def _contract_in(dtype: Any, next_fun: Any, args: tuple, kwargs: dict, context: Any) -> Any:
    module = context.module
    if context.method_name != "__call__" or not _contracts(module, args, dtype):
        return next_fun(*args, **kwargs)
    (x,) = args
    params = {
        name: value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value
        for name, value in module.variables["params"].items()
    }
    # The same layer once more, outside of its parent: its parameters can be handed to it.
    alone = module.clone(parent=None, name=None)
    y = alone.apply({"params": params}, x.astype(dtype), **kwargs)
    return y.astype(jnp.result_type(x))


def _contracts(module: nn.Module, args: tuple, dtype: Any) -> bool:
    if module.is_initializing() or len(args) != 1 or not hasattr(module, "features"):
        return False
    if not isinstance(args[0], jax.Array) or not jnp.issubdtype(args[0].dtype, jnp.floating):
        return False
    if args[0].dtype == dtype:  # nothing to shorten, or the second call below
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
