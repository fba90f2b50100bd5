"""Flows ready for use.

    coupling                  affine couplings               both directions fast
    spline_coupling           spline couplings, LU between   both directions fast, most flexible
    masked_autoregressive     MAF                            log_prob fast, sample takes D passes
    inverse_autoregressive    IAF                            sample fast, log_prob takes D passes
    planar                    planar maps                    sample fast, log_prob by bisection

Each starts as the base, a standard normal in the units given by `mean` and `std` (planar maps keep
what they draw for w, with u = 0). Any of them takes a condition when it is called with one.

Twin: `torch_ref/flows/builders.py`. The sources stand beside each.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import numpy as np

from jaxprob.flows.autoregressive import MaskedAffineAutoregressive
from jaxprob.flows.couplings import AffineCoupling, SplineCoupling, alternating_mask
from jaxprob.flows.flow import Flow, Inverse
from jaxprob.flows.linear_maps import LULinear, Rescale
from jaxprob.flows.planar_maps import Planar
from jaxprob.requirements import require_count, require_positive
from jaxprob.types import Array

__all__ = [
    "coupling",
    "inverse_autoregressive",
    "masked_autoregressive",
    "planar",
    "spline_coupling",
]

Activation = Callable[[Array], Array]
Units = float | Sequence[float]


def coupling(
    features: int,
    num_layers: int = 6,
    hidden: Sequence[int] = (64, 64),
    activation: Activation = nn.silu,
    linear: bool = False,
    mean: Units = 0.0,
    std: Units = 1.0,
) -> Flow:
    """Returns a flow of affine couplings: x_m = z_m e^{s(z_p)} + t(z_p).

    Args:
      features: Size D of an event; 1 needs a condition.
      num_layers: Number of couplings; two in a row map every element.
      hidden: Widths of the network in each.
      activation: Elementwise function between its layers.
      linear: Whether an `LULinear` comes before each coupling.
      mean: Mean of the training data, a number or D numbers.
      std: Standard deviation of the training data, likewise.

    Raises:
      ValueError: No features, no layers, or a standard deviation that is not positive.

    Source: Dinh, Sohl-Dickstein & Bengio, "Density estimation using real NVP" (2017), eqs. 7-8.
    """
    require_count("coupling", features=features, num_layers=num_layers)
    require_positive("coupling", std=std)
    layers = [
        AffineCoupling(alternating_mask(features, i), tuple(hidden), activation)
        for i in range(num_layers)
    ]
    return _flow(features, _with_linear(features, layers, linear), mean, std)


def spline_coupling(
    features: int,
    num_layers: int = 4,
    hidden: Sequence[int] = (64, 64),
    activation: Activation = nn.silu,
    bins: int = 8,
    bound: float = 5.0,
    linear: bool = True,
    mean: Units = 0.0,
    std: Units = 1.0,
) -> Flow:
    """Returns a flow of rational-quadratic spline couplings.

    Args:
      features: Size D of an event; 1 needs a condition.
      num_layers: Number of couplings; two in a row map every element.
      hidden: Widths of the network in each.
      activation: Elementwise function between its layers.
      bins: Bins K of each spline.
      bound: Splines bend [-bound, bound], in units of the base; beyond they are straight.
      linear: Whether an `LULinear` comes before each coupling.
      mean: Mean of the training data, a number or D numbers.
      std: Standard deviation of the training data, likewise.

    Raises:
      ValueError: No features, no layers, or a standard deviation that is not positive.

    Source: Durkan et al., "Neural spline flows" (2019), section 3.
    """
    require_count("spline_coupling", least=2, bins=bins)
    require_count("spline_coupling", features=features, num_layers=num_layers)
    require_positive("spline_coupling", std=std)
    layers = [
        SplineCoupling(
            alternating_mask(features, i), tuple(hidden), activation, bins=bins, bound=bound
        )
        for i in range(num_layers)
    ]
    return _flow(features, _with_linear(features, layers, linear), mean, std)


def masked_autoregressive(
    features: int,
    num_layers: int = 5,
    hidden: Sequence[int] = (64, 64),
    activation: Activation = nn.silu,
    mean: Units = 0.0,
    std: Units = 1.0,
) -> Flow:
    """Returns a MAF: each element is stretched and shifted by the elements before it.

    Every second layer runs through the elements backwards.

    Args:
      features: Size D of an event.
      num_layers: Number of layers.
      hidden: Widths of the masked network in each, best at least D.
      activation: Elementwise function between its layers.
      mean: Mean of the training data, a number or D numbers.
      std: Standard deviation of the training data, likewise.

    Raises:
      ValueError: No features, no layers, or a standard deviation that is not positive.

    Source: Papamakarios, Pavlakou & Murray, "Masked autoregressive flow for density estimation"
    (2017), section 3; masks by Germain et al. (2015).
    """
    require_count("masked_autoregressive", features=features, num_layers=num_layers)
    require_positive("masked_autoregressive", std=std)
    layers = _chains(features, num_layers, hidden, activation)
    return _flow(features, layers, mean, std)


def inverse_autoregressive(
    features: int,
    num_layers: int = 5,
    hidden: Sequence[int] = (64, 64),
    activation: Activation = nn.silu,
    mean: Units = 0.0,
    std: Units = 1.0,
) -> Flow:
    """Returns an IAF: the MAF's layers the other way round, for sampling in one pass each.

    Args:
      features: Size D of an event.
      num_layers: Number of layers.
      hidden: Widths of the masked network in each, best at least D.
      activation: Elementwise function between its layers.
      mean: Mean of the target, a number or D numbers.
      std: Standard deviation of the target, likewise.

    Raises:
      ValueError: No features, no layers, or a standard deviation that is not positive.

    Source: Kingma et al., "Improving variational inference with inverse autoregressive flow"
    (2016), section 4, in the form of Papamakarios et al. (2017), section 3.2.
    """
    require_count("inverse_autoregressive", features=features, num_layers=num_layers)
    require_positive("inverse_autoregressive", std=std)
    layers = [Inverse(layer) for layer in _chains(features, num_layers, hidden, activation)]
    return _flow(features, layers, mean, std)


def planar(
    features: int,
    num_layers: int = 16,
    hidden: Sequence[int] = (),
    activation: Activation = nn.silu,
    mean: Units = 0.0,
    std: Units = 1.0,
) -> Flow:
    """Returns a flow of planar maps: x = z + v tanh(w.z + b).

    Args:
      features: Size D of an event.
      num_layers: Number of maps; each bends along one direction only.
      hidden: Widths of the network from a condition to the parameters of each map.
      activation: Elementwise function between its layers.
      mean: Mean of the target, a number or D numbers.
      std: Standard deviation of the target, likewise.

    Raises:
      ValueError: No features, no layers, or a standard deviation that is not positive.

    Source: Rezende & Mohamed, "Variational inference with normalizing flows" (2015), section 4.1.
    """
    require_count("planar", features=features, num_layers=num_layers)
    require_positive("planar", std=std)
    layers = [Planar(features, tuple(hidden), activation) for _ in range(num_layers)]
    return _flow(features, layers, mean, std)


def _chains(
    features: int, num_layers: int, hidden: Sequence[int], activation: Activation
) -> list[MaskedAffineAutoregressive]:
    forth, back = tuple(range(features)), tuple(reversed(range(features)))
    return [
        MaskedAffineAutoregressive(features, tuple(hidden), back if i % 2 else forth, activation)
        for i in range(num_layers)
    ]


def _with_linear(features: int, layers: Sequence[nn.Module], linear: bool) -> list[nn.Module]:
    if not linear:
        return list(layers)
    return [part for layer in layers for part in (LULinear(features), layer)]


def _flow(features: int, layers: Sequence[nn.Module], mean: Units, std: Units) -> Flow:
    """The last map, which learns nothing, only stands where there are units."""
    has_units = np.any(np.asarray(mean) != 0.0) or np.any(np.asarray(std) != 1.0)
    units = [Rescale(_static(mean), _static(std))] if has_units else []
    return Flow(features, (*layers, *units))


def _static(value: Units) -> Units:
    """Plain numbers: attributes of a module must be comparable."""
    array = np.asarray(value, float)
    return float(array) if array.ndim == 0 else tuple(map(float, array))
