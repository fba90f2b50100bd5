"""The variational online Newton method for mean-field posteriors.

Twin of `jaxprob/bayes/natural_gradient.py`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from torch_ref.bayes.gaussian_block import SCALE_FLOOR
from torch_ref.heads.normal import softplus

__all__ = ["natural_gradient"]


class natural_gradient(torch.optim.Optimizer):
    """Natural-gradient steps on pairs of means and raw scales.

    With the variance v = 1 / s and g the gradient of the whole bound, L = num_data x loss:

        s' = s (1 + r + r^2 / 2),   r = rho 2 (dL/dv) / s
        mu' = mu - alpha (running mean of dL/dmu) / s'

    Args:
      parameters: Mean and raw scale of the first block, of the second, and so on, as
        `GaussianPosterior.parameters()` gives them.
      num_data: Rows N of the whole training set.
      learning_rate: alpha.
      precision_rate: rho.
      momentum: Share of the old gradient in the running mean.
      kl_weight: That of the loss, by which the gradient of the whole bound is divided.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        num_data: int,
        learning_rate: float = 0.1,
        precision_rate: float = 0.1,
        momentum: float = 0.9,
        kl_weight: float = 1.0,
    ):
        options = {
            "num_data": num_data / kl_weight,
            "alpha": learning_rate,
            "rho": precision_rate,
            "momentum": momentum,
        }
        super().__init__(parameters, options)

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        """Takes one step."""
        for group in self.param_groups:
            locs, raws = group["params"][::2], group["params"][1::2]
            for loc, raw in zip(locs, raws, strict=True):
                self._step_block(loc, raw, group)

    def _step_block(self, loc: nn.Parameter, raw: nn.Parameter, options: dict) -> None:
        assert loc.grad is not None
        assert raw.grad is not None
        state = self.state[loc]
        beta = options["momentum"]
        state["steps"] = state.get("steps", 0) + 1
        state["mean"] = torch.lerp(loc.grad, state.get("mean", torch.zeros_like(loc)), beta)
        deviation = softplus(raw) + SCALE_FLOOR
        variance = deviation.square()
        # chain rule: raw -> deviation -> variance
        towards_variance = raw.grad / raw.sigmoid() / (2 * deviation) * options["num_data"]
        relative = 2 * options["rho"] * towards_variance * variance
        excess = relative + relative.square() / 2
        gradient = options["num_data"] * state["mean"] / (1 - beta ** state["steps"])
        loc.sub_(options["alpha"] * variance / (1 + excess) * gradient)
        _divide(raw, deviation, excess)


def _divide(raw: Tensor, deviation: Tensor, excess: Tensor) -> None:
    """Divides the variance in place by 1 + excess, but does not go below the floor.

    e^raw = e^y - 1 with y = softplus(raw), hence e^(raw' - raw) = 1 + e^y (e^by - 1) / (e^y - 1)
    where y moves by `by`. Large moves are made by inverting softplus, where `by` would cancel y.
    """
    target = (deviation / (1 + excess).sqrt()).clamp(min=2 * SCALE_FLOOR) - SCALE_FLOOR
    y = softplus(raw)
    by = deviation * (torch.log1p(excess) / -2).expm1()
    little = (by.abs() < y.clamp(max=1.0) / 2) & (target > SCALE_FLOOR)
    moved = raw + (by.expm1() / -torch.expm1(-y)).log1p()
    raw.copy_(torch.where(little, moved, _inverse_softplus(target)))


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + (-(-y).expm1()).log()
