"""Lists come in pages (AIP-158): how large a page may be, and the tokens that continue a list."""

from __future__ import annotations

from askonce.faults import InvalidInput

DEFAULT_SIZE = 50
MAX_SIZE = 100
_DIGITS = 18


def page_size(asked: int, default: int = DEFAULT_SIZE, most: int = MAX_SIZE) -> int:
    """The size of the page that was asked for, `default` for 0. Raises InvalidInput (OUT_OF_RANGE)."""
    if not 0 <= asked <= most:
        raise InvalidInput(
            "OUT_OF_RANGE", f"page_size: from 1 to {most}.", field="page_size", metadata={"max": str(most)}
        )
    return asked or default


def position(token: str) -> int | None:
    """The whole number that a page token stands for; None for the first page. Raises InvalidInput."""
    if not token:
        return None
    if not token.isascii() or not token.isdigit() or len(token) > _DIGITS:
        raise unknown_token()
    return int(token)


def unknown_token() -> InvalidInput:
    """The fault of a token that no list gave."""
    return InvalidInput(
        "PAGE_TOKEN_INVALID", "page_token: not one of this list's; begin again without one.", field="page_token"
    )
