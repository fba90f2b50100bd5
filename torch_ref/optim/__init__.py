"""What torch.optim lacks; all other transforms of `jaxprob.optim` are torch.optim's own."""

from torch_ref.optim.proximal import proximal_l1_

__all__ = ["proximal_l1_"]
