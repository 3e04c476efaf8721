"""Reads the ledger without disturbing its writer: decisions one by one, in pages, and as columns for a million at
once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, RowMapping, Select, func, select

from askonce.names import PROBE_TENANT
from dedup_service.ledger.ledger import DECISIONS, FEEDBACK, KNOWN_MISMATCHES, LABELS, PAIRS, PARTED
from dedup_service.ledger.records import Decision, Feedback, KnownMismatch, Label, PartedPair, Source
from dedup_service.policy.noise import Compared
from dedup_service.policy.recorded import FORBIDDEN, RIGHT, UNDECIDED, UNLABELLED, WRONG, Recorded
from dedup_service.policy.reuse import is_repeat
from dedup_service.policy.risk import Sample
from dedup_service.policy.thresholds import Labelled

CHUNK = 20_000
"""Rows fetched at once: some 10 MB with every text, and large enough that fetching dominates."""

PRECEDENCE = (Source.AUDIT, Source.EXPLORATION, Source.SHADOW, Source.NEAR_MISS)
"""Sources whose labels saw the answers, the most reliable first."""
RANK = {source: rank for rank, source in enumerate(PRECEDENCE)}
RANDOM = (Source.EXPLORATION, Source.SHADOW)
"""Sources that label a random part of the hits; a person's label of such a decision replaces theirs."""


@dataclass(frozen=True)
class Span:
    """Which decisions to read."""

    since: float = 0.0
    """Seconds since the epoch, included."""
    until: float = float("inf")
    """Seconds since the epoch, not included."""
    tenant: str | None = None
    """One tenant, or None for all but the doctor's own."""


class Reader:
    """Reads the ledger. Every method blocks: call it from a thread. Read transactions see one moment of the
    database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def count(self, span: Span) -> int:
        """How many decisions there are."""
        with self.engine.connect() as connection:
            return int(connection.execute(within(select(func.count()).select_from(DECISIONS), span)).scalar_one())

    def tenants(self, span: Span) -> list[str]:
        """Names of the tenants that asked anything, sorted."""
        with self.engine.connect() as connection:
            return list(connection.execute(within(select(DECISIONS.c.tenant).distinct(), span)).scalars().all())

    def mismatches(self, limit: int, *, since: float = 0.0) -> list[KnownMismatch]:
        """The newest files that were found not to be an image, from `since` on (seconds since the epoch), oldest
        first."""
        query = (
            select(KNOWN_MISMATCHES)
            .where(KNOWN_MISMATCHES.c.time >= since)
            .order_by(KNOWN_MISMATCHES.c.time.desc())
            .limit(limit)
        )
        with self.engine.connect() as connection:
            return [KnownMismatch(**row) for row in connection.execute(query).mappings()][::-1]

    def parted(self, limit: int, *, since: float = 0.0) -> list[PartedPair]:
        """The newest pairs of questions that feedback parted, from `since` on (seconds since the epoch), oldest
        first."""
        query = select(PARTED).where(PARTED.c.time >= since).order_by(PARTED.c.time.desc()).limit(limit)
        with self.engine.connect() as connection:
            return [PartedPair(**row) for row in connection.execute(query).mappings()][::-1]

    def decision(self, decision: str) -> Decision | None:
        """One decision by its id, or None."""
        return next(iter(self.by_id([decision])), None)

    def by_id(self, ids: Sequence[str]) -> list[Decision]:
        """Decisions by their ids, in the order given; those that are gone are left out."""
        found: dict[str, Decision] = {}
        with self.engine.connect() as connection:
            for start in range(0, len(ids), 500):
                part = list(ids[start : start + 500])
                rows = connection.execute(select(DECISIONS).where(DECISIONS.c.id.in_(part))).mappings()
                found.update((row["id"], decision_of(row)) for row in rows)
        return [found[key] for key in ids if key in found]

    def decisions(self, span: Span, *, after: str = "", limit: int | None = None) -> Iterator[Decision]:
        """Whole decisions, oldest first, from the one behind `after` (an id: the last of the page before)."""
        query = within(select(DECISIONS).order_by(DECISIONS.c.id), span)
        if after:
            query = query.where(DECISIONS.c.id > after)
        if limit is not None:
            query = query.limit(limit)
        with self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=min(CHUNK, limit or CHUNK)).execute(query).mappings():
                yield decision_of(row)

    def labels(self, decision: str) -> list[Label]:
        """The labels of one decision."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(LABELS).where(LABELS.c.decision == decision)).mappings().all()
        return [Label(**{**row, "source": Source(row["source"])}) for row in rows]

    def all_labels(self, span: Span) -> Iterator[Label]:
        """Labels by the time at which they were made, in no particular order."""
        query = within(select(LABELS), span, LABELS)
        with self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=CHUNK).execute(query).mappings():
                yield Label(**{**row, "source": Source(row["source"])})

    def feedback(self, span: Span) -> Iterator[Feedback]:
        """Clients' feedback, oldest first."""
        query = within(select(FEEDBACK).order_by(FEEDBACK.c.time), span, FEEDBACK)
        with self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=CHUNK).execute(query).mappings():
                yield Feedback(**row)

    def columns(self, names: Sequence[str], span: Span) -> Iterator[tuple[Sequence[Any], ...]]:
        """Some columns of the decisions, oldest first, in chunks of up to `CHUNK` rows: one sequence a column."""
        query = within(select(*(DECISIONS.c[name] for name in names)).order_by(DECISIONS.c.id), span)
        with self.engine.connect() as connection:
            for rows in connection.execution_options(yield_per=CHUNK).execute(query).partitions():
                yield tuple(zip(*rows, strict=True))

    def label_counts(self, since: float) -> dict[str, int]:
        """Labels that saw the answers, by tenant, made since then (seconds since the epoch)."""
        query = select(LABELS.c.tenant, func.count()).where(LABELS.c.time >= since, LABELS.c.source.in_(PRECEDENCE))
        with self.engine.connect() as connection:
            rows = connection.execute(query.group_by(LABELS.c.tenant)).all()
        return {str(row[0]): int(row[1]) for row in rows}

    def verified(self, since: float) -> dict[str, Compared]:
        """Served answers that were drawn at random and compared since then (seconds since the epoch), by tenant and by
        the probability with which they were drawn; each stands for so many as that probability says. A person's verdict
        replaces the comparison's. Reads nothing but them."""
        names = ("tenant", "propensity", "image_tier", "question_tier")
        drawn, person = LABELS.alias("drawn"), LABELS.alias("person")
        same = func.coalesce(person.c.same, drawn.c.same)
        query = (
            select(*(DECISIONS.c[name] for name in names), same, func.count())
            .select_from(drawn)
            .join(DECISIONS, DECISIONS.c.id == drawn.c.decision)
            .outerjoin(person, (person.c.decision == drawn.c.decision) & (person.c.source == Source.AUDIT))
            .where(drawn.c.source == Source.EXPLORATION, drawn.c.time >= since)
            .where(DECISIONS.c.hit.is_(True), DECISIONS.c.propensity > 0)
            .group_by(*(DECISIONS.c[name] for name in names), same)
        )
        counts: dict[tuple[str, bool, float], Counter[bool | None]] = {}
        with self.engine.connect() as connection:
            rows: list[Any] = list(connection.execute(query))
            for tenant, propensity, image_tier, question_tier, verdict, count in rows:
                kept = None if verdict is None else bool(verdict)
                key = (tenant, is_repeat(image_tier, question_tier), propensity)
                counts.setdefault(key, Counter())[kept] += count
        found: dict[str, Compared] = {}
        for (tenant, repeat, propensity), by in sorted(counts.items()):
            population = max(by.total(), round(by.total() / propensity))
            sample = Sample(population, by[True], by[False], by[None])
            old = found.get(tenant, Compared())
            found[tenant] = (
                replace(old, repeats=(*old.repeats, sample)) if repeat else replace(old, others=(*old.others, sample))
            )
        return found

    def judge_verdicts(self, tenant: str) -> int:
        """Pieces of evidence that the judge gave on a tenant's pairs of questions."""
        query = select(func.count()).where(PAIRS.c.tenant == tenant, PAIRS.c.source == "judge")
        with self.engine.connect() as connection:
            return int(connection.execute(query.select_from(PAIRS)).scalar_one())

    def labelled(self, tenant: str, since: float, *, cross_language: bool) -> Labelled:
        """A tenant's labelled candidates that are not exact repeats, those whose stored question is in another language
        only if asked for, and how many exact repeats were verified; reads nothing but them."""
        names = ("id", "risk", "stratum", "pair", "image_tier", "question_tier", "reason")
        query = (
            select(LABELS.c.source, LABELS.c.same, LABELS.c.time, *(DECISIONS.c[name] for name in names))
            .join(DECISIONS, DECISIONS.c.id == LABELS.c.decision)
            .where(LABELS.c.tenant == tenant, LABELS.c.time >= since, LABELS.c.source.in_(PRECEDENCE))
            .where(DECISIONS.c.risk.is_not(None), DECISIONS.c.tenant == tenant)
            .where(DECISIONS.c.reason.not_in(FORBIDDEN))
        )
        if not cross_language:
            query = query.where(DECISIONS.c.cross_language.is_(False))
        best: dict[str, Any] = {}
        with self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=CHUNK).execute(query).mappings():
                if repeated(row) and row["source"] not in RANDOM:
                    continue
                older = best.get(row["id"])
                if older is None or reliability(row) < reliability(older):
                    best[row["id"]] = row
        found = {exact: [row for row in best.values() if repeated(row) is exact] for exact in (False, True)}
        rows = found[False]
        # One verdict a request, the latest: ids sort by time.
        verified = {row["pair"]: row["same"] for row in sorted(found[True], key=by_id) if row["same"] is not None}
        strata = tuple(sorted({row["stratum"] for row in rows}))
        return Labelled(
            np.array([row["risk"] for row in rows], dtype=np.float64),
            np.array([row["same"] is False for row in rows], dtype=np.bool_),
            np.array([strata.index(row["stratum"]) for row in rows], dtype=np.int32),
            strata,
            np.array([row["pair"] for row in rows], dtype=np.int64),
            np.array([row["time"] for row in rows], dtype=np.float64),
            np.array([row["same"] is None for row in rows], dtype=np.bool_),
            len(verified),
            sum(same is False for same in verified.values()),
        )

    def recorded(self, span: Span) -> Recorded:
        """The decisions with their labels as columns, about 120 bytes a decision."""
        strata: dict[str, int] = {"": 0}
        chunks: dict[str, list[NDArray[Any]]] = {name: [] for name in NUMERIC}
        for columns in self.columns(READ, span):
            read = dict(zip(READ, columns, strict=True))
            size = len(read["id"])
            reasons = np.array([reason not in CLOSED for reason in read["reason"]])
            stratum = [strata.setdefault(name, len(strata)) for name in read["stratum"]]
            exact = [
                is_repeat(image, question)
                for image, question in zip(read["image_tier"], read["question_tier"], strict=True)
            ]
            chunks["id"].append(np.array(read["id"], dtype="S64" if size == 0 else None).astype(np.bytes_))
            chunks["exact"].append(np.array(exact, dtype=np.bool_))
            chunks["stratum"].append(np.array(stratum, dtype=np.int32))
            risk = np.array(read["risk"], dtype=np.float64)
            chunks["risk"].append(risk)
            chunks["open"].append(reasons & np.isfinite(risk))
            for name in ("time", "image_score", "question_score", "propensity"):
                chunks[name].append(np.array(read[name], dtype=np.float64))
            for name in ("hit", "would_hit", "cross_language"):
                chunks[name].append(np.array(read[name], dtype=np.bool_))
            chunks["pair"].append(np.array(read["pair"], dtype=np.int64))
        whole = {name: np.concatenate(parts) if parts else np.zeros(0, NUMERIC[name]) for name, parts in chunks.items()}
        chunks.clear()
        verified, label = self.label_columns(whole["id"], span)
        return Recorded(**whole, strata=tuple(strata), verified=verified, label=label)

    def label_columns(self, ids: NDArray[np.bytes_], span: Span) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """The `verified` and `label` columns for sorted decision ids (n,)."""
        label = np.full(len(ids), UNLABELLED, dtype=np.int8)
        verified = label.copy()
        found: dict[Source, tuple[NDArray[np.int64], NDArray[np.int8]]] = {}
        if len(ids):
            for source in PRECEDENCE:
                query = within(
                    select(LABELS.c.decision, LABELS.c.same).where(LABELS.c.source == source),
                    Span(since=span.since, tenant=span.tenant),
                    LABELS,
                )
                with self.engine.connect() as connection:
                    rows = connection.execution_options(yield_per=CHUNK).execute(query).all()
                if not rows:
                    continue
                keys = np.array([row[0] for row in rows]).astype(np.bytes_)
                at = np.searchsorted(ids, keys)
                at[at == len(ids)] = 0
                there = ids[at] == keys
                verdicts = [UNDECIDED if row[1] is None else RIGHT if row[1] else WRONG for row in rows]
                values = np.array(verdicts, np.int8)
                found[source] = (at[there], values[there])
        for source in reversed(PRECEDENCE):  # the most reliable last, over the others
            if source in found:
                at, values = found[source]
                decided = values != UNDECIDED
                label[at] = np.where(decided | (label[at] == UNLABELLED), values, label[at])
        for source in RANDOM:
            if source in found:
                verified[found[source][0]] = label[found[source][0]]
        return verified, label


def reliability(label: RowMapping) -> tuple[bool, int]:
    """Order of labels of one decision, the most reliable first: those with a verdict, then by their source."""
    return label["same"] is None, RANK[label["source"]]


def repeated(row: RowMapping) -> bool:
    """Whether a decision is about the very same request once more."""
    return is_repeat(row["image_tier"], row["question_tier"])


def by_id(row: RowMapping) -> str:
    """A decision's id, which begins with its time."""
    return str(row["id"])


CLOSED = frozenset(FORBIDDEN)
READ = (
    "id",
    "time",
    "hit",
    "would_hit",
    "reason",
    "image_tier",
    "question_tier",
    "cross_language",
    "image_score",
    "question_score",
    "risk",
    "stratum",
    "pair",
    "propensity",
)
NUMERIC: dict[str, Any] = {
    "id": "S64",
    "time": np.float64,
    "hit": np.bool_,
    "would_hit": np.bool_,
    "exact": np.bool_,
    "open": np.bool_,
    "cross_language": np.bool_,
    "image_score": np.float64,
    "question_score": np.float64,
    "risk": np.float64,
    "stratum": np.int32,
    "pair": np.int64,
    "propensity": np.float64,
}


def within(query: Select[Any], span: Span, table: Any = DECISIONS) -> Select[Any]:
    """`query` limited to a span."""
    if span.since > 0:
        query = query.where(table.c.time >= span.since)
    if span.until != float("inf"):
        query = query.where(table.c.time < span.until)
    if span.tenant is not None:
        return query.where(table.c.tenant == span.tenant)
    return query.where(table.c.tenant != PROBE_TENANT)


def decision_of(row: Any) -> Decision:
    """The decision that a row of the table holds."""
    values = {field.name: row[field.name] for field in fields(Decision)}
    values["image_box"] = None if values["image_box"] is None else tuple(json.loads(values["image_box"]))
    values["vetoes"] = tuple(tuple(veto) for veto in json.loads(values["vetoes"] or "[]"))
    values["timings"] = json.loads(values["timings"] or "{}")
    return Decision(**values)
