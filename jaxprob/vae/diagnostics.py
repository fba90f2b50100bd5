"""Is the latent used? KL of each latent, active units, mutual information, and a sentence.

    activity_l  = Var_x E_q[z_l | x]          active where it exceeds 0.01
    information = E_x KL(q(z | x) || q(z)),   q(z) = sum_b s_b q(z | x_b)
    KL          = information + KL(q(z) || p(z))

Each row has the share s_b of the means: 1 / B, or its "weight" over the sum of all. The last term
is what the prior does not know of the codes: where it is large, samples from the prior fall where
the decoder has seen nothing.

Twin: `torch_ref/vae/diagnostics.py`. Sources: Burda, Grosse & Salakhutdinov (2016), section 5.2;
Hoffman & Johnson, "ELBO surgery" (2016), eqs. 7-9.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Shaped

from jaxprob.batches import as_batch, observed, weighted_mean
from jaxprob.nn.apply import hashable
from jaxprob.types import AnyArray, Array, Batch, Key, Params, summary
from jaxprob.vae.latents import apply, draw, log_likelihood

__all__ = ["ACTIVE", "Diagnostics", "diagnostics"]

ACTIVE = 0.01
"""Variance over x of a latent's posterior mean above which it counts as active."""


class Diagnostics(NamedTuple):
    """How a model uses its latents; all but counts in nats, means over rows.

    Attributes:
      elbo: The ELBO by one draw a row.
      nll: -log p(x | z), by the same draws.
      kl: KL(q(z | x) || p(z)): the sum of the next.
      kl_per_latent: KL of each latent `[L]` (one number where latents are dependent).
      activity: Variance over x of each latent's posterior mean `[L]`.
      active: Which latents are active `[L]`.
      active_units: How many are.
      mutual_information: Information about the row in z. At most log B: with so few rows no more
        can be seen.
      marginal_kl: KL(q(z) || p(z)), the rest of the KL.
      message: What this means, and what to do about it.
    """

    elbo: float
    nll: float
    kl: float
    kl_per_latent: np.ndarray
    activity: np.ndarray
    active: np.ndarray
    active_units: int
    mutual_information: float
    marginal_kl: float
    message: str

    def __repr__(self) -> str:
        return summary("Diagnostics", **self._asdict())

    def __str__(self) -> str:
        return (
            f"ELBO {self.elbo:.2f} = -(reconstruction {self.nll:.2f} + KL {self.kl:.2f}) nats; "
            f"{self.active_units} of {len(self.active)} latents active; information "
            f"{self.mutual_information:.2f}, KL of the aggregated posterior "
            f"{self.marginal_kl:.2f}.\n{self.message}"
        )


def diagnostics(
    model: nn.Module,
    params: Params,
    x: Shaped[AnyArray, "B *D"] | Batch,
    key: Key,
    given: Batch | None = None,
) -> Diagnostics:
    """Says how much of x the latents hold, and what to do if that is nothing.

    Args:
      model: `VAE` or another `LatentVariableModel`.
      params: Its params.
      x: Rows `[B, *event]`, or a batch; at least 2, and some thousand are enough. Time grows as
        B^2.
      key: Key of one draw for each row.
      given: What stands beside x, by name: what the model takes, "weight" `[B]`, and "x_observed"
        (or "mask") of x's shape, True where x was observed. Under a prior that depends on a
        condition `marginal_kl` is the KL less the information and may be negative.

    Raises:
      ValueError: Fewer than two rows.
    """
    batch = as_batch(x, given)
    if not len(batch["x"]) >= 2:
        raise ValueError(
            "diagnostics: x must hold at least two rows, over which codes differ; got "
            f"{len(batch['x'])}."
        )
    found = latent_statistics(hashable(model), params, batch, key)
    nll, kl, activity, information = jax.tree.map(np.asarray, found)
    try:
        hint = _range_message(batch, _drawn(hashable(model), params, batch, key))
    except NotImplementedError:  # a likelihood that gives densities alone
        hint = ""
    active = activity > ACTIVE
    total = float(kl.sum())
    shares = np.asarray(_shares(batch, len(batch["x"]), kl.dtype))
    rows = math.exp(-np.sum(shares * np.log(np.where(shares > 0.0, shares, 1.0))))
    return Diagnostics(
        elbo=-(float(nll) + total),
        nll=float(nll),
        kl=total,
        kl_per_latent=kl,
        activity=activity,
        active=active,
        active_units=int(active.sum()),
        mutual_information=float(information),
        marginal_kl=total - float(information),
        message=_message(activity, int(active.sum()), float(information), total, rows) + hint,
    )


@functools.partial(jax.jit, static_argnums=0)
def latent_statistics(
    model: nn.Module, params: Params, batch: Batch, key: Key
) -> tuple[Array, ...]:
    """Returns -log p(x | z), KL and activity of each latent, and the information."""
    seen = draw(model, params, batch, key, 1)
    ask = functools.partial(apply, model, params, seen.extra)
    x, (q, z, p) = seen.batch["x"], seen.output
    mean = functools.partial(weighted_mean, batch=batch)
    columns = jax.vmap(mean, in_axes=-1)  # [B, L] -> [L]
    log_share = jnp.log(_shares(batch, len(x), z.dtype))
    log_q, log_prior = ask("log_densities_of_draws", seen.output)

    def log_aggregated(code):
        """Log q(z) at one code."""
        of_rows, _ = ask("log_densities", q, jnp.broadcast_to(code, (1, *z.shape[1:])))
        return logsumexp(jnp.sum(of_rows[0], axis=-1) + log_share)

    try:
        kl = columns(ask("kl_at_draws", seen.output))
    except NotImplementedError:
        kl = columns(jnp.mean(log_q - log_prior, axis=0))
    marginal = jax.lax.map(log_aggregated, z[0], batch_size=64)
    information = mean(jnp.sum(log_q[0], axis=-1) - marginal)
    nll = -mean(log_likelihood(p, seen.batch))
    code = ask("code", x)
    activity = columns((code - columns(code)[None]) ** 2)
    return nll, kl, activity, information


def _shares(batch: Batch, rows: int, dtype: Any) -> Array:
    """What each row has of the means `[B]`."""
    if batch.get("weight") is None:
        return jnp.full(rows, 1.0 / rows, dtype)
    weight = jnp.asarray(batch["weight"], dtype)
    return weight / jnp.sum(weight)


def _message(activity: np.ndarray, count: int, information: float, kl: float, rows: float) -> str:
    latents = len(activity)
    if count == 0:
        return (
            f"The posterior has collapsed: no latent depends on x (the largest variance of a "
            f"posterior mean is {activity.max():.1e}), and the decoder models the data without "
            "them. Raise beta from 0 (beta=objectives.linear_annealing(steps)), or set free_bits, "
            "0.1 for each latent or more, or make the decoder weaker."
        )
    if count < 0.5 * latents:
        return (
            f"{latents - count} of {latents} latents are not used. That is no harm as such: a "
            f"model with {count} would do. If reconstructions are poor, raise beta from 0 "
            "(beta=objectives.linear_annealing(steps)) or set free_bits."
        )
    if information > 0.8 * math.log(rows):
        return (
            f"The latents are in use, and tell the {rows:.0f} rows apart: the information cannot "
            "be seen above log(rows); give more rows to measure it."
        )
    if kl - information > information:
        return (
            "The latents are in use, but most of the KL is between the codes of all rows together "
            "and the prior: samples from the prior will look worse than reconstructions. Raise "
            "beta, or learn the prior."
        )
    return "The latents are in use."


@functools.partial(jax.jit, static_argnums=0)
def _drawn(model: nn.Module, params: Params, batch: Batch, key: Key) -> Array:
    """A draw of each row from p(x | z), of the latents whose density `latent_statistics` gives."""
    p = draw(model, params, batch, key, 1).output.p
    return p.sample(seed=jax.random.fold_in(key, 1))[0]


def _range_message(batch: Batch, drawn: Array) -> str:
    """A sentence where data that ends at a bound is modelled by a likelihood without one."""
    x, drawn = np.asarray(batch["x"]), np.asarray(drawn)
    mask = observed(batch, "x")
    seen = np.ones(x.shape, bool) if mask is None else np.asarray(mask, bool)
    if batch.get("lengths") is not None:
        steps = np.arange(x.shape[1]) < np.asarray(batch["lengths"])[:, None]
        seen &= steps.reshape(*steps.shape, *[1] * (x.ndim - 2))
    x, drawn = x[seen], drawn[seen]
    if not x.size:
        return ""
    low, high = x.min(), x.max()
    at_a_bound = np.mean((x == low) | (x == high))
    outside = np.mean((drawn < low) | (drawn > high))
    if at_a_bound < 0.05 or outside < 0.02:
        return ""
    return (
        f" Of the values that p(x | z) draws {outside:.0%} lie outside of [{low:.3g}, {high:.3g}], "
        "where all of x is, and much of it at an end: show means instead of draws, or take a "
        "likelihood that ends where the data does (BernoulliHead with binarize=True, or BetaHead)."
    )
