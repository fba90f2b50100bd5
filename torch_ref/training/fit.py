"""Shuffled minibatches from one key, as in `jaxprob.training.fit`, step by eager step."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

import torch_ref.random as jrandom

__all__ = ["epoch_order", "fit", "step_key"]


def epoch_order(key: Tensor, epoch: int, rows: int) -> Tensor:
    """Returns the order in which an epoch visits the rows `[N]`."""
    return jrandom.permutation(jrandom.fold_in(jrandom.fold_in(key, epoch), 0), rows)


def step_key(key: Tensor, epoch: int, batch: int) -> Tensor:
    """Returns the key of the loss for one batch of an epoch."""
    return jrandom.fold_in(jrandom.fold_in(jrandom.fold_in(key, epoch), 1), batch)


def fit(
    loss_fn: Callable,
    data: Mapping[str, Tensor],
    *,
    optimizer: torch.optim.Optimizer,
    steps: int,
    batch_size: int,
    key: Tensor,
    after_step: Callable[[], None] | None = None,
) -> list[float]:
    """Trains the parameters that the optimiser holds.

    Args:
      loss_fn: `loss_fn(batch, key) -> (loss, metrics)`. One that follows a schedule has the
        attribute `uses_step = True` and finds the number of steps taken in `batch["step"]`, int64.
        Collections (running statistics) are buffers of the module, which the loss itself updates.
      data: Tensors with leading axis N.
      optimizer: Any torch optimiser.
      steps: Number of steps.
      batch_size: Rows of a batch; the last batch of an epoch is smaller.
      key: Key of the run, `[2]`.
      after_step: Called after each step, e.g. to record the parameters.

    Returns:
      The loss before each step.
    """
    rows = next(iter(data.values())).shape[0]
    losses: list[float] = []
    epoch = 0
    while len(losses) < steps:
        batches = epoch_order(key, epoch, rows).split(min(batch_size, rows))
        for index, order in enumerate(batches[: steps - len(losses)]):
            batch = {name: values[order] for name, values in data.items()}
            optimizer.zero_grad()
            if getattr(loss_fn, "uses_step", False):
                batch["step"] = torch.tensor(len(losses))
            loss, _ = loss_fn(batch, step_key(key, epoch, index))
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            if after_step is not None:
                after_step()
        epoch += 1
    return losses
