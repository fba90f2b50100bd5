"""Probabilistic PCA as a VAE: its posterior and its log p(x) are known.

    z ~ N(0, I),   x | z ~ N(W z + b, s^2 I)
    x ~ N(b, W W' + s^2 I),   z | x ~ N(M^-1 W' (x - b), s^2 M^-1),   M = W' W + s^2 I

Source: Tipping & Bishop, "Probabilistic principal component analysis" (1999), eqs. 3-7.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxprob.distributions import Independent, MultivariateNormal, Normal

_rng = np.random.default_rng(3)
W, B, S = _rng.normal(size=(4, 2)), _rng.normal(size=4), 0.5
X = B + _rng.normal(size=(5, 2)) @ W.T + S * _rng.normal(size=(5, 4))
_M = W.T @ W + S**2 * np.eye(2)
COVARIANCE = S**2 * np.linalg.inv(_M)
LOG_MARGINAL = stats.multivariate_normal(B, W @ W.T + S**2 * np.eye(4)).logpdf(X)


class Decoder(nn.Module):
    """p(x | z), exact; it has no parameters."""

    def __call__(self, z):
        loc = z @ W.T + B.reshape((1,) * (z.ndim - 1) + (-1,))
        return Independent(Normal(loc, S), 1)


class Posterior(nn.Module):
    """The exact p(z | x), or one that is too wide by a factor, or its marginals alone.

    Attributes:
      widen: Factor of the standard deviations.
      factorised: Whether correlations are left out.
    """

    widen: float = 1.0
    factorised: bool = False

    def __call__(self, x):
        loc = (x - B[None]) @ W @ np.linalg.inv(_M)
        if self.factorised:
            scale = self.widen * np.sqrt(np.diag(COVARIANCE))
            return Independent(Normal(loc, jnp.broadcast_to(scale, loc.shape)), 1)
        factor = self.widen * np.linalg.cholesky(COVARIANCE)
        return MultivariateNormal(loc, jnp.broadcast_to(factor, (*loc.shape, 2)))
