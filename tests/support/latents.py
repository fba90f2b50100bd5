"""Parameters for tests, drawn without compiling an initialiser."""

import jax
import jax.numpy as jnp
import numpy as np


def drawn(model, x, scale=0.5, seed=0, **given):
    """Normal numbers in the place of every parameter of a model with latents."""
    eps = jnp.zeros((len(x), model.latent_dim))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(x), eps, **given))
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0.0, scale, leaf.shape), leaf.dtype),
        shapes.get("params", {}),
    )


def wide(params, raw_scale=1.0):
    """The same with q(z | x), before any flow, N(0, softplus(raw_scale)^2) for all x.

    It covers what the prior does, so that the errors of importance sampling are as stated.
    """
    kernel, bias = (params["posterior"]["out"][name] for name in ("kernel", "bias"))
    half = jnp.arange(len(bias)) < len(bias) // 2
    out = {"kernel": jnp.zeros_like(kernel), "bias": jnp.where(half, 0.0, raw_scale)}
    return {**params, "posterior": {"out": out}}
