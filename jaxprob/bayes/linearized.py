"""The model as a linear function of its weights, and what follows in closed form.

    eta(x, w) = eta(x, w*) + J(x) (w - w*)

in the unconstrained parameters eta of the distribution that the model returns (loc, log-scale,
logits, ...), so that scales stay positive for every w. Under w ~ N(w*, Sigma) an element of eta is
normal with variance v = J Sigma J^T:

    Normal         N(loc, scale^2 + v)
    Bernoulli      logits / sqrt(1 + pi v / 8)
    Categorical    softmax(f_k / sqrt(1 + pi v_k / 8)),  v_k the variance of f_k

The last two are approximations, by a probit of the same slope as the logistic at zero. Of classes
there are two, since a distribution over classes knows its logits up to a number that is common to
all: f = log p ("log_probs"), each class against all, or f = log p less its mean over the classes
("logits"), the outputs of the network as they are usually scaled, their common part left out. A
class of probability near 1 has a log p of small variance, so that the first leaves sure predictions
as they are; it is the nearer to the average over draws on the networks of our tests, where the
probabilities are off by .014 at worst against .065.

Twin: `torch_ref/bayes/linearized.py`. Source: Immer, Korzepa & Bauer (AISTATS 2021), eq. 9 and 10;
MacKay, "The evidence framework applied to classification networks" (1992), eq. 10, of two classes.
"""

import math
from collections.abc import Callable
from typing import Any

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.batches import Inputs
from jaxprob.bayes.parameters import from_real, to_real
from jaxprob.distributions import Bernoulli, Categorical, Independent, Normal
from jaxprob.nn.apply import call
from jaxprob.requirements import require_choice
from jaxprob.types import Array, Params

__all__ = ["CLASSES", "LinearizedModel", "closed_form"]

CLASSES = ("log_probs", "logits")


class _Held:
    """Model and mean as one constant: compared by identity, not adopted as a submodule."""

    def __init__(self, model: nn.Module, mean: Params):
        self.model = model
        self.mean = mean


class LinearizedModel(nn.Module):
    """The model, linear in its weights around a mean; has no weights of its own.

    Attributes:
      held: Model and mean; see `around`.
    """

    held: _Held

    @classmethod
    def around(cls, model: nn.Module, mean: Params) -> "LinearizedModel":
        """Returns the linearisation of `model` around the params `mean`."""
        return cls(_Held(model, mean))

    @property
    def wrapped(self) -> nn.Module:
        """The model that is called."""
        return self.held.model

    @property
    def takes(self) -> tuple[str, ...]:
        """What the model takes by name."""
        return getattr(self.held.model, "takes", ())

    def __call__(self, *inputs: Any, **extra: Any) -> distrax.Distribution:
        """Maps inputs to a distribution, under the params that `apply` was given."""
        model, mean = self.held.model, self.held.mean
        weights = self.variables["params"]

        def eta_of(w: Params) -> tuple[Any, Any]:
            distribution, _ = call(model, {"params": w}, Inputs(inputs, extra))
            return to_real(distribution), distribution

        step = jax.tree.map(lambda w, m: jnp.asarray(w, jnp.result_type(m)) - m, weights, mean)
        eta, slope, distribution = jax.jvp(eta_of, (mean,), (step,), has_aux=True)
        return from_real(distribution, jax.tree.map(jnp.add, eta, slope))


def closed_form(
    predict: Callable[[Any, Inputs], Any],
    weights: Any,
    x: Inputs,
    spread: Callable[[Any], Array],
    chunk_size: int,
    classes: str = "log_probs",
) -> distrax.Distribution:
    """Returns the predictive of the linearised model.

    Args:
      predict: (weights, x) -> distribution with batch shape `[B]`.
      weights: Pytree, the mean.
      x: What the model is called with, rows B.
      spread: g -> g^T Sigma g for one gradient g, a pytree like `weights`.
      chunk_size: Rows at a time.
      classes: What is scaled of a Categorical, one of CLASSES.

    Raises:
      ValueError: Another family than Normal, Bernoulli and Categorical, or another scaling.
    """
    require_choice("predict_glm", CLASSES, classes=classes)
    distribution = predict(weights, x)
    axes, inner = 0, distribution
    while isinstance(inner, Independent):
        axes, inner = axes + inner.reinterpreted_batch_ndims, inner.distribution
    if type(inner) not in (Normal, Bernoulli, Categorical):
        raise ValueError(
            f"predict_glm: {type(inner).__name__} has no closed form. Sample the linearised model: "
            "bayes.predict(laplace.linearized(state), laplace.sample(state, key, 100), x)."
        )

    def scaled_of(part: Any) -> Array:
        if isinstance(part, Normal):
            return part.loc
        centred = isinstance(part, Categorical) and classes == "logits"
        return part.logits - jnp.mean(part.logits, -1, keepdims=True) if centred else part.logits

    def variance(row: Inputs) -> Array:
        def value_of(w: Any) -> Array:
            part = predict(w, jax.tree.map(lambda value: value[None], row))
            while isinstance(part, Independent):
                part = part.distribution
            return scaled_of(part)[0]

        value, pullback = jax.vjp(value_of, weights)
        basis = jnp.eye(value.size, dtype=value.dtype).reshape(value.size, *value.shape)
        (slopes,) = jax.vmap(pullback)(basis)
        return jax.vmap(spread)(slopes).reshape(value.shape)

    variances = jax.lax.map(variance, x, batch_size=chunk_size)
    if isinstance(inner, Normal):
        result = Normal(inner.loc, jnp.sqrt(inner.scale**2 + variances))
    else:
        result = type(inner)(logits=scaled_of(inner) / jnp.sqrt(1.0 + math.pi / 8.0 * variances))
    return Independent(result, axes) if axes else result
