"""Bounds by importance weights, and log p(x) with its error.

Twin of `jaxprob/vae/importance.py`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.batches import as_batch, weighted_mean
from torch_ref.distributions import Independent, MultivariateNormal, Normal
from torch_ref.distributions.base import log_sum_exp
from torch_ref.objectives.likelihood import LossFn
from torch_ref.vae import pareto
from torch_ref.vae.inputs import inputs_beside, observed_inputs
from torch_ref.vae.latents import Latents, draw, log_likelihood, log_weights
from torch_ref.vae.model import LatentVariableModel

__all__ = ["LogMarginal", "log_marginal", "negative_ciwae", "negative_iwae", "negative_renyi"]


@dataclasses.dataclass
class LogMarginal:
    """An estimate of log p(x) and what is known of its error, each `[B]`; see the twin."""

    value: Tensor
    standard_error: Tensor
    effective_samples: Tensor
    pareto_k: Tensor
    num_samples: int

    @property
    def reliable(self) -> Tensor:
        """Whether the error may be believed."""
        return self.pareto_k < pareto.largest_reliable(self.num_samples)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.value, self.standard_error))


def negative_iwae(
    model: LatentVariableModel,
    num_samples: int,
    gradient: str = "reparameterized",
    binarize: bool = False,
) -> LossFn:
    """Returns the loss -L_k; see the twin for the gradients."""
    double = gradient == "doubly_reparameterized"
    return _negative_bound(model, num_samples, _log_mean, binarize, double)


def negative_renyi(
    model: LatentVariableModel, alpha: float, num_samples: int, binarize: bool = False
) -> LossFn:
    """Returns the loss -L_alpha: the log of the power mean of order 1 - alpha of the weights."""

    def bound(log_w: Tensor) -> Tensor:
        if alpha == 1.0:
            return log_w.mean(0)
        if math.isinf(alpha):
            return log_w.amin(0) if alpha > 0 else log_w.amax(0)
        return _log_mean((1.0 - alpha) * log_w) / (1.0 - alpha)

    return _negative_bound(model, num_samples, bound, binarize)


def negative_ciwae(
    model: LatentVariableModel, num_samples: int, beta: float = 0.5, binarize: bool = False
) -> LossFn:
    """Returns the loss -(beta ELBO + (1 - beta) L_k)."""
    return _negative_bound(
        model,
        num_samples,
        lambda log_w: torch.lerp(_log_mean(log_w), log_w.mean(0), beta),
        binarize,
    )


def _log_mean(log_w: Tensor) -> Tensor:
    return log_sum_exp(log_w, dim=0) - math.log(len(log_w))


def _negative_bound(
    model: LatentVariableModel,
    num_samples: int,
    bound: Callable[[Tensor], Tensor],
    binarize: bool,
    double: bool = False,
) -> LossFn:
    """The loss of a function of the log-weights `[S, B]`."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        seen = draw(model, batch, key, num_samples, binarize)
        output = seen.output
        log_w = log_weights(model, seen, _detached(output.q) if double else None)
        if double and output.z.requires_grad:
            # backward has reached z with each draw weighted once; this weights it once more
            shares = log_w.detach().softmax(0).unsqueeze(-1)
            output.z.register_hook(lambda slope: shares * slope)
        nll = weighted_mean(-log_likelihood(output.p, seen.batch).mean(0), batch)
        metrics = {"nll": nll, "kl": -weighted_mean(log_w.mean(0), batch) - nll}
        return -weighted_mean(bound(log_w), batch), metrics

    return loss_fn


@torch.no_grad()
def log_marginal(
    model: LatentVariableModel,
    x: Tensor | Mapping[str, Tensor],
    key: Tensor,
    num_samples: int = 1000,
    chunk_size: int = 50,
    given: Mapping[str, Tensor] | None = None,
) -> LogMarginal:
    """Estimates log p(x) `[B]` by `num_samples` draws of q(z | x), each with a key of its own."""
    batch = as_batch(x, given)
    batch["x"] = x = observed_inputs(batch)
    extra, parts = inputs_beside(model, batch), []
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    for numbers in torch.arange(num_samples).split(chunk_size):
        keys = [random.fold_in(key, int(number)) for number in numbers]
        eps = [random.normal(k, (x.shape[0], model.latent_dim), dtype) for k in keys]
        output = model(x, torch.stack(eps), **extra)
        parts.append(log_weights(model, Latents(batch, extra, output)))
    log_w = torch.cat(parts)
    value = _log_mean(log_w)
    error = (log_w - value).exp().std(0) / math.sqrt(num_samples)
    shares = log_w.softmax(0)
    k = pareto.tail_shape(log_w.topk(pareto.tail_size(num_samples) + 1, dim=0)[0])
    effective = 1 / shares.square().sum(0)
    return LogMarginal(value, error, effective, k, num_samples)


def _detached(q: Any) -> Any:
    if isinstance(q, Tensor):
        return q.detach()
    if isinstance(q, tuple):
        parts = [_detached(part) for part in q]
        return type(q)(*parts) if hasattr(q, "_fields") else tuple(parts)
    if q is None:
        return q
    if isinstance(q, MultivariateNormal):
        return MultivariateNormal(q.loc.detach(), scale_tril=q.scale_tril.detach())
    base = q.base_dist
    return Independent(Normal(base.loc.detach(), base.scale.detach(), validate_args=False), 1)
