"""How a loss calls a module: inputs in order, what it takes beside them by name.

Twin of `jaxprob/nn/apply.py`; buffers and mode are the module's own.
"""

from typing import Any

from torch import nn

from torch_ref.batches import Inputs, accepted

__all__ = ["call"]


def call(model: nn.Module, inputs: Inputs, method: str = "forward") -> Any:
    """Calls a method; of the extra inputs it gets those that it has arguments for."""
    function = model if method == "forward" else getattr(model, method)
    extra = accepted(getattr(model, method, model), inputs.extra)
    return function(*inputs.arrays, **extra)
