"""A VAE whose posterior is bent by a normalising flow: z = T(u; h), u normal given h.

Twin of `jaxprob/vae/flow_posterior.py`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_ref import flows
from torch_ref.distributions import Independent
from torch_ref.heads import BernoulliHead
from torch_ref.vae.dense import DenseVAE
from torch_ref.vae.model import VAEOutput, reparameterize

__all__ = ["FLOWS", "FlowPosterior", "FlowPosteriorVAE"]

FLOWS = {
    "planar": flows.planar,
    "iaf": flows.inverse_autoregressive,
    "coupling": flows.coupling,
}


class FlowPosterior(NamedTuple):
    """Distribution of u, features `[B, H]`, and log q(z | x) of the draws of the same pass."""

    base: Independent
    context: Tensor
    log_prob: Tensor | None = None


class FlowPosteriorVAE(DenseVAE):
    """A DenseVAE with a flow after its posterior."""

    def __init__(
        self,
        features: int = 784,
        hidden: Sequence[int] = (256,),
        latent_dim: int = 20,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        likelihood: Callable[[int, int], nn.Module] = BernoulliHead,
        prior_model: nn.Module | None = None,
        flow: str = "iaf",
        num_layers: int = 4,
        flow_hidden: Sequence[int] = (64,),
    ):
        super().__init__(features, hidden, latent_dim, activation, likelihood, prior_model)
        self.transform = FLOWS[flow](
            latent_dim,
            num_layers,
            flow_hidden,
            activation,
            condition_features=self.encoder.out_features,
        )

    def encode(self, x: Tensor) -> FlowPosterior:
        """Returns q(z | x)."""
        h = self.encoder(x)
        return FlowPosterior(self.posterior(h), h)

    def infer(self, x: Tensor, eps: Tensor) -> tuple[FlowPosterior, Tensor]:
        """Returns q(z | x) and draws of it, with their log-density."""
        q = self.encode(x)
        u = reparameterize(q.base, eps)
        z, log_det = self.transform(u, q.context)
        return FlowPosterior(q.base, q.context, q.base.log_prob(u) - log_det), z

    def code(self, x: Tensor) -> Tensor:
        """Returns the image of the mean of u."""
        q = self.encode(x)
        return self.transform(q.base.mean, q.context)[0]

    def log_densities(self, q: FlowPosterior, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns log q(z | x) and log p(z) `[*S, B, 1]` of any z."""
        u, log_det = self.transform.inverse(z, q.context)
        log_q = q.base.log_prob(u) + log_det
        return log_q.unsqueeze(-1), self.prior().log_prob(z).unsqueeze(-1)

    def log_densities_of_draws(self, output: VAEOutput) -> tuple[Tensor, Tensor]:
        """Returns the same of the draws of one pass."""
        log_p = self.prior().log_prob(output.z)
        return output.q.log_prob.unsqueeze(-1), log_p.unsqueeze(-1)

    def kl(self, q: FlowPosterior) -> Tensor:
        """Has no closed form."""
        raise NotImplementedError("KL under a flow: write analytic_kl=False.")
