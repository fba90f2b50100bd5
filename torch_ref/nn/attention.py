"""Multi-head attention: torch's parameters around its scaled dot product.

Twin of `jaxprob/nn/attention.py`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MultiheadAttention"]


class MultiheadAttention(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention`, batch first, with a mask that is True where a query may look.

    That is the sense of `scaled_dot_product_attention`; torch's own `attn_mask` of this class has
    the opposite one. A query that may look nowhere gets the bias of `out_proj`.

    Args:
      embed_dim: Size of queries, keys, values and outputs E.
      num_heads: Number of heads; must divide E.
      bias: Whether both projections have a bias.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, bias: bool = True):
        super().__init__(embed_dim, num_heads, bias=bias, batch_first=True)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attends from `[*B, Tq, E]` to `[*B, Tk, E]`; returns `[*B, Tq, E]`.

        `mask` broadcasts to `[*B, heads, Tq, Tk]`.
        """
        key = query if key is None else key
        value = key if value is None else value
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        heads = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        attended = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return self.out_proj(attended.transpose(-3, -2).flatten(-2))
