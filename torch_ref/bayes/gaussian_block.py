"""A Gaussian over one vector of P weights, w = loc + L eps.

The triangle is packed row by row of a P x P square: v[P:] fills the square from its start, then v
itself follows backwards; the entries above the diagonal are not used. So entry (i, j), at position
k = i P + j, is v[P + k] while P + k is inside v (m entries), and v[2 m - P - 1 - k] after that.
L = diag(s) U: the scales are softplus of the square's diagonal, U is unit lower triangular.

Twin of `jaxprob/bayes/gaussian_block.py`.
"""

import math

import torch
from torch import Tensor, nn

from torch_ref.distributions import MultivariateNormal, Normal
from torch_ref.heads.normal import softplus

__all__ = ["SCALE_FLOOR", "GaussianBlock"]

SCALE_FLOOR = 1e-5


class GaussianBlock(nn.Module):
    """Parameters `loc` `[P]` and `raw_scale` `[P]` or `raw_tril` `[P (P + 1) / 2]`.

    Args:
      loc: Where the mean starts.
      covariance: "diagonal" or "full".
      init_scale: Standard deviation of each weight at the start.
    """

    def __init__(self, loc: Tensor, covariance: str, init_scale: float):
        super().__init__()
        size = loc.shape[0]
        raw = math.log(math.expm1(init_scale - SCALE_FLOOR))
        self.loc = nn.Parameter(loc.detach().clone())
        self.covariance = covariance
        if covariance == "diagonal":
            self.raw_scale = nn.Parameter(torch.full_like(loc, raw))
            return
        k = torch.arange(size * size).reshape(size, size)
        m = size * (size + 1) // 2
        self._entry = torch.where(size + k < m, size + k, 2 * m - size - 1 - k)
        packed = loc.new_zeros(m)
        packed[self._entry.diagonal()] = raw
        self.raw_tril = nn.Parameter(packed)

    def distribution(self) -> Normal | MultivariateNormal:
        """Returns q(w) as a distribution."""
        if self.covariance == "diagonal":
            return Normal(self.loc, softplus(self.raw_scale) + SCALE_FLOOR, validate_args=False)
        return MultivariateNormal(self.loc, self.scale_tril())

    def scale_tril(self) -> Tensor:
        """Returns the Cholesky factor L `[P, P]`."""
        if self.covariance == "diagonal":
            return torch.diag(softplus(self.raw_scale) + SCALE_FLOOR)
        square = self.raw_tril[self._entry]
        scale = softplus(square.diagonal()) + SCALE_FLOOR
        unit = square.tril(-1) + torch.eye(len(scale), dtype=square.dtype, device=square.device)
        return torch.diag(scale) @ unit

    def sample(self, eps: Tensor) -> Tensor:
        """Returns loc + L eps for `eps` `[S, P]`."""
        return self.loc + torch.einsum("ij,sj->si", self.scale_tril(), eps)

    def kl_to_prior(self, prior: torch.distributions.Normal) -> Tensor:
        """Returns KL(q || prior) = E_q log q - E_q log prior in nats, for a normal prior `[P]`.

        E_q log prior only needs the mean and the marginal variances of q:
        E (w - m)^2 = (loc - m)^2 + Var w.
        """
        factor = self.scale_tril()
        size = self.loc.shape[0]
        negative_entropy = -factor.diagonal().log().sum() - 0.5 * size * (1 + math.log(2 * math.pi))
        second_moment = (self.loc - prior.loc).square() + factor.square().sum(dim=1)
        log_prior = -0.5 * second_moment / prior.scale.square() - prior.scale.log()
        return negative_entropy - log_prior.sum() + 0.5 * size * math.log(2 * math.pi)
