"""The mean of p(x | z), and of classes, which have none, the mode.

Twin of `jaxprob/vae/average.py`.
"""

from torch import Tensor
from torch.distributions import Distribution

from torch_ref.distributions import Categorical, Independent

__all__ = ["mean_or_mode"]


def mean_or_mode(p: Distribution) -> Tensor:
    """Returns the mean, of classes the most probable one."""
    inner = p
    while isinstance(inner, Independent):
        inner = inner.base_dist
    return inner.logits.argmax(-1) if isinstance(inner, Categorical) else p.mean
