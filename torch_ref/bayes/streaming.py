"""The posterior becomes the next prior, with dense matrices and plain loops.

Twin of `jaxprob/bayes/streaming.py`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import torch_ref.random as jrandom
from torch_ref.bayes.curvature import gauss_newton, log_likelihood_and_gradient
from torch_ref.bayes.gaussian_block import SCALE_FLOOR, GaussianBlock
from torch_ref.bayes.gaussian_posterior import GaussianPosterior
from torch_ref.bayes.laplace import Laplace, LaplaceState
from torch_ref.bayes.precision import Curvature, Layout, only_diagonal

__all__ = ["prior_params", "update"]

Blocks = dict[str, tuple[Tensor, Tensor]]
"""Mean `[P]` and precision `[P, P]` of each group."""


def prior_params(posterior: GaussianPosterior | Laplace) -> Blocks | LaplaceState:
    """Returns the posterior that has seen no data."""
    if isinstance(posterior, GaussianPosterior):
        prior, blocks = posterior.prior_spec, {}
        for name, block in posterior.posterior.items():
            start: Tensor = block.loc  # pyright: ignore[reportAssignmentType]
            loc = torch.full_like(start.detach(), prior.loc)
            blocks[name] = (loc, torch.eye(len(loc), dtype=loc.dtype) / prior.scale**2)
        return blocks
    layout = posterior.layout
    weights = {name: p.detach().clone() for name, p in posterior.model.named_parameters()}
    for name in layout.names:
        weights[name] = torch.full_like(weights[name], posterior.prior.loc)
    zero = layout.to_vector(weights).new_zeros(())
    matrix = zero.new_zeros(layout.size, layout.size)
    return LaplaceState(
        weights, Curvature(matrix, {}), zero, zero + posterior.prior.scale, zero.clone()
    )


def update(
    posterior: GaussianPosterior | Laplace,
    params: Any,
    new_data: Mapping[str, Tensor],
    key: Any = None,
    num_steps: int = 10,
    step_size: float = 1.0,
    num_samples: int = 4,
) -> Blocks | LaplaceState:
    """Returns the posterior after new data, with the present one as its prior.

    Args:
      posterior: Says what the params mean.
      params: Means and precisions of the groups, or a `LaplaceState`.
      new_data: Rows.
      key: Key of the draws of a `GaussianPosterior`.
      num_steps: Steps.
      step_size: Of a `GaussianPosterior`.
      num_samples: Pairs of draws a step.
    """
    if isinstance(posterior, Laplace):
        return _to_mode(posterior, params, new_data, num_steps)
    return _natural_steps(posterior, params, new_data, key, num_steps, step_size, num_samples)


def _to_mode(
    laplace: Laplace, old: LaplaceState, data: Mapping[str, Tensor], num_steps: int
) -> LaplaceState:
    layout = laplace.layout
    centre, prior = layout.to_vector(old.mean), laplace.precision(old)
    vector = centre.clone()

    def weights(v: Tensor) -> dict[str, Tensor]:
        return {**old.mean, **layout.to_weights(v)}

    def log_joint(v: Tensor) -> Tensor:
        value, _ = log_likelihood_and_gradient(laplace.model, weights(v), data)
        return value - 0.5 * (v - centre) @ prior @ (v - centre)

    for _ in range(num_steps):
        _, slope, curvature, count = laplace.expand(weights(vector), data)
        total = old._replace(curvature=_sum(old, curvature, count))
        gradient = slope - prior @ (vector - centre)
        direction = torch.linalg.solve(laplace.precision(total), gradient)
        value, length = log_joint(vector), 1.0
        slack = 64 * torch.finfo(value.dtype).eps * value.abs()
        while length > 2.0**-12:
            wanted = value + 1e-4 * length * gradient @ direction - slack
            if log_joint(vector + length * direction) >= wanted:
                break
            length /= 2
        if log_joint(vector + length * direction) >= value - slack:
            vector = vector + length * direction
    value, _, curvature, count = laplace.expand(weights(vector), data)
    tau, loc = old.prior_scale**-2, laplace.prior.loc
    remembered = old.log_likelihood - 0.5 * (vector - centre) @ prior @ (vector - centre)
    remembered = remembered - 0.5 * tau * (
        (centre - loc).square().sum() - (vector - loc).square().sum()
    )
    return LaplaceState(
        weights(vector),
        _sum(old, curvature, count),
        remembered + value,
        old.prior_scale,
        old.num_data + count,
    )


def _sum(old: LaplaceState, curvature: Curvature, count: Tensor) -> Curvature:
    """Adds curvatures; A is a mean over rows, B a sum."""
    factors = {}
    for name, (a, b) in curvature.factors.items():
        a_old, b_old = old.curvature.factors.get(name, (torch.zeros_like(a), torch.zeros_like(b)))
        mean = (old.num_data * a_old + count * a) / (old.num_data + count)
        factors[name] = (mean, b_old + b)
    return Curvature(old.curvature.matrix + curvature.matrix, factors)


def _natural_steps(
    q: GaussianPosterior,
    old: Blocks,
    data: Mapping[str, Tensor],
    key: Tensor,
    num_steps: int,
    step_size: float,
    num_samples: int,
) -> Blocks:
    layout = Layout(q.model, "", True)
    names = sorted(old)
    sizes = [len(old[name][0]) for name in names]
    weights = {name: p.detach() for name, p in q.model.named_parameters()}
    mask = torch.block_diag(*[torch.ones(size, size) for size in sizes]).to(old[names[0]][0])
    diagonal = any(block.covariance == "diagonal" for block in q.posterior.values())
    mask = only_diagonal(mask) if diagonal else mask
    centre = torch.cat([old[name][0] for name in names])
    prior = torch.block_diag(*[old[name][1] for name in names])
    loc, precision = centre, prior
    for step_key in jrandom.split(key, num_steps):
        noise = jrandom.normal(step_key, (num_samples, len(loc)), dtype=loc.dtype)
        # blocks do not mix, so the factor of the whole is that of each of them
        offsets = noise @ torch.linalg.cholesky(torch.linalg.inv(precision)).T
        gradients, curvatures = [], []
        for w in torch.cat([loc + offsets, loc - offsets]):
            at = {**weights, **layout.to_weights(w)}
            gradients.append(layout.to_vector(log_likelihood_and_gradient(q.model, at, data)[1]))
            curvatures.append(gauss_newton(q.model, at, data, layout.names, layout.kernels))
        curvature = torch.stack(curvatures).mean(0)
        precision = (1 - step_size) * precision + step_size * (prior + mask * curvature)
        slope = torch.stack(gradients).mean(0) - prior @ (loc - centre)
        direction = torch.linalg.solve(precision, slope)
        length = step_size
        if diagonal or len(names) > 1:
            bend = direction @ (prior + curvature) @ direction
            length = step_size * min(1.0, (slope @ direction / bend).item())
        loc = loc + length * direction
    blocks, start = {}, 0
    for name, size in zip(names, sizes, strict=True):
        rows = slice(start, start + size)
        blocks[name] = (loc[rows], precision[rows, rows])
        start += size
    return blocks


def pack(block: GaussianBlock, precision: Tensor) -> Tensor:
    """Returns `raw_scale` or `raw_tril` of a block with this precision."""
    factor = torch.linalg.cholesky(torch.linalg.inv(precision))
    scale = factor.diagonal()
    raw = torch.log(torch.expm1(scale - SCALE_FLOOR))
    if block.covariance == "diagonal":
        return raw
    square = torch.diag(raw) + (factor / scale[:, None]).tril(-1)
    packed = torch.zeros_like(block.raw_tril)
    below = torch.ones_like(square).tril().bool()
    packed[block._entry[below]] = square[below]
    return packed
