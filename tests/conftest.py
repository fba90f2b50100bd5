"""Float64, no silent rank promotion, and the type hook on every function of the package."""

import jax
import pytest
from jaxtyping import install_import_hook

# Must stand before the first import of jaxprob.
install_import_hook("jaxprob", "beartype.beartype")

jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True)
def _no_silent_rank_promotion():
    """For these tests alone: parity_tests run in the same process and write plain networks."""
    with jax.numpy_rank_promotion("raise"):
        yield
