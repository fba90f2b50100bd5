"""Estimators by the path of a draw: reparameterised, relaxed, straight through, REBAR, RELAX.

Twin of `jaxprob/objectives/estimators/pathwise.py`.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_ref import random
from torch_ref.distributions import Bernoulli, RelaxedBernoulli, RelaxedOneHotCategorical
from torch_ref.objectives.annealing import Schedule, weight_at
from torch_ref.objectives.estimators.contract import (
    Estimate,
    Estimator,
    draws,
    factors,
    log_prob_of_draws,
    require_samples,
    score_term,
    without_state,
)

__all__ = ["gumbel_softmax", "rebar", "relax", "reparameterized", "straight_through"]


def reparameterized(num_samples: int = 1) -> Estimator:
    """Returns the pathwise estimator."""
    require_samples("reparameterized", num_samples)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        values = [f(q.draw(k)) for k in random.split(key, num_samples)]
        return without_state(torch.stack(values).mean(0))

    return Estimator("reparameterized", estimate, num_samples)


def gumbel_softmax(
    temperature: float | Schedule = 0.5, num_samples: int = 1, hard: bool = False
) -> Estimator:
    """Returns the estimator by relaxed draws; with `hard`, f sees the nearest class."""
    require_samples("gumbel_softmax", num_samples)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        factor = factors(q)
        t = weight_at(temperature, batch, "gumbel_softmax")
        family = RelaxedBernoulli if isinstance(factor, Bernoulli) else RelaxedOneHotCategorical
        values = []
        for k in random.split(key, num_samples):
            z = family(t, logits=factor.logits).draw(k)
            values.append(f(_forwards(_nearest(z, factor), z) if hard else z))
        return without_state(torch.stack(values).mean(0))

    name = "straight-through Gumbel-softmax" if hard else "Gumbel-softmax"
    return Estimator(name, estimate, num_samples, relaxed=not hard, schedules=(temperature,))


def straight_through(
    backward: Literal["soft", "identity"] = "soft", num_samples: int = 1
) -> Estimator:
    """Returns the straight-through estimator."""
    require_samples("straight_through", num_samples)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        factor = factors(q)
        path = factor.probs if backward == "soft" else factor.logits
        values = [f(_forwards(z, path)) for z in draws(q, key, num_samples)]
        return without_state(torch.stack(values).mean(0))

    return Estimator(f"straight through, {backward}", estimate, num_samples)


def rebar(
    temperature: float | Schedule = 0.5, strength: float = 1.0, num_samples: int = 1
) -> Estimator:
    """Returns REBAR with a fixed temperature and a fixed strength of the control variate."""
    require_samples("rebar", num_samples)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        t = weight_at(temperature, batch, "rebar")
        total = 0.0
        for k in random.split(key, num_samples):
            points = _coupled_draws(factors(q), t, k)
            value, soft, soft_given = map(f, points)
            score = score_term(value - strength * soft_given, log_prob_of_draws(q, points[0]))
            control = strength * (soft - soft_given)
            total = total + value + score + control - control.detach()
        return without_state(total / num_samples)

    return Estimator("REBAR", estimate, num_samples, schedules=(temperature,))


def relax(
    temperature: float | Schedule = 0.5, strength: float = 1.0, num_samples: int = 1
) -> Estimator:
    """Returns RELAX: REBAR with a learned function r of relaxed draws in its control variate."""
    require_samples("relax", num_samples)

    @torch.enable_grad()
    def estimate(q, f, key, batch, learned, state) -> Estimate:
        factor = factors(q)
        t = weight_at(temperature, batch, "relax")
        logits = factor.logits.detach().requires_grad_()
        moved = type(factor)(logits=logits)
        of_rows = q.batch_shape + (1,) * (logits.ndim - len(q.batch_shape))
        values, gradients = [], []
        for k in random.split(key, num_samples):
            hard, soft, given = _coupled_draws(moved, t, k)
            value = f(hard)
            signal = value.detach() - learned(given.detach())
            path = learned(soft) - learned(given)
            # r's own slopes are of use for the loss of r: they stay in the graph
            (gradient,) = torch.autograd.grad(path.sum(), logits, create_graph=True)
            if strength != 0.0:
                signal = signal - strength * f(given).detach()
                path = strength * (f(soft) - f(given))
                gradient = gradient + torch.autograd.grad(path.sum(), logits, retain_graph=True)[0]
            log_q = moved.log_prob(hard).sum()
            (score,) = torch.autograd.grad(log_q, logits, retain_graph=True)
            gradients.append(gradient + signal.reshape(of_rows) * score)
            values.append(value)
        gradient = torch.stack(gradients).mean(0)
        value = torch.stack(values).mean(0)
        dims = tuple(range(len(q.batch_shape), logits.ndim))
        value = value + (gradient.detach() * (factor.logits - logits.detach())).sum(dims)
        return Estimate(value, gradient.square().sum(dims), {})

    return Estimator("RELAX", estimate, num_samples, learns_control=True, schedules=(temperature,))


def _coupled_draws(factor, t: Tensor | float, key: Tensor) -> list[Tensor]:
    """A draw, the relaxed draw that it is nearest to, and another one given the draw alone."""
    free_key, given_key = random.split(key)
    log_p = factor.logits
    if isinstance(factor, Bernoulli):  # as two classes
        log_p = F.log_softmax(torch.stack([torch.zeros_like(log_p), log_p], -1), -1)
    scores = log_p + random.gumbel(free_key, log_p.shape, log_p.dtype)
    hard = F.one_hot(scores.argmax(-1), log_p.shape[-1]).to(log_p)
    noise = random.gumbel(given_key, log_p.shape, log_p.dtype)
    # the winner's score is Gumbel(0); each other one is cut off below it
    top = (hard * noise).sum(-1, keepdim=True)
    others = -((-log_p - noise).exp() + (-top).exp()).log()
    given = torch.where(hard.bool(), top, others)
    points = [hard, (scores / t).softmax(-1), (given / t).softmax(-1)]
    return [p[..., 1] for p in points] if isinstance(factor, Bernoulli) else points


def _forwards(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of the first with the gradient of the second."""
    return hard.detach() + soft - soft.detach()


def _nearest(z: Tensor, factor) -> Tensor:
    if isinstance(factor, Bernoulli):
        return z.detach().round()
    return F.one_hot(z.argmax(-1), z.shape[-1]).to(z)
