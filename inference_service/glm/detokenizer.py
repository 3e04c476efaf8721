"""From token ids to the text that a client sees, piece by piece."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inference_service.answer_text import AnswerText, Shown


def byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level BPE vocabularies write bytes.

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, for U+0100 onwards (the alphabet of
    GPT-2, which GLM's vocabulary shares).
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(0x100) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + index): byte for index, byte in enumerate(moved)}


ALPHABET = byte_alphabet()


@dataclass(frozen=True, slots=True)
class Marks:
    """Token ids with a meaning of their own in an answer."""

    think_start: int
    think_end: int
    silent: frozenset[int]
    """Ids that are never shown: control tokens and the box around a final answer."""


class Spelling:
    """What bytes each token stands for."""

    def __init__(self, token_of: Callable[[int], str | None], added: frozenset[int]) -> None:
        self.token_of = token_of
        self.added = added
        self.known: dict[int, bytes] = {}

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token; none for an id outside the vocabulary."""
        if token not in self.known:
            text = self.token_of(token)
            if text is None:
                spelt = b""
            elif token in self.added or any(letter not in ALPHABET for letter in text):
                spelt = text.encode()
            else:
                spelt = bytes(ALPHABET[letter] for letter in text)
            self.known[token] = spelt
        return self.known[token]


class Detokenizer:
    """One answer on its way from token ids to text. `thinking` says that the prompt left a thought open."""

    def __init__(self, spelling: Spelling, marks: Marks, stops: Sequence[str], thinking: bool = False) -> None:
        self.spelling, self.marks = spelling, marks
        self.decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self.answer = AnswerText(stops, thinking)

    def feed(self, token: int) -> Shown:
        """Takes the next token and returns what it adds."""
        if token == self.marks.think_start or token == self.marks.think_end:
            shown = self.answer.add(self.decode(b"", final=True))
            if token == self.marks.think_start:
                self.answer.open_thought()
                return shown
            closed = self.answer.close_thought()
            return Shown(shown.thinking + closed.thinking, shown.text + closed.text)
        if token in self.marks.silent:
            return Shown()
        return self.answer.add(self.decode(self.spelling.bytes_of(token)))

    def finish(self) -> Shown:
        """Ends the text and returns what was held back."""
        return self.answer.add(self.decode(b"", final=True), last=True)
