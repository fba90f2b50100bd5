"""The training loop of `jaxprob.training` in eager PyTorch."""

from torch_ref.training.fit import epoch_order, fit, step_key

__all__ = ["epoch_order", "fit", "step_key"]
