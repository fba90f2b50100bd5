"""Losses that are no likelihood of the model's own distribution, and why one wants them.

    pinball:   mean_b sum_d mean_q  2 max(a_q r, (a_q - 1) r),   r = y - v_q
    beta-NLL:  mean_b sum_d  stop_gradient(variance^beta) (-log p(y))

Twin: `torch_ref/objectives/criteria.py`.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.batches import inputs_of, weighted_mean
from jaxprob.distributions import Distribution, Independent, InterpolatedQuantiles
from jaxprob.nn.apply import call
from jaxprob.objectives.likelihood import log_likelihood
from jaxprob.requirements import require_in
from jaxprob.types import Array, Batch, Key, LossFn, Metrics, Params

__all__ = ["beta_nll", "pinball_loss"]


def pinball_loss(model: nn.Module, inputs: Sequence[str] = ("x",)) -> LossFn:
    """Returns the pinball loss of a model that ends in a `QuantileHead`.

    It needs no density: its minimiser is the quantiles themselves, whatever the distribution. The
    mean over levels of twice the pinball loss tends to the CRPS as the levels get denser, so it is
    in the units of `y`. Rows may be weighted by `batch["weight"]`.

    Args:
      model: Linen module that returns `Independent(InterpolatedQuantiles)`.
      inputs: Entries of the batch that the model takes, in order.

    Returns:
      `loss_fn(params, batch, key) -> (loss, {"pinball": loss, "nll": ...})`.

    Raises:
      ValueError: (From the loss) a model that does not state quantiles.

    Source: Koenker & Bassett, "Regression quantiles" (Econometrica 1978), eq. 3.1.
    """

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        prediction, _ = call(model, {"params": params}, inputs_of(model, batch, inputs))
        nll = -weighted_mean(log_likelihood(prediction, batch["y"]), batch)
        stated = _elements(prediction)
        if not isinstance(stated, InterpolatedQuantiles):
            raise ValueError(
                f"pinball_loss: the model returned {type(stated).__name__}; it must end in "
                "heads.QuantileHead."
            )
        error = jnp.asarray(batch["y"])[..., None] - stated.values
        loss = 2.0 * jnp.maximum(stated.levels * error, (stated.levels - 1.0) * error)
        loss = jnp.mean(loss, axis=-1)
        pinball = weighted_mean(jnp.sum(loss, axis=tuple(range(1, loss.ndim))), batch)
        return pinball, {"pinball": pinball, "nll": nll}

    return loss_fn


def beta_nll(model: nn.Module, beta: float = 0.5, inputs: Sequence[str] = ("x",)) -> LossFn:
    """Returns the beta-NLL of a model with a normal head, against variance collapse.

    The likelihood gives points with a large predicted variance little weight, so a network may
    explain a badly fitted region as noise and stop learning there. Weighting each element by
    variance^beta, held constant, undoes this: beta = 0 is the likelihood, beta = 1 fits the mean as
    the squared error does.

    Args:
      model: Linen module that returns `Independent` of scalar distributions.
      beta: Between 0 and 1.
      inputs: Entries of the batch that the model takes, in order.

    Returns:
      `loss_fn(params, batch, key) -> (loss, {"beta_nll": loss, "nll": ...})`; "nll" is the plain
      one, in nats.

    Raises:
      ValueError: A beta outside [0, 1].

    Source: Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation" (ICLR 2022),
    eq. 5.
    """
    require_in("beta_nll", "[0, 1]", "Write 0.5.", beta=beta)

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        prediction, _ = call(model, {"params": params}, inputs_of(model, batch, inputs))
        nll = -weighted_mean(log_likelihood(prediction, batch["y"]), batch)
        factors = _elements(prediction)
        weight = jax.lax.stop_gradient(factors.variance() ** beta)
        terms = -weight * factors.log_prob(jnp.asarray(batch["y"]))
        loss = weighted_mean(jnp.sum(terms, axis=tuple(range(1, terms.ndim))), batch)
        return loss, {"beta_nll": loss, "nll": nll}

    return loss_fn


def _elements(prediction: Distribution) -> Distribution:
    return prediction.marginal() if isinstance(prediction, Independent) else prediction
