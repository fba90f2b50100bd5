"""Parameters that need no compilation."""

import jax
import numpy as np


def drawn(layer, *arguments, **options):
    """Variables of a layer as `init` would give them, with numbers from NumPy."""
    variables = jax.eval_shape(
        lambda key: layer.init(key, *arguments, **options), jax.random.key(0)
    )
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: rng.normal(0.0, 0.5, leaf.shape).astype(leaf.dtype), variables)
