"""Priors over weights, fixed or learned, and the regularisers that they are.

Twin of `jaxprob/objectives/priors.py`.
"""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "GaussianPrior",
    "HierarchicalGaussianPrior",
    "ImpliedPrior",
    "LaplacePrior",
    "prior_for_l1",
    "prior_for_weight_decay",
    "weight_decay_for_prior",
]


@dataclasses.dataclass(frozen=True)
class GaussianPrior:
    """Independent normal prior over every weight.

    Attributes:
      scale: Standard deviation.
      loc: Mean.
      trainable: Any of "loc" (one per weight) and "scale" (one per group).
    """

    scale: float = 1.0
    loc: float = 0.0
    trainable: tuple[str, ...] = ()

    def log_prob(self, weights: Iterable[Tensor]) -> Tensor:
        """Returns log p(w) summed over tensors (fixed prior)."""
        normal = torch.distributions.Normal(self.loc, self.scale)
        return torch.stack([normal.log_prob(w).sum() for w in weights]).sum()

    def init(self, num_weights: int) -> nn.ParameterDict:
        """Returns the learned parameters for a group of P weights."""
        params = nn.ParameterDict()
        if "loc" in self.trainable:
            params["loc"] = nn.Parameter(torch.full((num_weights,), self.loc))
        if "scale" in self.trainable:
            params["log_scale"] = nn.Parameter(torch.tensor(math.log(self.scale)))
        return params

    def distribution(
        self, params: nn.ParameterDict | None, like: Tensor
    ) -> torch.distributions.Normal:
        """Returns the prior of a group of P weights, `like` giving shape and dtype `[P]`."""
        loc = torch.full_like(like, self.loc)
        scale = torch.full_like(like, self.scale)
        if params is not None and "loc" in params:
            loc = params["loc"]
        if params is not None and "log_scale" in params:
            scale = params["log_scale"].exp().expand_as(like)
        return torch.distributions.Normal(loc, scale, validate_args=False)


@dataclasses.dataclass(frozen=True)
class HierarchicalGaussianPrior:
    """Normal prior whose scale has a log-normal prior and, in each group, such a posterior."""

    scale: float = 1.0
    spread: float = 1.0
    loc: float = 0.0

    def init(self, num_weights: int) -> nn.ParameterDict:
        """Returns mean and log-deviation of q(log s) for a group."""
        del num_weights
        start = {"log_scale": math.log(self.scale), "log_deviation": math.log(self.spread) - 1.0}
        return nn.ParameterDict({n: nn.Parameter(torch.tensor(v)) for n, v in start.items()})

    def nodes(self, params: nn.ParameterDict) -> tuple[Tensor, Tensor]:
        """Returns Gauss-Hermite nodes of log s under its posterior, with their weights."""
        mean = params["log_scale"]
        x, weights = np.polynomial.hermite_e.hermegauss(48)
        log_scales = mean + params["log_deviation"].exp() * torch.as_tensor(x).to(mean)
        return log_scales, torch.as_tensor(weights / weights.sum()).to(mean)

    def own_kl(self, params: nn.ParameterDict) -> Tensor:
        """Returns KL(q(log s) || p(log s)) in nats."""
        q = torch.distributions.Normal(params["log_scale"], params["log_deviation"].exp())
        like = params["log_scale"]
        p = torch.distributions.Normal(
            torch.full_like(like, math.log(self.scale)), torch.full_like(like, self.spread)
        )
        return torch.distributions.kl_divergence(q, p)


@dataclasses.dataclass(frozen=True)
class LaplacePrior:
    """Independent Laplace prior over every weight."""

    scale: float = 1.0
    loc: float = 0.0

    def log_prob(self, weights: Iterable[Tensor]) -> Tensor:
        """Returns log p(w) summed over tensors."""
        laplace = torch.distributions.Laplace(self.loc, self.scale)
        return torch.stack([laplace.log_prob(w).sum() for w in weights]).sum()


@dataclasses.dataclass(frozen=True)
class ImpliedPrior(GaussianPrior):
    """The prior that a weight decay is, with the sentence that says so."""

    sentence: str = ""

    def __str__(self) -> str:
        return self.sentence


def _curvature(coefficient: float, penalty: str) -> float:
    """Second derivative of the penalty, which is the prior's precision per row."""
    return {"coefficient / 2 |w|^2": coefficient, "coefficient |w|^2": 2.0 * coefficient}[penalty]


def prior_for_weight_decay(
    coefficient: float,
    num_data: int,
    penalty: str = "coefficient / 2 |w|^2",
    loss_scale: float = 1.0,
) -> ImpliedPrior:
    """Returns the normal prior whose negative log-density, over N, is the penalty."""
    precision = num_data * _curvature(coefficient, penalty) / loss_scale
    scale = precision**-0.5
    sentence = f"weight decay {coefficient:g} over {num_data:,} rows: w ~ N(0, {scale:.4g}^2)"
    return ImpliedPrior(scale=scale, sentence=sentence)


def weight_decay_for_prior(
    prior: GaussianPrior,
    num_data: int,
    penalty: str = "coefficient / 2 |w|^2",
    loss_scale: float = 1.0,
) -> float:
    """Returns the weight decay that a normal prior of mean 0 is."""
    return loss_scale / (num_data * prior.scale**2 * _curvature(1.0, penalty))


def prior_for_l1(coefficient: float, num_data: int, loss_scale: float = 1.0) -> LaplacePrior:
    """Returns the Laplace prior of the penalty coefficient |w| on a mean loss."""
    return LaplacePrior(scale=loss_scale / (coefficient * num_data))
