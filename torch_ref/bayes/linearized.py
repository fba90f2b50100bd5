"""The model as a linear function of its weights, and the closed-form predictive of it.

Twin of `jaxprob/bayes/linearized.py`.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from torch_ref.batches import inputs_of
from torch_ref.bayes.curvature import jacobian, parameters
from torch_ref.bayes.precision import Layout
from torch_ref.distributions import Bernoulli, Categorical, Independent, Normal

__all__ = ["LinearizedModel", "closed_form"]


class LinearizedModel:
    """The model, linear in its weights around a mean.

    Args:
      model: Module that returns a normal, Bernoulli or categorical distribution.
      mean: Its parameters, by name.
    """

    def __init__(self, model: nn.Module, mean: Mapping[str, Tensor]):
        self.model, self.mean = model, dict(mean)

    def __call__(self, weights: Mapping[str, Tensor], x: Tensor | Mapping[str, Tensor]):
        """Maps `[B, ...]` to a distribution under `weights`."""
        given = inputs_of(self.model, x)
        at_mean = torch.func.functional_call(self.model, self.mean, *given)
        normal = isinstance(getattr(at_mean, "base_dist", at_mean), Normal)

        def eta(w: Mapping[str, Tensor]) -> Tensor:
            values = parameters(torch.func.functional_call(self.model, dict(w), *given))
            if not normal:
                return values
            loc, scale = values.chunk(2, dim=1)
            return torch.cat([loc, scale.log()], dim=1)

        # jacrev and a contraction; torch.func.jvp would load TorchScript
        slopes = torch.func.jacrev(eta)(self.mean)
        linear = eta(self.mean)
        for name, slope in slopes.items():
            linear = linear + slope.flatten(2) @ (weights[name] - self.mean[name]).reshape(-1)
        if normal:
            loc, log_scale = linear.chunk(2, dim=1)
            return Independent(Normal(loc, log_scale.exp()), 1)
        if isinstance(at_mean, Categorical):
            return Categorical(logits=linear)
        return Independent(Bernoulli(logits=linear), 1)


def closed_form(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    layout: Layout,
    covariance: Tensor,
    x: Tensor,
    classes: str = "log_probs",
):
    """Returns the predictive of the linearised model under N(weights, covariance)."""
    slopes = jacobian(model, weights, x)
    parts = [
        slopes[n].transpose(-1, -2) if n in layout.kernels else slopes[n] for n in layout.names
    ]
    j = torch.cat([part.flatten(2) for part in parts], dim=2)
    with torch.no_grad():
        at_mean = torch.func.functional_call(model, dict(weights), (x,))
    base = getattr(at_mean, "base_dist", at_mean)
    if isinstance(base, Categorical):
        # a matrix that maps log-probabilities to what is scaled
        share = 1 / base.logits.shape[-1] if classes == "logits" else 0.0
        centre = torch.eye(base.logits.shape[-1], dtype=j.dtype) - share
        covariances = torch.einsum("bep,pq,bfq->bef", j, covariance, j)
        scaled = torch.diagonal(centre @ covariances @ centre.T, dim1=1, dim2=2)
        return Categorical(logits=base.logits @ centre.T / (1 + math.pi / 8 * scaled).sqrt())
    variance = torch.einsum("bep,pq,beq->be", j, covariance, j)
    if isinstance(base, Normal):
        of_loc = variance[:, : base.loc.shape[-1]]
        return Independent(Normal(base.loc, (base.scale**2 + of_loc).sqrt()), 1)
    logits = base.logits / (1 + math.pi / 8 * variance).sqrt()
    return Independent(Bernoulli(logits=logits), 1)
