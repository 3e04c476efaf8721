"""One look-up as dedup sees it: checked, normalised, free of wire types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache

from dedup_service.policy.policy import Tightening, zone
from dedup_service.question.normal import Language
from dedup_service.question.subject import Subject, subjects_of


class CacheMode(StrEnum):
    """How memory may be used for one request."""

    DEFAULT = "DEFAULT"
    BYPASS = "BYPASS"
    REFRESH = "REFRESH"
    ONLY_IF_CACHED = "ONLY_IF_CACHED"
    NO_STORE = "NO_STORE"

    @property
    def reads(self) -> bool:
        """Whether stored answers may be served."""
        return self not in (CacheMode.BYPASS, CacheMode.REFRESH)

    @property
    def stores(self) -> bool:
        """Whether the fresh answer may be stored."""
        return self not in (CacheMode.ONLY_IF_CACHED, CacheMode.NO_STORE)


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge's verdict on a pair of questions."""

    left: str
    right: str
    same_probability: float | None
    """0 to 1; None when the judge could not tell."""
    model: str = ""
    image: bytes = b""
    """SHA-256 of the image that the judge looked at: the verdict counts there and nowhere else. Empty for any image."""


@dataclass(frozen=True, slots=True)
class Query:
    """A look-up."""

    tenant: str
    byte_digest: bytes
    """SHA-256 of the file, 32 bytes; of several files, what `image.sequence.digest_of` makes of theirs."""
    contents: tuple[bytes, ...]
    """The file, or several in order; none on the first attempt."""
    question: str
    normal: str
    """The question's normal form."""
    language: Language
    space: str
    """Digest of the answer space, see `space_of` and `within`."""
    model: str
    max_pixels: int | None = None
    """The most pixels that the model may look at; None for as many as the policy allows."""
    mode: CacheMode = CacheMode.DEFAULT
    limits: Tightening = field(default_factory=Tightening)
    max_age: float | None = None
    """Oldest acceptable answer in seconds; None for any that is kept."""
    exact_only: bool = False
    sampled: bool = False
    """Whether the answer is drawn at random, without a seed."""
    tags: tuple[str, ...] = ()
    judge_available: bool = False
    judged: Judged | None = None


def space_of(
    model: str,
    revision: str,
    params: Mapping[str, object],
    answer_language: str,
    history: Sequence[tuple[str, str]],
) -> str:
    """A hexadecimal digest of all that an answer depends on besides image and question.

    `history` holds (role, text) of the earlier turns, verbatim: a format asked for there may hang on one mark.
    """
    parts = [model, revision, sorted(params.items()), answer_language.casefold(), list(history)]
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def within(query: Query, max_pixels: int) -> Query:
    """The query among answers for which the model looked at as many pixels as a policy and the query itself allow."""
    budget = max_pixels if query.max_pixels is None else min(query.max_pixels, max_pixels)
    return replace(query, space=narrowed(query.space, str(budget)), max_pixels=budget)


def bound(query: Query, day: date) -> Query:
    """The query among answers that hang on the same things: one about the picture itself on the very same bytes, one
    about the day on the same day. Answers of other spaces never stand in for one another."""
    subjects = subjects_of(query.question)
    if Subject.PICTURE in subjects:
        query = replace(query, space=narrowed(query.space, query.byte_digest.hex()))
    if Subject.DAY in subjects:
        query = replace(query, space=narrowed(query.space, day.isoformat()))
    return query


def day_of(now: float, time_zone: str) -> date:
    """The day at a time (seconds since the epoch) in a time zone."""
    return datetime.fromtimestamp(now, zone(time_zone)).date()


def end_of_day(now: float, time_zone: str) -> float:
    """When the day of a time ends in a time zone, in seconds since the epoch."""
    tomorrow = day_of(now, time_zone) + timedelta(days=1)
    return datetime.combine(tomorrow, time.min, zone(time_zone)).timestamp()


@lru_cache(maxsize=16384)
def narrowed(space: str, condition: str) -> str:
    """The digest of a space within another."""
    return hashlib.sha256(f"{space} {condition}".encode()).hexdigest()[:32]
