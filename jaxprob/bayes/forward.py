"""What a posterior hands to the evidence lower bound.

Twin: `torch_ref/bayes/forward.py`.
"""

from typing import Any, NamedTuple, Protocol

import distrax

from jaxprob.batches import Inputs
from jaxprob.bayes.summary import summary
from jaxprob.types import Array, Key, Params

__all__ = ["Forward", "VariationalPosterior"]


class Forward(NamedTuple):
    """Predictions under draws of the weights.

    Attributes:
      predictions: Distribution with batch shape `[S, B]`.
      kl: KL(q || prior) in nats, exact or an unbiased estimate from the same draws.
      collections: New value of the model's collections other than "params" (empty without any).
    """

    predictions: distrax.Distribution
    kl: Array
    collections: dict[str, Any]

    def __repr__(self) -> str:
        shape = f"{type(self.predictions).__name__}{list(self.predictions.batch_shape)}"
        return summary("Forward", predictions=shape, kl=self.kl)


class VariationalPosterior(Protocol):
    """What `negative_elbo` needs of a posterior."""

    def forward(
        self, params: Params, inputs: Inputs, key: Key, num_samples: int, train: bool
    ) -> Forward:
        """Returns the predictions of S draws and the KL."""
        ...
