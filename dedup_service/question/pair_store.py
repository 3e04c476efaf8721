"""Evidence on pairs of questions as it is kept, and the port to where it is kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Source = Literal["answer", "judge", "feedback", "exploration"]


@dataclass(frozen=True, slots=True)
class PairRecord:
    """One piece of evidence on two questions. ``left`` < ``right`` are digests of their normal forms; the texts are
    empty if the operator does not allow them to be kept. ``context`` names what the evidence was seen on (an image's
    digest), so that one image counts once; ``prior`` is what the texts alone said; ``time`` is in seconds since the
    epoch. ``id`` names the record everywhere: one that comes twice counts once. ``left_reading`` and
    ``right_reading`` are the digests of the questions' readings, which stand in for texts that are not kept.
    ``origin`` is the tenant whose traffic gave the evidence, where that is not ``tenant`` itself."""

    tenant: str
    left: str
    right: str
    left_text: str
    right_text: str
    source: Source
    log_odds: float
    same: bool
    time: float
    context: str = ""
    prior: float = 0.0
    blocked: bool = False
    id: str = ""
    left_reading: str = ""
    right_reading: str = ""
    origin: str = ""


class PairStore(Protocol):
    """What a pair memory needs of a store. Records are only ever added; a store may drop the oldest."""

    def load(self) -> Iterable[PairRecord]:
        """Yields every record, oldest first."""
        ...

    def append(self, records: Sequence[PairRecord]) -> None:
        """Takes records to be kept; may return before they are on disk, and never blocks for long."""
        ...
