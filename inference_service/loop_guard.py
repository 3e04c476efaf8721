"""Notices an answer that goes round in a loop: its end is one stretch of text over and over."""

from __future__ import annotations

import re

WINDOW = 2_000
"""Characters at the end of an answer that are looked at."""
PROBE = 24
"""Characters whose last repetition tells the loop's length."""
REPEATS = 8
"""Times that the stretch stands at the end, at least."""
SPAN = 240
"""Characters that the repetitions take together, at least."""
PLAIN_SPAN = 800
"""The same for stretches without a letter or a number other than zero: rules, dots and empty columns are long."""
STRIDE = 16
"""New characters after which the guard looks again."""

_TELLING = re.compile(r"[^\W\d_]|[1-9]")


class LoopGuard:
    """Takes an answer in pieces; `looping` turns true when it goes round.

    A loop is a stretch that stands at least 8 times at the end and takes 240 characters together; one without letters
    and numbers, such as a ruled line, 800. `benchmarks.loops` shows what these limits find and what they leave alone.
    """

    def __init__(self) -> None:
        self.looping = False
        self._tail = ""
        self._new = 0

    def feed(self, text: str) -> bool:
        """Takes the next text, thinking or answer; returns `looping`."""
        self._tail = (self._tail + text)[-WINDOW:]
        self._new += len(text)
        if self._new >= STRIDE and not self.looping:
            self._new = 0
            self.looping = is_loop(self._tail)
        return self.looping


def is_loop(text: str) -> bool:
    """Whether a text ends in a loop."""
    if len(text) < SPAN:
        return False
    before = text.rfind(text[-PROBE:], 0, len(text) - 1)
    if before < 0:
        return False
    period = len(text) - PROBE - before
    unit = text[-period:]
    span = max(period * REPEATS, SPAN if _TELLING.search(unit) else PLAIN_SPAN)
    return len(text) >= span and text[-span:] == (unit * (span // period + 1))[-span:]
