"""Flows ready for use; see the twin for the arguments.

Twin of `jaxprob/flows/builders.py`.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.flows.autoregressive import MaskedAffineAutoregressive
from torch_ref.flows.couplings import AffineCoupling, SplineCoupling, alternating_mask
from torch_ref.flows.flow import Flow, Inverse
from torch_ref.flows.linear_maps import LULinear, Rescale
from torch_ref.flows.planar_maps import Planar

__all__ = [
    "coupling",
    "inverse_autoregressive",
    "masked_autoregressive",
    "planar",
    "spline_coupling",
]

Activation = Callable[[Tensor], Tensor]
Units = float | Sequence[float]


def coupling(
    features: int,
    num_layers: int = 6,
    hidden: Sequence[int] = (64, 64),
    activation: Activation = F.silu,
    linear: bool = False,
    mean: Units = 0.0,
    std: Units = 1.0,
    condition_features: int = 0,
) -> Flow:
    """Returns a flow of affine couplings."""
    parts: list[nn.Module] = []
    for i in range(num_layers):
        mask = alternating_mask(features, i)
        parts += [LULinear(features)] if linear else []
        parts += [AffineCoupling(mask, hidden, activation, condition_features=condition_features)]
    return Flow(features, parts + units(mean, std))


def spline_coupling(
    features: int,
    num_layers: int = 4,
    hidden: Sequence[int] = (64, 64),
    activation: Activation = F.silu,
    bins: int = 8,
    bound: float = 5.0,
    linear: bool = True,
    mean: Units = 0.0,
    std: Units = 1.0,
    condition_features: int = 0,
) -> Flow:
    """Returns a flow of rational-quadratic spline couplings."""
    parts: list[nn.Module] = []
    for i in range(num_layers):
        mask = alternating_mask(features, i)
        parts += [LULinear(features)] if linear else []
        parts += [SplineCoupling(mask, hidden, activation, bins, bound, condition_features)]
    return Flow(features, parts + units(mean, std))


def masked_autoregressive(
    features: int,
    num_layers: int = 5,
    hidden: Sequence[int] = (64, 64),
    activation: Activation = F.silu,
    mean: Units = 0.0,
    std: Units = 1.0,
    condition_features: int = 0,
) -> Flow:
    """Returns a MAF."""
    parts = chains(features, num_layers, hidden, activation, condition_features)
    return Flow(features, [*parts, *units(mean, std)])


def inverse_autoregressive(
    features: int,
    num_layers: int = 5,
    hidden: Sequence[int] = (64, 64),
    activation: Activation = F.silu,
    mean: Units = 0.0,
    std: Units = 1.0,
    condition_features: int = 0,
) -> Flow:
    """Returns an IAF."""
    parts = chains(features, num_layers, hidden, activation, condition_features)
    return Flow(features, [*(Inverse(part) for part in parts), *units(mean, std)])


def planar(
    features: int,
    num_layers: int = 16,
    hidden: Sequence[int] = (),
    activation: Activation = F.silu,
    mean: Units = 0.0,
    std: Units = 1.0,
    condition_features: int = 0,
) -> Flow:
    """Returns a flow of planar maps."""
    parts = [Planar(features, hidden, activation, condition_features) for _ in range(num_layers)]
    return Flow(features, [*parts, *units(mean, std)])


def chains(
    features: int,
    num_layers: int,
    hidden: Sequence[int],
    activation: Activation,
    condition_features: int,
) -> list[nn.Module]:
    """Returns autoregressive layers that run through the elements forth and back by turns."""
    orders = [list(range(features)), list(range(features))[::-1]]
    return [
        MaskedAffineAutoregressive(
            features, hidden, orders[i % 2], activation, condition_features=condition_features
        )
        for i in range(num_layers)
    ]


def units(mean: Units, std: Units) -> list[nn.Module]:
    """Returns the last map, or nothing in standard units."""
    return [] if (mean, std) == (0.0, 1.0) else [Rescale(mean, std)]
