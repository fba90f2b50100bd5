"""Rows of the variational autoencoders: likelihoods, posteriors, bounds, and what they are for."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from torch.func import functional_call

import torch_ref.random as torch_random
from jaxprob import heads, objectives, vae
from jaxprob.nn import MLP
from jaxprob.vae.diagnostics import facts
from parity_tests.cases.bayes import OPTIMIZERS
from parity_tests.engine import FunctionCase, ModelCase
from tests.vae.parameters import drawn
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


def vae_row(
    name,
    model,
    build_torch,
    objective,
    data,
    torch_objective=None,
    uses=False,
    slow=False,
    runs=True,
):
    """One model under one objective: (name of the loss, its options)."""
    rows = {key: np.asarray(value[:1]) for key, value in data.items()}

    def init(key):
        further = [rows["condition"]] if "condition" in rows else []
        del key  # an initialiser would take longer to compile than the rest of the row
        return drawn(model, rows["x"], 0.4, further=further)

    def outputs(params, batch, key):
        x, condition = jnp.nan_to_num(batch["x"]), batch.get("condition")
        further = () if condition is None else (condition,)
        eps = jax.random.normal(key, (2, len(x), model.latent_dim), x.dtype)
        variables = {"params": params}
        q, z, p = model.apply(variables, x, eps, *further)
        # at codes that no pass has drawn
        log_q, log_p = model.apply(variables, q, 0.9 * z, *further, method="log_densities")
        found = {"z": z, "p": p.mean(), "log q": log_q, "log p": log_p}
        found["code"] = model.apply(variables, x, *further, method="code")
        if hasattr(q, "variance"):
            found["variance"] = q.variance()
        return found | (used(params, x, key, condition) if uses else {})

    def used(params, x, key, c):
        """Everything that a trained model is for."""
        some, few = (c, c) if c is None else (c[:3], c[:2])
        marginal = vae.log_marginal(model, params, x, key, 7, 3, c)
        batch = {"x": x, "condition": c}
        _, kl, activity, information = facts(model, params, batch, key)
        turned = vae.interpolate(model, params, x[:3], x[3:6], 4, spherical=True, condition=some)
        straight = vae.interpolate(model, params, x[:3], x[3:6], 4, condition=some)
        values = (-1.0, 0.5)
        return {
            "log marginal": marginal.value,
            "error": marginal.standard_error,
            "kl per latent": kl,
            "activity": activity,
            "information": information,
            "sample": vae.sample(model, params, key, 5, condition=c),
            "sample mean": vae.sample(model, params, key, 5, True, c),
            "reconstruct": vae.reconstruct(model, params, x, c).mean(),
            "interpolate": straight.mean(),
            "spherical": turned.mean(),
            "traverse": vae.traverse(model, params, x[:2], 1, values, few).mean(),
        }

    def torch_outputs(module, batch, key):
        x, c = batch["x"].nan_to_num(), batch.get("condition")
        further = () if c is None else (c,)
        eps = torch_random.normal(key, (2, len(x), model.latent_dim), x.dtype)
        q, z, p = module(x, eps, *further)
        log_q, log_p = module.log_densities(q, 0.9 * z, *further)
        found = {"z": z, "p": p.mean, "log q": log_q, "log p": log_p}
        found["code"] = module.code(x, *further)
        if hasattr(q, "variance"):
            found["variance"] = q.variance
        if not uses:
            return found
        some, few = (c, c) if c is None else (c[:3], c[:2])
        marginal = torch_vae.log_marginal(module, x, key, 7, 3, c)
        report = torch_vae.diagnostics(module, x, key, c)
        turned = torch_vae.interpolate(module, x[:3], x[3:6], 4, spherical=True, condition=some)
        values = (-1.0, 0.5)
        return found | {
            "log marginal": marginal.value,
            "error": marginal.standard_error,
            "kl per latent": report.kl_per_latent,
            "activity": report.activity,
            "information": report.mutual_information,
            "sample": torch_vae.sample(module, key, 5, condition=c),
            "sample mean": torch_vae.sample(module, key, 5, True, c),
            "reconstruct": torch_vae.reconstruct(module, x, c).mean,
            "interpolate": torch_vae.interpolate(module, x[:3], x[3:6], 4, condition=some).mean,
            "spherical": turned.mean,
            "traverse": torch_vae.traverse(module, x[:2], 1, values, few).mean,
        }

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
        runs=runs,
    )


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
    vae_row("dense VAE", DENSE, dense, elbo(), BINARY),
    vae_row("dense VAE in use", DENSE, dense, elbo(), BINARY, uses=True, slow=True),
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
    eps = np.zeros((7, NORMAL.latent_dim))
    shapes = jax.eval_shape(lambda: NORMAL.init(jax.random.key(0), data["x"], eps)["params"])
    paths = flatten_dict(shapes, sep="/")
    weights = {path: _rng.normal(0.0, 0.5, leaf.shape) for path, leaf in paths.items()}

    def jax_fn(a, key):
        params = unflatten_dict({path: a[path] for path in weights}, sep="/")
        batch = {part: a[part] for part in data} | {"mask": mask}
        found = {}
        for bound, (loss, options) in BOUNDS.items():
            value, metrics = getattr(vae, loss)(NORMAL, num_samples=4, **options)(
                params, batch, key
            )
            found |= {bound: value, f"{bound} kl": metrics["kl"]}
        return found

    def torch_fn(a, key):
        named = {
            "module." + path.replace("/", ".").replace("kernel", "weight"): (
                a[path].T if path.endswith("kernel") else a[path]
            )
            for path in weights
        }
        batch = {part: a[part] for part in data} | {"mask": torch.tensor(mask)}
        return functional_call(Losses(normal()), named, (batch, key))

    return FunctionCase(name, jax_fn, torch_fn, weights | data)


FUNCTIONS = [bounds_row("Renyi bounds and CIWAE")]
