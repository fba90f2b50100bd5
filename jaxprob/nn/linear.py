"""The affine map y = x W^T + b, its weight in PyTorch's layout.

Twin: `torch_ref/nn/linear.py`.
"""

import dataclasses

import flax.linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Float

from jaxprob.distributions.validation import align
from jaxprob.nn.initializers import Initializer, fan_in_uniform, param_dtype
from jaxprob.requirements import by_name, require_count
from jaxprob.types import AnyArray, Array

__all__ = ["Linear"]


@by_name("The input's size is that of x: torch's Linear(64, 10) is Linear(10).")
class Linear(nn.Module):
    """`torch.nn.Linear`: parameters `weight` `[out, in]` and `bias` `[out]`.

    Attributes:
      features: Size of the output.
      bias: Whether there is a bias.
      bias_init: Initialiser of the bias; None for PyTorch's U(+-1/sqrt(in)).
    """

    features: int
    _: dataclasses.KW_ONLY
    bias: bool = True
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B I"]) -> Float[Array, "*B O"]:
        """Maps `[*B, in]` to `[*B, features]`."""
        require_count("Linear", features=self.features)
        init, dtype = fan_in_uniform(x.shape[-1]), param_dtype(x)
        weight = self.param("weight", init, (self.features, x.shape[-1]), dtype)
        bias = (
            self.param("bias", self.bias_init or init, (self.features,), dtype)
            if self.bias
            else None
        )
        x, weight, bias = promote_dtype(x, weight, bias)
        y = x @ weight.T
        return y if bias is None else y + align(bias, y.ndim)
