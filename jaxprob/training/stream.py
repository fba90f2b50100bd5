"""Training on a stream of batches: any iterable of dicts, one compiled step for each shape.

A thread reads ahead, checks each batch and puts it on the device while the step before still runs.
An epoch is one pass over the iterable.
"""

import collections
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxprob.sharding import member_sharding, place, split_rows, to_host
from jaxprob.training.checkpoint import Checkpoints
from jaxprob.training.data import as_device_data, require_members, step_key
from jaxprob.training.diagnose import forgotten_error, step_error, to_local, validation_error
from jaxprob.training.interrupts import Interrupts
from jaxprob.training.loop import counted_step, end_of_epoch, over_members
from jaxprob.training.plan import Member, Plan, Running, still_active
from jaxprob.training.programs import Programs
from jaxprob.training.reading import read_ahead
from jaxprob.types import Array, Batch, Metrics

__all__ = ["Failure", "Stream", "StreamEndedError", "is_stream"]

LAG = 4
"""Steps that the host runs ahead of its look at whether they were finite."""


class StreamEndedError(ValueError):
    """A stream that can be read once ended before the run; `fitted` is the result so far."""

    def __init__(self, message: str, fitted: Any):
        super().__init__(message)
        self.fitted = fitted


class Failure(NamedTuple):
    """The batch whose step was not finite for a member (None for a single model)."""

    member: int | None
    epoch: int
    index: int
    batch: Batch


def is_stream(data: Any) -> bool:
    """Whether data are batches to be read rather than arrays."""
    arrays = (Mapping, tuple, str, bytes, np.ndarray, jax.Array)
    return isinstance(data, Iterable) and not isinstance(data, arrays)


class Stream:
    """A run over a stream; its state is that of the members and the history so far.

    Args:
      plan: The plan of the run; its `epochs` count passes, if there are no `steps`.
      data: The iterable. One that has a method `set_epoch` is told the epoch before each pass.
      member: Members before the first step.
      validation: Validation data on the device, or None.
      owner: "fit" or "fit_ensemble", for messages.
      check: What the loss has to say of a batch, named by its number.
      interrupts: Ctrl-C, which is looked for after each step and while a batch is waited for.

    Raises:
      ValueError: An iterator, which can be read once, where several passes are wanted.
    """

    def __init__(
        self,
        plan: Plan,
        data: Iterable[Any],
        member: Member,
        validation: Batch | None,
        owner: str,
        interrupts: Interrupts,
        check: Callable[[str, Any], None],
    ):
        self._owner, self._interrupts, self._check = owner, interrupts, check
        self._running: Running | None = None  # within a pass
        self._plan, self._data, self._validation = plan, data, validation
        self.member, self.done = member, 0
        self._history: dict[str, list[np.ndarray]] = {}
        self.failures: dict[int | None, Failure] = {}
        self._lost: set[int] = set()  # members that failed before the checkpoint: where, is unknown
        self.once = isinstance(data, Iterator)
        if self.once and plan.steps is None:
            raise ValueError(
                f"{self._owner}: data is an iterator ({type(data).__name__}), which can be read "
                "once, and epochs ask for passes. Give steps, or an object whose __iter__ starts "
                "anew (a list, a data loader)."
            )

    def latest(self) -> tuple[Member, dict[str, np.ndarray]]:
        """Members and history as far as the run has come, when something else has stopped it."""
        if self._running is not None:
            member = self._running.member
            with contextlib.suppress(Exception):  # a step that failed may have lost what it had
                return jax.block_until_ready(member), self.history
        return self.member, self.history

    @property
    def taken(self) -> int:
        """Steps taken by the member that has taken most."""
        return int(np.max(to_host(self.member.train.step)))

    @property
    def length(self) -> int | None:
        """Passes of the whole run, where that is known."""
        return self._plan.epochs if self._plan.steps is None else None

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Each metric of the passes so far."""
        return {name: np.stack(values) for name, values in self._history.items()}

    def metrics(self) -> dict[str, Any]:
        """Names of the metrics: none is known before the first batch."""
        return {}

    def goes_on(self) -> bool:
        """Whether there is something left to do."""
        steps = self._plan.steps
        wanted = self.done < self._plan.epochs if steps is None else self.taken < steps
        return bool(wanted and np.any(to_host(self.member.active)))

    def resume(self, checkpoints: Checkpoints) -> None:
        """Goes back to the latest checkpoint; the passes before it are not read again."""
        if self.once:
            raise ValueError(
                f"{self._owner}: data is an iterator ({type(self._data).__name__}), which cannot "
                "be read again after a kill, so checkpoints of it are of no use. Give an object "
                "whose __iter__ starts anew, or no checkpoint_dir."
            )
        done = checkpoints.epochs_done()
        if not done:
            return
        metrics = jax.eval_shape(lambda: self._end(self._begin(self._first_batch()), 1))[1]
        length = max(self._plan.epochs, done) if self._plan.steps is None else done
        history = {
            name: self._placed(jnp.zeros((length, *v.shape), v.dtype), 1)
            for name, v in metrics.items()
        }
        wanted = self._plan.epochs if self._plan.steps is None else done
        found = checkpoints.restore((self.member, None, history), wanted, self._plan.steps)
        if found is None:
            return
        member, epoch, history = found
        self.member = self._placed(member._replace(active=still_active(member, self._plan)), 0)
        self._lost = set(_failed(to_host(member.finite)))
        self.done = int(epoch)
        self._history = {name: list(to_host(v[: self.done])) for name, v in history.items()}

    def until(self, wanted: int, checkpoints: Checkpoints | None) -> int:
        """The pass after which to look in next: each one."""
        del wanted, checkpoints
        return self.done + 1

    def advance(self, until: int, watched: bool) -> list[dict[str, np.ndarray]]:
        """Trains one pass; returns its metrics."""
        del until, watched
        return [self.epoch()]

    def must_save(self) -> bool:
        """Whether a checkpoint is due in any case: never before the end."""
        return False

    def cut(self) -> int | None:
        """The number of steps, where they may have ended the last pass before its end."""
        steps = self._plan.steps
        return steps if steps is not None and self.taken >= steps else None

    def fail(self, fitted: Any) -> NoReturn:
        """Raises what stopped the run."""
        member = self.member
        finite, valid = to_host(member.finite), to_host(member.valid)
        number = int(np.argmin(finite & valid)) if self._plan.ensemble else None
        one, failure = to_local(member, number), self.failures.get(number)
        step = int(one.train.step)
        if one.finite:
            raise validation_error(fitted, number, step)
        if failure is None:
            raise forgotten_error(fitted, number, step)
        batch = {name: jnp.asarray(to_host(value)) for name, value in failure.batch.items()}
        batch = {n: v[number] if n in self._plan.per_member else v for n, v in batch.items()}
        place = (failure.epoch, failure.index)
        key = step_key(one.key, *place)
        raise step_error(
            self._plan, one, batch, key, fitted=fitted, place=place, rows=None, member=number
        )

    def require_all(self, fitted: Any) -> None:
        """Raises where a stream that can be read once has ended before the steps did."""
        steps = self._plan.steps
        if steps is not None and self.once and self.taken < steps:
            raise StreamEndedError(
                f"{self._owner}: data ended after {self.taken} batches; steps={steps} were asked "
                "for. The result so far is kept in error.fitted. Give fewer steps, or an iterable "
                "that can be read again.",
                fitted,
            )

    def state(self) -> tuple[Member, int, dict[str, Array]]:
        """What a checkpoint holds."""
        history = {n: self._placed(jnp.asarray(v), 1) for n, v in self.history.items()}
        return self.member, self.done, history

    def epoch(self) -> dict[str, np.ndarray]:
        """Trains one pass; returns its metrics.

        Raises:
          ValueError: No batches, or one that is no good (named by its index).
        """
        pending: collections.deque = collections.deque()
        running, plan, count = None, self._plan, 0
        left = None if plan.steps is None else plan.steps - self.taken
        for index, batch in enumerate(self._read(left)):
            running = self._begin(batch) if running is None else running
            numbers = (jnp.asarray(self.done, jnp.int32), jnp.asarray(index, jnp.int32))
            running, finite = _step(running, batch, *numbers, plan=plan)
            self._running = running
            count = index + 1
            pending.append((finite, index, batch))
            if len(pending) > LAG and not self._looked(*pending.popleft()):
                break
            self._interrupts.look()
        for look in pending:
            self._looked(*look)
        if running is None:
            raise ValueError(
                f"{self._owner}: data gave no batch in epoch {self.done}; expected at least one. "
                "An iterator that has been read is empty."
            )
        running, metrics = self._end(running, count)
        self.member, self.done, self._running = running.member, self.done + 1, None
        found = {name: to_host(value) for name, value in metrics.items()}
        for name, value in found.items():
            self._history.setdefault(name, []).append(value)
        return found

    def _looked(self, finite: Array, index: int, batch: Batch) -> bool:
        """Notes members that failed at this step; returns whether any goes on."""
        well = to_host(finite)
        for m in _failed(well):
            if m not in self._lost:
                member = m if self._plan.ensemble else None
                self.failures.setdefault(member, Failure(member, self.done, index, batch))
        return bool(np.any(well))

    def _read(self, count: int | None) -> Iterator[Batch]:
        if hasattr(self._data, "set_epoch"):
            self._data.set_epoch(self.done)  # type: ignore[attr-defined]
        batches = itertools.islice(self._data, count)
        return read_ahead(batches, self._prepared, self._interrupts.look)

    def _prepared(self, index: int, batch: Any) -> Batch:
        mesh = self._plan.mesh
        sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec())
        argument = f"batch {index} of epoch {self.done}: data"
        if self._plan.per_member and isinstance(batch, Mapping):
            require_members(batch, self._plan.per_member, self.member.train.step.shape[0])
        ready = as_device_data(batch, argument, sharding, self._plan.per_member, self._owner)
        self._check(argument, batch)
        return ready

    def _first_batch(self) -> Batch:
        return next(self._read(1))

    def _begin(self, batch: Batch) -> Running:
        """The members before a pass; the first batch says which metrics there are."""
        zero = self._placed(jnp.zeros(self.member.finite.shape, jnp.int32), 0)
        number = jnp.zeros((), jnp.int32)
        one = functools.partial(_one_batch, plan=self._plan)
        first, _ = jax.eval_shape(one, Running(self.member, {}, zero), batch, number, number)
        names = first.sums
        sums = {n: self._placed(jnp.zeros(v.shape, v.dtype), 0) for n, v in names.items()}
        # A step donates what it is given, and this state is still needed if the first batch fails.
        return Running(jax.tree.map(jnp.copy, self.member), sums, zero)

    def _end(self, running: Running, count: int) -> tuple[Running, Metrics]:
        # nobody knows the length of the passes to come; they are taken to be as long as this one
        steps = self._plan.steps or self._plan.epochs * count
        numbers = (jnp.asarray(n, jnp.int32) for n in (self.done, steps - 1))
        return _finish_epoch(running, *numbers, self._validation, plan=self._plan)

    def _placed(self, tree: Any, axis: int) -> Any:
        if self._plan.mesh is None:
            return tree
        return place(tree, member_sharding(self._plan.mesh, self._plan.ensemble, axis))


def _one_batch(
    running: Running, batch: Batch, epoch: Array, index: Array, *, plan: Plan
) -> tuple[Running, Array]:
    return _mapped(plan, functools.partial(_one_step, plan), batch)(running, batch, epoch, index)


_step = Programs(_one_batch, ("plan",), donate_argnames="running")


def _mapped(plan: Plan, fn: Callable, entries: Batch | None) -> Callable:
    """The function of one member, or of all: (members, numbers and a batch ...) -> results."""
    if not plan.ensemble:
        return fn

    def mapped(running: Running, *args: Any) -> Any:
        leads = tuple(plan.leads(entries) if arg is entries else False for arg in args)
        return over_members(plan, fn, (True, *leads))(running, *args)

    return mapped


def _one_step(
    plan: Plan, running: Running, batch: Batch, epoch: Array, index: Array
) -> tuple[Running, Array]:
    part = split_rows(plan.mesh, dict(batch))
    running = counted_step(plan, running, part, step_key(running.member.key, epoch, index))
    return running, running.member.finite


def _at_the_end(
    running: Running, epoch: Array, last_step: Array, validation: Batch | None, *, plan: Plan
) -> tuple[Running, Metrics]:
    def one(running: Running, epoch: Array, last_step: Array, validation: Batch | None):
        member, history = end_of_epoch(plan, running, epoch, validation, last_step)
        return running._replace(member=member), history

    return _mapped(plan, one, validation)(running, epoch, last_step, validation)


_finish_epoch = Programs(_at_the_end, ("plan",))


def _failed(well: np.ndarray) -> list[int]:
    """Numbers of the members that are not well; a run without a member axis is number 0."""
    return np.flatnonzero(~np.atleast_1d(well)).tolist()
