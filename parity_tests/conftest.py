"""Float64 and one torch thread; the closing table comes from `jaxprob.interop.pytest_plugin`."""

import jax
import torch

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)
