"""Latent class analysis: a mixture whose components are products of categorical variables.

Twin of `jaxprob/vae/latent_class.py`, variable by variable.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_ref import random
from torch_ref.batches import extra_inputs, observed, weighted_mean
from torch_ref.distributions import Categorical, Independent, MixtureSameFamily
from torch_ref.distributions.base import log_sum_exp
from torch_ref.objectives import em
from torch_ref.objectives.likelihood import LossFn

__all__ = [
    "FittedClasses",
    "LatentClassModel",
    "em_step",
    "fit_em",
    "initial_classes",
    "negative_log_marginal",
]

Params = dict[str, Tensor]


class LatentClassModel(nn.Module):
    """K classes, in each of which D variables are independent."""

    def __init__(self, num_classes: int, num_categories: Sequence[int]):
        super().__init__()
        self.num_categories = tuple(num_categories)
        shape = (num_classes, len(self.num_categories), max(self.num_categories))
        self.class_logits = nn.Parameter(torch.zeros(num_classes))
        self.item_logits = nn.Parameter(torch.randn(shape))

    def forward(self) -> MixtureSameFamily:
        """Returns p(x) over events `[D]`."""
        sizes = torch.tensor(self.num_categories).unsqueeze(-1)
        none = torch.arange(max(self.num_categories)) >= sizes
        items = Categorical(logits=self.item_logits.masked_fill(none, -torch.inf))
        return MixtureSameFamily(Categorical(logits=self.class_logits), Independent(items, 1))

    def log_joint(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns log p(observed x, class), `[B, K]`."""
        total = self.class_logits.log_softmax(0).expand(len(x), -1)
        for d, size in enumerate(self.num_categories):
            log_p = self.item_logits[:, d, :size].log_softmax(-1)
            value = x[:, d].long()
            possible = (value >= 0) & (value < size)
            term = log_p.T[value.clamp(0, size - 1)]
            term = torch.where(possible[:, None], term, -torch.inf)
            if mask is not None:
                term = torch.where(mask[:, d, None], term, 0.0)
            total = total + term
        return total

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns log p(observed x), `[B]`."""
        joint = self.log_joint(x, mask)
        impossible = (joint == -torch.inf).all(-1)
        found = log_sum_exp(joint.masked_fill(impossible[:, None], 0.0), dim=-1)
        return found.masked_fill(impossible, -torch.inf)

    def responsibilities(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns p(class | observed x), `[B, K]`."""
        joint = self.log_joint(x, mask)
        impossible = (joint == -torch.inf).all(-1, keepdim=True)
        return torch.where(impossible, self.class_logits, joint).softmax(-1)


def negative_log_marginal(model: LatentClassModel) -> LossFn:
    """Returns the loss -mean_b log p(observed x_b)."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        extra_inputs(model, batch)
        log_p = model.log_prob(batch["x"], observed(batch, "x"))
        if "weight" in batch:  # 0 times -inf is no number
            log_p = log_p.masked_fill(batch["weight"] == 0, 0.0)
        nll = -weighted_mean(log_p, batch)
        return nll, {"nll": nll}

    return loss_fn


@torch.no_grad()
def em_step(
    model: LatentClassModel,
    x: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    pseudo_count: float = 0.0,
) -> Tensor:
    """Takes one step of EM in place; returns the objective before it."""
    times = torch.ones_like(model.class_logits[:1]).expand(len(x)) if weight is None else weight
    counts = times > 0
    objective = em.total((times * model.log_prob(x, mask))[counts])
    if pseudo_count > 0:
        objective = objective + pseudo_count * model.class_logits.log_softmax(0).sum()
        for d, size in enumerate(model.num_categories):
            prior = model.item_logits[:, d, :size].log_softmax(-1)
            objective = objective + pseudo_count * prior.sum()
    r = (model.responsibilities(x, mask) * times[:, None]).masked_fill(~counts[:, None], 0.0)
    items = torch.zeros_like(model.item_logits)
    for d, size in enumerate(model.num_categories):
        seen = torch.ones_like(times) if mask is None else mask[:, d].to(times)
        for c in range(size):
            at_c = seen * (x[:, d] == c)
            items[:, d, c] = pseudo_count + at_c @ r
        items[:, d, :size] = _log_shares(items[:, d, :size], model.item_logits[:, d, :size])
    model.class_logits.copy_(_log_shares(pseudo_count + r.sum(0), model.class_logits))
    model.item_logits.copy_(items)
    return objective


class FittedClasses(NamedTuple):
    """State of the best restart and its climb `[steps]`."""

    params: Params
    objectives: Tensor


@torch.no_grad()
def initial_classes(
    model: LatentClassModel,
    x: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Params:
    """Returns params that start each class between the margins and a row drawn at random."""
    times = torch.ones_like(model.class_logits[:1]).expand(len(x)) if weight is None else weight
    num_classes = len(model.class_logits)
    rows = random.categorical(key, times.log(), shape=(num_classes,))
    items = torch.zeros_like(model.item_logits)
    for d, size in enumerate(model.num_categories):
        is_value = torch.stack([x[:, d] == c for c in range(size)], -1).to(times)
        if mask is not None:
            is_value = is_value * mask[:, d, None]
        margin = (1.0 + times @ is_value) / (size + (times @ is_value).sum())
        items[:, d, :size] = ((margin + is_value[rows]) / 2).log()
    return {"class_logits": torch.zeros_like(model.class_logits), "item_logits": items}


def fit_em(
    model: LatentClassModel,
    x: Tensor,
    key: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    pseudo_count: float = 0.1,
    num_steps: int = 200,
    num_restarts: int = 1,
) -> FittedClasses:
    """Fits by EM from random starts; leaves the model at the best."""

    def e_step(params: Params) -> tuple[Params, Tensor]:
        model.load_state_dict(params)
        objective = em_step(model, x, mask, weight, pseudo_count)
        return {name: value.clone() for name, value in model.state_dict().items()}, objective

    starts = [initial_classes(model, x, k, mask, weight) for k in random.split(key, num_restarts)]
    best = em.fit_em(e_step, lambda climbed, _: climbed, starts, num_steps)
    model.load_state_dict(best.params)
    return FittedClasses(best.params, best.bounds)


def _log_shares(counts: Tensor, old: Tensor) -> Tensor:
    """Logarithms of the shares; what was never counted keeps its old ones."""
    total, tiny = counts.sum(-1, keepdim=True), torch.finfo(counts.dtype).tiny
    shares = (counts / total).clamp(min=tiny).log()
    shares = torch.where((counts == 0) & (old == -torch.inf), -torch.inf, shares)
    return torch.where(total < tiny, old.log_softmax(-1), shares)
