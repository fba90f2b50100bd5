"""A Gaussian variational posterior over the weights of any module.

Weights are ordered as in the twin: modules by name, and within a linear layer the bias before the
kernel, the kernel input-major (the transpose of torch's weight). A covariance only has a meaning
together with such an order.

Twin of `jaxprob/bayes/gaussian_posterior.py`.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom
from torch_ref.batches import inputs_of
from torch_ref.bayes.forward import Forward
from torch_ref.bayes.gaussian_block import GaussianBlock
from torch_ref.distributions import Independent, Normal
from torch_ref.objectives import (
    GaussianPrior,
    HierarchicalGaussianPrior,
    HorseshoePrior,
    LaplacePrior,
    SpikeAndSlabPrior,
)

__all__ = ["GaussianPosterior", "stack"]

Prior = (
    GaussianPrior | HierarchicalGaussianPrior | HorseshoePrior | LaplacePrior | SpikeAndSlabPrior
)


class GaussianPosterior(nn.Module):
    """q(w) = N(loc, Sigma) in groups, trained by `negative_elbo`.

    Args:
      model: Any module; its own parameters are where the means start and are not trained.
      covariance: "diagonal", "low_rank", "layer" or "full".
      prior: Prior over the weights.
      init_scale: Standard deviation of each weight at the start.
      rank: Directions of "low_rank".
      select: Which weights are uncertain, by torch's names; the others are parameters `point`.
    """

    def __init__(
        self,
        model: nn.Module,
        covariance: str = "layer",
        prior: Prior | None = None,
        init_scale: float = 0.05,
        rank: int = 10,
        select: Callable[[str], bool] | None = None,
    ):
        super().__init__()
        if covariance not in ("diagonal", "low_rank", "layer", "full"):
            raise ValueError(
                f"covariance must be diagonal, low_rank, layer or full; got {covariance!r}."
            )
        self._model = [model]  # in a list, so that its parameters are not parameters of q
        self.prior_spec = GaussianPrior() if prior is None else prior
        self.groups: dict[str, list[str]] = {}
        names = sorted(dict(model.named_parameters()), key=_sort_key)
        if select is not None:
            names = [name for name in names if select(name)]
            self.point = _without(model, names)
        for name in names:
            whole = covariance in ("full", "low_rank")
            group = "all" if whole else name.rpartition(".")[0].replace(".", "/")
            self.groups.setdefault(group or "top", []).append(name)
        block = "full" if covariance == "layer" else covariance
        self.posterior = nn.ModuleDict()
        for group, members in self.groups.items():
            start = torch.cat([self._canonical(name).reshape(-1) for name in members])
            self.posterior[group] = GaussianBlock(start, block, init_scale, rank)
        if getattr(self.prior_spec, "trainable", ()) or isinstance(
            self.prior_spec, HierarchicalGaussianPrior
        ):
            self.prior = nn.ModuleDict(
                {g: self.prior_spec.init(b.loc.shape[0]) for g, b in self.posterior.items()}
            )

    @property
    def model(self) -> nn.Module:
        """The deterministic model."""
        return self._model[0]

    def _canonical(self, name: str) -> Tensor:
        """A parameter of the model in the order of the twin."""
        value = self.model.get_parameter(name)
        return value.T if self._is_kernel(name) else value

    def _is_kernel(self, name: str) -> bool:
        owner, _, leaf = name.rpartition(".")
        return leaf == "weight" and isinstance(self.model.get_submodule(owner), nn.Linear)

    def sample(self, key: Tensor, num_draws: int = 1) -> dict[str, Tensor]:
        """Returns the named parameters of the model with leading axis S."""
        blocks = list(self.posterior.values())
        like = blocks[0].loc
        sizes = [block.noise_size for block in blocks]
        eps = jrandom.normal(key, (num_draws, sum(sizes)), dtype=like.dtype)
        draws = {}
        for block, noise, members in zip(
            blocks, eps.split(sizes, dim=1), self.groups.values(), strict=True
        ):
            weights, start = block.sample(noise), 0
            for name in members:
                shape = self._canonical(name).shape
                piece = weights[:, start : start + shape.numel()].reshape(num_draws, *shape)
                draws[name] = piece.transpose(1, 2) if self._is_kernel(name) else piece
                start += shape.numel()
        for name, value in self._points().items():
            draws[name] = value.expand(num_draws, *value.shape)
        return draws

    def _points(self) -> dict[str, Tensor]:
        return dict(self.point.named_parameters()) if "point" in self._modules else {}

    def kl(self, draws: dict[str, Tensor]) -> Tensor:
        """Returns KL(q || prior) in nats, from draws where it has no closed form."""
        if not isinstance(self.prior_spec, GaussianPrior | HierarchicalGaussianPrior):
            uncertain = {n: draw for n, draw in draws.items() if n not in self._points()}
            per_draw = [
                self.log_prob(weights) - self.prior_spec.log_prob(weights.values())
                for weights in _unstacked(uncertain)
            ]
            return torch.stack(per_draw).mean()
        learned = getattr(self, "prior", {})
        total = [
            block.expected_kl(self.prior_spec, learned[group] if group in learned else None)
            for group, block in self.posterior.items()
        ]
        return torch.stack(total).sum()

    def log_prob(self, weights: dict[str, Tensor]) -> Tensor:
        """Returns log q(w) in nats of one set of named parameters."""
        total = []
        for group, block in self.posterior.items():
            pieces = [
                (weights[name].T if self._is_kernel(name) else weights[name]).reshape(-1)
                for name in self.groups[group]
            ]
            total.append(block.distribution().log_prob(torch.cat(pieces)).sum())
        return torch.stack(total).sum()

    def forward(self, inputs: Any, key: Tensor, num_samples: int) -> Forward:
        """Returns the prediction of each draw and KL(q || prior)."""
        draws, given = self.sample(key, num_samples), inputs_of(self.model, inputs)
        predictions = [
            torch.func.functional_call(self.model, weights, *given) for weights in _unstacked(draws)
        ]
        return Forward(predictions, self.kl(draws))


def _unstacked(draws: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """One dict of named parameters for each draw."""
    return [dict(zip(draws, values, strict=True)) for values in zip(*draws.values(), strict=True)]


def _without(model: nn.Module, names: list[str]) -> nn.Module:
    """A copy of a module that holds its other parameters; it is not called."""
    rest = copy.deepcopy(model)
    for name in names:
        owner, _, leaf = name.rpartition(".")
        del rest.get_submodule(owner)._parameters[leaf]
    return rest


def _sort_key(name: str) -> tuple[str, ...]:
    """Modules by name; in a layer "bias" comes before "kernel", the twin's word for weight."""
    *path, leaf = name.split(".")
    return (*path, "kernel" if leaf == "weight" else leaf)


def stack(predictions: list[Independent]) -> Independent:
    """Stacks predictions of normals along a new leading axis of draws."""
    bases = [prediction.base_dist for prediction in predictions]
    loc = torch.stack([base.loc for base in bases])
    scale = torch.stack([base.scale for base in bases])
    axes = predictions[0].reinterpreted_batch_ndims
    return Independent(Normal(loc, scale, validate_args=False), axes)
