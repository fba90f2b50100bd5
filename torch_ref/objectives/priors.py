"""Priors over weights: independent normals, fixed or learned.

Twin of `jaxprob/objectives/priors.py`.
"""

import dataclasses
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["GaussianPrior"]


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
