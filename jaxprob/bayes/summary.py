"""What a posterior prints: its sizes and its numbers, never its arrays.

Twin: none; the twin's states are printed as torch prints tensors.
"""

from jaxprob.types import summary

__all__ = ["summary"]
