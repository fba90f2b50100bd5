"""The log-density that every sampler of weights needs.

    log p(w, D) = sum_n weight_n log p(y_n | x_n, w) + log p(w)

Twin: `torch_ref/bayes/log_joint.py`. Source: MacKay, "A practical Bayesian framework for
backpropagation networks" (1992), section 2.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxprob.batches import inputs_of, weighted_sum
from jaxprob.nn.apply import call
from jaxprob.objectives.likelihood import log_likelihood_of_batch
from jaxprob.objectives.maximum_a_posteriori import Prior, fixed_prior
from jaxprob.objectives.priors import HierarchicalGaussianPrior
from jaxprob.types import Array, Batch, Params

__all__ = ["log_joint"]


def log_joint(
    model: nn.Module,
    prior: Prior | HierarchicalGaussianPrior,
    data: Batch,
    inputs: Sequence[str] = ("x",),
) -> Callable[[Params], Array]:
    """Returns the unnormalised log-posterior of the weights of a model.

    Args:
      model: Linen module, `apply({"params": w}, x)` -> distribution with batch shape `[N]`.
      prior: A prior of `objectives`, or anything with `log_prob(params)`.
      data: The whole data set, N rows: the inputs and "y", and where they apply "weight" (a row
        counts so many times), "mask" and "censored".
      inputs: Entries of `data` that the model takes, in order.

    Returns:
      `log_density(params)` in nats, a scalar.

    Raises:
      ValueError: A prior whose parts are learned: a sampler has no place for them.
    """
    fixed = fixed_prior("log_joint", prior)
    if not isinstance(data, Mapping):
        raise ValueError(
            'log_joint: data must be a dict of arrays, {"x": x, "y": y}; got '
            f"{type(data).__name__}."
        )
    arrays = {name: jnp.asarray(value) for name, value in data.items() if value is not None}

    def log_density(params: Params) -> Array:
        prediction, _ = call(model, {"params": params}, inputs_of(model, arrays, inputs))
        terms = log_likelihood_of_batch(prediction, arrays)
        return weighted_sum(terms, arrays) + fixed.log_prob(params)

    return log_density
