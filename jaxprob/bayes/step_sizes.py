"""How the step size of a stochastic gradient sampler falls, and when it samples.

Twin: `torch_ref/bayes/step_sizes.py`. Sources: Welling & Teh, "Bayesian learning via stochastic
gradient Langevin dynamics" (2011), section 4.2; Zhang et al., "Cyclical stochastic gradient MCMC
for Bayesian deep learning" (2020), equation 1 and algorithm 1.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from jaxprob.requirements import require_count, require_in, require_positive
from jaxprob.types import Array

__all__ = ["CyclicalStepSize", "PolynomialStepSize"]


@dataclasses.dataclass(frozen=True)
class PolynomialStepSize:
    """The step size a (b + t)^-gamma after t steps, which Welling & Teh's theorem asks for.

    Attributes:
      a: Factor (> 0).
      b: Offset (> 0), in steps.
      gamma: Power in (0.5, 1], so that the steps reach everywhere and their noise dies out.
    """

    a: float
    b: float = 1.0
    gamma: float = 0.55

    def __post_init__(self):
        require_positive("PolynomialStepSize", a=self.a, b=self.b)
        require_in(
            "PolynomialStepSize",
            "(0.5, 1]",
            "Write a number for a constant step size.",
            gamma=self.gamma,
        )

    def __call__(self, step: Array) -> Array:
        """Returns the step size after `step` steps."""
        return self.a * (self.b + step) ** -self.gamma


@dataclasses.dataclass(frozen=True)
class CyclicalStepSize:
    """Cosine cycles: long steps without noise find a mode, short ones with noise sample it.

        epsilon_t = initial / 2 (1 + cos(pi r_t)),    r_t = (t mod L) / L

    A cycle explores, without noise and without keeping draws, while r_t < exploration.

    Attributes:
      initial: Step size at the start of each cycle (> 0).
      cycle_length: Steps L of a cycle.
      exploration: Share of each cycle that explores, in [0, 1).
    """

    initial: float
    cycle_length: int
    exploration: float = 0.8

    def __post_init__(self):
        require_positive("CyclicalStepSize", initial=self.initial)
        require_count("CyclicalStepSize", cycle_length=self.cycle_length)
        require_in("CyclicalStepSize", "[0, 1)", exploration=self.exploration)

    def __call__(self, step: Array) -> Array:
        """Returns the step size after `step` steps."""
        return (
            self.initial
            / 2
            * (1 + jnp.cos(math.pi * (step % self.cycle_length) / self.cycle_length))
        )

    def samples(self, steps: Any) -> Any:
        """Returns whether the step after each of `steps` steps has noise, and its draw is kept."""
        return steps % self.cycle_length >= self.exploration * self.cycle_length
