"""Where two texts differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dedup_service.audit.report import Piece
from dedup_service.audit.spans import differing


def marked(pieces: tuple[Piece, ...]) -> list[str]:
    """The marked pieces."""
    return [piece.text for piece in pieces if piece.differs and piece.text.strip()]


def test_one_word_differs() -> None:
    """Only the word is marked, and case counts as no difference."""
    left, right = differing("Amount before tax?", "amount after tax?")
    assert (marked(left), marked(right)) == (["before"], ["after"])


def test_chinese_differs_by_character() -> None:
    """In Chinese the mark is as narrow as a character."""
    left, right = differing("税前金额是多少", "税后金额是多少")
    assert (marked(left), marked(right)) == (["前"], ["后"])


@given(st.text(max_size=60), st.text(max_size=60))
def test_pieces_join_to_the_text(left: str, right: str) -> None:
    """Nothing is lost or added."""
    one, other = differing(left, right)
    assert "".join(piece.text for piece in one) == left
    assert "".join(piece.text for piece in other) == right
