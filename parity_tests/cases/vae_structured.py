"""Rows of the VAEs with flows, learned priors, conditions and layers of latents."""

import flax.linen as nn
import numpy as np
import torch

from jaxprob import heads, vae
from parity_tests.cases.vae import BINARY, REAL, ROWS, elbo, iwae, vae_row
from torch_ref import heads as torch_heads
from torch_ref import vae as torch_vae

REALS = {"x": REAL}
GIVEN = {"x": REAL, "condition": np.random.default_rng(1).normal(size=(ROWS, 3))}
MONTE_CARLO = elbo(num_samples=2, analytic_kl=False)
DOUBLE = iwae(num_samples=3, gradient="doubly_reparameterized")


def flow(kind, prior=None, torch_prior=None):
    """A model with this flow, and its twin."""
    model = vae.FlowPosteriorVAE(6, (4,), 3, nn.tanh, heads.NormalHead, prior, kind, 2, (4,))

    def build():
        prior_model = None if torch_prior is None else torch_prior()
        return torch_vae.FlowPosteriorVAE(
            6, (4,), 3, torch.tanh, torch_heads.NormalHead, prior_model, kind, 2, (4,)
        )

    return model, build


def dense(prior, torch_prior):
    """A dense model with this prior, and its twin."""
    model = vae.DenseVAE(6, (5,), 3, nn.tanh, prior_model=prior)
    return model, lambda: torch_vae.DenseVAE(6, (5,), 3, torch.tanh, prior_model=torch_prior())


def conditional(learn_prior):
    """A conditional model, and its twin."""
    model = vae.ConditionalVAE(6, (5,), 2, nn.tanh, heads.NormalHead, learn_prior)
    return model, lambda: torch_vae.ConditionalVAE(
        6, (5,), 2, torch.tanh, torch_heads.NormalHead, learn_prior, condition_features=3
    )


def hierarchical(ladder, latent_dims=(3, 2)):
    """Layers of latents, and their twin."""
    model = vae.HierarchicalVAE(6, (4,), latent_dims, nn.tanh, ladder=ladder)
    return model, lambda: torch_vae.HierarchicalVAE(6, (4,), latent_dims, torch.tanh, ladder=ladder)


IAF = flow("iaf")
VAMP = dense(
    vae.VampPrior((6,), 4, nn.sigmoid), lambda: torch_vae.VampPrior((6,), 4, torch.sigmoid)
)
MIXED = (vae.MixturePrior(3), lambda: torch_vae.MixturePrior(3, 3))

MODELS = [
    vae_row("VAE flow, iaf", *IAF, MONTE_CARLO, REALS),
    vae_row("VAE flow, iaf, IWAE", *IAF, DOUBLE, REALS, uses=True, slow=True),
    vae_row("VAE flow, planar, mixture prior", *flow("planar", *MIXED), DOUBLE, REALS, slow=True),
    vae_row("VAE flow, coupling", *flow("coupling"), MONTE_CARLO, REALS, slow=True),
    vae_row("VAE with a VampPrior", *VAMP, MONTE_CARLO, BINARY),
    vae_row("VAE with a mixture prior", *dense(*MIXED), DOUBLE, BINARY, uses=True, slow=True),
    vae_row("conditional VAE", *conditional(True), elbo(), GIVEN),
    vae_row("conditional VAE, standard prior, IWAE", *conditional(False), DOUBLE, GIVEN, uses=True,
            slow=True),
    vae_row("hierarchical VAE", *hierarchical(False), elbo(num_samples=2), BINARY),
    vae_row("ladder VAE, free bits", *hierarchical(True), elbo(num_samples=2, free_bits=0.2),
            BINARY),
    vae_row("hierarchical VAE of three, IWAE", *hierarchical(False, (3, 2, 2)), DOUBLE, BINARY,
            uses=True, slow=True),
    vae_row("ladder VAE of three, IWAE", *hierarchical(True, (3, 2, 2)), DOUBLE, BINARY, uses=True,
            slow=True),
]  # fmt: skip
