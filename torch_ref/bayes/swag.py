"""SWA, SWAG and snapshots from the iterates of an optimiser.

Twin of `jaxprob/bayes/swag.py`.
"""

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom

__all__ = ["SWAG", "SnapshotState", "canonical", "snapshots", "snapshots_of"]


class SWAG:
    """A Gaussian over the weights of a module; call `collect` after each step of the optimiser.

    The moments are those of the definition, from all iterates at once: the twin keeps them.

    Args:
      module: The module that is trained.
      rank: Columns K of the low-rank part; 0 for the diagonal alone.
      start: The first iterate kept is that after this many steps.
      every: Steps between iterates.
    """

    def __init__(self, module: nn.Module, rank: int = 20, start: int = 1, every: int = 1):
        self.module, self.rank, self.start, self.every = module, rank, start, every
        self.steps = 0
        self.iterates: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def collect(self) -> None:
        """Counts a step, and keeps the weights where it is one of those wanted."""
        self.steps += 1
        past = self.steps - self.start
        if past >= 0 and past % self.every == 0:
            self.iterates.append({n: w.clone() for n, w in self.module.named_parameters()})

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([iterate[name] for iterate in self.iterates])

    def mean(self) -> dict[str, Tensor]:
        """Returns the mean of the iterates."""
        return {name: self._stacked(name).mean(0) for name in self.iterates[0]}

    def variance(self) -> dict[str, Tensor]:
        """Returns their variance, divisor n."""
        return {name: self._stacked(name).var(0, unbiased=False) for name in self.iterates[0]}

    def deviations(self) -> dict[str, Tensor]:
        """Returns the last K columns: each iterate minus the mean of it and those before it.

        Iterate i, counted from 0, is column i mod K; the columns that are missing are zero.
        """
        columns = {}
        for name in self.iterates[0]:
            all_of_them = self._stacked(name)
            columns[name] = all_of_them.new_zeros(self.rank, *all_of_them.shape[1:])
            first = max(0, len(all_of_them) - self.rank)
            for i in range(first, len(all_of_them)):
                columns[name][i % self.rank] = all_of_them[i] - all_of_them[: i + 1].mean(0)
        return columns

    def sample(self, key: Tensor, num_draws: int = 1, scale: float = 1.0) -> dict[str, Tensor]:
        """Returns named parameters with leading axis S."""
        diagonal_key, low_rank_key = jrandom.split(key)
        mean, variance, deviations = self.mean(), self.variance(), self.deviations()
        columns = min(len(self.iterates), self.rank)
        draws = {}
        for i, (name, transposed) in enumerate(canonical(self.module)):
            like = mean[name].T if transposed else mean[name]
            z1 = jrandom.normal(
                jrandom.fold_in(diagonal_key, i), (num_draws, *like.shape), dtype=like.dtype
            )
            noise = variance[name].sqrt() * (z1.transpose(1, 2) if transposed else z1)
            if self.rank:
                z2 = jrandom.normal(low_rank_key, (num_draws, self.rank), dtype=like.dtype)
                low_rank = torch.einsum("sk,k...->s...", z2, deviations[name])
                noise = noise / 2**0.5 + low_rank / (2 * (columns - 1)) ** 0.5
            draws[name] = mean[name] + scale**0.5 * noise
        return draws


def canonical(module: nn.Module) -> list[tuple[str, bool]]:
    """Returns the names of the parameters in the order of the twin's pytree.

    Modules come by name, and the bias before the weight, which is called "kernel" there and, where
    the flag beside the name is True, is transposed.
    """

    def path(name: str) -> tuple[str, ...]:
        *owner, leaf = name.split(".")
        return (*owner, "kernel" if leaf == "weight" else leaf)

    def transposed(name: str) -> bool:
        owner, _, leaf = name.rpartition(".")
        return leaf == "weight" and isinstance(module.get_submodule(owner), nn.Linear)

    return [(name, transposed(name)) for name in sorted(dict(module.named_parameters()), key=path)]


class SnapshotState:
    """The weights of a module every so many steps; call `step` after each step of the optimiser."""

    def __init__(self, module: nn.Module, num_snapshots: int, every: int):
        self.module, self.num_snapshots, self.every = module, num_snapshots, every
        self.steps = 0
        self.weights: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def step(self) -> None:
        """Counts a step and keeps the weights at the end of a cycle."""
        self.steps += 1
        if self.steps % self.every == 0:
            now = {name: w.clone() for name, w in self.module.named_parameters()}
            self.weights = [*self.weights, now][-self.num_snapshots :]


def snapshots(module: nn.Module, num_snapshots: int, every: int) -> SnapshotState:
    """Returns what keeps the last weights at the ends of cycles."""
    return SnapshotState(module, num_snapshots, every)


def snapshots_of(state: SnapshotState) -> dict[str, Tensor]:
    """Returns named parameters with leading axis S, the oldest first."""
    return {n: torch.stack([w[n] for w in state.weights]) for n in state.weights[0]}
