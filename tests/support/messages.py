"""What an error has to say."""

from collections.abc import Callable, Sequence

import pytest

__all__ = ["require_message"]


def require_message(call: Callable, words: Sequence[str]) -> None:
    """Asserts that a call raises a ValueError whose message holds every word."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    for word in words:
        assert word in str(caught.value), str(caught.value)
