"""What a run was asked for: filled in once, by `fit` or `fit_ensemble`, and passed on whole."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import optax
from jax.sharding import Mesh

from jaxprob.requirements import require_count
from jaxprob.sharding import require_mesh
from jaxprob.training.mixed_precision import in_precision
from jaxprob.training.plan import Plan
from jaxprob.training.protocol import require_optimizer
from jaxprob.types import LossFn

__all__ = ["Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The arguments of `fit` (see there), without params, data and key.

    Attributes:
      owner: "fit" or "fit_ensemble", for messages.
      members: Number of members M, or None for a single model.
      per_member: Entries of the data that lead with M.
      hyperparams: Numbers `[M]` that each member has of its own, by name.
    """

    owner: str
    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    epochs: Any
    steps: Any
    batch_size: Any
    patience: Any
    progress: bool
    log: Callable[[int, dict[str, float]], Any] | None
    checkpoint_dir: str | os.PathLike | None
    checkpoint_every: Any
    resume: bool
    mesh: Mesh | None
    compute_dtype: Any
    members: int | None = None
    per_member: tuple[str, ...] = ()
    hyperparams: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        require_optimizer(self.owner, self.optimizer)
        if self.batch_size is None:
            raise ValueError(
                f"{self.owner}: batch_size must be a whole number; got None. Write "
                "batch_size=len(x) for all rows at once; a stream has batches of its own, so leave "
                "it out there."
            )
        require_count(
            self.owner,
            epochs=self.epochs,
            steps=self.steps,
            batch_size=self.batch_size,
            patience=self.patience,
            checkpoint_every=self.checkpoint_every,
        )
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"{self.owner}: give either epochs or steps; got epochs={self.epochs} and "
                f"steps={self.steps}."
            )
        if self.checkpoint_dir is not None and not os.fspath(self.checkpoint_dir):
            raise ValueError(
                f'{self.owner}: checkpoint_dir must name a directory; got "". Write "." for the '
                "current one, or None for no checkpoints."
            )
        if self.mesh is not None:
            object.__setattr__(self, "mesh", require_mesh(self.owner, self.mesh))

    def plan(self, batch_size: int, epochs: int) -> Plan:
        """Returns what is compiled.

        Args:
          batch_size: Rows of a batch, at most N.
          epochs: Length of the history.
        """
        return Plan(
            in_precision(self.loss_fn, self.compute_dtype),
            self.optimizer,
            batch_size,
            epochs,
            self.steps,
            self.patience,
            self.members is not None,
            self.mesh,
            self.per_member,
        )

    def told(self, batch_size: Any) -> dict[str, Any]:
        """Returns the numbers and names that make a run this run, for its checkpoints."""
        told = {
            "patience": self.patience,
            "compute_dtype": self.compute_dtype,
            "members": self.members,
            "batch_size": batch_size,
        }
        return told | ({"per_member": self.per_member} if self.per_member else {})
