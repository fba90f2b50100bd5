"""The VAE of every tutorial: two multilayer perceptrons.

Twin: `torch_ref/vae/dense.py`. Source: Kingma & Welling, "Auto-encoding variational Bayes" (2014),
appendix C.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Float, Shaped

from jaxprob.heads import BernoulliHead
from jaxprob.nn import MLP
from jaxprob.types import AnyArray, Array
from jaxprob.vae.model import LatentVariableModel

__all__ = ["DenseVAE", "require_rows"]


class DenseVAE(LatentVariableModel):
    """Encoder and decoder of dense layers, the decoder's widths those of the encoder in reverse.

    Attributes:
      features: Size of a row of data D.
      hidden: Width of each hidden layer of the encoder.
      latent_dim: Number of latents L.
      activation: Elementwise function between the layers.
      likelihood: Makes the head of p(x | z) from D: a class of `jaxprob.heads`, or
        `partial(heads.NormalHead, homoscedastic=True)`.
      prior_model: `MixturePrior`, `VampPrior` or another module that returns p(z); None for
        independent standard normals.
    """

    features: int = 784
    hidden: Sequence[int] = (256,)
    latent_dim: int = 20
    activation: Callable[[Array], Array] = nn.relu
    likelihood: Callable[[int], nn.Module] = BernoulliHead
    prior_model: nn.Module | None = None

    def setup(self):
        """Makes the layers."""
        super().setup()
        self.encoder = MLP(self.hidden, self.activation)
        self.decoder = MLP(tuple(self.hidden)[::-1], self.activation)
        self.head = self.likelihood(self.features)

    def encode(self, x: Shaped[AnyArray, "B *D"], train: bool = False) -> Any:
        """Returns q(z | x) of rows `[B, D]`.

        Raises:
          ValueError: Rows of another size.
        """
        require_rows(type(self).__name__, x, self.features)
        return super().encode(x, train)

    def decode(self, z: Float[AnyArray, "*B L"], train: bool = False) -> Any:
        """Returns p(x | z), event shape `(D,)`."""
        return self.head(super().decode(z, train))


def require_rows(owner: str, x: AnyArray, features: int) -> None:
    """Raises a ValueError unless x is `[B, features]`."""
    if x.ndim != 2 or x.shape[-1] != features:
        raise ValueError(
            f"{owner}: x has shape {x.shape}; expected [B, {features}]. Flatten images by "
            "x.reshape(len(x), -1), and set features to the size of a row."
        )
