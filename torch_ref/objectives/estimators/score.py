"""Estimators by the score: REINFORCE with its baselines, NVIL, VIMCO, RWS.

Twin of `jaxprob/objectives/estimators/score.py`.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from torch_ref.distributions.base import log_sum_exp
from torch_ref.objectives.estimators.contract import (
    Estimate,
    Estimator,
    draws,
    log_prob_of_draws,
    require_samples,
    score_term,
    without_state,
)

__all__ = ["reweighted_wake_sleep", "score_function", "vimco"]

Baseline = Literal["moving_average", "leave_one_out", "learned"]


def score_function(
    baseline: Baseline | float | None = None,
    num_samples: int = 1,
    decay: float = 0.9,
    normalize: bool = False,
) -> Estimator:
    """Returns the score-function estimator with one of its baselines."""
    require_samples("score_function", num_samples, 2 if baseline == "leave_one_out" else 1)
    averages = baseline == "moving_average" or normalize

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        z = draws(q, key, num_samples)
        values = torch.stack([f(one) for one in z])
        reward = values.detach()
        if baseline == "leave_one_out":
            advantage = torch.stack(
                [reward[s] - _without(reward, s).mean(0) for s in range(num_samples)]
            )
        elif predicted is not None:
            advantage = reward - predicted.detach()
        else:
            advantage = reward - (baseline if isinstance(baseline, int | float) else 0.0)
        centre, scale = reward.new_zeros(()), reward.new_ones(())
        if averages and state["weight"] > 0:
            centre = state["mean"] / state["weight"]
            if normalize:
                scale = (state["variance"] / state["weight"]).sqrt().clamp(min=1.0)
        score = score_term((advantage - centre) / scale, log_prob_of_draws(q, z))
        error = torch.zeros_like(values[0])
        if predicted is not None:
            error = (reward - centre - predicted).square().mean(0)
        new_state = _moved(state, advantage, batch, decay) if averages else {}
        return Estimate((values + score).mean(0), error, new_state)

    def zeros() -> dict[str, Tensor]:
        names = ("mean", "variance", "weight") if averages else ()
        return {name: torch.zeros(()) for name in names}

    return Estimator(
        f"score function, baseline {baseline}",
        estimate,
        num_samples,
        learns_baseline=baseline == "learned",
        init=zeros,
        shortened=normalize,
    )


def vimco(num_samples: int = 5) -> Estimator:
    """Returns the estimator of the bound of several draws, each with the others as baseline."""
    require_samples("vimco", num_samples, 2)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        z = draws(q, key, num_samples)
        log_w = torch.stack([f(one) for one in z])
        bound = log_mean_exp(log_w)
        signals = []
        for s in range(num_samples):
            others = _without(log_w.detach(), s)
            # the geometric mean of the other weights stands for the weight of this draw
            stand_in = others.mean(0, keepdim=True)
            without = log_mean_exp(torch.cat([others, stand_in]))
            signals.append(bound.detach() - without.where(without.isfinite(), 0.0))
        score = score_term(torch.stack(signals), log_prob_of_draws(q, z))
        return without_state(bound + score.sum(0))

    return Estimator("VIMCO", estimate, num_samples, log_mean_exp=True)


def reweighted_wake_sleep(num_samples: int = 5) -> Estimator:
    """Returns reweighted wake-sleep: q follows its own draws, weighed by importance."""
    require_samples("reweighted_wake_sleep", num_samples, 2)

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        z = draws(q, key, num_samples)
        log_w = torch.stack([f(one) for one in z])
        shares = log_w.detach().softmax(0)
        log_q = log_prob_of_draws(q, z)
        # f without the slope of its -log q
        bound = log_mean_exp(log_w + log_q - log_q.detach())
        return without_state(bound + score_term(shares, log_q).sum(0))

    return Estimator(
        "reweighted wake-sleep", estimate, num_samples, log_mean_exp=True, unit_score=True
    )


def log_mean_exp(values: Tensor) -> Tensor:
    """Returns log of the mean of exp over the first axis."""
    return log_sum_exp(values, dim=0) - math.log(len(values))


def _without(values: Tensor, s: int) -> Tensor:
    return torch.cat([values[:s], values[s + 1 :]])


def _moved(
    state: dict[str, Tensor], advantage: Tensor, batch: Mapping[str, Tensor], decay: float
) -> dict[str, Tensor]:
    """Moments of what the baseline leaves, over draws and (weighted) rows, averaged over time."""
    weight = batch["weight"] if "weight" in batch else torch.ones_like(advantage[0])
    share = (weight / weight.sum()).expand_as(advantage) / len(advantage)
    mean = (share * advantage).sum()
    variance = (share * (advantage - mean).square()).sum()
    news = {"mean": mean, "variance": variance, "weight": torch.ones_like(mean)}
    return {name: torch.lerp(news[name], state[name].to(mean), decay) for name in news}
