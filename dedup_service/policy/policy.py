"""The policy: everything an operator decides about reuse for one tenant, as one checked, frozen value."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from askonce.limits import MAX_PIXELS


class Mode(StrEnum):
    """How stored answers may be used."""

    OFF = "OFF"
    """Nothing is reused, not even an exact repeat."""
    SHADOW = "SHADOW"
    """Every decision is made and recorded as in VERIFIED, and the model is asked all the same."""
    STATIC = "STATIC"
    """The two thresholds decide, whatever labels say."""
    VERIFIED = "VERIFIED"
    """Thresholds learnt from labels decide, so that an upper bound of the wrong-answer rate stays in the budget."""


class JudgeMode(StrEnum):
    """When the hosted model may be asked whether two questions ask the same."""

    OFF = "OFF"
    """Never."""
    BACKGROUND = "BACKGROUND"
    """After the answer, for the benefit of later requests."""
    INLINE = "INLINE"
    """Before the answer when the deadline allows it, otherwise after it."""
    INLINE_ON_IMAGE = "INLINE_ON_IMAGE"
    """The same, with the image before the model: the verdict counts for that image alone."""

    @property
    def inline(self) -> bool:
        """Whether a look-up may wait for a verdict."""
        return self in (JudgeMode.INLINE, JudgeMode.INLINE_ON_IMAGE)


class IntentSharing(StrEnum):
    """What a tenant has to do with what other tenants taught about pairs of questions."""

    NONE = "NONE"
    """It reads and teaches nothing beyond itself."""
    READ = "READ"
    """It reads shared verdicts, and its own stay private."""
    SHARE = "SHARE"
    """It reads shared verdicts and contributes its own."""


@dataclass(frozen=True)
class Policy:
    """What one tenant allows. The defaults are safe to run; zero is a value, never "unset"."""

    mode: Mode = Mode.VERIFIED
    """How stored answers may be used."""
    image_threshold: float = 0.98
    """Least probability that the images are the same, 0 to 1: the rule in STATIC mode."""
    question_threshold: float = 0.95
    """Least probability that the questions ask the same, 0 to 1: the rule in STATIC mode."""
    image_floor: float = 0.0
    """Probability, 0 to 1, below which images never count as the same, whatever was learnt."""
    question_floor: float = 0.0
    """Probability, 0 to 1, below which questions never count as the same, whatever was learnt."""
    phash_distance: int = 5
    """Most differing bits of two 256-bit perceptual hashes for an image to become a candidate, 0 to 7."""
    error_budget: float = 0.01
    """The share of hits that may be wrong, 0 to 0.5. With 0, only the very same request is served: equal bytes and
    an equal text."""
    confidence: float = 0.95
    """How sure the bound on that share must be, 0.5 to 0.9999."""
    exploration_rate: float = 0.01
    """Share of hits that are verified behind the client's back, 0 to 1."""
    judge: JudgeMode = JudgeMode.BACKGROUND
    """When the hosted model may be asked about a pair of questions."""
    protected_terms: tuple[str, ...] = ()
    """Words that two questions must share exactly; at most 1,000, each 1 to 64 characters."""
    cross_language: bool = False
    """Whether an answer to a question in one language may serve a question in another."""
    neutral_answers: bool = True
    """Whether an answer that needs no language by its form (an amount, a date in figures, a code, a name copied
    from the page) may serve a question in another language all the same."""
    max_pixels: int = MAX_PIXELS[1]
    """Pixels of an image that the model may look at, 12,544 to 4,816,896 (6,144 tokens of 28 by 28 pixels)."""
    hot_ttl: float = 7_200.0
    """Seconds that an answer stays in the hot tier, 0 to 31,536,000. With 0 there is no hot tier."""
    archive_ttl: float = 604_800.0
    """Seconds that an answer is kept, 0 to 31,536,000 and at least `hot_ttl`. With 0 nothing is stored."""
    ttl_jitter: float = 300.0
    """Most seconds by which either time to live is lengthened or shortened at random, 0 to 86,400."""
    sliding_ttl: bool = False
    """Whether a hit starts the archive time anew. When false, an answer's age is bounded by `archive_ttl`."""
    unanswered_ttl: float = 0.0
    """Seconds that an answer which says it can't tell is kept, 0 to `archive_ttl`. With 0 none is stored."""
    time_zone: str = "UTC"
    """The tenant's time zone, a name of the IANA database such as Asia/Shanghai: an answer to a question about today
    holds until the day ends there."""
    reuse_sampled: bool = False
    """Whether an answer drawn at random (temperature above 0 and no seed) may be stored and used again."""
    answers_per_image: int = 20
    """Most different questions whose answers are kept for one image, 1 to 10,000, each in at most four wordings; the
    least recently used go first."""
    shared_intents: IntentSharing = IntentSharing.NONE
    """Whether verdicts on pairs of questions are read from, or given to, other tenants."""
    keep_question_text: bool = True
    """Whether the ledger keeps the texts of questions and answers; otherwise it keeps their digests."""
    keep_thumbnails: bool = False
    """Whether small pictures of the images are kept for audit reports."""
    record_ttl: float = 2_592_000.0
    """Seconds that decisions, labels and feedback are kept in the ledger, 3,600 to 315,360,000."""


@dataclass(frozen=True)
class Violation:
    """One thing wrong with a policy."""

    field: str
    """The field's name, as in `Policy`."""
    description: str
    """What is allowed and what was found."""


class PolicyInvalidError(ValueError):
    """A policy, a mask or a request's limits break a rule. `violations` names every field at fault."""

    def __init__(self, violations: Collection[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations))


@dataclass(frozen=True)
class Tightening:
    """Limits that one request sets for itself; None leaves the policy's."""

    image: float | None = None
    """Least probability that the images are the same, 0 to 1 and no less than the policy's threshold."""
    question: float | None = None
    """Least probability that the questions ask the same, 0 to 1 and no less than the policy's threshold."""


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Policy))
"""The names that an update mask may hold."""

YEAR = 31_536_000.0
RANGES: Mapping[str, tuple[float, float]] = {
    "image_threshold": (0, 1),
    "question_threshold": (0, 1),
    "image_floor": (0, 1),
    "question_floor": (0, 1),
    "phash_distance": (0, 7),
    "error_budget": (0, 0.5),
    "confidence": (0.5, 0.9999),
    "exploration_rate": (0, 1),
    "max_pixels": MAX_PIXELS,
    "hot_ttl": (0, YEAR),
    "archive_ttl": (0, YEAR),
    "ttl_jitter": (0, 86_400),
    "unanswered_ttl": (0, YEAR),
    "answers_per_image": (1, 10_000),
    "record_ttl": (3_600, 10 * YEAR),
}
"""Least and greatest value of every number."""

SWITCHES = (
    "cross_language",
    "neutral_answers",
    "sliding_ttl",
    "reuse_sampled",
    "keep_question_text",
    "keep_thumbnails",
)
"""Fields that are true or false."""

WHOLE = frozenset({"phash_distance", "max_pixels", "answers_per_image"})
"""Numbers that must be whole."""


def validate(policy: Policy) -> Policy:
    """Returns `policy` when every rule holds. Raises PolicyInvalidError naming every field at fault."""
    found: list[Violation] = []
    for name, (least, most) in RANGES.items():
        value = getattr(policy, name)
        if isinstance(value, bool) or not isinstance(value, int if name in WHOLE else (int, float)):
            found.append(Violation(name, f"must be a {'whole ' if name in WHOLE else ''}number, not {value!r}"))
        elif not math.isfinite(value) or not least <= value <= most:
            found.append(Violation(name, f"must be from {least:g} to {most:g}, not {value!r}"))
    for name, kind in (("mode", Mode), ("judge", JudgeMode), ("shared_intents", IntentSharing)):
        if not isinstance(getattr(policy, name), kind):
            found.append(Violation(name, f"must be one of {', '.join(kind)}, not {getattr(policy, name)!r}"))
    found.extend(
        Violation(name, f"must be true or false, not {getattr(policy, name)!r}")
        for name in SWITCHES
        if not isinstance(getattr(policy, name), bool)
    )
    found.extend(wrong_terms(policy.protected_terms))
    faulty = {violation.field for violation in found}
    if not faulty & {"hot_ttl", "archive_ttl"} and policy.archive_ttl < policy.hot_ttl:
        found.append(Violation("archive_ttl", f"must be at least hot_ttl, {policy.hot_ttl:g} s"))
    if not faulty & {"unanswered_ttl", "archive_ttl"} and policy.unanswered_ttl > policy.archive_ttl:
        found.append(Violation("unanswered_ttl", f"must be at most archive_ttl, {policy.archive_ttl:g} s"))
    if not known_zone(policy.time_zone):
        found.append(Violation("time_zone", f"must be a name such as Europe/Berlin, not {policy.time_zone!r}"))
    if found:
        raise PolicyInvalidError(found)
    return policy


def known_zone(name: object) -> bool:
    """Whether a time zone of this name is known here."""
    try:
        return isinstance(name, str) and bool(zone(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


@cache
def zone(name: str) -> ZoneInfo:
    """The time zone of this name. Reads a file the first time, which is when a policy is validated: off the event loop.
    Raises ZoneInfoNotFoundError and ValueError."""
    return ZoneInfo(name)


zone("UTC")  # the default: read at start


def wrong_terms(terms: object) -> list[Violation]:
    """What is wrong with the protected terms: nothing, or one violation a fault."""
    if not isinstance(terms, tuple):
        return [Violation("protected_terms", "must be a sequence of strings")]
    found = []
    if len(terms) > 1_000:
        found.append(Violation("protected_terms", f"must be at most 1,000 terms, not {len(terms):,}"))
    for index, term in enumerate(terms):
        if not isinstance(term, str) or not term.strip() or len(term) > 64:
            found.append(Violation(f"protected_terms[{index}]", "must be 1 to 64 characters, not all blank"))
    if len(set(terms)) != len(terms):
        found.append(Violation("protected_terms", "must not hold a term twice"))
    return found


def merge(policy: Policy, update: Policy, mask: Collection[str]) -> Policy:
    """`policy` with the fields named in `mask` taken from `update`; "*" takes all. The result is validated.

    Raises PolicyInvalidError for an unknown name in the mask or for a result that breaks a rule.
    """
    if not mask:
        raise PolicyInvalidError([Violation("update_mask", 'must name at least one field, or be "*"')])
    unknown = sorted(set(mask) - {*FIELDS, "*"})
    if unknown:
        raise PolicyInvalidError([Violation("update_mask", f"names no field of a policy: {name}") for name in unknown])
    names = FIELDS if "*" in mask else tuple(mask)
    return validate(replace(policy, **{name: getattr(update, name) for name in names}))


def tighten(policy: Policy, limits: Tightening) -> Policy:
    """`policy` with its floors raised to a request's own limits. A request may never loosen.

    Raises PolicyInvalidError when a limit is no probability or lies below the policy's threshold.
    """
    found = []
    for side, limit in (("image", limits.image), ("question", limits.question)):
        threshold = max(getattr(policy, f"{side}_threshold"), getattr(policy, f"{side}_floor"))
        if limit is None:
            continue
        if not 0 <= limit <= 1:
            found.append(Violation(f"min_{side}_score", f"must be from 0 to 1, not {limit!r}"))
        elif limit < threshold:
            found.append(Violation(f"min_{side}_score", f"must be at least the policy's {threshold:g}, not {limit:g}"))
    if found:
        raise PolicyInvalidError(found)
    if limits.image is None and limits.question is None:
        return policy
    return replace(
        policy,
        image_floor=policy.image_floor if limits.image is None else limits.image,
        question_floor=policy.question_floor if limits.question is None else limits.question,
    )


def to_json(policy: Policy) -> str:
    """The policy as JSON with sorted keys: the form in which it is stored and hashed."""
    return json.dumps(asdict(policy), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Policy:
    """The policy that `to_json` wrote. Names that this version does not know are ignored and missing ones take their
    default, so that replicas of two versions can share a ledger. Raises PolicyInvalidError on values out of range."""
    stored: dict[str, Any] = {name: value for name, value in json.loads(text).items() if name in FIELDS}
    try:
        for name, kind in (("mode", Mode), ("judge", JudgeMode), ("shared_intents", IntentSharing)):
            if name in stored:
                stored[name] = kind(stored[name])
    except ValueError as error:
        raise PolicyInvalidError([Violation(name, str(error))]) from error
    if isinstance(stored.get("protected_terms"), list):
        stored["protected_terms"] = tuple(stored["protected_terms"])
    return validate(Policy(**stored))


def etag(policy: Policy, revision: int) -> str:
    """A fingerprint of one revision: 32 hexadecimal digits of the SHA-256 of its number and content."""
    return hashlib.sha256(f"{revision}\n{to_json(policy)}".encode()).hexdigest()[:32]
