"""Gradient clipping by the norm of all gradients together.

    g <- g min(1, max_norm / (|g| + 1e-6))

Source: Pascanu, Mikolov & Bengio 2013, Algorithm 1; `torch.nn.utils.clip_grad_norm_`.
"""

import jax
import jax.numpy as jnp
import optax

from jaxprob.optim.arguments import Number, check, check_non_negative, value_at
from jaxprob.optim.arithmetic import combine, first_step, like
from jaxprob.types import Array, ArrayLike, Params

__all__ = ["clip_grad_norm"]


def clip_grad_norm(max_norm: ArrayLike, norm_type: Number = 2.0) -> optax.GradientTransformation:
    """`torch.nn.utils.clip_grad_norm_`, to stand before the optimiser in an `optax.chain`.

    Beside `optax.clip_by_global_norm`: the 1e-6 in the denominator, which also shrinks gradients
    whose norm is just below `max_norm`, and other norms than the Euclidean. Norms of bfloat16 and
    float16 are taken in float32, where torch's overflow: a float16 gradient of norm above 65504
    becomes 0 there.

    Args:
        max_norm: largest norm that passes unchanged.
        norm_type: order p of the norm; `inf` for the largest absolute entry.

    Returns:
        A transformation without state.

    Raises:
        ValueError: if `max_norm` is negative or `norm_type` is not a number.
    """
    check_non_negative(max_norm=max_norm)
    check("norm_type", norm_type, lambda p: p == p, "a number or inf", "try 2.0")
    order = float(norm_type)

    def clip(updates: Params, params: Params | None = None) -> Params:
        del params
        norms = [_norm(leaf, order) for leaf in jax.tree.leaves(updates) if jnp.size(leaf)]
        if not norms:
            return updates
        total = _norm(jnp.stack(norms), order)
        limit = value_at(max_norm, first_step())
        factor = jnp.minimum(like(limit, total) / (total + 1e-6), 1.0)
        return combine(lambda g: like(factor, g) * g, updates)

    return optax.stateless(clip)


def _norm(tensor: Array, order: float) -> Array:
    wide = jnp.asarray(tensor, jnp.promote_types(jnp.result_type(tensor), jnp.float32))
    return jnp.linalg.norm(wide.reshape(-1), ord=order)
