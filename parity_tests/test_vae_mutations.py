"""Mistakes in the twins of the variational autoencoders that their rows must notice.

Our side of a row is computed once; the twin is broken in each way by turns.
"""

import dataclasses
import importlib

import pytest
import torch

import torch_ref.random as torch_random
import torch_ref.vae.conv as torch_conv
import torch_ref.vae.elbo as torch_elbo
import torch_ref.vae.importance as torch_importance
import torch_ref.vae.latents as torch_latents
import torch_ref.vae.pareto as torch_pareto
import torch_ref.vae.recurrent as torch_recurrent
from parity_tests.cases.vae import FUNCTIONS
from parity_tests.cases.vae_missing import FUNCTIONS as ROWS_OF_MISSING
from parity_tests.engine import compare_function, compare_gradients
from parity_tests.loss_errors import NAMED, assert_caught, errors
from parity_tests.tolerances import MODELS
from torch_ref.batches import without_padding
from torch_ref.vae.conditional_recurrent import ConditionalRecurrentVAE
from torch_ref.vae.model import LatentVariableModel
from torch_ref.vae.recurrent import RecurrentVAE

SAMPLES = "VAE normal, masks, annealed, free bits"
DOUBLE = "IWAE doubly reparameterised"


def shifted(*args, **kwargs):
    """A transposed convolution whose output is one pixel to the side, of the right shape."""
    layer = CONV_TRANSPOSE(*args, **kwargs)
    layer.register_forward_hook(lambda module, inputs, out: out.roll(1, -2))
    return layer


def to_the_last_step(model, x, lengths):
    """The state after the padding, not that after the last valid step."""
    return ENCODE(model, without_padding(x, lengths))


ENCODE = RecurrentVAE.encode
torch_impute = importlib.import_module("torch_ref.vae.impute")  # the function has its name
PICK, TAIL, (MISSING,) = torch_impute._pick, torch_pareto.tail_size, ROWS_OF_MISSING
DECODE, ENCODE_GIVEN = ConditionalRecurrentVAE.decode, ConditionalRecurrentVAE.encode
CONV_TRANSPOSE, NOISE = torch_conv.ConvTranspose, torch_latents.noise
KL, LIKELIHOOD = LatentVariableModel.kl, torch_latents.log_likelihood

# what is broken -> (row, module of the twin, name in it, what stands there instead)
MUTATIONS = {
    "KL without its half": ("conv VAE", LatentVariableModel, "kl", lambda m, q: 2 * KL(m, q)),
    "mean over pixels": (
        "conv VAE", torch_elbo, "log_likelihood", lambda p, b: LIKELIHOOD(p, b) / 40,
    ),
    "one noise for all draws": (
        SAMPLES, torch_latents, "noise",
        lambda key, samples, *rest: NOISE(key, 1, *rest).expand(samples, -1, -1),
    ),
    "noise drawn draw by draw": (
        SAMPLES, torch_latents, "noise",
        lambda key, samples, rows, size, dtype: torch_random.normal(
            key, (samples, rows, size), dtype
        ),
    ),
    "weights ignored": (
        SAMPLES, torch_elbo, "weighted_mean", lambda values, batch: values.mean(),
    ),
    "one transposed pad shifted": ("conv VAE", torch_conv, "ConvTranspose", shifted),
    "mean of the log-weights": (
        DOUBLE, torch_importance, "log_sum_exp", lambda w, dim: w.mean(dim) + 1.6094379124341003,
    ),
    "padding counted": (
        "recurrent VAE", torch_latents, "valid_steps",
        lambda lengths, time: torch.ones(len(lengths), time, dtype=torch.bool),
    ),
    "no word dropped": (
        "recurrent VAE", torch_recurrent.random, "bernoulli",
        lambda key, p, shape: torch.ones(shape),
    ),
    "padding encoded": ("recurrent VAE", RecurrentVAE, "encode", to_the_last_step),
    "condition of another sequence": (
        "recurrent VAE, conditional", ConditionalRecurrentVAE, "decode",
        lambda model, z, condition, x, lengths: DECODE(model, z, condition.roll(1, 0), x, lengths),
    ),
    "condition withheld from the posterior": (
        "recurrent VAE, conditional", ConditionalRecurrentVAE, "encode",
        lambda model, x, condition, lengths: ENCODE_GIVEN(model, x, 0.0 * condition, lengths),
    ),
    "pixels by rounding": (DOUBLE, torch_latents, "binarize", lambda x, key: x.round()),
    "pixels of all steps alike": (
        "recurrent VAE, pixels drawn", torch_latents.random, "fold_in", lambda key, step: key,
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_twin_is_caught(mutation, monkeypatch):
    assert_caught(*MUTATIONS[mutation], monkeypatch)


@pytest.mark.parametrize(
    ("module", "name", "instead", "noticed"),
    [
        (torch_impute, "_pick", lambda key, log_w: 0 * PICK(key, log_w), "drawn"),
        (torch_pareto, "tail_size", lambda num: TAIL(num) - 1, "pareto k"),
    ],
    ids=["weights of the proposals ignored", "a tail of one fewer"],
)
def test_a_mistake_about_missing_values_is_caught(module, name, instead, noticed, monkeypatch):
    right, _ = compare_function(MISSING, "float64")
    assert max(right.values()) <= MODELS["value"]["float64"]
    monkeypatch.setattr(module, name, instead)
    values, _ = compare_function(MISSING, "float64")
    assert values[noticed] > MODELS["value"]["float64"]


def test_another_order_of_the_divergence_is_caught(monkeypatch):
    """The mean of the weights in the place of the mean of their powers."""
    row = dataclasses.replace(FUNCTIONS[0], differentiable=False)
    mean = torch_importance._log_mean
    monkeypatch.setattr(torch_importance, "_log_mean", lambda w: mean(2.0 * w) / 2.0)
    values, _ = compare_function(row, "float64")
    bounds = ("alpha 0.5", "alpha 2.5", "ciwae")
    assert min(values[name] for name in bounds) > MODELS["value"]["float64"]


@pytest.mark.slow
def test_another_gradient_of_the_same_bound_is_caught(monkeypatch):
    """Both gradients belong to one value: the comparison of gradients alone tells them apart."""
    monkeypatch.setattr(torch_importance, "_detached", lambda q: q)
    assert max(errors(DOUBLE).values()) <= MODELS["value"]["float64"]
    found = compare_gradients(NAMED[DOUBLE], "float64")
    assert max(found.values()) > MODELS["gradient"]["float64"]
