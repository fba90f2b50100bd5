"""A table of vectors, one for each symbol of a vocabulary.

Twin of `jaxprob/nn/embedding.py`.
"""

from torch import nn

__all__ = ["Embedding"]


class Embedding(nn.Embedding):
    """`torch.nn.Embedding` itself: integers `[*B]` to `[*B, features]`.

    Args:
      num_embeddings: Size of the vocabulary V.
      features: Size of a vector D.
    """

    def __init__(self, num_embeddings: int, features: int):
        super().__init__(num_embeddings, features)
