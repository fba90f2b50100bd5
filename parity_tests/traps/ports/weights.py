"""Weights of the pairs."""

import numpy as np
import torch


def randomise(module, seed, scale=0.35):
    """Random weights, also of the scales, the biases and the running statistics."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if p.ndim <= 1 and name.endswith("weight"):
                p.copy_(1.0 + 0.3 * noise)
            elif p.ndim == 0:
                p.copy_(1.0 + 0.1 * noise)
            else:
                p.copy_(scale * noise)
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.3 * torch.randn(b.shape, generator=generator, dtype=torch.float64))
            elif name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=generator, dtype=torch.float64))
    return module.eval()


def rng(seed):
    return np.random.default_rng(1000 + seed)
