"""One look-up as dedup sees it: checked, normalised, free of wire types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dedup_service.policy.policy import Tightening
from dedup_service.question.normal import Language


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
    space = hashlib.sha256(f"{query.space} {budget}".encode()).hexdigest()[:32]
    return replace(query, space=space, max_pixels=budget)
