"""Rows of the variational autoencoders: likelihoods, posteriors, bounds, and what they are for."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.func import functional_call

import torch_ref.random as torch_random
from jaxprob import heads, objectives, vae
from jaxprob.nn import MLP
from jaxprob.vae.diagnostics import latent_statistics
from parity_tests import weights
from parity_tests.cases.bayes import OPTIMIZERS
from parity_tests.engine import FunctionCase, ModelCase
from tests.support.latents import drawn
from torch_ref import heads as torch_heads
from torch_ref import objectives as torch_objectives
from torch_ref import vae as torch_vae
from torch_ref.nn import MLP as TorchMLP

ROWS = 32  # whole batches, which compile fewer programs; other rows have a smaller last one
_rng = np.random.default_rng(0)
REAL = _rng.normal(size=(ROWS, 6))
BINARY = {"x": (REAL > 0.0) * 1.0}
GREY = {"x": 1.0 / (1.0 + np.exp(-REAL))}
PARTIAL = {
    "x": REAL,
    "mask": _rng.uniform(size=REAL.shape) < 0.7,
    "weight": _rng.uniform(0.0, 2.0, ROWS),
}
IMAGES = {"x": (_rng.normal(size=(ROWS, 5, 4, 2)) > 0.0) * 1.0}


def vae_row(name, model, build_torch, objective, data, torch_objective=None, slow=False):
    """Training under one objective, (name of the loss, its options), and what it is made of."""
    rows = {key: np.asarray(value[:1]) for key, value in data.items()}

    def init(key):
        del key  # an initialiser would take longer to compile than the rest of the row
        return drawn(model, rows["x"], 0.4, **given(model, rows))

    def outputs(params, batch, key):
        x, extra = jnp.nan_to_num(batch["x"]), given(model, batch)
        eps = jax.random.normal(key, (2, len(x), model.latent_dim), x.dtype)
        variables = {"params": params}
        q, z, p = model.apply(variables, x, eps, **extra)
        # at codes that no pass has drawn
        log_q, log_p = model.apply(variables, q, 0.9 * z, **extra, method="log_densities")
        found = {"z": z, "p": p.mean(), "log q": log_q, "log p": log_p}
        found["code"] = model.apply(variables, x, **extra, method="code")
        return found | ({"variance": q.variance()} if hasattr(q, "variance") else {})

    def torch_outputs(module, batch, key):
        x, extra = batch["x"].nan_to_num(), given(model, batch)
        eps = torch_random.normal(key, (2, len(x), model.latent_dim), x.dtype)
        q, z, p = module(x, eps, **extra)
        log_q, log_p = module.log_densities(q, 0.9 * z, **extra)
        found = {"z": z, "p": p.mean, "log q": log_q, "log p": log_p}
        found["code"] = module.code(x, **extra)
        return found | ({"variance": q.variance} if hasattr(q, "variance") else {})

    loss, options = objective
    torch_loss, torch_options = torch_objective or objective
    return ModelCase(
        name=name,
        init=init,
        jax_loss=getattr(vae, loss)(model, **options),
        jax_outputs=outputs,
        build_torch=build_torch,
        torch_loss=lambda module: getattr(torch_vae, torch_loss)(module, **torch_options),
        torch_outputs=torch_outputs,
        data=data,
        optimizers=OPTIMIZERS,
        slow=slow,
    )


def given(model, batch):
    """What the model takes beside x, by name."""
    return {name: batch[name] for name in model.takes if name in batch}


def use_row(name, model, build_torch, data, slow=False):
    """Everything that a trained model is for."""
    rows = {part: np.asarray(value[:1]) for part, value in data.items()}
    eps = np.zeros((1, model.latent_dim))

    def jax_fn(a, key):
        params = weights.to_params(a)
        batch = {"x": a["x"], **given(model, a)}
        _, kl, activity, information = latent_statistics(model, params, batch, key)

        def call(function, *arguments, **options):
            return getattr(vae, function)(model, params, *arguments, **options)

        found = in_use(call, batch, key, lambda p: p.mean())
        return {**found, "kl per latent": kl, "activity": activity, "information": information}

    def torch_fn(a, key):
        batch = {"x": a["x"], **given(model, a)}
        module = weights.to_module(a, build_torch())
        report = torch_vae.diagnostics(module, batch, key)

        def call(function, *arguments, **options):
            return getattr(torch_vae, function)(module, *arguments, **options)

        return {
            **in_use(call, batch, key, lambda p: p.mean),
            "kl per latent": report.kl_per_latent,
            "activity": report.activity,
            "information": report.mutual_information,
        }

    inputs = {**data, **weights.drawn(model, rows["x"], eps, **given(model, rows))}
    return FunctionCase(name, jax_fn, torch_fn, inputs, differentiable=False, slow=slow)


def in_use(call, batch, key, mean):
    """What `call(name of a function, its arguments)` gives, on either side."""
    x = batch["x"]
    beside, some, few = (
        {name: value[:rows] for name, value in batch.items() if name != "x"}
        for rows in (len(x), 3, 2)
    )
    marginal = call("log_marginal", batch, key, 7, 3)
    turned = call("interpolate", x[:3], x[3:6], 4, spherical=True, given=some)
    return {
        "log marginal": marginal.value,
        "error": marginal.standard_error,
        "sample": call("sample", key, 5, given=beside),
        "sample mean": call("sample", key, 5, True, beside),
        "reconstruct": mean(call("reconstruct", x, beside)),
        "interpolate": mean(call("interpolate", x[:3], x[3:6], 4, given=some)),
        "spherical": mean(turned),
        "traverse": mean(call("traverse", x[:2], 1, (-1.0, 0.5), few)),
    }


# Equal widths give square kernels, whose transposition no shape check can notice.
DENSE = vae.DenseVAE(6, (5, 5), 5, nn.tanh)
CONV = vae.ConvVAE((5, 4, 2), (3, 3), 2, nn.tanh)
NORMAL = vae.DenseVAE(6, (5,), 2, nn.tanh, functools.partial(heads.NormalHead, homoscedastic=True))
CORRELATED = vae.VAE(
    nn.Sequential([MLP((5,), nn.tanh), heads.MultivariateNormalHead(2)]),
    nn.Sequential([MLP((5,), nn.tanh), heads.NormalHead(6)]),
    2,
)


def dense():
    """Twin of `DENSE`."""
    return torch_vae.DenseVAE(6, (5, 5), 5, torch.tanh)


def conv():
    """Twin of `CONV`."""
    return torch_vae.ConvVAE((5, 4, 2), (3, 3), 2, torch.tanh)


def normal():
    """Twin of `NORMAL`."""
    head = functools.partial(torch_heads.NormalHead, homoscedastic=True)
    return torch_vae.DenseVAE(6, (5,), 2, torch.tanh, head)


def correlated():
    """Twin of `CORRELATED`."""
    encoder = torch.nn.Sequential(
        TorchMLP(6, (5,), torch.tanh), torch_heads.MultivariateNormalHead(5, 2)
    )
    decoder = torch.nn.Sequential(TorchMLP(2, (5,), torch.tanh), torch_heads.NormalHead(5, 6))
    return torch_vae.VAE(encoder, decoder, 2)


def elbo(**options):
    """The ELBO with these options."""
    return "negative_elbo", options


def iwae(**options):
    """The importance weighted bound with these options."""
    return "negative_iwae", options


ANNEALED = [
    elbo(beta=module.linear_annealing(30), free_bits=0.2, num_samples=2, analytic_kl=False)
    for module in (objectives, torch_objectives)
]
DOUBLE = {"num_samples": 5, "gradient": "doubly_reparameterized", "binarize": True}

MODELS = [
    vae_row("dense VAE", DENSE, dense, elbo(), BINARY).fitted("quick"),
    vae_row("VAE normal, masks, annealed, free bits", NORMAL, normal, ANNEALED[0], PARTIAL,
            ANNEALED[1]),
    vae_row("VAE beta, 3 samples, binarised", DENSE, dense,
            elbo(beta=0.5, num_samples=3, binarize=True), GREY, slow=True),
    vae_row("conv VAE", CONV, conv, elbo(), IMAGES),
    vae_row("IWAE", DENSE, dense, iwae(num_samples=5), BINARY, slow=True),
    vae_row("IWAE doubly reparameterised", DENSE, dense, iwae(**DOUBLE), GREY),
    vae_row("IWAE correlated posterior", CORRELATED, correlated, iwae(num_samples=3), PARTIAL,
            slow=True),
]  # fmt: skip


BOUNDS = {
    "alpha 0.5": ("negative_renyi", {"alpha": 0.5}),
    "alpha 1": ("negative_renyi", {"alpha": 1.0}),
    "alpha 2.5": ("negative_renyi", {"alpha": 2.5}),
    "alpha -inf": ("negative_renyi", {"alpha": -float("inf")}),
    "ciwae": ("negative_ciwae", {"beta": 0.3}),
}


class Losses(torch.nn.Module):
    """All of `BOUNDS` on one module, as a function of its parameters."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, batch, key):
        """Returns each loss and the KL beside it."""
        found = {}
        for name, (loss, options) in BOUNDS.items():
            value, metrics = getattr(torch_vae, loss)(self.module, num_samples=4, **options)(
                batch, key
            )
            found |= {name: value, f"{name} kl": metrics["kl"]}
        return found


def bounds_row(name):
    """Other functions of the same weights: one program, every parameter an input."""
    mask = PARTIAL["mask"][:7]
    data = {"x": REAL[:7], "weight": PARTIAL["weight"][:7]}
    arrays = weights.drawn(NORMAL, data["x"], np.zeros((7, NORMAL.latent_dim)), size=0.5)

    def jax_fn(a, key):
        params = weights.to_params(a)
        batch = {part: a[part] for part in data} | {"mask": mask}
        found = {}
        for bound, (loss, options) in BOUNDS.items():
            value, metrics = getattr(vae, loss)(NORMAL, num_samples=4, **options)(
                params, batch, key
            )
            found |= {bound: value, f"{bound} kl": metrics["kl"]}
        return found

    def torch_fn(a, key):
        batch = {part: a[part] for part in data} | {"mask": torch.tensor(mask)}
        losses = Losses(normal())
        return functional_call(losses, weights.to_tensors(a, losses, "module."), (batch, key))

    return FunctionCase(name, jax_fn, torch_fn, arrays | data)


FUNCTIONS = [
    bounds_row("Renyi bounds and CIWAE"),
    use_row("dense VAE in use", DENSE, dense, BINARY, slow=True),
]
