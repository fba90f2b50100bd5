"""Mixtures of one family in log space: log p(x) = logsumexp_k (log w_k + log p_k(x)).

Twin of `jaxprob/distributions/mixture.py`.
"""

import copy
import math

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.base import Distribution, log_sum_exp
from torch_ref.distributions.circular import between_directions, from_cut, mean_direction
from torch_ref.distributions.independent import Independent
from torch_ref.distributions.quantiles import implicit_root, monotone_quantile, smallest_integer
from torch_ref.distributions.special import log_sum_exp_weighted

__all__ = ["MixtureSameFamily", "move_batch_axis"]


class MixtureSameFamily(Distribution):
    """A mixture whose components are one batched distribution, the last batch axis being theirs.

    torch's own clamps weights that are given as probabilities, and its log-sum-exp loses digits in
    the backward pass.

    Args:
      mixture_distribution: A Categorical (ours or torch's) over K components.
      component_distribution: The components, batch shape `[*batch, K]`.
    """

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]

    def __init__(self, mixture_distribution, component_distribution: Distribution):
        self.mixture_distribution = mixture_distribution
        self.component_distribution = component_distribution
        batch, event = component_distribution.batch_shape[:-1], component_distribution.event_shape
        super().__init__(batch, event, validate_args=False)

    @property
    def periodic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the components lie on a circle."""
        return self.component_distribution.periodic

    @property
    def support(self):
        """The support of the components."""
        return self.component_distribution.support

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the components."""
        return self.component_distribution.float_dtype()

    def _pad(self, value: Tensor) -> Tensor:
        return value.unsqueeze(-1 - len(self.event_shape))

    def _weights(self) -> Tensor:
        return self.mixture_distribution.probs

    def _average(self, values: Tensor) -> Tensor:
        return (self._weights() * values).sum(dim=-1)

    def _average_event(self, values: Tensor) -> Tensor:
        event = len(self.event_shape)
        weights = self._weights().reshape(self._weights().shape + (1,) * event)
        return (weights * values).sum(dim=-1 - event)

    def _log_weights(self) -> Tensor:
        return torch.log_softmax(self.mixture_distribution.logits, dim=-1)

    def marginal(self) -> "MixtureSameFamily":
        """Returns, for each event element, the mixture of that element's marginals."""
        if not self.event_shape:
            return self
        axis, event = len(self.batch_shape), len(self.event_shape)
        parts = move_batch_axis(self.component_distribution.marginal(), axis, axis + event)
        logits = self._log_weights().reshape(*self.batch_shape, *[1] * event, -1)
        classes = torch.distributions.Categorical(logits=logits.expand(parts.batch_shape))
        return MixtureSameFamily(classes, parts)

    def _weigh(self, logs: Tensor) -> Tensor:
        """Log sum_k w_k exp(logs_k)."""
        held = getattr(self.mixture_distribution, "_weights", None)
        if held is not None:  # probabilities, of which some may be 0
            return log_sum_exp_weighted(logs, self._weights())
        log_weights = self._log_weights()
        nothing = (log_weights == -torch.inf) & (logs == torch.inf)
        return log_sum_exp(logs.masked_fill(nothing, -torch.inf) + log_weights, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value) `[*batch]`."""
        return self._weigh(self.component_distribution.log_prob(self._pad(value)))

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X <= value); of angles from the point opposite to the mean direction."""
        if self.periodic:
            return self._arc(value)[0]
        return self._average(self.component_distribution.cdf(self._pad(value)))

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X > value)."""
        if self.periodic:
            return self._arc(value)[1]
        return self._average(self.component_distribution.survival_function(self._pad(value)))

    def _arc(self, value: Tensor) -> tuple[Tensor, Tensor]:
        cut = self.mean - math.pi
        value = torch.maximum(torch.minimum(value, cut + 2 * math.pi), cut)
        both = from_cut(self.component_distribution, self._pad(value), self._pad(cut))
        inside, outside = (self._average(part) for part in both)
        # at the ends rounding may put the angle on either side of the cut
        inside = torch.where(
            value <= cut, 0.0, torch.where(value >= cut + 2 * math.pi, 1.0, inside)
        )
        ends = (value <= cut) | (value >= cut + 2 * math.pi)
        return inside, torch.where(ends, 1.0 - inside, outside)

    def log_cdf(self, value: Tensor) -> Tensor:
        """Returns log P(X <= value), accurate in both tails."""
        if self.periodic:
            return super().log_cdf(value)
        lower = self._weigh(self.component_distribution.log_cdf(self._pad(value)))
        if self.event_shape:
            return lower
        upper = self.survival_function(value)
        near = upper < 0.5
        return torch.where(near, torch.log1p(-torch.where(near, upper, 0.0)), lower)

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns the quantile of each marginal, by search; in a gap, its middle."""
        if self.event_shape:
            return self.marginal().invert(lower, upper)
        shape = torch.broadcast_shapes(lower.shape, self.batch_shape)
        q, tail = lower.expand(shape), upper.expand(shape)
        atoms = getattr(self.component_distribution, "atoms", None)
        if atoms is not None:
            return _quantile_of_atoms(q, atoms, self._weights().expand(atoms.shape))
        with torch.no_grad():
            ends = self.component_distribution.invert(q.unsqueeze(-1), tail.unsqueeze(-1))
            bracket = ends.amin(-1).to(q.dtype), ends.amax(-1).to(q.dtype)
            if self.periodic:
                cut = (self.mean - math.pi).expand(shape)
                bracket = cut, cut + 2 * math.pi
        if getattr(self.component_distribution, "_discrete", False):
            return smallest_integer(q, tail, self.cdf, self.survival_function, *bracket)
        x = monotone_quantile(q, self.cdf, self.survival_function, *bracket, tail, gaps=True)
        return torch.where(bracket[0] < bracket[1], implicit_root(x, q, tail, self), x)

    @property
    def mean(self) -> Tensor:
        """sum_k w_k mean_k; the mean direction of angles."""
        inner = self.component_distribution
        if self.periodic:
            weights = self._weights().reshape(self._weights().shape + (1,) * len(self.event_shape))
            return mean_direction(inner.mean, inner.variance, weights, -1 - len(self.event_shape))
        return self._average_event(inner.mean)

    @property
    def variance(self) -> Tensor:
        """sum_k w_k (variance_k + (mean_k - mean)^2); the circular variance of angles."""
        return self._average_event(self.component_distribution.variance + self._between())

    def _between(self) -> Tensor:
        inner, mean = self.component_distribution, self._pad(self.mean)
        if self.periodic:
            return between_directions(inner.mean, inner.variance, mean)
        return (inner.mean - mean).square()

    def sample(self, sample_shape=torch.Size()) -> Tensor:  # noqa: B008
        """Returns draws."""
        inner = self.component_distribution
        if isinstance(inner, Independent):
            inner = torch.distributions.Independent(
                inner.base_dist, inner.reinterpreted_batch_ndims
            )
        choice = torch.distributions.Categorical(probs=self._weights().detach())
        mixture = torch.distributions.MixtureSameFamily(choice, inner, validate_args=False)
        return mixture.sample(sample_shape)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        choice_key, draw_key = random.split(key).unbind(-2)
        event = len(self.event_shape)
        sample = shape[: len(shape) - event - len(self.batch_shape)]
        draws = self.component_distribution.draw(draw_key, sample)
        logits = self._log_weights().detach()
        choice = random.categorical(choice_key, logits, shape=(*sample, *self.batch_shape))
        at = choice.reshape(*choice.shape, *[1] * (event + 1))
        at = at.expand(*choice.shape, 1, *self.event_shape)
        return draws.gather(-1 - event, at).squeeze(-1 - event)


def _quantile_of_atoms(q: Tensor, atoms: Tensor, weights: Tensor) -> Tensor:
    """Returns the smallest of the atoms `[*batch, K]` whose cdf reaches q."""
    at = atoms.unsqueeze(-2) <= atoms.unsqueeze(-1)  # [*batch, K, K]: j at or below k
    cdf = (weights.unsqueeze(-2) * at).sum(-1)
    slack = 16 * torch.finfo(q.dtype).eps
    reached = (cdf >= q.unsqueeze(-1) - slack) & (weights > 0.0)
    highest = atoms.masked_fill(weights <= 0.0, -math.inf).amax(-1)
    found = atoms.expand(reached.shape).masked_fill(~reached, math.inf).amin(-1)
    return torch.minimum(found, highest)


def move_batch_axis(distribution: Distribution, source: int, destination: int) -> Distribution:
    """Returns the distribution with one batch axis moved.

    Args:
      distribution: One whose parameters carry the full batch shape.
      source: Batch axis to move, counted from the left.
      destination: Where it goes.
    """
    batch = tuple(distribution.batch_shape)
    order = list(range(len(batch)))
    order.insert(destination, order.pop(source))
    moved = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, torch.distributions.Distribution):
            setattr(moved, name, move_batch_axis(value, source, destination))
        elif isinstance(value, Tensor) and value.shape[: len(batch)] == batch:
            setattr(moved, name, value.movedim(source, destination))
        elif isinstance(value, Tensor):
            raise ValueError(f"{name} has shape {tuple(value.shape)} without the batch {batch}")
    moved._batch_shape = torch.Size(batch[i] for i in order)
    return moved
