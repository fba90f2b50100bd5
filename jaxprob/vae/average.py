"""What stands for p(x | z) as a whole: its mean, and of classes, which have none, the mode.

Twin: `torch_ref/vae/average.py`.
"""

from typing import Any

import distrax
import jax.numpy as jnp

from jaxprob.types import Array

__all__ = ["mean_or_mode"]


def mean_or_mode(owner: str, p: Any) -> Array:
    """Returns the mean of a distribution, of classes the most probable one, `[*B, *event]`.

    Raises:
      ValueError: A distribution that has no mean in closed form.
    """
    inner = p
    while isinstance(inner, distrax.Independent):
        inner = inner.distribution
    if isinstance(inner, distrax.Categorical):
        return jnp.argmax(inner.logits, axis=-1)
    try:
        return p.mean()
    except (NotImplementedError, AttributeError) as error:
        raise ValueError(
            f"{owner}: p(x | z) is {inner.name}, which has no mean. Draw from it instead, "
            "mean=False, or take what you want to see from "
            "model.apply(variables, z, method='decode')."
        ) from error
