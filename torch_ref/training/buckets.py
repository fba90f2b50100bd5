"""The batches of one epoch of `jaxprob.training.LengthBuckets`, as rows and widths.

rows of bucket k:  w_{k-1} < l_i <= w_k, in the order of key (epoch, k)
batches:           in the order of key (epoch, K)
"""

import torch
from torch import Tensor

import torch_ref.random as jrandom

__all__ = ["bucketed_epoch"]


def bucketed_epoch(
    lengths: Tensor, widths: list[int], batch_size: int, key: Tensor, epoch: int, full: bool
) -> list[tuple[Tensor, int]]:
    """Returns the rows and the width of each batch of an epoch.

    Args:
      lengths: Lengths `[N]`.
      widths: Widths of the buckets, ascending; the last is the greatest length.
      batch_size: Rows of a batch.
      key: Key of the order, `[2]`.
      epoch: Number of the epoch.
      full: Whether rows that do not fill a batch go on to the next wider bucket.
    """
    of_epoch = jrandom.fold_in(key, epoch)
    waiting: list[int] = []
    batches: list[tuple[Tensor, int]] = []
    shortest = 0
    for number, width in enumerate(widths):
        inside = [i for i, length in enumerate(lengths.tolist()) if shortest < length <= width]
        inside.sort(key=lambda i: int(lengths[i]))
        order = jrandom.permutation(jrandom.fold_in(of_epoch, number), len(inside))
        waiting += [inside[i] for i in order.tolist()]
        while len(waiting) >= batch_size or (waiting and (not full or width == widths[-1])):
            batches.append((torch.tensor(waiting[:batch_size]), width))
            waiting = waiting[batch_size:]
        shortest = width
    order = jrandom.permutation(jrandom.fold_in(of_epoch, len(widths)), len(batches))
    return [batches[i] for i in order.tolist()]
