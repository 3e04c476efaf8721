"""The traffic under audit: the ledger's decisions with everything that a report counts, as columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError

from dedup_service.ledger.database import LedgerNewerError, open_database
from dedup_service.ledger.ledger import LABELS
from dedup_service.ledger.reading import CHUNK, RANDOM, Reader, Span
from dedup_service.ledger.records import Source
from dedup_service.policy.recorded import RIGHT, UNDECIDED, UNLABELLED, WRONG, Recorded
from dedup_service.store.records import image_id

Progress = Callable[[str, float], None]
"""Told what is being done and how much of it is, 0 to 1."""


class AuditError(Exception):
    """An audit that can't be made. `reason` is a stable UPPER_SNAKE word; the text says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Names:
    """A column of words: an index (n,) into the distinct words."""

    code: NDArray[np.int32]
    words: tuple[str, ...]

    def rows(self, which: Any) -> Names:
        """The chosen rows."""
        return Names(self.code[which], self.words)

    def mask(self, *words: str) -> NDArray[np.bool_]:
        """Which rows (n,) hold one of the words."""
        wanted = [code for code, word in enumerate(self.words) if word in words]
        return np.isin(self.code, wanted)


@dataclass(frozen=True)
class Traffic:
    """Decisions as columns of one length n, oldest first. Keys are 64-bit hashes; 0 stands for nothing."""

    recorded: Recorded
    """What policies are previewed with. Its `verified` column is that of `verified_labels`."""
    tenant: Names
    language: Names
    reason: Names
    image_tier: Names
    question_tier: Names
    file: NDArray[np.int64]
    """The request's image file."""
    image: NDArray[np.int64]
    """The request's image; that of the record it is known to belong to, where a digest says so."""
    nearest_image: NDArray[np.int64]
    """The stored image that it was compared with; equal to `image` when it is that image."""
    entry: NDArray[np.int64]
    """The stored answer's entry, served or not."""
    question: NDArray[np.int64]
    nearest_question: NDArray[np.int64]
    answer: NDArray[np.int64]
    """The stored answer."""
    shape: NDArray[np.int64]
    """What kind of text the stored answer is; see `shape_of`. 0 where texts are not kept."""
    saved_seconds: NDArray[np.float32]
    lookup_ms: NDArray[np.float32]
    """Milliseconds that the look-up took; NaN when not recorded."""
    explored: NDArray[np.bool_]
    vetoed: NDArray[np.bool_]
    """Whether a veto was found between the questions."""
    complaint: NDArray[np.bool_]
    """Whether a client called the answer wrong."""
    by_person: NDArray[np.bool_]
    """Whether a person drew this decision at random for labelling and gave a verdict."""

    def __len__(self) -> int:
        return len(self.recorded)

    def rows(self, which: Any) -> Self:
        """The chosen rows, by mask or index."""
        columns: dict[str, Any] = {}
        for each in fields(self):
            column = getattr(self, each.name)
            columns[each.name] = column.rows(which) if isinstance(column, (Names, Recorded)) else column[which]
        return type(self)(**columns)


WORDS = ("tenant", "language", "reason", "image_tier", "question_tier")
KEYS = ("nearest_entry", "question_digest", "nearest_question_digest", "nearest_answer_digest")
READ = ("id", *WORDS, *KEYS, "image", "nearest_image", "nearest_answer_text", "saved_seconds", "timings",
        "explored", "vetoes")  # fmt: skip
SAME_FILE = ("BYTES", "PIXELS", "ALIAS")


def open_ledger(url: str) -> Engine:
    """The ledger at `url`, to be read as it is: nothing is created or migrated.

    Raises AuditError: LEDGER_ABSENT, LEDGER_NEWER, LEDGER_DAMAGED, LEDGER_UNAVAILABLE, LEDGER_INVALID.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            check_file(Path(parsed.database or ""))
        engine = open_database(url, upgrade=False)
    except ArgumentError as error:
        raise AuditError("LEDGER_INVALID", f"{url!r} names no database: use sqlite:///PATH or postgresql://") from error
    except ValueError as error:
        raise AuditError("LEDGER_INVALID", str(error)) from error
    except LedgerNewerError as error:
        raise AuditError("LEDGER_NEWER", f"{error}; audit it with the askonce that wrote it, or a later one") from error
    except SQLAlchemyError as error:
        raise unreadable(url, error) from error
    try:
        if not inspect(engine).has_table("decisions"):
            raise AuditError("LEDGER_ABSENT", f"there is no ledger in {url}: it has no table of decisions")
    except SQLAlchemyError as error:
        engine.dispose()
        raise unreadable(url, error) from error
    except AuditError:
        engine.dispose()
        raise
    return engine


def check_file(path: Path) -> None:
    """Refuses a file that is no whole SQLite database. A copy that stopped half-way is shorter than its header says."""
    if not path.is_file():
        raise AuditError("LEDGER_ABSENT", f"there is no ledger at {path}")
    with path.open("rb") as file:
        header = file.read(100)
    size = path.stat().st_size
    if size == 0 or not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        raise AuditError("LEDGER_DAMAGED", f"{path} is no ledger, or its copy stopped at once")
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    whole = (65_536 if page == 1 else page) * pages
    if size < whole and not path.with_name(path.name + "-wal").exists():
        raise AuditError(
            "LEDGER_DAMAGED", f"{path} is only {size:,} of {whole:,} bytes: its copy stopped half-way, make it again"
        )


def unreadable(url: str, error: SQLAlchemyError) -> AuditError:
    """What a database's error means for an audit."""
    text = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    if "malformed" in text or "not a database" in text:
        return AuditError("LEDGER_DAMAGED", f"the ledger {url} is damaged or half-copied ({text})")
    return AuditError("LEDGER_UNAVAILABLE", f"the ledger {url} can't be read ({text})")


def read_traffic(reader: Reader, span: Span, progress: Progress = lambda _stage, _share: None) -> Traffic:
    """All decisions of a span with their labels. Blocks; about 250 bytes a decision.

    Raises AuditError: LEDGER_DAMAGED or LEDGER_UNAVAILABLE when the database gives up on the way.
    """
    try:
        expected = max(1, reader.count(span))
        progress("reading decisions", 0.0)
        recorded = reader.recorded(span)
        progress("reading decisions", 0.5)
        ids, columns = read_columns(reader, span, lambda n: progress("reading decisions", 0.5 + 0.5 * n / expected))
        if len(ids) != len(recorded) or not np.array_equal(ids, recorded.id):  # the ledger grew in between
            _, mine, theirs = np.intersect1d(ids, recorded.id, assume_unique=True, return_indices=True)
            recorded = recorded.rows(theirs)
            columns = {name: c.rows(mine) if isinstance(c, Names) else c[mine] for name, c in columns.items()}
        verified, by_person, complaint = verified_labels(reader, span, recorded.id)
    except DatabaseError as error:
        raise unreadable(str(reader.engine.url), error) from error
    return Traffic(replace(recorded, verified=verified), by_person=by_person, complaint=complaint, **columns)


def read_columns(
    reader: Reader, span: Span, progress: Callable[[int], None]
) -> tuple[NDArray[np.bytes_], dict[str, Any]]:
    """The ids (n,) and the columns that `Recorded` does not have."""
    words: dict[str, dict[str, int]] = {name: {} for name in WORDS}
    parts: dict[str, list[NDArray[Any]]] = {}
    done = 0

    def add(name: str, values: NDArray[Any]) -> None:
        parts.setdefault(name, []).append(values)

    for chunk in reader.columns(READ, span):
        read: dict[str, Sequence[Any]] = dict(zip(READ, chunk, strict=True))
        size = len(read["id"])
        done += size
        add("id", np.array(read["id"]).astype(np.bytes_))
        for name in WORDS:
            known = words[name]
            add(name, np.fromiter((known.setdefault(w, len(known)) for w in read[name]), np.int32, size))
        for name in KEYS:
            add(name, hashes(read[name], size))
        nearest = hashes(read["nearest_image"], size)
        add("nearest_image", nearest)
        own = (
            hash(read["nearest_image"][i]) if tier in SAME_FILE else key_of_image(read["tenant"][i], read["image"][i])
            for i, tier in enumerate(read["image_tier"])
        )
        add("image", np.fromiter(own, np.int64, size))
        add("file", hashes(read["image"], size))
        add("shape", np.fromiter(map(shape_of, read["nearest_answer_text"]), np.int64, size))
        add("saved_seconds", np.array(read["saved_seconds"], np.float32))
        add("lookup_ms", np.fromiter(map(total_of, read["timings"]), np.float32, size))
        add("explored", np.array(read["explored"], np.bool_))
        add("vetoed", np.fromiter((veto is not None for veto in read["vetoes"]), np.bool_, size))
        progress(done)
    whole = {name: np.concatenate(parts.pop(name)) for name in tuple(parts)}
    if not whole:
        return np.zeros(0, "S1"), empty_columns()
    columns: dict[str, Any] = {name: Names(whole.pop(name), tuple(words[name])) for name in WORDS}
    renamed = dict(zip(KEYS, ("entry", "question", "nearest_question", "answer"), strict=True))
    ids = whole.pop("id")
    columns.update({renamed.get(name, name): column for name, column in whole.items()})
    return ids, columns


def empty_columns() -> dict[str, Any]:
    """The columns of no decisions."""
    nothing: dict[str, Any] = {name: Names(np.zeros(0, np.int32), ()) for name in WORDS}
    for name in ("file", "shape", "image", "nearest_image", "entry", "question", "nearest_question", "answer"):
        nothing[name] = np.zeros(0, np.int64)
    return {
        **nothing,
        "saved_seconds": np.zeros(0, np.float32),
        "lookup_ms": np.zeros(0, np.float32),
        "explored": np.zeros(0, np.bool_),
        "vetoed": np.zeros(0, np.bool_),
    }


def hashes(texts: Iterable[str], size: int) -> NDArray[np.int64]:
    """Keys of texts; 0 for an empty one, as Python's own hash has it."""
    return np.fromiter(map(hash, texts), np.int64, size)


def key_of_image(tenant: str, digest: str) -> int:
    """The key of an image that may itself be stored: that of the record it founds or would found."""
    try:
        return hash(image_id(tenant, bytes.fromhex(digest))) if digest else 0
    except ValueError:
        return hash(digest)


@lru_cache(50_000)
def shape_of(text: str | None) -> int:
    """The key of an answer's shape: numbers, words, Chinese and punctuation in their order, up to ten pieces. Amounts
    are shaped alike, dates alike, yes and no alike. 0 for no text."""
    if not text:
        return 0
    pieces = [SHAPES[piece.lastgroup or ""] or piece[0] for piece in islice(PIECE.finditer(text[:200]), 10)]
    return hash("".join(pieces))


PIECE = re.compile(r"(?P<number>\d+)|(?P<word>[^\W\d_\u4e00-\u9fff]+)|(?P<chinese>[\u4e00-\u9fff]+)|(?P<mark>[^\s\w])")
SHAPES = {"number": "9", "word": "a", "chinese": "字", "mark": ""}


def total_of(timings: str | None) -> float:
    """Milliseconds over all stages of a look-up; NaN when none was recorded."""
    if not timings:
        return float("nan")
    stages = json.loads(timings)
    return float(sum(stages.values())) if stages else float("nan")


def verified_labels(
    reader: Reader, span: Span, ids: NDArray[np.bytes_]
) -> tuple[NDArray[np.int8], NDArray[np.bool_], NDArray[np.bool_]]:
    """For sorted decision ids (n,): the labels of random draws, whether a person drew it, and whether a client
    complained.

    A draw is random when the system explored the hit, SHADOW mode withheld it, or a person was shown it by the
    sampling plan; a person's verdict goes before the system's own. What a person picked because it looked suspicious
    is left out: such labels teach, and they would bend the estimate.
    """
    verified = np.full(len(ids), UNLABELLED, dtype=np.int8)
    by_person = np.zeros(len(ids), np.bool_)
    complaint = np.zeros(len(ids), np.bool_)
    wanted = (*RANDOM, Source.AUDIT, Source.FEEDBACK)
    query = select(LABELS.c.decision, LABELS.c.source, LABELS.c.same, LABELS.c.note).where(LABELS.c.source.in_(wanted))
    if span.tenant is not None:
        query = query.where(LABELS.c.tenant == span.tenant)
    if span.since > 0:  # a label is never older than its decision
        query = query.where(LABELS.c.time >= span.since)
    people: list[tuple[int, int]] = []
    with reader.engine.connect() as connection:
        for rows in connection.execution_options(yield_per=CHUNK).execute(query).partitions():
            for at, (_, source, same, note) in zip(places(ids, [row[0] for row in rows]), rows, strict=True):
                if at < 0:
                    continue
                verdict = UNDECIDED if same is None else RIGHT if same else WRONG
                if source == Source.FEEDBACK:
                    complaint[at] |= same is False
                elif source == Source.AUDIT:
                    if drawn(note):
                        people.append((at, verdict))
                elif verified[at] in (UNLABELLED, UNDECIDED):
                    verified[at] = verdict
    for at, verdict in people:
        by_person[at] = True
        if verdict != UNDECIDED or verified[at] == UNLABELLED:
            verified[at] = verdict
    return verified, by_person, complaint


def places(ids: NDArray[np.bytes_], keys: Sequence[str]) -> NDArray[np.int64]:
    """Where each key stands among the sorted ids; -1 when it does not."""
    if len(ids) == 0:
        return np.full(len(keys), -1, np.int64)
    wanted = np.array(keys).astype(np.bytes_)
    at = np.searchsorted(ids, wanted)
    at[at == len(ids)] = 0
    return np.where(ids[at] == wanted, at, -1)


def drawn(note: str) -> bool:
    """Whether a person's label notes a draw of the sampling plan; see `sampling.note_of`."""
    return bool(read_note(note).get("propensity"))


def read_note(note: str) -> Mapping[str, Any]:
    """What a label's note says, when it is the JSON of `sampling.note_of`."""
    if not note.startswith("{"):
        return {}
    try:
        return dict(json.loads(note))
    except ValueError:
        return {}
