"""What the ledger keeps: decisions, labels and feedback, as frozen values."""

from __future__ import annotations

import hashlib
import secrets
import time as clock
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Source(StrEnum):
    """Where a label comes from."""

    NEAR_MISS = "NEAR_MISS"
    """The model answered a miss, and its answer was compared with the nearest stored one."""
    EXPLORATION = "EXPLORATION"
    """A hit drawn at random was asked of the model as well."""
    SHADOW = "SHADOW"
    """A hit that SHADOW mode withheld: the model was asked anyway."""
    FEEDBACK = "FEEDBACK"
    """A client said so."""
    AUDIT = "AUDIT"
    """A person compared the two."""
    JUDGE = "JUDGE"
    """The model judged the pair of questions without seeing an image."""


@dataclass(frozen=True)
class Decision:
    """One look-up and what was decided. Scores and risks are probabilities, 0 to 1; times are seconds."""

    id: str
    """Unique and ordered by time; see `new_id`."""
    tenant: str
    time: float
    """Seconds since the epoch."""
    request_id: str = ""
    hit: bool = False
    """Whether a stored answer was served."""
    would_hit: bool = False
    """Whether it would have been served but for SHADOW mode; true for every hit."""
    reason: str = ""
    """Why, UPPER_SNAKE."""
    image_tier: str = ""
    image_verdict: str = ""
    image_score: float | None = None
    image_reason: str = ""
    image_box: tuple[float, float, float, float] | None = None
    """Where the images differ: x, y, width and height in shares of the image."""
    question_tier: str = ""
    question_verdict: str = ""
    question_score: float | None = None
    question_reason: str = ""
    vetoes: tuple[tuple[str, str, str], ...] = ()
    """Kind, span in the new question, span in the stored one."""
    stratum: str = ""
    risk: float | None = None
    max_risk: float | None = None
    """The risk that was allowed; None where thresholds on the scores decided."""
    image_threshold: float | None = None
    question_threshold: float | None = None
    """The thresholds on the scores that applied."""
    policy_revision: int = 0
    image: str = ""
    """The request's image: its digest in hexadecimal."""
    nearest_image: str = ""
    """The stored image that it was compared with, as the store names it."""
    entry: str = ""
    """The entry served; empty for a miss."""
    nearest_entry: str = ""
    """The entry that the request was compared with; `entry` itself for a hit."""
    question_text: str | None = None
    question_digest: str = ""
    nearest_question_text: str | None = None
    nearest_question_digest: str = ""
    nearest_answer_text: str | None = None
    """The stored answer: served when this is a hit."""
    nearest_answer_digest: str = ""
    language: str = ""
    cross_language: bool = False
    """Whether the stored question is in another language."""
    model: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds by stage."""
    explored: bool = False
    """Whether this hit was drawn for verification."""
    propensity: float = 0.0
    """The probability with which it was drawn, 0 to 1."""
    saved_seconds: float = 0.0
    """Model time that serving it saved."""


@dataclass(frozen=True)
class Label:
    """Whether the stored answer behind a decision is right for its request. A later label of one source replaces the
    earlier one."""

    decision: str
    tenant: str
    source: Source
    same: bool | None
    """True: right. False: wrong. None: compared, and no verdict."""
    time: float
    weight: float = 1.0
    """How telling the verdict is, as the comparison states it; not a sampling weight."""
    note: str = ""
    answer_text: str | None = None
    """The answer that the stored one was compared with."""
    answer_digest: str = ""


@dataclass(frozen=True)
class Feedback:
    """A client's verdict on an answer."""

    decision: str
    tenant: str
    time: float
    right: bool
    correct_text: str | None = None
    comment: str | None = None
    client: str = ""
    """Who said so, as the gateway authenticated it."""
    entry: str = ""
    """The entry that was removed; empty when none was."""


@dataclass(frozen=True)
class KnownMismatch:
    """A file that was found not to be an image, whatever the look-alike check says."""

    tenant: str
    file: str
    """Its digest in hexadecimal."""
    image: str
    """The image record, as the store names it."""
    time: float
    """When it was found, seconds since the epoch."""


@dataclass(frozen=True)
class PartedPair:
    """Two questions that never share an entry again, because a client called a reuse wrong. Kept for good."""

    tenant: str
    left: str
    """The digest of one text, the lesser of the two."""
    right: str
    spelling: bool
    """Whether the two had one normal form, so that each counts as it is spelt from now on."""
    time: float
    """When they were parted, seconds since the epoch."""


def new_id(time: float | None = None) -> str:
    """A new decision id: 32 hexadecimal digits, microseconds since the epoch and then 72 random bits, so that ids
    sort by time and an index over them grows at its end."""
    moment = clock.time() if time is None else time
    return f"{int(moment * 1e6):014x}{secrets.token_hex(9)}"


def time_of(identifier: str) -> float:
    """When an id was made, seconds since the epoch; 0 for what is no id of ours."""
    try:
        return int(identifier[:14], 16) / 1e6
    except ValueError:
        return 0.0


def digest(text: str) -> str:
    """What stands for a text that may not be kept: 32 hexadecimal digits of BLAKE2b. Equal texts stay recognisable; a
    short text can be guessed, so a digest is discretion, not encryption."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def sealed(decision: Decision, *, keep_text: bool) -> Decision:
    """`decision` with its digests filled in and, unless `keep_text`, its texts and the vetoes' spans left out."""
    filled = replace(
        decision,
        question_digest=decision.question_digest or digest_or_nothing(decision.question_text),
        nearest_question_digest=decision.nearest_question_digest or digest_or_nothing(decision.nearest_question_text),
        nearest_answer_digest=decision.nearest_answer_digest or digest_or_nothing(decision.nearest_answer_text),
    )
    if keep_text:
        return filled
    return replace(
        filled,
        question_text=None,
        nearest_question_text=None,
        nearest_answer_text=None,
        vetoes=tuple((kind, "", "") for kind, _, _ in filled.vetoes),
    )


def sealed_label(label: Label, *, keep_text: bool) -> Label:
    """`label` with its answer's digest filled in and, unless `keep_text`, the answer and the note left out."""
    filled = replace(label, answer_digest=label.answer_digest or digest_or_nothing(label.answer_text))
    return filled if keep_text else replace(filled, answer_text=None, note="")


def digest_or_nothing(text: str | None) -> str:
    """The digest of `text`, or an empty string when there is none."""
    return "" if text is None else digest(text)


def pair_key(decision: Decision) -> int:
    """Names the pair that was compared: two decisions of one key are not independent evidence about a threshold. Signed
    64 bits.

    What was proved the same does not belong to the pair: the same two questions on a hundred images are one pair of
    questions, and two files compared for twenty exactly repeated questions are one pair of images. Where all was
    proved, the key names the request.
    """
    parts = [decision.tenant]
    if decision.image_tier in ("BYTES", "PIXELS") and decision.question_tier in ("EXACT", "NORMALISED"):
        parts += [decision.image, decision.question_digest]
    if decision.image_tier not in ("BYTES", "PIXELS"):
        parts += [decision.image, decision.nearest_image]
    if decision.question_tier not in ("EXACT", "NORMALISED"):
        parts += [decision.question_digest, decision.nearest_question_digest]
    key = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(key, "big", signed=True)
