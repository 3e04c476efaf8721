"""From token ids to the text that a client sees, piece by piece: bytes, thinking, boxes, white space, stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass


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


class Stopper:
    """Passes text on until a stop string turns up; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.held = ""
        self.stopped = False

    def feed(self, text: str, last: bool = False) -> str:
        """Takes the next text and returns what is safe to show. After `stopped`, nothing is."""
        if self.stopped:
            return ""
        self.held += text
        # The first stop string to be complete ends the text, so that it does not matter how the text is cut.
        found = [(place + len(stop), place) for stop in self.stops if (place := self.held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self.held = self.held[: min(found)[1]], ""
            return shown
        keep = 0 if last else max((overlap(self.held, stop) for stop in self.stops), default=0)
        shown, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return shown


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`, shorter than all of it."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


class Trimmer:
    """Drops white space at both ends of a text that arrives in pieces."""

    def __init__(self) -> None:
        self.begun = False
        self.space = ""

    def feed(self, text: str) -> str:
        """Takes the next text and returns what is certain not to be white space at an end."""
        if not self.begun:
            text = text.lstrip()
            self.begun = bool(text)
        text = self.space + text
        shown = text.rstrip()
        self.space = text[len(shown) :]
        return shown


@dataclass(slots=True)
class Shown:
    """What one step adds to an answer."""

    thinking: str = ""
    text: str = ""


class Detokenizer:
    """One answer on its way from token ids to text. `thinking` says that the prompt left a thought open."""

    def __init__(self, spelling: Spelling, marks: Marks, stops: Sequence[str], thinking: bool = False) -> None:
        self.spelling, self.marks = spelling, marks
        self.thinking = thinking
        self.decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self.stopper = Stopper(stops)
        self.trimmers = {True: Trimmer(), False: Trimmer()}
        self.text = ""
        self.thinking_text = ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended the answer."""
        return self.stopper.stopped

    def feed(self, token: int) -> Shown:
        """Takes the next token and returns what it adds."""
        if token == self.marks.think_start or token == self.marks.think_end:
            shown = self.show(self.decode(b"", final=True))
            self.thinking = token == self.marks.think_start
            return shown
        if token in self.marks.silent:
            return Shown()
        return self.show(self.decode(self.spelling.bytes_of(token)))

    def finish(self) -> Shown:
        """Ends the text and returns what was held back."""
        return self.show(self.decode(b"", final=True), last=True)

    def show(self, text: str, last: bool = False) -> Shown:
        if self.thinking:
            text = self.trimmers[True].feed(text)
            self.thinking_text += text
            return Shown(thinking=text)
        text = self.trimmers[False].feed(self.stopper.feed(text, last))
        self.text += text
        return Shown(text=text)
