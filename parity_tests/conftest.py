"""Float64 and one torch thread; the closing table comes from `jaxprob.interop.pytest_plugin`."""

import os

import jax
import torch

# Most of the time of a test is LLVM's; its level 1 takes a fifth less of all of it and still fuses
# multiply and add, which level 0 does not: that changes bits. What the caller sets goes first.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=1 " + os.environ.get("XLA_FLAGS", "")
jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)
