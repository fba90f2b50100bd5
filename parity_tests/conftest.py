"""Float64 and one torch thread; the closing table comes from `jaxprob.interop.pytest_plugin`."""

import jax
import pytest
import torch

from tests.compilation import compile_quickly, forget_programs

compile_quickly()
jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _forget_programs():
    yield
    forget_programs()
