"""Probabilities of K classes: logarithms, variances and covariances.

Twin of `jaxprob/distributions/classes.py`.
"""

import torch
from torch import Tensor

__all__ = ["class_covariance", "class_variance", "log_softmax"]


def log_softmax(logits: Tensor) -> Tensor:
    """Returns log-probabilities; that of a class near 1 is -log1p of the odds against it."""
    plain = torch.log_softmax(logits, dim=-1)
    top = logits.argmax(-1, keepdim=True)
    against = torch.scatter(logits, -1, top, -torch.inf).logsumexp(-1, keepdim=True)
    held = against - logits.gather(-1, top)
    return torch.scatter(plain, -1, top, -torch.log1p(held.exp()))


def class_variance(p: Tensor) -> Tensor:
    """Returns p (1 - p) for probabilities `[..., K]` whose sum is one.

    For classes likelier than a half, 1 - p is summed from the other classes.
    """
    others = (p.unsqueeze(-2) * (1.0 - torch.eye(p.shape[-1], dtype=p.dtype))).sum(-1)
    return p * torch.where(p > 0.5, others, 1.0 - p)


def class_covariance(p: Tensor) -> Tensor:
    """Returns diag(p) - p p^T for probabilities `[..., K]` whose sum is one."""
    products = p.unsqueeze(-1) * p.unsqueeze(-2)
    apart = 1.0 - torch.eye(p.shape[-1], dtype=p.dtype)
    return torch.diag_embed(class_variance(p)) - apart * products
