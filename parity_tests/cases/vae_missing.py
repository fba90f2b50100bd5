"""A row of what a model says of rows with missing values: draws of them, and log p of the rest."""

import numpy as np
import torch

from jaxprob import vae
from parity_tests import weights
from parity_tests.cases.vae import NORMAL, PARTIAL, REAL, normal
from parity_tests.engine import FunctionCase
from torch_ref import vae as torch_vae

ROWS = 7


def missing_row(name: str, slow: bool = False) -> FunctionCase:
    """Completions by several proposals and by means, and how far log p(x_seen) can be trusted."""
    mask, x = PARTIAL["mask"][:ROWS], REAL[:ROWS]
    arrays = weights.drawn(NORMAL, x, np.zeros((ROWS, NORMAL.latent_dim)), size=0.5)

    def found(call, batch, key):
        marginal = call("log_marginal", batch, key, 31, 10)
        return {
            "drawn": call("impute", batch, key, 2, 3),
            "trusting": call("impute", batch, key, 1),
            "means": call("impute", batch, key, 2, 3, True),
            "log marginal": marginal.value,
            "effective": marginal.effective_samples,
            "pareto k": marginal.pareto_k,
            "reliable": marginal.reliable * 1.0,
        }

    def jax_fn(a, key):
        params = weights.to_params(a)

        def call(function, *arguments):
            return getattr(vae, function)(NORMAL, params, *arguments)

        return found(call, {"x": a["x"], "x_observed": mask}, key)

    def torch_fn(a, key):
        module = weights.to_module(a, normal())

        def call(function, *arguments):
            return getattr(torch_vae, function)(module, *arguments)

        return found(call, {"x": a["x"], "x_observed": torch.tensor(mask)}, key)

    return FunctionCase(name, jax_fn, torch_fn, {**arrays, "x": x}, differentiable=False, slow=slow)


FUNCTIONS = [missing_row("VAE of missing values in use")]
