"""A Gaussian over one vector of P weights, w = loc + L eps.

The triangle is packed row by row of a P x P square: v[P:] fills the square from its start, then v
itself follows backwards; the entries above the diagonal are not used. So entry (i, j), at position
k = i P + j, is v[P + k] while P + k is inside v (m entries), and v[2 m - P - 1 - k] after that.
L = diag(s) U: the scales are softplus of the square's diagonal, U is unit lower triangular.

The low rank is w_i = loc_i + s_i (eps_i + sum_r V_ir eps_{P + r}).

Twin of `jaxprob/bayes/gaussian_block.py`.
"""

import math

import torch
from torch import Tensor, nn

from torch_ref.distributions import LowRankMultivariateNormal, MultivariateNormal, Normal
from torch_ref.heads.normal import softplus
from torch_ref.objectives import GaussianPrior, HierarchicalGaussianPrior

__all__ = ["SCALE_FLOOR", "GaussianBlock"]

SCALE_FLOOR = 1e-5


class GaussianBlock(nn.Module):
    """Parameters `loc` `[P]` and `raw_scale` `[P]` (with `factor` `[P, R]`) or `raw_tril`.

    Args:
      loc: Where the mean starts.
      covariance: "diagonal", "low_rank" or "full".
      init_scale: Standard deviation of each weight at the start.
      rank: Columns R of the low rank.
    """

    def __init__(self, loc: Tensor, covariance: str, init_scale: float, rank: int = 0):
        super().__init__()
        size = loc.shape[0]
        raw = math.log(math.expm1(init_scale - SCALE_FLOOR))
        self.loc = nn.Parameter(loc.detach().clone())
        self.covariance = covariance
        if covariance != "full":
            self.raw_scale = nn.Parameter(torch.full_like(loc, raw))
            if covariance == "low_rank":
                self.factor = nn.Parameter(0.1 / rank**0.5 * torch.randn(size, rank).to(loc))
            return
        k = torch.arange(size * size).reshape(size, size)
        m = size * (size + 1) // 2
        self._entry = torch.where(size + k < m, size + k, 2 * m - size - 1 - k)
        packed = loc.new_zeros(m)
        packed[self._entry.diagonal()] = raw
        self.raw_tril = nn.Parameter(packed)

    @property
    def scale(self) -> Tensor:
        """Deviations s `[P]` of a diagonal or low-rank block."""
        return softplus(self.raw_scale) + SCALE_FLOOR

    def distribution(self) -> Normal | LowRankMultivariateNormal | MultivariateNormal:
        """Returns q(w) as a distribution."""
        if self.covariance == "diagonal":
            return Normal(self.loc, self.scale, validate_args=False)
        if self.covariance == "low_rank":
            directions = self.scale.unsqueeze(1) * self.factor
            return LowRankMultivariateNormal(
                self.loc, directions, self.scale.square(), validate_args=False
            )
        return MultivariateNormal(self.loc, self.scale_tril())

    def scale_tril(self) -> Tensor:
        """Returns the Cholesky factor of the covariance `[P, P]`."""
        if self.covariance == "diagonal":
            return torch.diag(self.scale)
        if self.covariance == "low_rank":
            return torch.linalg.cholesky(self.distribution().covariance_matrix)
        square = self.raw_tril[self._entry]
        scale = softplus(square.diagonal()) + SCALE_FLOOR
        unit = square.tril(-1) + torch.eye(len(scale), dtype=square.dtype, device=square.device)
        return torch.diag(scale) @ unit

    @property
    def noise_size(self) -> int:
        """Standard normals that one draw takes."""
        return len(self.loc) + (self.factor.shape[1] if self.covariance == "low_rank" else 0)

    def sample(self, eps: Tensor) -> Tensor:
        """Returns draws `[S, P]` from standard normals `[S, noise_size]`."""
        if self.covariance == "full":
            return self.loc + torch.einsum("ij,sj->si", self.scale_tril(), eps)
        own = eps[:, : len(self.loc)]
        if self.covariance == "low_rank":
            own = own + torch.einsum("pr,sr->sp", self.factor, eps[:, len(self.loc) :])
        return self.loc + self.scale * own

    def kl_to_prior(self, prior: torch.distributions.Normal) -> Tensor:
        """Returns KL(q || prior) = E_q log q - E_q log prior in nats, for normal priors `[..., P]`.

        E_q log prior only needs the mean and the marginal variances of q:
        E (w - m)^2 = (loc - m)^2 + Var w.
        """
        q = self.distribution()
        entropy = q.entropy().sum()
        second_moment = (self.loc - prior.loc).square() + q.variance
        log_prior = -0.5 * second_moment / prior.scale.square() - prior.scale.log()
        return 0.5 * len(self.loc) * math.log(2 * math.pi) - log_prior.sum(-1) - entropy

    def expected_kl(
        self, prior: GaussianPrior | HierarchicalGaussianPrior, learned: nn.ParameterDict | None
    ) -> Tensor:
        """Returns the KL under what is learned about the prior, with the KL of that itself.

        Where the scale of the prior has a distribution, the mean over it by Gauss-Hermite
        quadrature.
        """
        if isinstance(prior, GaussianPrior):
            return self.kl_to_prior(prior.distribution(learned, self.loc))
        assert learned is not None
        log_scales, weights = prior.nodes(learned)
        scales = log_scales.exp().unsqueeze(-1).expand(-1, len(self.loc))
        loc = torch.full_like(scales, prior.loc)
        each = self.kl_to_prior(torch.distributions.Normal(loc, scales, validate_args=False))
        return (weights * each).sum() + prior.own_kl(learned)
