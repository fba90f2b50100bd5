"""Twins of `jaxprob.nn`: channels-last, parameters named and laid out as torch's own."""

from torch_ref.nn.attention import MultiheadAttention
from torch_ref.nn.conv import Conv, ConvTranspose
from torch_ref.nn.embedding import Embedding
from torch_ref.nn.linear import Linear
from torch_ref.nn.masked import MADE, MaskedDense
from torch_ref.nn.mlp import MLP
from torch_ref.nn.norms import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from torch_ref.nn.recurrent import GRU, LSTM, RNN
from torch_ref.nn.shaping import Dropout, Flatten
from torch_ref.nn.standardize import Standardize

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
]
