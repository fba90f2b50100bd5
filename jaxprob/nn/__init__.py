"""Linen layers without probability.

`MLP` and `Standardize` are plain Linen. All others are PyTorch's layers, or made of them as `MADE`
is: names, layouts, defaults and first distributions of their parameters are those of `torch.nn`, so
that `a/b/weight` here is `a.b.weight` of a state_dict, bit for bit. Activations are channels-last,
`[*B, spatial..., C]`.
"""

from jaxprob.nn.apply import as_params, as_variables
from jaxprob.nn.attention import MultiheadAttention
from jaxprob.nn.conv import Conv, ConvTranspose
from jaxprob.nn.embedding import Embedding
from jaxprob.nn.linear import Linear
from jaxprob.nn.masked import MADE, MaskedDense
from jaxprob.nn.mlp import MLP
from jaxprob.nn.norms import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from jaxprob.nn.recurrent import GRU, LSTM, RNN
from jaxprob.nn.shaping import Dropout, Flatten
from jaxprob.nn.standardize import Standardize
from jaxprob.operations.convolution import conv_general_dilated

__all__ = [
    "GRU",
    "LSTM",
    "MADE",
    "MLP",
    "RNN",
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "MaskedDense",
    "MultiheadAttention",
    "RMSNorm",
    "Standardize",
    "as_params",
    "as_variables",
    "conv_general_dilated",
]
