"""Multi-head attention, its weights in PyTorch's layout.

    head_i = softmax(q_i k_i^T / sqrt(E / heads)) v_i,   q, k, v = W_in [query, key, value] + b_in
    y      = W_out concat_i(head_i) + b_out

Twin: `torch_ref/nn/attention.py`. Source: Vaswani et al., "Attention is all you need" (2017),
section 3.2.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Bool, Float

from jaxprob.distributions.validation import align
from jaxprob.nn.initializers import param_dtype, xavier_uniform
from jaxprob.nn.linear import Linear
from jaxprob.requirements import by_name, require_count
from jaxprob.types import AnyArray, Array

__all__ = ["MultiheadAttention"]


@by_name("There is no dropout inside: torch's third argument has no counterpart.")
class MultiheadAttention(nn.Module):
    """`torch.nn.MultiheadAttention`, batch first and without dropout.

    Parameters: `in_proj_weight` `[3 E, E]` (rows of query, key, value), `in_proj_bias` `[3 E]` and
    the submodule `out_proj` with `weight` `[E, E]` and `bias` `[E]`.

    THE MASK IS TRUE WHERE A QUERY MAY LOOK, as in Flax and in
    `torch.nn.functional.scaled_dot_product_attention`. `torch.nn.MultiheadAttention` has the
    opposite sense: its boolean `attn_mask` is True where it may NOT look. Invert it.

    A query that may look nowhere attends to nothing: its heads are 0 and its output is the bias of
    `out_proj`, with finite gradients. (`torch.nn.MultiheadAttention` gives NaN, Flax the plain
    average of all values.) A key that no query may see changes nothing, NaN included.

    Attributes:
      embed_dim: Size of queries, keys, values and outputs E.
      num_heads: Number of heads; must divide E.
      bias: Whether both projections have a bias.
    """

    embed_dim: int
    num_heads: int
    _: dataclasses.KW_ONLY
    bias: bool = True

    @nn.compact
    def __call__(
        self,
        query: Float[AnyArray, "*B Tq E"],
        key: Float[AnyArray, "*B Tk E"] | None = None,
        value: Float[AnyArray, "*B Tk E"] | None = None,
        *,
        mask: Bool[AnyArray, "..."] | None = None,
    ) -> Float[Array, "*B Tq E"]:
        """Attends.

        Args:
          query: `[*B, Tq, E]`.
          key: `[*B, Tk, E]`; default `query` (self-attention).
          value: `[*B, Tk, E]`; default `key`.
          mask: By name, since torch's fourth argument is another. True = keep; broadcasts to
            `[*B, heads, Tq, Tk]` from the right. Causal: `jnp.tril(jnp.ones((T, T), bool))`;
            padded keys: `valid[:, None, None, :]`.

        Returns:
          `[*B, Tq, E]`. Softmax is computed in float32 where the inputs are narrower.

        Raises:
          ValueError: Sizes that do not fit, or a mask that is not boolean or does not broadcast.
        """
        key = query if key is None else key
        value = key if value is None else value
        self._check(query, key, value)
        size, heads, dtype = self.embed_dim, self.num_heads, param_dtype(query)
        weight = self.param(
            "in_proj_weight", xavier_uniform(3 * size, size), (3 * size, size), dtype
        )
        bias = None
        if self.bias:
            bias = self.param("in_proj_bias", nn.initializers.zeros, (3 * size,), dtype)
        if mask is not None:
            mask = mask if hasattr(mask, "dtype") else jnp.asarray(mask)  # lists too
            mask = self._full_mask(mask, (*query.shape[:-2], heads, query.shape[-2], key.shape[-2]))
            seen = jnp.any(mask, axis=(-3, -2))[..., None]
            key, value = jnp.where(seen, key, 0), jnp.where(seen, value, 0)
        query, key, value, weight, bias = promote_dtype(query, key, value, weight, bias)

        def project(x, part):
            rows = slice(part * size, (part + 1) * size)
            y = x @ weight[rows].T
            y = y if bias is None else y + align(bias[rows], y.ndim)
            return y.reshape(*y.shape[:-1], heads, size // heads)

        q, k, v = (project(x, part) for part, x in enumerate((query, key, value)))
        scores = jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=param_dtype(q))
        weights = _masked_softmax(scores * (size // heads) ** -0.5, mask).astype(v.dtype)
        attended = jnp.einsum("...hqk,...khd->...qhd", weights, v).reshape(query.shape)
        out = Linear(size, bias=self.bias, bias_init=nn.initializers.zeros, name="out_proj")
        return out(attended)

    def _check(self, query, key, value) -> None:
        require_count("MultiheadAttention", embed_dim=self.embed_dim, num_heads=self.num_heads)
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"MultiheadAttention: num_heads must divide embed_dim; got num_heads "
                f"{self.num_heads} and embed_dim {self.embed_dim}."
            )
        size, batch = self.embed_dim, query.shape[:-2]
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.ndim < 2 or x.shape[:-2] != batch or x.shape[-1] != size:
                raise ValueError(
                    f"MultiheadAttention: {name} must be [*B, T, E] with *B = {batch} (that of "
                    f"query) and E = {size} (embed_dim); got shape {x.shape}."
                )
        if key.shape[-2] != value.shape[-2]:
            raise ValueError(
                f"MultiheadAttention: key and value must have one length; got {key.shape[-2]} and "
                f"{value.shape[-2]}."
            )

    def _full_mask(self, mask, shape: tuple[int, ...]) -> Array:
        fits = mask.dtype == bool and mask.ndim <= len(shape)
        mask = align(jnp.asarray(mask), len(shape))
        if not fits or any(m not in (1, s) for m, s in zip(mask.shape, shape, strict=False)):
            raise ValueError(
                f"MultiheadAttention: mask must be boolean, True = keep, and broadcast to [*B, "
                f"heads, Tq, Tk] = {shape}; got {mask.dtype} of shape {mask.shape}. A mask of "
                "keys [B, Tk] needs two more axes: mask[:, None, None, :]."
            )
        return jnp.broadcast_to(mask, shape)


def _masked_softmax(scores: Array, mask: Array | None) -> Array:
    """Softmax over the last axis among the kept; zeros where none is."""
    if mask is None:
        return jax.nn.softmax(scores, axis=-1)
    # A finite stand-in for -inf, so that a row without any kept score has no NaN to differentiate.
    lowest = float(jnp.finfo(scores.dtype).min)
    return jnp.where(mask, jax.nn.softmax(jnp.where(mask, scores, lowest), axis=-1), 0)
