"""What variational layers share: noise, and the posterior of a whole model.

Twin of `jaxprob/bayes/variational_layers.py`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom
from torch_ref.batches import inputs_of
from torch_ref.bayes.forward import Forward
from torch_ref.bayes.gaussian_block import GaussianBlock
from torch_ref.objectives import GaussianPrior, HierarchicalGaussianPrior

__all__ = ["ESTIMATORS", "VariationalLayer", "VariationalLayers", "noisy_map"]

ESTIMATORS = ("weights", "local", "flipout")

Prior = GaussianPrior | HierarchicalGaussianPrior


class VariationalLayer(GaussianBlock):
    """A linear layer whose weights (bias, kernel) are one Gaussian vector.

    Args:
      loc: Where the mean starts.
      covariance: "full" or "diagonal".
      prior: Prior over the weights.
      init_scale: Standard deviation of each weight at the start.
      estimator: One of ESTIMATORS.
    """

    def __init__(
        self, loc: Tensor, covariance: str, prior: Prior, init_scale: float, estimator: str
    ):
        super().__init__(loc, covariance, init_scale)
        if estimator not in ESTIMATORS or (estimator != "weights" and covariance != "diagonal"):
            raise ValueError(f"estimator {estimator!r} does not go with covariance {covariance!r}.")
        self._prior, self.estimator = prior, estimator
        for name, value in prior.init(loc.shape[0]).items():
            self.register_parameter(f"prior_{name}", value)

    def kl(self) -> Tensor:
        """Returns KL(q || prior) of this layer in nats."""
        learned = nn.ParameterDict(
            {
                name.removeprefix("prior_"): value
                for name, value in self._parameters.items()
                if name.startswith("prior_")
            }
        )
        return self.expected_kl(self._prior, learned)

    def linear(self, x: Tensor, weights: Tensor) -> Tensor:
        """Applies the layer with given weights `[P]`."""
        raise NotImplementedError

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """Maps `[B, ..., D]` to `[B, ..., F]`, or `[D]` to `[F]`; without a key by the mean."""
        if key is None:
            return self.linear(x, self.loc)
        return noisy_map(self.linear, self, x, key, self.estimator)


def noisy_map(
    linear: Callable[[Tensor, Tensor], Tensor],
    block: GaussianBlock,
    x: Tensor,
    key: Tensor,
    estimator: str,
) -> Tensor:
    """Returns the output of a random linear layer (see the twin for the three estimators)."""
    dtype = block.loc.dtype
    if estimator == "weights":
        eps = jrandom.normal(key, (1, len(block.loc)), dtype=dtype)
        return linear(x, block.sample(eps).squeeze(0))
    deviation = block.distribution().stddev
    mean = linear(x, block.loc)
    if estimator == "local":
        # a sum of independent normals: variances add up with squared coefficients
        spread = linear(x.square(), deviation.square()).sqrt()
        return mean + spread * jrandom.normal(key, tuple(mean.shape), dtype=dtype)
    weight_key, in_key, out_key = jrandom.split(key, 3)
    error = jrandom.normal(weight_key, (len(deviation),), dtype=dtype) * deviation
    rows = x.shape[:1] if x.dim() > 1 else ()  # a single row has no axis of rows
    middle = [1] * (x.dim() - 2)
    flip_in = _signs(in_key, (*rows, *middle, x.shape[-1]), dtype)
    flip_out = _signs(out_key, (*rows, *middle, mean.shape[-1]), dtype)
    return mean + linear(x * flip_in, error) * flip_out


def _signs(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """-1 or 1 with equal probability."""
    heads = jrandom.bernoulli(key, torch.tensor(0.5, dtype=dtype), shape)
    return torch.where(heads, 1.0, -1.0).to(dtype)


class VariationalLayers:
    """The posterior of a module that is made of variational layers."""

    def __init__(self, model: nn.Module):
        self.model = model

    def kl(self) -> Tensor:
        """Returns KL(q || prior) summed over the layers, in nats."""
        layers = [m for m in self.model.modules() if isinstance(m, VariationalLayer)]
        return torch.stack([layer.kl() for layer in layers]).sum()

    def forward(self, inputs: Any, key: Tensor, num_samples: int) -> Forward:
        """Returns the prediction of each draw and KL(q || prior)."""
        keys = jrandom.split(key, num_samples)
        arrays, extra = inputs_of(self.model, inputs)
        return Forward([self.model(*arrays, draw_key, **extra) for draw_key in keys], self.kl())
