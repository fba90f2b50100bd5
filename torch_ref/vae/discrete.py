"""Variational autoencoders with binary or categorical latents.

Twin of `jaxprob/vae/discrete.py`.
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_ref.batches import weighted_mean
from torch_ref.distributions import Bernoulli, Distribution, Independent, OneHotCategorical
from torch_ref.distributions.base import log_sum_exp
from torch_ref.objectives.annealing import Schedule, mark_schedules, weight_at
from torch_ref.objectives.estimators import Estimator, score_function, states
from torch_ref.objectives.likelihood import LossFn
from torch_ref.vae.inputs import (
    hand_on,
    inputs_beside,
    log_likelihood_of_inputs,
    observed_inputs,
)

__all__ = [
    "DiscreteVAE",
    "DiscreteVAEOutput",
    "exact_log_marginal",
    "negative_discrete_elbo",
    "with_estimator_state",
]


class DiscreteVAEOutput(NamedTuple):
    """One pass: q(z | x), a draw z, and p(x | z)."""

    q: Distribution
    z: Tensor
    p: Distribution


class DiscreteVAE(nn.Module):
    """Encoder, discrete latents, decoder; `in_features` is the size of the encoder's features."""

    takes: tuple[str, ...] = ()
    hands_on_to = ("encoder", "decoder")

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        in_features: int,
        latent_dim: int,
        num_categories: int = 2,
        learn_prior: bool = False,
        baseline: nn.Module | None = None,
        control: nn.Module | None = None,
    ):
        super().__init__()
        classes = () if num_categories == 2 else (num_categories,)
        self.latent_shape = (latent_dim, *classes)
        self.encoder, self.decoder = encoder, decoder
        self.to_latent = nn.Linear(in_features, math.prod(self.latent_shape))
        self.prior_logits = nn.Parameter(torch.zeros(self.latent_shape)) if learn_prior else None
        self.baseline, self.control = baseline, control

    def forward(self, x: Tensor, key: Tensor, **given: Tensor) -> DiscreteVAEOutput:
        """Encodes, draws and decodes."""
        q = self.encode(x, **given)
        z = q.draw(key).to(q.float_dtype())
        return DiscreteVAEOutput(q, z, self.decode(z, **given))

    def encode(self, x: Tensor, **given: Tensor) -> Distribution:
        """Returns q(z | x)."""
        features = hand_on(self.encoder, x, given)
        return self._latents(self.to_latent(features).unflatten(-1, self.latent_shape))

    def decode(self, z: Tensor, **given: Tensor) -> Distribution:
        """Returns p(x | z)."""
        return hand_on(self.decoder, z.flatten(1), given)

    def prior(self, dtype: torch.dtype | None = None) -> Distribution:
        """Returns p(z)."""
        if self.prior_logits is not None:
            return self._latents(self.prior_logits)
        return self._latents(torch.zeros(self.latent_shape, dtype=dtype))

    def predict_reward(self, x: Tensor) -> Tensor | None:
        """Returns the baseline's b(x) `[B]`, or None."""
        return None if self.baseline is None else self.baseline(x).squeeze(-1)

    def predict_control(self, x: Tensor, z: Tensor) -> Tensor:
        """Returns the learned part of the control variate `[B]`."""
        if self.control is None:
            raise ValueError("DiscreteVAE: the estimator learns a control; the model has none.")
        return self.control(torch.cat([x.flatten(1), z.flatten(1)], -1)).squeeze(-1)

    def _latents(self, logits: Tensor) -> Distribution:
        family = Bernoulli if len(self.latent_shape) == 1 else OneHotCategorical
        return Independent(family(logits=logits), 1)


def with_estimator_state(model: DiscreteVAE, estimator: Estimator) -> DiscreteVAE:
    """Gives the model buffers `estimator.<name>` for the moving averages of an estimator."""
    state = estimator.init()
    if state:
        model.estimator = nn.Module()
        for name, value in state.items():
            model.estimator.register_buffer(name, value)
    return model


def negative_discrete_elbo(
    model: DiscreteVAE, estimator: Estimator | None = None, beta: float | Schedule = 1.0
) -> LossFn:
    """Returns the loss -ELBO; moving averages are buffers, which it updates."""
    estimator = estimator or score_function("leave_one_out", 4)
    if estimator.unit_score and (callable(beta) or beta != 1.0):
        raise ValueError(f"negative_discrete_elbo: {estimator.name} wants beta=1.")

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x, given = observed_inputs(batch), inputs_beside(model, batch)
        q = model.encode(x, **given)
        p = model.prior(q.float_dtype())
        weight = weight_at(beta, batch, "negative_discrete_elbo", model.training)

        def log_likelihood(z: Tensor) -> Tensor:
            return log_likelihood_of_inputs(model.decode(z, **given), batch)

        def log_weight(z: Tensor) -> Tensor:
            log_q = q.log_prob(z)
            log_q = log_q.detach() if estimator.shortened else log_q
            return log_likelihood(z) + weight * (p.log_prob(z) - log_q)

        learned = model.predict_reward(x) if estimator.learns_baseline else None
        if estimator.learns_control:
            learned = functools.partial(model.predict_control, x)
        buffers = getattr(model, "estimator", None)
        one_expectation = estimator.log_mean_exp or estimator.shortened
        estimate = estimator(
            q,
            log_weight if one_expectation else log_likelihood,
            key,
            batch=batch,
            baseline=learned,
            state=None if buffers is None else dict(buffers.named_buffers()),
        )
        nll = -weighted_mean(estimate.value, batch)
        loss, metrics = nll, {"nll": nll}
        if not one_expectation:
            metrics["kl"] = weighted_mean(q.kl_divergence(p), batch)
            loss = loss + weight * metrics["kl"]
        if estimator.learns_baseline or estimator.learns_control:
            metrics["baseline_loss"] = weighted_mean(estimate.baseline_loss, batch)
            loss = loss + metrics["baseline_loss"] - metrics["baseline_loss"].detach()
        for name, value in estimate.state.items():
            getattr(buffers, name).copy_(value)
        return loss, metrics

    mark_schedules(loss_fn, beta, *estimator.schedules)
    return loss_fn


def exact_log_marginal(model: DiscreteVAE, batch: Mapping[str, Tensor]) -> Tensor:
    """Returns log p(x) `[B]` by the sum over all states of the latents."""
    p, rows, given = model.prior(), len(batch["x"]), inputs_beside(model, batch)
    terms = []
    for state in states(p):
        z = state.to(p.float_dtype())
        decoded = model.decode(z.expand(rows, *z.shape), **given)
        terms.append(log_likelihood_of_inputs(decoded, batch) + p.log_prob(z))
    return log_sum_exp(torch.stack(terms), dim=0)
