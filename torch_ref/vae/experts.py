"""A mixture of experts: a softmax gate over distributions that each see the input.

Twin of `jaxprob/vae/experts.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import Distribution
from torch_ref.distributions.base import log_sum_exp

__all__ = ["MixtureOfExperts"]


class ExpertMixture(Distribution, torch.distributions.Distribution):
    """A mixture whose components are separate distributions over the same events."""

    arg_constraints = {}

    def __init__(self, logits: Tensor, components: Sequence[Distribution]):
        self.log_weights, self.components = logits.log_softmax(-1), components
        first = components[0]
        super().__init__(first.batch_shape, first.event_shape, validate_args=False)

    def log_joint(self, value: Tensor) -> Tensor:
        """Returns log p(expert, value), `[B, K]`."""
        return self.log_weights + torch.stack([p.log_prob(value) for p in self.components], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value)."""
        return log_sum_exp(self.log_joint(value), dim=-1)

    @property
    def mean(self) -> Tensor:
        """The mean of the components' means."""
        return self._average([p.mean for p in self.components])

    @property
    def variance(self) -> Tensor:
        """E X^2 - (E X)^2, each taken over the components."""
        squares = self._average([p.variance + p.mean.square() for p in self.components])
        return squares - self.mean.square()

    def _average(self, values: Sequence[Tensor]) -> Tensor:
        weights = self.log_weights.exp().unbind(-1)
        events = len(self.event_shape)
        return sum(
            w.reshape(w.shape + (1,) * events) * v for w, v in zip(weights, values, strict=True)
        )


class MixtureOfExperts(nn.Module):
    """Experts of one family, weighed by a gate; `gate_features` is the size of what it sees."""

    def __init__(
        self, experts: Sequence[nn.Module], gate_features: int, gate: nn.Module | None = None
    ):
        super().__init__()
        for i, expert in enumerate(experts):
            self.add_module(f"experts_{i}", expert)
        self.gate, self.num_experts = gate, len(experts)
        self.gate_logits = nn.Linear(gate_features, len(experts))

    def forward(self, x: Tensor) -> ExpertMixture:
        """Maps inputs to a mixture over targets."""
        logits = self.gate_logits(x if self.gate is None else self.gate(x))
        experts = [getattr(self, f"experts_{i}") for i in range(self.num_experts)]
        return ExpertMixture(logits, [expert(x) for expert in experts])

    def responsibilities(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns p(expert | x, y), `[B, K]`."""
        return self(x).log_joint(y).softmax(-1)
