"""Rows of the VAEs with flows, learned priors, conditions and layers of latents."""

import flax.linen as nn
import numpy as np
import torch

from jaxprob import heads, vae
from parity_tests.cases.vae import BINARY, REAL, ROWS, elbo, iwae, use_row, vae_row
from torch_ref import heads as torch_heads
from torch_ref import vae as torch_vae

REALS = {"x": REAL}
GIVEN = {"x": REAL, "condition": np.random.default_rng(1).normal(size=(ROWS, 3))}
DOUBLE = iwae(num_samples=3, gradient="doubly_reparameterized")
MONTE_CARLO = elbo(num_samples=2, analytic_kl=False)


FLOW = vae.FlowPosteriorVAE(
    6, (4,), 3, nn.tanh, heads.NormalHead, vae.MixturePrior(3), "iaf", 2, (4,)
)
VAMP = vae.DenseVAE(6, (5,), 3, nn.tanh, prior_model=vae.VampPrior((6,), 4, nn.sigmoid))


def flow():
    """Twin of `FLOW`."""
    return torch_vae.FlowPosteriorVAE(
        6, (4,), 3, torch.tanh, torch_heads.NormalHead, torch_vae.MixturePrior(3, 3), "iaf", 2, (4,)
    )


def vamp():
    """Twin of `VAMP`."""
    prior = torch_vae.VampPrior((6,), 4, torch.sigmoid)
    return torch_vae.DenseVAE(6, (5,), 3, torch.tanh, prior_model=prior)


def conditional():
    """A conditional model, and its twin."""
    model = vae.ConditionalVAE(6, (5,), 2, nn.tanh, heads.NormalHead, True)
    return model, lambda: torch_vae.ConditionalVAE(
        6, (5,), 2, torch.tanh, torch_heads.NormalHead, True, condition_features=3
    )


def hierarchical(ladder):
    """Layers of latents, and their twin."""
    model = vae.HierarchicalVAE(6, (4,), (3, 2), nn.tanh, ladder=ladder)
    return model, lambda: torch_vae.HierarchicalVAE(6, (4,), (3, 2), torch.tanh, ladder=ladder)


MODELS = [
    vae_row("VAE flow, mixture prior", FLOW, flow, MONTE_CARLO, REALS, slow=True),
    vae_row("VAE with a VampPrior", VAMP, vamp, DOUBLE, BINARY, slow=True),
    vae_row("conditional VAE", *conditional(), elbo(), GIVEN, slow=True),
    vae_row("ladder VAE, free bits", *hierarchical(True), elbo(num_samples=2, free_bits=0.2),
            BINARY, slow=True),
    vae_row("hierarchical VAE", *hierarchical(False), elbo(num_samples=2), BINARY, slow=True),
]  # fmt: skip
FUNCTIONS = [use_row("conditional VAE in use", *conditional(), GIVEN, slow=True)]
