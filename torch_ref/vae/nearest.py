"""The nearest of K code vectors, by differences.

Twin of `jaxprob/vae/nearest.py`.
"""

import torch
from torch import Tensor

__all__ = ["nearest"]

ROWS = 1024


def nearest(encodings: Tensor, codes: Tensor) -> Tensor:
    """Returns the index of the nearest code, `[*B]`; some rows at a time are in memory."""
    dtype = torch.promote_types(encodings.dtype, torch.float32)
    rows, codes = encodings.detach().to(dtype).flatten(0, -2), codes.detach().to(dtype)
    found = []
    for part in rows.split(ROWS):
        gaps = part.unsqueeze(1) - codes
        unit = gaps.abs().amax(-1).amin(-1).clamp(min=torch.finfo(dtype).tiny)
        found.append((gaps / unit[:, None, None]).square().sum(-1).argmin(-1))
    return torch.cat(found).unflatten(0, encodings.shape[:-1])
