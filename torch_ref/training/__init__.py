"""The training loop of `jaxprob.training` in eager PyTorch."""

from torch_ref.training.buckets import bucketed_epoch
from torch_ref.training.fit import epoch_order, fit, step_key

__all__ = ["bucketed_epoch", "epoch_order", "fit", "step_key"]
