"""Samples, reconstructions, paths between rows, and single latents.

Twin of `jaxprob/vae/generate.py`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from torch_ref import random
from torch_ref.batches import as_batch
from torch_ref.vae.inputs import inputs_beside, observed_inputs
from torch_ref.vae.latents import apply, decoder_inputs
from torch_ref.vae.model import LatentVariableModel

__all__ = ["interpolate", "reconstruct", "sample", "traverse"]


@torch.no_grad()
def sample(
    model: LatentVariableModel,
    key: Tensor,
    num: int,
    mean: bool = False,
    given: Mapping[str, Tensor] | None = None,
    num_steps: int | None = None,
) -> Tensor:
    """Draws z from the prior and x from p(x | z), `[num, *event]` or `[num, B, *event]`."""
    for name in {"lengths", "x_observed", "mask"} & (given or {}).keys():
        raise ValueError(f"sample: {name} is not read.")
    code_key, event_key = random.split(key)
    extra = inputs_beside(model, given or {})
    z = apply(model, extra, "sample_prior", code_key, num)
    length = {} if num_steps is None else {"num_steps": num_steps}
    return apply(model, {**extra, **length}, "generate", z, event_key, mean)


def reconstruct(
    model: LatentVariableModel,
    x: Tensor,
    given: Mapping[str, Tensor] | None = None,
) -> Distribution:
    """Returns p(x | z) at the posterior mean of z."""
    batch = as_batch(x, given)
    batch["x"] = observed_inputs(batch)
    extra = inputs_beside(model, batch)
    z = apply(model, extra, "code", batch["x"])
    return apply(model, decoder_inputs(model, batch, extra), "decode", z)


def interpolate(
    model: LatentVariableModel,
    start: Tensor,
    end: Tensor,
    num: int = 8,
    spherical: bool = False,
    given: Mapping[str, Tensor] | None = None,
) -> Distribution:
    """Returns p(x | z) along the path between two batches of codes, batch shape `[num, B]`."""
    batch = as_batch(start, given)
    extra = inputs_beside(model, batch)
    rows = (observed_inputs({**batch, "x": x}) for x in (start, end))
    a, b = (apply(model, extra, "code", x) for x in rows)
    path = [_between(a, b, float(t), spherical) for t in torch.linspace(0, 1, num, dtype=a.dtype)]
    return apply(model, extra, "decode", torch.stack(path))


def traverse(
    model: LatentVariableModel,
    x: Tensor,
    latent: int,
    values: Sequence[float] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
    given: Mapping[str, Tensor] | None = None,
) -> Distribution:
    """Returns p(x | z) as one latent goes through `values`, batch shape `[V, B]`."""
    batch = as_batch(x, given)
    extra = inputs_beside(model, batch)
    codes = apply(model, extra, "code", observed_inputs(batch))
    path = codes.expand(len(values), *codes.shape).clone()
    path[..., latent] = torch.as_tensor(values, dtype=codes.dtype).unsqueeze(-1)
    return apply(model, extra, "decode", path)


def _between(a: Tensor, b: Tensor, t: float, spherical: bool) -> Tensor:
    straight = torch.lerp(a, b, t)
    if not spherical:
        return straight
    angle = torch.nn.functional.cosine_similarity(a, b, dim=-1, eps=1e-300).clamp(-1, 1).acos()
    angle = angle.unsqueeze(-1)
    turned = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return torch.where(angle.sin() < 1e-6, straight, turned)
