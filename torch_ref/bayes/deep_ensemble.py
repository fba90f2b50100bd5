"""Deep ensembles with adversarial training.

Twin of `jaxprob/bayes/deep_ensemble.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom
from torch_ref.batches import mean_over_rows, weighted_mean
from torch_ref.objectives.likelihood import LossFn, averaged

__all__ = ["DeepEnsemble"]


class DeepEnsemble(nn.Module):
    """M members that `build` makes, each with a start of its own.

    Args:
      build: Returns a fresh member.
      num_members: Number of members M.
    """

    def __init__(self, build: Callable[[], nn.Module], num_members: int):
        super().__init__()
        self.members = nn.ModuleList(build() for _ in range(num_members))

    @staticmethod
    def loss(
        member: nn.Module,
        adversarial: float | None = None,
        input_range: Tensor | float = 1.0,
        prior: Any = None,
        num_data: int | None = None,
        inputs: Sequence[str] = ("x",),
    ) -> LossFn:
        """Returns the loss of one member: the mean of the clean and the adversarial one."""
        likelihood = averaged(member, inputs, weighted_mean if prior is None else mean_over_rows)
        first = inputs[0]

        def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            nll, _ = likelihood(batch, key)
            terms, metrics = [nll], {"nll": nll}
            if adversarial is not None:
                with torch.enable_grad():
                    x = batch[first].detach().clone().requires_grad_()
                    uphill = likelihood({**batch, first: x}, key)[0]
                    (slope,) = torch.autograd.grad(uphill, x)
                x = x.detach() + adversarial * input_range * slope.sign()
                metrics["adversarial_nll"], _ = likelihood({**batch, first: x}, key)
                terms.append(metrics["adversarial_nll"])
            loss = torch.stack(terms).mean()
            if prior is not None:
                metrics["log_prior"] = prior.log_prob(list(member.parameters()))
                loss = loss - metrics["log_prior"] / num_data
            return loss, metrics

        return loss_fn

    def sample(self, key: Tensor | None = None, num_draws: int | None = None) -> dict[str, Tensor]:
        """Returns named parameters with a leading axis: each member once, or draws of them."""
        stacked, _ = torch.func.stack_module_state(list(self.members))
        draws = {name: value.detach() for name, value in stacked.items()}
        if num_draws is None or key is None:
            return draws
        chosen = jrandom.randint(key, (num_draws,), 0, len(self.members), torch.int32)
        return {name: value[chosen] for name, value in draws.items()}
