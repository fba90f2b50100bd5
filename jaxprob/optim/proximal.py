"""Proximal steps: penalties that a gradient cannot follow to the end.

    w <- S(w + u, step x c),   S(v, t) = sign(v) max(|v| - t, 0)

Source: Beck & Teboulle, "A fast iterative shrinkage-thresholding algorithm" (SIAM J. Imaging
Sciences 2009), eq. 1.5.
"""

import numbers

import jax.numpy as jnp
import optax

from jaxprob.optim.arguments import check_non_negative
from jaxprob.optim.arithmetic import combine
from jaxprob.types import Array

__all__ = ["proximal_l1"]


def proximal_l1(
    optimizer: optax.GradientTransformation,
    lr: float | optax.Schedule,
    coefficient: float,
) -> optax.GradientTransformation:
    """Wraps an optimiser so that the L1 penalty coefficient |w| makes weights exactly zero.

    The penalty is not in the loss: after each step of `optimizer` every weight is moved towards
    zero by `lr * coefficient`, and stops there. With gradient descent of that learning rate the
    iteration converges to the minimum of loss + coefficient |w|_1 (ISTA); with other optimisers
    the weights that the loss does not hold are zero as well.

    Args:
      optimizer: Any optax transformation that descends.
      lr: Its learning rate, a number or a schedule of the step number.
      coefficient: Strength of the penalty (>= 0), in nats for one unit of weight; the prior it is
        is `objectives.prior_for_l1(coefficient, num_data)`.

    Raises:
      ValueError: A negative coefficient, or (from `update`) no `params`.
    """
    if not hasattr(optimizer, "init") or not hasattr(optimizer, "update"):
        raise ValueError(
            f"proximal_l1: optimizer must be an optax transformation such as optim.sgd(lr); got "
            f"{optimizer!r}."
        )
    check_non_negative(lr=lr)
    if not isinstance(coefficient, numbers.Real) or not coefficient >= 0:
        raise ValueError(f"proximal_l1: coefficient must be >= 0; got {coefficient!r}.")

    def init(params):
        return optimizer.init(params), jnp.zeros((), jnp.int32)

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError(
                "proximal_l1: update needs params; write update(grads, state, params)."
            )
        inner, count = state
        updates, inner = optax.with_extra_args_support(optimizer).update(
            updates, inner, params, **extra
        )
        threshold = (lr(count) if callable(lr) else lr) * coefficient

        def moved(weight: Array, step: Array) -> Array:
            target = weight + step
            size = jnp.abs(target) - jnp.asarray(threshold, target.dtype)
            kept = jnp.where(size > 0, jnp.sign(target) * size, 0)
            return kept - weight  # weight + (0 - weight) is 0 to the bit

        return combine(moved, params, updates), (inner, count + 1)

    return optax.GradientTransformationExtraArgs(init, update)
