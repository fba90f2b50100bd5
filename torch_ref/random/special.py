"""Special functions with XLA's errors rather than torch's: the same formula, step by step.

    erf(x)     = x n(x^2) / d(x^2)                                              (float32)
    erf_inv(x) = x p(w),  w = -log(1 - x^2),  p a polynomial in w, in the tails in sqrt(w)
    lgamma(x)  = (x - 1/2) log t - t + log(2 pi)/2 + log A(x),  t = x + 13/2    (float32)

XLA's inverse error function is off by up to 48 (float32) and 25000 (float64) units of the last
place in the tails, and its float32 lgamma by thousands near 1 and 2: torch's accurate ones would
give other normal and Poisson draws. See `elementary.py` for how rounding is followed.

Sources: M. Giles, "Approximating the erfinv function", GPU Computing Gems, 2010 (coefficients);
C. Lanczos, "A precision approximation of the gamma function", SIAM J. Numer. Anal. 1, 1964, with
P. Godfrey's coefficients for g = 7, n = 9; the Eigen library (coefficients of erf).
"""

import math
from types import ModuleType

import torch
from torch import Tensor

from torch_ref.random.elementary import (
    Array,
    as_float32,
    fma,
    horner,
    is_float32,
    log1p_above,
    log_positive,
    on_tensor,
)

__all__ = ["erf", "erf_inv", "lgamma"]

# (upper end of w, centre, coefficients) of the polynomial in w, then of those in sqrt(w).
_GILES_FLOAT32 = (
    (
        5.0,
        2.5,
        as_float32(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087)
        + as_float32(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
    ),
    (
        math.inf,
        3.0,
        as_float32(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773)
        + as_float32(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
    ),
)
_GILES_FLOAT64 = (
    (
        6.25,
        3.125,
        (-3.6444120640178196996e-21, -1.685059138182016589e-19, 1.2858480715256400167e-18)
        + (1.115787767802518096e-17, -1.333171662854620906e-16, 2.0972767875968561637e-17)
        + (6.6376381343583238325e-15, -4.0545662729752068639e-14, -8.1519341976054721522e-14)
        + (2.6335093153082322977e-12, -1.2975133253453532498e-11, -5.4154120542946279317e-11)
        + (1.051212273321532285e-09, -4.1126339803469836976e-09, -2.9070369957882005086e-08)
        + (4.2347877827932403518e-07, -1.3654692000834678645e-06, -1.3882523362786468719e-05)
        + (0.0001867342080340571352, -0.00074070253416626697512, -0.0060336708714301490533)
        + (0.24015818242558961693, 1.6536545626831027356),
    ),
    (
        16.0,
        3.25,
        (2.2137376921775787049e-09, 9.0756561938885390979e-08, -2.7517406297064545428e-07)
        + (1.8239629214389227755e-08, 1.5027403968909827627e-06, -4.013867526981545969e-06)
        + (2.9234449089955446044e-06, 1.2475304481671778723e-05, -4.7318229009055733981e-05)
        + (6.8284851459573175448e-05, 2.4031110387097893999e-05, -0.0003550375203628474796)
        + (0.00095328937973738049703, -0.0016882755560235047313, 0.0024914420961078508066)
        + (-0.0037512085075692412107, 0.005370914553590063617, 1.0052589676941592334)
        + (3.0838856104922207635,),
    ),
    (
        math.inf,
        5.0,
        (-2.7109920616438573243e-11, -2.5556418169965252055e-10, 1.5076572693500548083e-09)
        + (-3.7894654401267369937e-09, 7.6157012080783393804e-09, -1.4960026627149240478e-08)
        + (2.9147953450901080826e-08, -6.7711997758452339498e-08, 2.2900482228026654717e-07)
        + (-9.9298272942317002539e-07, 4.5260625972231537039e-06, -1.9681778105531670567e-05)
        + (7.5995277030017761139e-05, -0.00021503011930044477347, -0.00013871931833623122026)
        + (1.0103004648645343977, 4.8499064014085844221),
    ),
)

_ERF_NUMERATOR = as_float32(0.00022905065, 0.0034082910, 0.050955694, 0.18520832, 1.1283791)
_ERF_DENOMINATOR = (
    *as_float32(-1.1791603e-07, 2.3547966e-05, 1.0179626e-3, 0.014070470),
    *as_float32(0.11098505, 0.49746925),
    1.0,
)
_ERF_BOUND = as_float32(3.832507)[0]

_LANCZOS = as_float32(676.520386, -1259.13916, 771.323425, -176.615036) + as_float32(
    12.5073433, -0.138571098, 9.98436917e-06, 1.50563267e-07
)
_LOG_15_HALVES, _LOG_ROOT_2_PI, _TWO_FIFTEENTHS = as_float32(
    math.log(7.5), 0.5 * math.log(2.0 * math.pi), 1.0 / 7.5
)


def erf_inv(x: Tensor) -> Tensor:
    """Inverse error function.

    Args:
        x: Numbers in [-1, 1], float32 or float64, any shape.

    Returns:
        Same shape and type; infinite at -1 and 1.
    """
    return on_tensor(_erf_inv, x)


def erf(x: Tensor) -> Tensor:
    """Error function: XLA's rational function in float32, torch's own in float64.

    Args:
        x: Float32 or float64, any shape.

    Returns:
        Same shape and type.
    """
    return on_tensor(_erf_float32, x) if is_float32(x) else torch.erf(x)


def lgamma(x: Tensor) -> Tensor:
    """Logarithm of the gamma function.

    Args:
        x: Numbers of at least 1/2, float32, any shape. Below, the result is meaningless.

    Returns:
        Same shape and type.
    """
    return on_tensor(_lgamma_float32, x)


def _erf_inv(x: Array, xp: ModuleType) -> Array:
    (bound, centre, coefficients), *tails = _GILES_FLOAT32 if is_float32(x) else _GILES_FLOAT64
    w = -log1p_above(-x * x, xp)
    p = horner(coefficients, w - centre)
    if (w >= bound).any():
        root = xp.sqrt(w)
        for upper, centre, coefficients in tails:
            p = xp.where(w < bound, p, horner(coefficients, root - centre))
            bound = upper
    return xp.where(xp.abs(x) == 1, math.inf, p) * x


def _erf_float32(x: Array, xp: ModuleType) -> Array:
    x2 = x * x
    ratio = (x * horner(_ERF_NUMERATOR, x2)) / horner(_ERF_DENOMINATOR, x2)
    return xp.where(xp.abs(x) >= _ERF_BOUND, xp.sign(x), ratio)


def _lgamma_float32(x: Array, xp: ModuleType) -> Array:
    z = x - 1
    series = 1.0
    for i, c in enumerate(_LANCZOS, start=1):
        series = series + c / (z + i)
    log_t = log1p_above(z * _TWO_FIFTEENTHS, xp) + _LOG_15_HALVES
    stirling = fma((z + 0.5) - (z + 7.5) / log_t, log_t, _LOG_ROOT_2_PI)
    return stirling + log_positive(series, xp)
