"""What was read on a page: lines with their places, and the rows that they form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Line:
    """One run of text that stands together."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    """The upright bounding box in pixels."""
    score: float = 1.0
    """The recogniser's confidence, 0 to 1."""

    @property
    def height(self) -> float:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """The height at which the line stands."""
        return (self.top + self.bottom) / 2

    def beside(self, other: Line) -> bool:
        """Whether two lines stand in one row: they share half of the smaller height."""
        shared = min(self.bottom, other.bottom) - max(self.top, other.top)
        return shared > 0.5 * min(self.height, other.height)

    def above(self, other: Line) -> bool:
        """Whether the two share a column: half of the narrower width overlaps."""
        shared = min(self.right, other.right) - max(self.left, other.left)
        return shared > 0.5 * min(self.right - self.left, other.right - other.left)


@dataclass(frozen=True)
class Page:
    """All lines of an image, in reading order after `arrange`."""

    width: int
    height: int
    """Pixels of the image that was read."""
    rows: tuple[tuple[Line, ...], ...]
    """Rows from top to bottom, each from left to right."""

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """All lines in reading order."""
        return tuple(line for row in self.rows for line in row)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text of each row."""
        return tuple(" ".join(line.text for line in row) for row in self.rows)

    @cached_property
    def segments(self) -> tuple[tuple[Line, ...], ...]:
        """The rows again, with lines joined that only a word's gap keeps apart: columns stay separate."""
        return tuple(joined(row) for row in self.rows)

    @property
    def size(self) -> int:
        """Bytes that the page takes in memory, roughly: about 300 a line besides its text."""
        return 500 + sum(300 + 4 * len(line.text) for line in self.lines)


def arrange(width: int, height: int, lines: Iterable[Line]) -> Page:
    """Puts lines into rows.

    A line joins the row whose last member it stands beside, so that a slightly turned page keeps its rows together.
    """
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda each: (each.left, each.top)):
        fitting = [row for row in rows if row[-1].beside(line) and row[-1].right <= line.left + line.height]
        if fitting:
            min(fitting, key=lambda row: abs(row[-1].middle - line.middle)).append(line)
        else:
            rows.append([line])
    rows.sort(key=lambda row: sum(line.middle for line in row) / len(row))
    return Page(width, height, tuple(tuple(row) for row in rows))


def joined(row: tuple[Line, ...]) -> tuple[Line, ...]:
    """Joins neighbours in a row that stand closer than one and a half times their height."""
    parts: list[Line] = []
    for line in row:
        if parts and line.left - parts[-1].right < 1.5 * min(line.height, parts[-1].height):
            last = parts.pop()
            line = Line(
                f"{last.text} {line.text}",
                last.left,
                min(last.top, line.top),
                line.right,
                max(last.bottom, line.bottom),
                min(last.score, line.score),
            )
        parts.append(line)
    return tuple(parts)
