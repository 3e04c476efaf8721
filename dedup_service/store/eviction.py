"""Which answers of an image make room: capacity is counted by intent, not by wording.

Rewordings of one question are stored as they come, until it is known that they ask the same. Counted each by itself, a
few popular questions in many wordings would push out everything else that was asked of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WORDINGS = 4
"""Most wordings kept of one intent: the more recent ones find those that are asked next."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One stored answer, as far as eviction is concerned."""

    id: str
    intent: str
    """What its question asks: equal for its wordings."""
    last_use: float
    """Seconds since the epoch."""
    expired: bool


def evicted(kept: Sequence[Kept], newest: str, keep: int) -> list[str]:
    """The ids of what goes, so that at most `keep` intents stay, each with at most `WORDINGS` wordings.

    `newest` names the answer that was just stored; it stays. Nothing goes while no more than `keep` answers are there.
    Else expired ones go, then the wordings of each intent beyond its latest, then whole intents, the one that was used
    least recently first.
    """
    if len(kept) <= keep:
        return []
    gone = [one.id for one in kept if one.expired and one.id != newest]
    intents: dict[str, list[Kept]] = {}
    for one in sorted(kept, key=lambda one: (one.id == newest, one.last_use, one.id), reverse=True):
        if not one.expired or one.id == newest:
            intents.setdefault(one.intent, []).append(one)
    # Insertion order is by the most recent wording: the intents beyond `keep` are those used least recently.
    for place, wordings in enumerate(intents.values()):
        gone += [one.id for one in (wordings[WORDINGS:] if place < keep else wordings)]
    return gone
