"""The pinball loss of stated quantiles, and the beta-NLL.

Twin of `jaxprob/objectives/criteria.py`.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from torch_ref.batches import inputs_of, weighted_mean
from torch_ref.distributions import Independent
from torch_ref.nn.apply import call
from torch_ref.objectives.likelihood import LossFn, log_likelihood

__all__ = ["beta_nll", "pinball_loss"]


def pinball_loss(model: nn.Module, inputs: Sequence[str] = ("x",)) -> LossFn:
    """Returns twice the pinball loss, mean over levels, of a model that states quantiles."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        del key
        prediction = call(model, inputs_of(model, batch, inputs))
        nll = -weighted_mean(log_likelihood(prediction, batch["y"]), batch)
        stated = prediction.base_dist if isinstance(prediction, Independent) else prediction
        missed = batch["y"].unsqueeze(-1) - stated.values
        over, under = missed.clamp(min=0.0), (-missed).clamp(min=0.0)
        by_level = 2.0 * (stated.levels * over + (1.0 - stated.levels) * under)
        rows = by_level.mean(-1).flatten(1).sum(-1)
        pinball = weighted_mean(rows, batch)
        return pinball, {"pinball": pinball, "nll": nll}

    return loss_fn


def beta_nll(model: nn.Module, beta: float = 0.5, inputs: Sequence[str] = ("x",)) -> LossFn:
    """Returns the likelihood loss, each element weighted by its own variance^beta, held fixed."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        del key
        prediction = call(model, inputs_of(model, batch, inputs))
        nll = -weighted_mean(log_likelihood(prediction, batch["y"]), batch)
        each = prediction.base_dist if isinstance(prediction, Independent) else prediction
        terms = -each.log_prob(batch["y"]) * each.variance.detach().pow(beta)
        loss = weighted_mean(terms.flatten(1).sum(-1), batch)
        return loss, {"beta_nll": loss, "nll": nll}

    return loss_fn
