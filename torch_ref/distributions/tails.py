"""Incomplete gamma and beta functions by series and continued fractions, with gradients.

torch.special.gammainc has no gradient towards its first argument, and torch has no incomplete beta
function. The classical series and fractions are plain arithmetic, which autograd follows.

Twin of `jaxprob/distributions/tails.py`, which integrates instead. Source: W. Press et al.,
"Numerical Recipes", 3rd ed., sections 6.2 and 6.4.
"""

import math

import numpy as np
import torch
from torch import Tensor

from torch_ref.distributions.special import binet, deviance, digamma_minus_log

__all__ = ["beta_tails", "gamma_tails"]

TERMS = 400


def gamma_tails(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns P(G <= x) and P(G > x) for a gamma variable of concentration `a` and rate 1."""
    dtype = torch.promote_types(a.dtype, x.dtype)
    a, x = torch.broadcast_tensors(a.double(), x.double())  # in float32 the fraction drifts
    inside = (x > 0.0) & x.isfinite()
    x_in = torch.where(inside, x, a.detach())
    low = x_in < a + 1.0
    log_density = -deviance(a, x_in) - binet(a) + 0.5 * (a / (2 * math.pi)).log()
    lower = log_density.exp() * _gamma_series(a, torch.where(low, x_in, a.detach()))
    far = torch.where(low, a.detach() + 2.0, x_in)
    upper = log_density.exp() * _gamma_fraction(a, far)
    lower, upper = torch.where(low, lower, 1.0 - upper), torch.where(low, 1.0 - lower, upper)
    return _with_ends(inside, x, lower, upper, dtype)


def _with_ends(inside, x: Tensor, lower: Tensor, upper: Tensor, dtype) -> tuple[Tensor, Tensor]:
    """0 and 1 where x is at an end of the support."""
    edge = (x > 0.0).to(x.dtype)
    lower, upper = torch.where(inside, lower, edge), torch.where(inside, upper, 1.0 - edge)
    return lower.to(dtype), upper.to(dtype)


def _gamma_series(a: Tensor, x: Tensor) -> Tensor:
    term = 1.0 / a
    total = term
    for n in range(1, TERMS):
        term = term * (x / (a + n))
        total = total + term
        if bool((term.detach() < 1e-18 * total.detach()).all()):
            break
    return total


def _gamma_fraction(a: Tensor, x: Tensor) -> Tensor:
    b = x + 1.0 - a
    c, d = torch.full_like(b, 1e30), 1.0 / b
    h = d
    for n in range(1, TERMS):
        factor = -n * (n - a)
        b = b + 2.0
        d = 1.0 / (factor * d + b)
        c = b + factor / c
        h = h * (d * c)
        if bool(((d * c).detach() - 1.0).abs().lt(1e-17).all()):
            break
    return h


def beta_tails(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns P(B <= x) and P(B > x) for a beta variable; `y` is 1 - x."""
    dtype = torch.promote_types(a.dtype, x.dtype)
    a, b, x, y = torch.broadcast_tensors(a.double(), b.double(), x.double(), y.double())
    inside = (x > 0.0) & (y > 0.0)
    x_in, y_in = torch.where(inside, x, 0.5), torch.where(inside, y, 0.5)
    low = x_in < (a + 1.0) / (a + b + 2.0)
    tail = _beta_tail(a, b, x_in, y_in, low)
    lower, upper = torch.where(low, tail, 1.0 - tail), torch.where(low, 1.0 - tail, tail)
    # the tail at an end whose concentration is below 1 is long: both tails keep their digits
    mirror = x_in > 0.5
    first, second = torch.where(mirror, b, a), torch.where(mirror, a, b)
    near = torch.where(mirror, y_in, x_in)
    short = (first < 1.0) & (second * near <= 1.5)
    log_near = _beta_log_series(
        torch.where(short, first, 0.5), torch.where(short, second, 1.0),
        torch.where(short, near, 0.25),
    )  # fmt: skip
    one, other = log_near.exp(), -torch.expm1(log_near)
    lower = torch.where(short, torch.where(mirror, other, one), lower)
    upper = torch.where(short, torch.where(mirror, one, other), upper)
    return _with_ends(inside, x, lower, upper, dtype)


def _beta_log_series(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Returns log I_x(a, b) for a < 1, x <= 1/2 and b x not much above 1 (DLMF 8.17.7)."""
    term, total = torch.ones_like(x), torch.zeros_like(x)
    for n in range(1, 55):
        term = term * (x * (n - b) / n)
        total = total + term / (a + n)
    # log(a B(a, b)) = a times the mean of psi(1 + a t) - psi(1 + b + a t), and log(1 + a / b)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    mean = torch.zeros_like(x)
    for t, w in zip((0.5 * (nodes + 1.0)).tolist(), (0.5 * weights).tolist(), strict=True):
        mean = mean + w * (_digamma(1.0 + a * t) - _digamma(1.0 + b + a * t))
    constant = a * mean + torch.log1p(a / b)
    return (a * x.log() - constant + torch.log1p(a * total)).clamp(max=0.0)


def _digamma(z: Tensor) -> Tensor:
    return z.log() + digamma_minus_log(z)


def _beta_tail(a: Tensor, b: Tensor, x: Tensor, y: Tensor, low: Tensor) -> Tensor:
    """The lower tail where `low`, else the upper one, by the continued fraction."""
    total = a + b
    log_density = -deviance(a, total * x) - deviance(b, total * y)
    log_density = log_density + binet(total) - binet(a) - binet(b)
    density = (log_density + 0.5 * (a / total * b / (2 * math.pi)).log()).exp()
    first, second = torch.where(low, a, b), torch.where(low, b, a)
    return density / first * _beta_fraction(first, second, torch.where(low, x, y))


def _beta_fraction(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Lentz's method for the fraction of I_x(a, b)."""
    c = torch.ones_like(x)
    d = 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    h = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / (1.0 + even * d)
        c = 1.0 + even / c
        h = h * (d * c)
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / (1.0 + odd * d)
        c = 1.0 + odd / c
        h = h * (d * c)
        if bool(((d * c).detach() - 1.0).abs().lt(1e-17).all()):
            break
    return h
