"""Kronecker factors of linear layers that see one vector a row.

There the gradient towards a layer's bias is the gradient towards its output, so B is the
Gauss-Newton block of the bias, and A the mean outer product of the inputs with a 1 appended.

Twin of `jaxprob/bayes/kronecker.py`, which perturbs outputs instead, and has convolutions too.
"""

import torch
from torch import Tensor, nn

from torch_ref.bayes.curvature import Batch, Weights, gauss_newton

__all__ = ["factored_gauss_newton", "find_layers"]


def find_layers(model: nn.Module) -> list[str]:
    """Returns the names of the layers that have factors."""
    return [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]


def factored_gauss_newton(
    model: nn.Module, weights: Weights, batch: Batch
) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns `{layer: (A, B)}`, A `[in + 1, in + 1]` and B `[out, out]`."""
    inputs: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, args, out, name=name: inputs.__setitem__(name, args[0].detach())
        )
        for name in find_layers(model)
    ]
    torch.func.functional_call(model, dict(weights), (batch["x"],))
    for handle in handles:
        handle.remove()
    factors = {}
    for name, x in inputs.items():
        if x.dim() != 2 or f"{name}.bias" not in weights:
            raise ValueError(f"{name}: factors here need inputs [B, in] and a bias.")
        count = batch.get("weight", x.new_ones(len(x)))
        columns = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        a = torch.einsum("b,bi,bj->ij", count / count.sum(), columns, columns)
        factors[name] = (a, gauss_newton(model, weights, batch, [f"{name}.bias"], []))
    return factors
