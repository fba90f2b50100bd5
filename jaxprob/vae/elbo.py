"""The evidence lower bound of a model with latents.

    -ELBO = mean_b [-(1 / S) sum_s log p(x_b | z_s) + beta KL(q(z | x_b) || p(z))]
    with free bits:  beta sum_j max(free_bits, mean_b KL_j)  in the place of beta KL

Twin: `torch_ref/vae/elbo.py`. Sources: Kingma & Welling (2014), eqs. 2-3; Higgins et al.,
"beta-VAE" (2017), eq. 4; Kingma et al., "Improved variational inference with inverse autoregressive
flow" (2016), eq. 15 (free bits).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.batches import weighted_mean
from jaxprob.objectives.annealing import Schedule, follows_step, weight_at
from jaxprob.requirements import require_count, require_non_negative
from jaxprob.types import Array, Batch, Key, Loss, LossFn, Metrics, Params
from jaxprob.vae.latents import Latents, apply, draw, input_check, log_likelihood

__all__ = ["negative_elbo"]


def negative_elbo(
    model: nn.Module,
    beta: float | Schedule = 1.0,
    free_bits: float = 0.0,
    num_samples: int = 1,
    analytic_kl: bool = True,
    binarize: bool = False,
) -> Loss:
    """Returns the loss -ELBO, in nats a row.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      beta: Weight of the KL: 1 is a bound on log p(x), more asks for latents that are independent
        of each other, less for better reconstructions. Or a schedule, step -> weight, such as
        `objectives.linear_annealing(1000)`, which is the first remedy for a posterior that
        collapses.
      free_bits: Nats (the mean over the batch) below which the KL of a factor costs nothing more.
        Each latent is one where prior and posterior are independent; else all are one together.
      num_samples: Draws S for each row.
      analytic_kl: Whether the KL is the closed form; False estimates it from the draws.
      binarize: Whether "x" holds grey levels in [0, 1] from which pixels are seen in each step.

    Returns:
      `loss_fn(params, batch, key) -> (loss, metrics)`. `batch` holds "x" `[B, *event]`, and where
      they apply "weight" `[B]`, "x_observed" or "mask" `[B, *event]` (False where x is missing),
      and what the model takes beside x, such as "condition" `[B, C]`. Metrics hold
      "nll" (-log p(x | z)) and "kl" (the whole of it, without beta or free bits), in nats a row;
      under a schedule "beta" too, and with a stateful model its new "collections".
      `loss_fn.evaluate` is the same with the model in its mode of prediction, for validation, at
      the weight at which a schedule ends.

    Raises:
      ValueError: No samples, a negative weight, or negative free bits.
    """
    require_count("negative_elbo", num_samples=num_samples)
    require_non_negative("negative_elbo", "Write 1.0 for the ELBO.", beta=beta)
    require_non_negative("negative_elbo", "Write 0.0 for none.", free_bits=free_bits)

    def in_mode(train: bool) -> LossFn:
        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            seen = draw(model, params, batch, key, num_samples, train, binarize)
            nll = -weighted_mean(log_likelihood(seen.output.p, seen.batch), batch)
            kl = _mean_of_factors(_kl(model, params, seen, analytic_kl), batch)
            metrics: Metrics = {"nll": nll, "kl": jnp.sum(kl)}
            weight = weight_at(beta, batch, "negative_elbo", train)
            if callable(beta):
                metrics["beta"] = jnp.asarray(weight)
            if seen.collections:
                metrics["collections"] = seen.collections
            cost = jnp.maximum(kl, free_bits) if free_bits > 0 else kl
            return nll + weight * jnp.sum(cost), metrics

        return loss_fn

    return Loss.in_modes(in_mode, follows_step(beta), check=input_check(model, binarize))


def _kl(model: nn.Module, params: Params, seen: Latents, analytic: bool) -> Array:
    """KL of each row and factor `[B, J]`."""
    method = "kl_at_draws" if analytic else "log_densities_of_draws"
    found = apply(model, params, seen.extra, method, seen.output)
    if analytic:
        return found
    log_q, log_prior = found
    return jnp.mean(log_q - log_prior, axis=0)


def _mean_of_factors(values: Array, batch: Batch) -> Array:
    """Mean over the batch `[J]` of values `[B, J]`."""
    return jax.vmap(lambda column: weighted_mean(column, batch), in_axes=-1)(values)
