"""What a run is made of: its plan, the state of a member, and the state of the loop."""

from typing import NamedTuple

import optax
from jax.sharding import Mesh

from jaxprob.training.mixed_precision import ShortLoss
from jaxprob.training.step import TrainState
from jaxprob.types import Array, Batch, Key, LossFn, Metrics, Params

__all__ = ["LoopState", "Member", "Plan", "Running", "still_active"]


class Plan(NamedTuple):
    """What is fixed for a whole run (hashable, part of the compilation).

    Attributes:
      loss_fn: The loss.
      optimizer: The optax transformation.
      batch_size: Rows of a batch, at most N; the last batch of an epoch is smaller.
      epochs: Length of the history.
      steps: Total number of steps, or None for `epochs` whole epochs.
      patience: Epochs without improvement of the validation loss before stopping, or None.
      ensemble: Whether every leaf of the state has a leading axis M.
      mesh: The devices, or None for one.
      per_member: Entries of the data that lead with M: each member has its own.
    """

    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    batch_size: int
    epochs: int
    steps: int | None
    patience: int | None
    ensemble: bool
    mesh: Mesh | None = None
    per_member: tuple[str, ...] = ()

    def loss_of(self, member: "Member") -> LossFn:
        """Returns the loss of a member; where members have settings, the one made from its own."""
        if not member.settings:
            return self.loss_fn
        if isinstance(self.loss_fn, ShortLoss):
            return ShortLoss(self.loss_fn.loss_fn(**member.settings), self.loss_fn.dtype)
        return self.loss_fn(**member.settings)

    def leads(self, batch: Batch | None) -> dict[str, bool] | bool:
        """Returns for each entry of a batch whether it leads with M."""
        return False if batch is None else {name: name in self.per_member for name in batch}


class Member(NamedTuple):
    """State of one run; under an ensemble every leaf leads with M.

    Attributes:
      train: Params, optimiser state and step.
      key: The run's key; each epoch folds its number into it.
      best_params: Params of the best validation loss (empty without validation).
      best_loss: That loss.
      best_epoch: Its epoch, int32.
      finite: False once a step was not finite.
      valid: False once a validation metric was not finite.
      patient: False once the validation loss has not improved for `patience` epochs.
      active: Whether the run goes on: all of the above, and steps left.
      settings: Numbers from which the member's loss is made, by name; empty for one loss for all.
    """

    train: TrainState
    key: Key
    best_params: Params
    best_loss: Array
    best_epoch: Array
    finite: Array
    valid: Array
    patient: Array
    active: Array
    settings: dict[str, Array] = {}  # noqa: RUF012 - nobody writes to it


class Running(NamedTuple):
    """A member within an epoch: sums of its metrics, and the rows that they are over, int32."""

    member: Member
    sums: Metrics
    seen: Array


class LoopState(NamedTuple):
    """Members, the number of the next epoch, and the history `{metric: [epochs, (M)]}`."""

    member: Member
    epoch: Array
    history: Metrics


def still_active(member: Member, plan: Plan) -> Array:
    """Which members go on after a checkpoint: a longer run has more steps than the one before."""
    active = member.finite & member.valid & member.patient
    return active if plan.steps is None else active & (member.train.step < plan.steps)
