"""Step sizes of the stochastic gradient samplers, as functions of the number of steps taken.

Twin of `jaxprob/bayes/step_sizes.py`.
"""

import dataclasses
import math

__all__ = ["CyclicalStepSize", "PolynomialStepSize"]


@dataclasses.dataclass(frozen=True)
class PolynomialStepSize:
    """The step size a (b + t)^-gamma."""

    a: float
    b: float = 1.0
    gamma: float = 0.55

    def __call__(self, step: int) -> float:
        """Returns the step size after `step` steps."""
        return self.a / (self.b + step) ** self.gamma


@dataclasses.dataclass(frozen=True)
class CyclicalStepSize:
    """Half a cosine in each cycle, down from `initial`; a first share of it explores."""

    initial: float
    cycle_length: int
    exploration: float = 0.8

    def __call__(self, step: int) -> float:
        """Returns the step size after `step` steps."""
        angle = math.pi * (step % self.cycle_length) / self.cycle_length
        return self.initial * math.cos(angle / 2) ** 2

    def samples(self, step: int) -> bool:
        """Returns whether the next step has noise and its draw is kept."""
        return step % self.cycle_length >= self.exploration * self.cycle_length
