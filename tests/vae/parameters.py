"""Parameters for tests, drawn without compiling an initialiser."""

import jax
import jax.numpy as jnp
import numpy as np


def drawn(model, x, scale=0.5, seed=0):
    """Normal numbers in the place of every parameter of a model with latents."""
    eps = jnp.zeros((len(x), model.latent_dim))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(x), eps))
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0.0, scale, leaf.shape), leaf.dtype),
        shapes.get("params", {}),
    )
