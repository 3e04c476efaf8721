"""Splits the text of a GLM answer into thinking and answer when a server hands the marks through as text."""

from __future__ import annotations

from dataclasses import dataclass

THINK, THOUGHT = "<think>", "</think>"

MARKS = (THINK, THOUGHT, "<|begin_of_box|>", "<|end_of_box|>")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of text of one kind."""

    text: str
    thinking: bool


class Markup:
    """Takes text in pieces; marks may be cut anywhere."""

    def __init__(self) -> None:
        self.thinking = False
        self.held = ""

    def feed(self, text: str, last: bool = False) -> list[Part]:
        """The next parts; what may be the beginning of a mark is held back until `last`."""
        self.held += text
        parts: list[Part] = []
        while True:
            found = [(place, mark) for mark in MARKS if (place := self.held.find(mark)) >= 0]
            if not found:
                break
            place, mark = min(found)
            self.add(parts, self.held[:place])
            self.held = self.held[place + len(mark) :]
            if mark in (THINK, THOUGHT):
                self.thinking = mark == THINK
        keep = 0 if last else max(partial(self.held, mark) for mark in MARKS)
        cut = len(self.held) - keep
        self.add(parts, self.held[:cut])
        self.held = self.held[cut:]
        return parts

    def add(self, parts: list[Part], text: str) -> None:
        if text:
            parts.append(Part(text, self.thinking))


def partial(text: str, mark: str) -> int:
    """The length of the longest end of `text` that begins `mark`."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)
