"""Priors under which most weights vanish: spike and slab, horseshoe.

Twin: `torch_ref/objectives/sparse_priors.py`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.objectives.priors import log_number
from jaxprob.requirements import require_positive
from jaxprob.types import Array, Params

__all__ = ["HorseshoePrior", "SpikeAndSlabPrior"]


@dataclasses.dataclass(frozen=True)
class SpikeAndSlabPrior:
    """Mixture of a wide and a narrow normal over every weight.

        log p(w) = sum_i log [share N(w_i; 0, slab^2) + (1 - share) N(w_i; 0, spike^2)]

    Source: Blundell et al., "Weight uncertainty in neural networks" (ICML 2015), eq. 7; George &
    McCulloch, "Variable selection via Gibbs sampling" (JASA 1993).

    Attributes:
      slab: Standard deviation of the weights that matter (> spike).
      spike: Standard deviation of those that do not (> 0).
      share: Probability that a weight matters, in (0, 1).

    Raises:
      ValueError: Values outside these bounds.
    """

    slab: float | Array = 1.0
    spike: float | Array = 0.01
    share: float | Array = 0.5

    def __post_init__(self):
        require_positive("SpikeAndSlabPrior", slab=self.slab, spike=self.spike)
        traced = any(isinstance(s, jax.core.Tracer) for s in (self.slab, self.spike, self.share))
        if not traced and not (0.0 < self.share < 1.0 and self.spike < self.slab):
            raise ValueError(
                "SpikeAndSlabPrior: needs 0 < share < 1 and spike < slab; got "
                f"share={self.share}, spike={self.spike}, slab={self.slab}."
            )

    def log_prob(self, params: Params) -> Array:
        """Returns log p(w), summed over a pytree of weights, in nats."""
        wide, narrow = log_number(self.share), log_number(1.0 - self.share)
        return sum(
            jnp.sum(
                jnp.logaddexp(wide + _log_normal(w, self.slab), narrow + _log_normal(w, self.spike))
            )
            for w in jax.tree.leaves(params)
        )


@dataclasses.dataclass(frozen=True)
class HorseshoePrior:
    """Horseshoe prior over every weight: w = scale x lambda x z, lambda half-Cauchy, z normal.

    Its density has no closed form but a tight one by exponential integrals:

        p(w) = e^{u} E_1(u) / (scale sqrt(2 pi^3)),   u = w^2 / (2 scale^2)

    It rises without bound at 0 (weights that do not matter vanish) and falls as 1 / w^2 (those
    that do are hardly shrunk).

    Source: Carvalho, Polson & Scott, "The horseshoe estimator for sparse signals" (Biometrika
    2010), section 2.

    Attributes:
      scale: The global scale (> 0), in the units of the weights.

    Raises:
      ValueError: A scale that is not positive.
    """

    scale: float | Array = 1.0

    def __post_init__(self):
        require_positive("HorseshoePrior", scale=self.scale)

    def log_prob(self, params: Params) -> Array:
        """Returns log p(w), summed over a pytree of weights, in nats; infinite at exactly 0."""
        constant = log_number(self.scale) + 0.5 * math.log(2 * math.pi**3)
        return sum(
            jnp.sum(_log_scaled_e1((w / self.scale) ** 2 / 2.0) - constant)
            for w in jax.tree.leaves(params)
        )


def _log_normal(w: Array, scale: float | Array) -> Array:
    return -0.5 * (w / scale) ** 2 - log_number(scale) - 0.5 * math.log(2 * math.pi)


# -sum_{k>=1} (-u)^k / (k k!), highest power first, so that E_1(u) = -log u - gamma + sum.
SERIES = np.array([-((-1.0) ** k) / (k * math.factorial(k)) for k in range(26, 0, -1)] + [0.0])


def _log_scaled_e1(u: Array) -> Array:
    """log(e^u E_1(u)): the power series up to 2, a continued fraction beyond.

    E_1(u) = -gamma - log u - sum_k (-u)^k / (k k!)
    E_1(u) = e^-u / (u + 1 / (1 + 1 / (u + 2 / (1 + 2 / (u + ...)))))

    Source: Abramowitz & Stegun, 5.1.11 and 5.1.22.
    """
    large = u > 2.0
    small = jnp.where(large, 1.0, u)
    series = jnp.polyval(jnp.asarray(SERIES, u.dtype), small)
    near = small + jnp.log(series - jnp.log(small) - np.euler_gamma)
    far = jnp.where(large, u, 2.0)
    terms = jnp.arange(60, 0, -1, dtype=u.dtype)
    tail, _ = jax.lax.scan(lambda tail, k: (far + k / (1.0 + k / tail), None), far, terms)
    return jnp.where(large, -jnp.log(tail), near)
