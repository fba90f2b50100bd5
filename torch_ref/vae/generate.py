"""Samples, reconstructions, paths between rows, and single latents.

Twin of `jaxprob/vae/generate.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from torch_ref import random
from torch_ref.vae.model import LatentVariableModel
from torch_ref.vae.terms import further_inputs

__all__ = ["interpolate", "reconstruct", "sample", "traverse"]


@torch.no_grad()
def sample(
    model: LatentVariableModel,
    key: Tensor,
    num: int,
    mean: bool = False,
    condition: Tensor | None = None,
    num_steps: int | None = None,
) -> Tensor:
    """Draws z from the prior and x from p(x | z), `[num, *event]` or `[num, B, *event]`."""
    code_key, event_key = random.split(key)
    further = further_inputs(model, {"condition": condition})
    z = model.sample_prior(code_key, num, *further)
    last = further if num_steps is None else (num_steps,)
    return model.generate(z, event_key, mean, *last)


def reconstruct(
    model: LatentVariableModel,
    x: Tensor,
    condition: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Distribution:
    """Returns p(x | z) at the posterior mean of z."""
    further = further_inputs(model, {"condition": condition, "lengths": lengths})
    given = (x, *further) if model.sequential else further
    return model.decode(model.code(x, *further), *given)


def interpolate(
    model: LatentVariableModel,
    start: Tensor,
    end: Tensor,
    num: int = 8,
    spherical: bool = False,
    condition: Tensor | None = None,
) -> Distribution:
    """Returns p(x | z) along the path between two batches of codes, batch shape `[num, B]`."""
    further = further_inputs(model, {"condition": condition})
    a, b = model.code(start, *further), model.code(end, *further)
    path = [_between(a, b, float(t), spherical) for t in torch.linspace(0, 1, num, dtype=a.dtype)]
    return model.decode(torch.stack(path), *further)


def traverse(
    model: LatentVariableModel,
    x: Tensor,
    latent: int,
    values: Sequence[float] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
    condition: Tensor | None = None,
) -> Distribution:
    """Returns p(x | z) as one latent goes through `values`, batch shape `[V, B]`."""
    further = further_inputs(model, {"condition": condition})
    codes = model.code(x, *further)
    path = codes.expand(len(values), *codes.shape).clone()
    path[..., latent] = torch.as_tensor(values, dtype=codes.dtype).unsqueeze(-1)
    return model.decode(path, *further)


def _between(a: Tensor, b: Tensor, t: float, spherical: bool) -> Tensor:
    straight = torch.lerp(a, b, t)
    if not spherical:
        return straight
    angle = torch.nn.functional.cosine_similarity(a, b, dim=-1, eps=1e-300).clamp(-1, 1).acos()
    angle = angle.unsqueeze(-1)
    turned = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return torch.where(angle.sin() < 1e-6, straight, turned)
