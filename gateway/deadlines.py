"""The moment after which nobody waits."""

from __future__ import annotations

import time
from dataclasses import dataclass

from askonce.faults import TooLate


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the clock of `time.monotonic`."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.at - time.monotonic()

    def cap(self, seconds: float) -> float:
        """The timeout of a step that may take `seconds`: that, or what is left. Raises TooLate when nothing is left."""
        left = self.remaining()
        if left <= 0:
            raise too_late()
        return min(seconds, left)


def too_late() -> TooLate:
    """The fault of a passed deadline."""
    return TooLate(
        "DEADLINE_EXCEEDED", "The deadline passed. Allow more time or ask again; by then the answer may be stored."
    )
