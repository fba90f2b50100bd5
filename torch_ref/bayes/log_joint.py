"""The log-density that every sampler of weights needs: log p(D | w) + log p(w).

Twin of `jaxprob/bayes/log_joint.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from torch_ref.batches import inputs_of
from torch_ref.nn.apply import call
from torch_ref.objectives.likelihood import log_likelihood_of_batch

__all__ = ["log_joint"]


def log_joint(
    model: nn.Module, prior: Any, data: Mapping[str, Tensor], inputs: Sequence[str] = ("x",)
) -> Callable[[], Tensor]:
    """Returns a function of the module's present parameters; its value is in nats."""

    def log_density() -> Tensor:
        of_rows = log_likelihood_of_batch(call(model, inputs_of(model, data, inputs)), data)
        repeats = data.get("weight")
        likelihood = of_rows.sum() if repeats is None else (repeats * of_rows).sum()
        return likelihood + prior.log_prob(list(model.parameters()))

    return log_density
