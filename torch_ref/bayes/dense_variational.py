"""Variational dense layers.

Twin of `jaxprob/bayes/dense_variational.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom
from torch_ref.bayes.gaussian_block import GaussianBlock
from torch_ref.distributions import Independent, Normal
from torch_ref.heads.normal import SCALE_FLOOR, softplus
from torch_ref.objectives import GaussianPrior

__all__ = ["BayesianMLP", "DenseVariational", "VariationalLayers"]

STANDARD_PRIOR = GaussianPrior()


class DenseVariational(GaussianBlock):
    """A dense layer with a Gaussian posterior over (bias, kernel), the kernel input-major.

    Args:
      in_features: Size of the input D.
      features: Size of the output F.
      covariance: "full" or "diagonal".
      prior: Prior over the weights.
      init_scale: Standard deviation of each weight at the start.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        covariance: str = "full",
        prior: GaussianPrior = STANDARD_PRIOR,
        init_scale: float = 0.05,
    ):
        loc = torch.zeros((in_features + 1) * features)
        loc[features:] = torch.randn(in_features * features) / in_features**0.5
        super().__init__(loc, covariance, init_scale)
        self.features, self._prior = features, prior
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
        return self.kl_to_prior(self._prior.distribution(learned, self.loc))

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """Maps `[B, D]` to `[B, F]` under drawn weights, or under `loc` without a key."""
        weights = self.loc
        if key is not None:
            noise = jrandom.normal(key, (1, self.loc.shape[0]), dtype=self.loc.dtype)
            weights = self.sample(noise)[0]
        bias, kernel = weights.split([self.features, weights.shape[0] - self.features])
        return x @ kernel.reshape(-1, self.features) + bias


class BayesianMLP(nn.Module):
    """Variational dense layers to the mean and scale of a normal likelihood."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (8,),
        features: int = 1,
        activation: Callable[[Tensor], Tensor] = torch.sigmoid,
        covariance: str = "full",
        prior: GaussianPrior = STANDARD_PRIOR,
        init_scale: float = 0.05,
    ):
        super().__init__()
        self.activation = activation
        for i, width in enumerate((*hidden, 2 * features)):
            layer = DenseVariational(in_features, width, covariance, prior, init_scale)
            self.add_module(f"dense_{i}", layer)
            in_features = width

    def forward(self, x: Tensor, key: Tensor | None = None) -> Independent:
        """Maps `[B, D_in]` to a distribution over `[B, D]` under one draw of all weights."""
        layers = list(self.children())
        keys = [None] * len(layers) if key is None else jrandom.split(key, len(layers))
        for i, (layer, layer_key) in enumerate(zip(layers, keys, strict=True)):
            x = layer(x, layer_key)
            if i < len(layers) - 1:
                x = self.activation(x)
        loc, raw = x.chunk(2, dim=-1)
        return Independent(Normal(loc, softplus(raw) + SCALE_FLOOR, validate_args=False), 1)


class VariationalLayers:
    """The posterior of a module that is made of variational layers."""

    def __init__(self, model: nn.Module):
        self.model = model

    def kl(self) -> Tensor:
        """Returns KL(q || prior) summed over the layers, in nats."""
        layers = [m for m in self.model.modules() if isinstance(m, DenseVariational)]
        return torch.stack([layer.kl() for layer in layers]).sum()

    def forward(self, x: Tensor, key: Tensor, num_samples: int) -> tuple[list, Tensor]:
        """Returns the prediction of each draw and KL(q || prior)."""
        keys = jrandom.split(key, num_samples)
        return [self.model(x, draw_key) for draw_key in keys], self.kl()
