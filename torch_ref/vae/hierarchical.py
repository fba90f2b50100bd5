"""Layers of latents one above the other, inferred from below or by a ladder.

Twin of `jaxprob/vae/hierarchical.py`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from torch_ref import random
from torch_ref.distributions import Distribution, Independent, Normal
from torch_ref.heads import BernoulliHead, NormalHead
from torch_ref.nn import MLP
from torch_ref.vae.model import LatentVariableModel, VAEOutput

__all__ = ["HierarchicalPosterior", "HierarchicalVAE", "merge"]


class HierarchicalPosterior(NamedTuple):
    """Normals by which x speaks of the layers: of the lowest alone, or of all in a ladder."""

    evidence: tuple[Independent, ...]


class HierarchicalVAE(LatentVariableModel):
    """Submodules `encoders_i`, `posteriors_i`, `prior_networks_i`, `priors_i`, i the layer."""

    def __init__(
        self,
        features: int = 784,
        hidden: Sequence[int] = (256,),
        latent_dims: Sequence[int] = (20, 10),
        activation: Callable[[Tensor], Tensor] = torch.relu,
        likelihood: Callable[[int, int], nn.Module] = BernoulliHead,
        ladder: bool = False,
    ):
        decoder = MLP(latent_dims[0], hidden[::-1], activation)
        super().__init__(nn.Identity(), decoder, sum(latent_dims))
        self.latent_dims, self.ladder = list(latent_dims), ladder
        self.head = likelihood(decoder.out_features, features)
        size = features
        for i, latents in enumerate(latent_dims):
            encoder = MLP(size, hidden, activation)
            self.add_module(f"encoders_{i}", encoder)
            self.add_module(f"posteriors_{i}", NormalHead(encoder.out_features, latents))
            size = encoder.out_features if ladder else latents
            if i:
                network = MLP(latents, hidden[::-1], activation)
                self.add_module(f"prior_networks_{i - 1}", network)
                head = NormalHead(network.out_features, latent_dims[i - 1])
                self.add_module(f"priors_{i - 1}", head)

    def layers(self, values: Tensor) -> list[Tensor]:
        """Returns the part of each layer."""
        return list(values.split(self.latent_dims, dim=-1))

    def encode(self, x: Tensor) -> HierarchicalPosterior:
        """Returns what x says of the latents."""
        evidence = []
        for i in range(len(self.latent_dims) if self.ladder else 1):
            x = self.get_submodule(f"encoders_{i}")(x)
            evidence.append(self.get_submodule(f"posteriors_{i}")(x))
        return HierarchicalPosterior(tuple(evidence))

    def decode(self, z: Tensor) -> Distribution:
        """Returns p(x | z_1)."""
        return self.head(self.decoder(z[..., : self.latent_dims[0]]))

    def prior(self) -> Distribution:
        """Returns p(z_N)."""
        zeros = torch.zeros(self.latent_dims[-1])
        return Independent(Normal(zeros, torch.ones_like(zeros)), 1)

    def prior_of(self, i: int, z: list[Tensor]) -> Distribution:
        """Returns p(z_i | z_{i+1})."""
        if i == len(z) - 1:
            return self.prior()
        h = self.get_submodule(f"prior_networks_{i}")(z[i + 1])
        return self.get_submodule(f"priors_{i}")(h)

    def posterior_of(self, i: int, q: HierarchicalPosterior, z: list[Tensor]) -> Independent:
        """Returns q of layer i given the layers before it in the order of inference."""
        if not self.ladder and i:
            h = self.get_submodule(f"encoders_{i}")(z[i - 1])
            return self.get_submodule(f"posteriors_{i}")(h)
        if not self.ladder or i == len(z) - 1:
            return q.evidence[i]
        return merge(q.evidence[i], self.prior_of(i, z))

    def order(self) -> list[int]:
        """Returns the layers in the order of inference."""
        up = list(range(len(self.latent_dims)))
        return up[::-1] if self.ladder else up

    def infer(self, x: Tensor, eps: Tensor) -> tuple[HierarchicalPosterior, Tensor]:
        """Returns q(z | x) and draws of it."""
        q, z = self.encode(x), self.layers(eps)
        for i in self.order():
            one = self.posterior_of(i, q, z).base_dist
            z[i] = one.loc + one.scale * z[i]
        return q, torch.cat(z, -1)

    def code(self, x: Tensor) -> Tensor:
        """Returns means given means."""
        q = self.encode(x)
        z = [torch.empty(0)] * len(self.latent_dims)
        for i in self.order():
            z[i] = self.posterior_of(i, q, z).mean
        return torch.cat(z, -1)

    def sample_prior(self, key: Tensor, num: int) -> Tensor:
        """Returns draws of p(z)."""
        eps = random.normal(key, (num, self.latent_dim), self.decoder_dtype())
        return self.redraw(eps, eps, len(self.latent_dims) - 1)

    def decoder_dtype(self) -> torch.dtype:
        """Returns the dtype of the parameters."""
        return next(self.parameters()).dtype

    def redraw(self, z: Tensor, eps: Tensor, keep: int) -> Tensor:
        """Draws the layers below `keep` anew from the prior."""
        parts, noise = self.layers(z), self.layers(eps)
        for i in range(keep - 1, -1, -1):
            one = self.prior_of(i, parts).base_dist
            parts[i] = one.loc + one.scale * noise[i]
        return torch.cat(parts, -1)

    def log_densities(self, q: HierarchicalPosterior, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns log q and log p of each latent given those before it."""
        parts = self.layers(z)
        log_q, log_p = [], []
        for i, part in enumerate(parts):
            log_q.append(self.posterior_of(i, q, parts).base_dist.log_prob(part))
            log_p.append(self.prior_of(i, parts).base_dist.log_prob(part))
        return torch.cat(log_q, -1), torch.cat(log_p, -1)

    def kl_at_draws(self, output: VAEOutput) -> Tensor:
        """Returns the KL of each latent `[B, L]`, in closed form where no lower draw enters."""
        q, z, _ = output
        log_q, log_p = self.log_densities(q, z)
        parts, kl = self.layers(z), self.layers(log_q - log_p)
        for i in range(len(parts)) if self.ladder else [len(parts) - 1]:
            ours, prior = self.posterior_of(i, q, parts), self.prior_of(i, parts)
            kl[i] = kl_divergence(ours.base_dist, prior.base_dist).expand_as(kl[i])
        return torch.cat(kl, -1).reshape(-1, *z.shape[-2:]).mean(0)


def merge(evidence: Independent, prior: Distribution) -> Independent:
    """Returns the normal whose precision is the sum of both."""
    a, b = evidence.base_dist, prior.base_dist
    weight_a, weight_b = a.scale.pow(-2), b.scale.pow(-2)
    precision = weight_a + weight_b
    loc = (a.loc * weight_a + b.loc * weight_b) / precision
    return Independent(Normal(loc, precision.rsqrt(), validate_args=False), 1)
