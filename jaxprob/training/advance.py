"""Training to the end, with looks into the running program for those who want to know."""

import jax
import numpy as np

from jaxprob.sharding import agreed, to_host
from jaxprob.training.arrays import Arrays
from jaxprob.training.checkpoint import Checkpoints
from jaxprob.training.interrupts import Interrupts
from jaxprob.training.progress import Progress
from jaxprob.training.settings import Settings
from jaxprob.training.stream import Stream

__all__ = ["all_well", "shared_by_processes", "train"]

SECONDS_BETWEEN_LOOKS = 0.25
"""The host looks into the running program about this often, to show progress."""


def train(
    settings: Settings,
    source: Arrays | Stream,
    checkpoints: Checkpoints | None,
    interrupts: Interrupts,
) -> None:
    """Trains to the end, and looks in as often as somebody wants to know."""
    shared = shared_by_processes(settings)
    with Progress(source.length, enabled=settings.progress) as display:
        watched = display.enabled or settings.log is not None or checkpoints is not None
        # alone, a process looks in all the same: between two looks no interrupt is heard
        paced = watched or not shared
        chunk = 1 if paced else source.length or 1
        while source.goes_on():
            interrupts.look()
            until = agreed(source.until(chunk, checkpoints), shared)
            # several processes look together, or not at all
            recent = source.advance(until, watched or shared)
            means = [{name: _mean(value) for name, value in one.items()} for one in recent]
            if settings.log is not None:
                for epoch, one in enumerate(means, source.done - len(means)):
                    settings.log(epoch, one)
            if paced:
                chunk = display.update(source.done, (means or [{}])[-1], SECONDS_BETWEEN_LOOKS)
            if checkpoints is not None:
                _save(source, checkpoints)
            if source.once:
                return


def _save(source: Arrays | Stream, checkpoints: Checkpoints) -> None:
    finished = not source.goes_on()
    if finished and not all_well(source):
        return  # keep the checkpoint before, so that a repaired run resumes from it
    if checkpoints.due(source.done) or finished or source.must_save():
        checkpoints.save(source.state(), source.done, source.cut())


def all_well(source: Arrays | Stream) -> bool:
    """Whether every member is finite and was shown finite data."""
    return bool(np.all(to_host(source.member.finite) & to_host(source.member.valid)))


def _mean(value: np.ndarray | np.floating) -> float:
    """Mean over the members that still run (one number for a single model)."""
    running = value[np.isfinite(value)] if value.ndim else value
    return float(np.mean(running)) if running.size else float("nan")


def shared_by_processes(settings: Settings) -> bool:
    """Whether several processes train these members together."""
    return settings.mesh is not None and jax.process_count() > 1
