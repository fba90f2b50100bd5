"""Special functions without cancellation: what lgamma differences lose, Stirling's form keeps.

    mu(z) = log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2        Binet's function
    D(x, m) = x log(x / m) + m - x                                    deviance

mu is lgamma itself below 12, where nothing is lost yet, and Stirling's series above.

Twin of `jaxprob/distributions/special.py`. Source: C. Loader (2000); DLMF 5.11.1.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "binet",
    "deviance",
    "digamma_minus_log",
    "gamma_log_density",
    "log1p_square",
    "log_probabilities",
    "log_sum_exp_weighted",
    "power_log",
    "softplus",
    "xlogy",
]

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
# B_2k / (2k (2k - 1)): the coefficients of 1 / z^(2k - 1)
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)


def binet(z: Tensor) -> Tensor:
    """Returns mu(z) for z > 0."""
    large = z > 12.0
    near = torch.where(large, 1.0, z)
    direct = torch.lgamma(near) - (near - 0.5) * near.log() + near - HALF_LOG_TWO_PI
    inverse = 1.0 / torch.where(large, z, 12.0)
    series = torch.zeros_like(z)
    for c in reversed(STIRLING):
        series = series * inverse.square() + c
    return torch.where(large, series * inverse, direct)


def digamma_minus_log(z: Tensor) -> Tensor:
    """Returns psi(z) - log z; not by torch.digamma, whose derivative is 1e-9 off."""
    large = z > 12.0
    near = torch.where(large, 1.0, z)
    inverse = 1.0 / torch.where(large, z, near + 12.0)
    series = torch.zeros_like(z)
    for k, c in reversed(list(enumerate(STIRLING))):
        series = series * inverse.square() - (2 * k + 1) * c
    series = series * inverse.square() - 0.5 * inverse
    # psi(z) = psi(z + 12) - sum of 1 / (z + k) over the 12 steps
    steps = sum(1.0 / (near + k) for k in range(12))
    return torch.where(large, series, series + torch.log1p(12.0 / near) - steps)


def deviance(x: Tensor, m: Tensor, log_m: Tensor | None = None) -> Tensor:
    """Returns x log(x / m) + m - x, by Loader's series where x and m are close."""
    x, m = torch.broadcast_tensors(x, m)
    empty = x <= 0.0
    safe = torch.where(empty, 1.0, x)
    close = (safe - m).abs() < 0.1 * (safe + m)
    other = torch.where(close, m, safe)
    v = (safe - other) / (safe + other)
    series = torch.zeros_like(v)
    for j in range(10, 0, -1):
        series = series * v.square() + 1.0 / (2 * j + 1)
    near = (safe - other) * v + 2.0 * safe * v**3 * series
    distant = torch.where(close | empty, safe, m)
    log_distant = distant.log() if log_m is None else torch.where(close | empty, 0.0, log_m)
    far = safe * (safe.log() - log_distant) + distant - safe
    return torch.where(empty, m, torch.where(close, near, far))


def log1p_square(z: Tensor) -> Tensor:
    """Returns log(1 + z^2) without overflow."""
    large = z.abs() > 1.0
    inverse = 1.0 / torch.where(large, z, 1.0)
    near = torch.where(large, 0.0, z)
    return torch.where(
        large, torch.log1p(inverse.square()) - 2.0 * inverse.abs().log(), torch.log1p(near.square())
    )


def softplus(x: Tensor) -> Tensor:
    """Returns log(1 + e^x); torch's own switches to x at 20 and loses 2e-9."""
    return torch.logaddexp(x, torch.zeros_like(x))


def xlogy(times: Tensor, value: Tensor) -> Tensor:
    """Returns times * log(value), 0 where times is 0, without NaN in the gradients."""
    none = times == 0.0
    log = torch.where(value == 0.0, 1.0, value).log()
    return torch.where(none, times * log, times * torch.where(none, 1.0, value).log())


class _PowerLog(torch.autograd.Function):
    """times * log(value) with 0 log 0 = 0, and the gradient log(value) towards `times` even there.

    torch.xlogy gives 0 there, as if the power of 0 did not jump from infinity through 1 to 0.
    """

    @staticmethod
    def forward(ctx, times, value):
        ctx.save_for_backward(times, value)
        return torch.special.xlogy(times, value)

    @staticmethod
    def backward(ctx, *grads):
        (times, value), (grad,) = ctx.saved_tensors, grads
        to_value = torch.where(times == 0.0, 0.0, times / value)
        # a gradient of 0 comes from entries that are masked
        return torch.where(grad == 0.0, 0.0, grad * value.log()), grad * to_value


def power_log(times: Tensor, value: Tensor) -> Tensor:
    """Returns times * log(value), the logarithm of a power."""
    return _PowerLog.apply(*torch.broadcast_tensors(times, value))


def log_probabilities(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Returns log lower and log upper for two probabilities that sum to 1."""
    small = lower < 0.5
    low, high = torch.where(small, lower, 0.5), torch.where(small, 0.5, upper)
    return (
        torch.where(small, low.log(), torch.log1p(-high)),
        torch.where(small, torch.log1p(-low), high.log()),
    )


def log_sum_exp_weighted(values: Tensor, weights: Tensor, dim: int = -1) -> Tensor:
    """Returns log sum_k w_k exp(v_k), with finite gradients where a weight is 0."""
    values = values.masked_fill((weights == 0.0) & (values == torch.inf), -torch.inf)
    peak = values.detach().amax(dim=dim, keepdim=True)
    peak = torch.where(peak.isfinite(), peak, torch.zeros_like(peak))
    return (weights * (values - peak).exp()).sum(dim=dim).log() + peak.squeeze(dim)


def gamma_log_density(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Returns log Gamma(x; a, b) = -D(a, b x) - mu(a) + log(a / (2 pi)) / 2 - log x."""
    zero = x == 0.0
    safe = torch.where(zero, (a / b).detach(), x)
    inner = -deviance(a, b * safe) - binet(a) + 0.5 * (a / (2 * math.pi)).log() - safe.log()
    small = torch.where(zero, a, 1.0)
    powers = power_log(small - 1.0, torch.where(zero, x, 1.0))
    edge = a * b.log() - torch.lgamma(small) + powers - b * x
    return torch.where(zero, edge, inner)
