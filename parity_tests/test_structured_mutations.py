"""Mistakes in the twins of flow posteriors, learned priors, conditions and layers of latents.

Our side of a row is computed once; the twin is broken in each way by turns.
"""

import pytest
import torch

import torch_ref.vae.hierarchical as torch_hierarchical
import torch_ref.vae.priors as torch_priors
from parity_tests.loss_errors import assert_caught
from torch_ref.distributions import Categorical, Independent, Normal
from torch_ref.vae.conditional import ConditionalVAE
from torch_ref.vae.flow_posterior import FlowPosteriorVAE
from torch_ref.vae.hierarchical import HierarchicalVAE

FLOW, GIVEN, LADDER = "VAE flow, mixture prior", "conditional VAE", "ladder VAE, free bits"
VAMP, LAYERS = "VAE with a VampPrior", "hierarchical VAE"


def added_determinant(model, x, eps):
    """Log |det| of the flow with the wrong sign."""
    q, z = INFER(model, x, eps)
    _, log_det = model.transform.inverse(z, q.context)
    return q._replace(log_prob=q.log_prob - 2.0 * log_det), z


def unsquashed(prior, encode):
    """The parameters themselves in the place of pseudo-inputs."""
    prior.activation = torch.nn.Identity()
    return VAMP_FORWARD(prior, encode)


def added_scales(evidence, prior):
    """Means weighted by 1 / scale in the place of 1 / scale^2."""
    a, b = evidence.base_dist, prior.base_dist
    loc = (a.loc / a.scale + b.loc / b.scale) / (1 / a.scale + 1 / b.scale)
    scale = (a.scale**-2 + b.scale**-2) ** -0.5
    return Independent(Normal(loc, scale), 1)


def exchanged(model, output):
    """KL(p || q) of each layer."""
    parts = model.layers(output.z)
    kl = [
        torch.distributions.kl_divergence(
            model.prior_of(i, parts).base_dist, model.posterior_of(i, output.q, parts).base_dist
        ).mean(0)
        for i in range(len(parts))
    ]
    return torch.cat([part.expand(32, -1) for part in kl], -1)


VAMP_FORWARD = torch_priors.VampPrior.forward
INFER, PRIOR, POSITIVE = FlowPosteriorVAE.infer, ConditionalVAE.prior, torch_priors.positive

# what is broken -> (row, module of the twin, name in it, what stands there instead)
MUTATIONS = {
    "determinant added": (FLOW, FlowPosteriorVAE, "infer", added_determinant),
    "even weights": (
        FLOW, torch_priors, "Categorical", lambda logits: Categorical(logits=0.0 * logits),
    ),
    "no floor under the prior's scale": (
        FLOW, torch_priors, "positive", lambda raw: POSITIVE(raw) - 1e-4,
    ),
    "pseudo-inputs beyond the range of the data": (
        VAMP, torch_priors.VampPrior, "forward", unsquashed,
    ),
    "prior of another row": (
        GIVEN, ConditionalVAE, "prior", lambda model, condition: PRIOR(model, condition.roll(1, 0)),
    ),
    "condition withheld from the decoder": (
        GIVEN, ConditionalVAE, "decode",
        lambda model, z, condition: model.head(
            model.decoder(torch.cat([z, 0.0 * condition.expand(*z.shape[:-1], -1)], -1))
        ),
    ),
    "weights of the ladder": (LADDER, torch_hierarchical, "merge", added_scales),
    "evidence alone": (LADDER, torch_hierarchical, "merge", lambda evidence, prior: evidence),
    "KL the other way": (LADDER, HierarchicalVAE, "kl_at_draws", exchanged),
    "the uppermost layer from the draws too": (
        LAYERS, HierarchicalVAE, "kl_at_draws",
        lambda model, output: (lambda a, b: (a - b).mean(0))(
            *model.log_densities(output.q, output.z)
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_twin_is_caught(mutation, monkeypatch):
    assert_caught(*MUTATIONS[mutation], monkeypatch)
