"""One answer's text on its way to the asker, the same for every engine.

Thinking is split off, marks and control tokens are dropped, white space at both ends is trimmed, stop strings end it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

THINK, THOUGHT = "<think>", "</think>"

DROPPED = (
    "<|begin_of_box|>",
    "<|end_of_box|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|system|>",
    "<|endoftext|>",
)
"""Marks of GLM's that are no part of an answer: the box around a final answer, and control tokens."""

_MARKS = (THINK, THOUGHT, *DROPPED)
_MARK = re.compile("|".join(re.escape(mark) for mark in _MARKS))


@dataclass(slots=True)
class Shown:
    """What one step adds to an answer."""

    thinking: str = ""
    text: str = ""


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


class AnswerText:
    """Collects one answer and its thinking, and says after each step what to show.

    A thought that closes without having been opened makes a thought of all that came before it. What of that was
    shown as the answer already has leaked: `leaked` is true from then on, and the shown pieces are no longer the text.
    """

    def __init__(self, stops: Sequence[str] = (), thinking: bool = False) -> None:
        self.thinking = thinking
        """Whether what comes next is thinking."""
        self.leaked = False
        self.text = ""
        self.thinking_text = ""
        self._stops = tuple(stops)
        self._held = ""  # what may be the beginning of a mark
        self._begin()
        self._thought = Trimmer()

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended the answer."""
        return self._stopper.stopped

    def feed(self, text: str, last: bool = False) -> Shown:
        """Takes text in which marks are written out, cut anywhere; the beginning of a mark is held until `last`."""
        self._held += text
        keep = 0 if last else max(overlap(self._held, mark) for mark in _MARKS)
        ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        parts: list[tuple[str, bool]] = []  # everything is read before any of it is shown
        place, bare = 0, False
        for mark in _MARK.finditer(ready):
            parts.append((ready[place : mark.start()], self.thinking))
            place = mark.end()
            if mark[0] == THOUGHT and not self.thinking:
                bare, parts = True, [(text, True) for text, _ in parts]
            self.thinking = mark[0] == THINK or (self.thinking and mark[0] != THOUGHT)
        parts.append((ready[place:], self.thinking))
        shown = self._retract() if bare else Shown()
        for number, (text, thinking) in enumerate(parts, 1):
            _add(shown, self._show(text, thinking, last and number == len(parts)))
        return shown

    def add(self, text: str, last: bool = False) -> Shown:
        """Takes text that holds no marks."""
        return self._show(text, self.thinking, last)

    def add_thought(self, text: str) -> Shown:
        """Takes text that the engine itself calls thinking."""
        return self._show(text, thinking=True)

    def open_thought(self) -> None:
        """What follows is thinking."""
        self.thinking = True

    def close_thought(self) -> Shown:
        """What follows is the answer; where no thought was open, what came before was one."""
        if self.thinking:
            self.thinking = False
            return Shown()
        return self._retract()

    def finish(self) -> Shown:
        """Ends the text and returns what was held back."""
        return self.feed("", last=True)

    def _retract(self) -> Shown:
        """Makes thinking of the answer so far; what was shown of it is not shown a second time."""
        self.leaked = self.leaked or bool(self.text)
        before, self.text = self.text + self._answer.space + self._stopper.held, ""
        self._begin()
        thought = self._show(before, thinking=True)
        return Shown() if self.leaked else thought

    def _begin(self) -> None:
        self._stopper, self._answer = Stopper(self._stops), Trimmer()

    def _show(self, text: str, thinking: bool, last: bool = False) -> Shown:
        if thinking:
            text = self._thought.feed(text)
            self.thinking_text += text
            return Shown(thinking=text)
        text = self._answer.feed(self._stopper.feed(text, last))
        self.text += text
        return Shown(text=text)


def _add(shown: Shown, more: Shown) -> Shown:
    """Adds what a further step shows."""
    shown.thinking += more.thinking
    shown.text += more.text
    return shown
