"""Lists come in pages of a bounded size, and only tokens that a list gave continue it."""

from __future__ import annotations

import pytest

from askonce.faults import InvalidInput
from askonce.paging import page_size, position


def test_sizes() -> None:
    """Zero asks for the default; what is out of range is refused with the range."""
    assert (page_size(0, 20), page_size(1, 20), page_size(100, 20)) == (20, 1, 100)
    for size in (-1, 101, 2**31 - 1):
        with pytest.raises(InvalidInput) as refused:
            page_size(size)
        assert (refused.value.reason, refused.value.metadata["max"]) == ("OUT_OF_RANGE", "100")


@pytest.mark.parametrize("token", ["x", "-1", "1.5", "１", "9" * 19, " 1", "1\n"])
def test_foreign_tokens(token: str) -> None:
    """A token that is no whole number of at most 18 digits is refused."""
    with pytest.raises(InvalidInput) as refused:
        position(token)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


def test_positions() -> None:
    """The empty token is the first page; any other is the place that it names."""
    assert (position(""), position("0"), position("42")) == (None, 0, 42)
