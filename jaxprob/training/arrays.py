"""Training on arrays: epochs of shuffled minibatches in one compiled program.

A source of batches, as `Stream` is one: `run` trains either without knowing which.
"""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.sharding import to_host
from jaxprob.training.checkpoint import Checkpoints
from jaxprob.training.data import num_rows
from jaxprob.training.diagnose import raise_non_finite
from jaxprob.training.loop import run_epochs
from jaxprob.training.plan import LoopState, Member, Plan, still_active
from jaxprob.training.start import on_mesh, start
from jaxprob.types import Batch

__all__ = ["Arrays"]


class Arrays:
    """A run over arrays that are on the device.

    Args:
      plan: The plan of the run.
      member: The members before the first step.
      data: Rows, N each.
      validation: Rows, or None.
    """

    once = False

    def __init__(self, plan: Plan, member: Member, data: Batch, validation: Batch | None):
        self._plan, self._data, self._validation = plan, data, validation
        self._state = start(plan, member, data, validation)
        self.done = 0
        per_epoch = -(-num_rows(data, plan.per_member) // plan.batch_size)
        # Where the steps end inside an epoch, a longer run goes on from the start of that epoch.
        inside = plan.steps is not None and plan.steps % per_epoch
        self._cut = plan.steps if inside else None

    @property
    def member(self) -> Member:
        """The members as they are now."""
        return self._state.member

    @property
    def length(self) -> int:
        """Epochs of the whole run."""
        return self._plan.epochs

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Each metric of the epochs so far."""
        return {name: to_host(values[: self.done]) for name, values in self._state.history.items()}

    def latest(self) -> tuple[Member, dict[str, np.ndarray]]:
        """Members and history as far as the run has come, when something else has stopped it."""
        return self.member, self.history

    def metrics(self) -> dict[str, Any]:
        """Names and dtypes of the metrics, which are part of what a checkpoint says of its run."""
        history = self._state.history.items()
        return {name: jax.ShapeDtypeStruct((), values.dtype) for name, values in history}

    def goes_on(self) -> bool:
        """Whether there is something left to do."""
        return self.done < self._plan.epochs and bool(np.any(to_host(self.member.active)))

    def until(self, wanted: int, checkpoints: Checkpoints | None) -> int:
        """The epoch at which to look in next, coming from `done`."""
        until = min(self.done + wanted, self._plan.epochs)
        if checkpoints is not None:
            until = checkpoints.until(self.done, until)
            if self._cut is not None and self.done < self._plan.epochs - 1:
                until = min(until, self._plan.epochs - 1)
        return until

    def advance(self, until: int, watched: bool) -> list[dict[str, Any]]:
        """Trains until that epoch; returns the metrics of each epoch, if anybody watches."""
        first = self.done
        number = jnp.asarray(until, jnp.int32)
        self._state = run_epochs(self._state, number, self._data, self._validation, plan=self._plan)
        self.done = int(self._state.epoch)
        if not watched:
            return []
        recent = {n: to_host(h[first : self.done]) for n, h in self._state.history.items()}
        return [{n: h[i] for n, h in recent.items()} for i in range(self.done - first)]

    def resume(self, checkpoints: Checkpoints) -> None:
        """Goes back to the latest checkpoint, if there is one."""
        found = checkpoints.restore(self._state, self._plan.epochs, self._plan.steps)
        if found is None:
            return
        member, epoch, history = found
        member = member._replace(active=still_active(member, self._plan))
        self._state = on_mesh(self._plan, LoopState(member, epoch, history))
        self.done = int(epoch)

    def state(self) -> LoopState:
        """What a checkpoint holds."""
        return self._state

    def must_save(self) -> bool:
        """Whether this is the start of an epoch that the steps will cut short."""
        return self._cut is not None and self.done == self._plan.epochs - 1

    def cut(self) -> int | None:
        """The number of steps, where they ended the last epoch before its end."""
        return self._cut if self.done == self._plan.epochs else None

    def fail(self, fitted: Any) -> NoReturn:
        """Raises what stopped the run."""
        raise_non_finite(self._plan, self._state, fitted, self._data)

    def require_all(self, fitted: Any) -> None:
        """Arrays do not end before the run does."""
