"""Where two texts differ, word by word (character by character in Chinese). Pure."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from dedup_service.audit.report import Piece

WORD = re.compile(r"[^\W_\u3400-\u9fff]+|[\u3400-\u9fff]|\s+|[^\w\s]|_")
MOST = 4_000
"""Characters of a text that are compared; the rest is shown unmarked."""


def differing(left: str, right: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both texts in pieces, those that the other lacks marked. Case counts as no difference."""
    one, other = WORD.findall(left[:MOST]), WORD.findall(right[:MOST])
    matcher = SequenceMatcher(None, [w.casefold() for w in one], [w.casefold() for w in other], autojunk=False)
    pieces: tuple[list[Piece], list[Piece]] = ([], [])
    for kind, a, b, c, d in matcher.get_opcodes():
        for side, words in ((0, one[a:b]), (1, other[c:d])):
            if words:
                pieces[side].append(Piece("".join(words), kind != "equal"))
    for side, text in ((0, left), (1, right)):
        if len(text) > MOST:
            pieces[side].append(Piece(text[MOST:], differs=False))
    return tuple(pieces[0]), tuple(pieces[1])
