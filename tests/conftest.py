"""Float64, no silent rank promotion, and the type hook on every function of the package."""

import jax
from jaxtyping import install_import_hook

# Must stand before the first import of jaxprob.
install_import_hook("jaxprob", "beartype.beartype")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
