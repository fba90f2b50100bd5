"""Float64 and one torch thread; the closing table comes from `jaxprob.interop.pytest_plugin`."""

import jax
import torch

from tests.support.compilation import compile_for_tests
from tests.support.session import (  # noqa: F401  (pytest finds them here)
    _forget_programs,
    pytest_collection_finish,
    pytest_collection_modifyitems,
)

compile_for_tests()
jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)
