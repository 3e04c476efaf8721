"""Makes a report: reads the ledger, computes, writes a folder in one step. Blocks for as long as it takes."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import time as clock
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from dedup_service.audit import clusters, curves, suspicion
from dedup_service.audit.advice import advise
from dedup_service.audit.pairs import write_pairs
from dedup_service.audit.report import Cluster, NeverHit, Piece, Report, Savings, Shown, Suggested, to_json
from dedup_service.audit.sampling import accuracy, gate
from dedup_service.audit.spans import differing
from dedup_service.audit.suspicion import Finding
from dedup_service.audit.traffic import AuditError, Progress, Traffic, read_traffic, unreadable
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Decision
from dedup_service.ledger.revisions import RevisionRows
from dedup_service.ledger.thumbnails import Thumbnails
from dedup_service.policy.noise import blame
from dedup_service.policy.policy import Mode, Policy
from dedup_service.policy.policy import to_json as to_policy_json
from dedup_service.policy.preview import serves, wrong_rate
from dedup_service.policy.recorded import RIGHT, UNDECIDED, WRONG
from dedup_service.policy.risk import Interval
from dedup_service.policy.suggestion import suggest
from dedup_service.policy.thresholds import PRIOR, Thresholds
from dedup_service.store.records import image_id

SUSPICIOUS, PROMISING, CLUSTERS, TENANTS = 40, 25, 12, 10
"""How much of each a report shows."""
ROOM = 64 * 2**20
"""Bytes that must be free before a report is begun."""
FILES = ("report.html", "report.json")
NO_LABEL = {RIGHT: "RIGHT", WRONG: "WRONG", UNDECIDED: "UNDECIDED"}


@dataclass(frozen=True)
class Wanted:
    """What to report on."""

    since: float
    """Seconds since the epoch."""
    until: float
    tenant: str | None = None
    max_wrong: float | None = None
    """The share of wrong answers to hold the hits against; None for the policy's error budget."""
    confidence: float | None = None
    """None for the policy's."""
    price: float | None = None
    """Per GPU-hour."""
    currency: str = "USD"
    pairs: tuple[str, ...] = ("parquet",)
    never_hit: NeverHit | None = None
    default: Policy = field(default_factory=Policy)
    """The policy of tenants without one of their own."""
    thumbnails: bool = True


def make_report(
    engine: Engine,
    wanted: Wanted,
    out: Path,
    progress: Progress = lambda _stage, _share: None,
    *,
    now: float | None = None,
) -> Report:
    """Reads the ledger behind `engine` and writes `out`: report.html, report.json and the pairs.

    The folder appears complete or not at all; an earlier report in its place is replaced. Raises AuditError with a
    reason: LEDGER_DAMAGED, LEDGER_UNAVAILABLE, OUT_NOT_OURS, DISK_FULL, OUT_UNWRITABLE.
    """
    from dedup_service.audit.page import render  # matplotlib takes a second to import, which readers need not wait for

    refuse_foreign(out)
    reader = Reader(engine)
    span = Span(wanted.since, wanted.until, wanted.tenant)
    draft: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(out.parent).free < ROOM:
            raise OSError(errno.ENOSPC, "less than 64 MiB are free")
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.draft-", dir=out.parent))
        traffic = read_traffic(reader, span, progress)
        report = compute(engine, reader, traffic, wanted, progress, clock.time() if now is None else now)
        progress("drawing", 0.0)
        pictures = thumbnails(engine, report) if wanted.thumbnails else {}
        report = replace(report, thumbnails_kept=bool(pictures))
        (draft / "report.html").write_text(render(report, pictures), encoding="utf-8")
        (draft / "report.json").write_text(to_json(report), encoding="utf-8")
        progress("drawing", 1.0)
        total = max(1, len(traffic))
        if wanted.pairs:
            write_pairs(reader, span, traffic, draft, wanted.pairs, lambda n: progress("writing pairs", n / total))
        progress("done", 1.0)
        draft.chmod(0o755)
        put_in_place(draft, out)
    except DatabaseError as error:
        raise unreadable(str(engine.url), error) from error
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise AuditError("DISK_FULL", f"the disk that holds {out} is full; nothing was left behind") from error
        raise AuditError("OUT_UNWRITABLE", f"can't write {out}: {error}; nothing was left behind") from error
    finally:
        if draft is not None and draft.exists():
            shutil.rmtree(draft, ignore_errors=True)
    return report


def refuse_foreign(out: Path) -> None:
    """Refuses to replace a folder that is no report."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "report.json").exists())):
        raise AuditError("OUT_NOT_OURS", f"{out} exists and is no earlier report: name another place")


def put_in_place(draft: Path, out: Path) -> None:
    """Moves a finished folder to its place; a reader finds the old report or the new one."""
    if not out.exists():
        draft.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    out.rename(aside / "report")
    try:
        draft.rename(out)
    except OSError:
        (aside / "report").rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def compute(engine: Engine, reader: Reader, traffic: Traffic, wanted: Wanted, progress: Progress, now: float) -> Report:
    """The report's value."""
    steps = iter(np.linspace(0, 1, 12))

    def step() -> None:
        progress("computing", float(next(steps, 1.0)))

    step()
    recorded = traffic.recorded
    store = RevisionRows(engine)
    names = order_of(traffic)
    policies = {name: (found.policy if (found := store.latest(name)) else wanted.default) for name in names[:TENANTS]}
    learnt = store.thresholds({})
    leading = wanted.tenant or (names[0] if names else "")
    policy = policies.get(leading, wanted.default)
    thresholds = learnt.get(leading, PRIOR)
    confidence = wanted.confidence if wanted.confidence is not None else policy.confidence
    judged = replace(policy, confidence=confidence)
    estimate = accuracy(traffic, confidence)
    budget = wanted.max_wrong if wanted.max_wrong is not None else policy.error_budget
    step()
    exact, copies, rephrased = curves.kinds_of_hits(traffic)
    width, slots = curves.over_time(traffic)
    step()
    suggested = tuple(suggestion(traffic, name, policies[name], learnt.get(name, PRIOR), now) for name in policies)
    step()
    extra = tuple(s.question_threshold for s in suggested if s.tenant == leading)
    mine = traffic.rows(traffic.tenant.mask(leading)) if len(names) > 1 else traffic
    sweep = curves.sweep(mine, judged, thresholds, extra)
    step()
    bins = curves.calibration(traffic, confidence)
    step()
    suspicious = suspicion.suspicious(traffic, reader.by_id, SUSPICIOUS)
    step()
    promising = suspicion.promising(traffic, PROMISING)
    intents = clusters.intents(traffic)
    alike = clusters.lookalikes(traffic)
    step()
    newest = sorted(intents, key=lambda group: -group.newest)
    doubtful = [group for group in intents if group.contradictions or group.size > clusters.LARGEST_INTENT]
    drifts, before, rate_before = compare_periods(reader, traffic, wanted)
    step()
    misses = traffic.reason.code[~recorded.would_hit]
    counts = np.bincount(misses, minlength=len(traffic.reason.words)) if len(misses) else np.zeros(0, np.int64)
    hits = int(np.count_nonzero(recorded.would_hit))
    report = Report(
        created=now,
        since=wanted.since,
        until=wanted.until,
        tenant=wanted.tenant or "",
        ledger=engine.url.render_as_string(hide_password=True),
        version=version(),
        requests=len(traffic),
        hits=hits,
        exact_hits=int(np.count_nonzero(exact)),
        copy_hits=int(np.count_nonzero(copies)),
        rephrased_hits=int(np.count_nonzero(rephrased)),
        shadow=hits > int(np.count_nonzero(recorded.hit)),
        accuracy=estimate,
        blame=blame(recorded, recorded.would_hit, confidence),
        budget=budget,
        verdict=gate(estimate, budget)[1],
        savings=savings(traffic, wanted),
        slot_seconds=width,
        slots=slots,
        scores=curves.score_histograms(traffic),
        sweep=sweep,
        sweep_policy=leading,
        mode=str(policy.mode),
        judge_verdicts=reader.judge_verdicts(leading),
        policy=json.loads(to_policy_json(policy)),
        current_threshold=policy.question_threshold,
        suggested=suggested,
        calibration=bins,
        suspicious=shown(reader, traffic, suspicious),
        promising=shown(reader, traffic, promising),
        intents_largest=named_intents(reader, intents[:CLUSTERS]),
        intents_newest=named_intents(reader, newest[:CLUSTERS]),
        intents_contradictory=named_intents(reader, doubtful[:CLUSTERS]),
        intent_count=len(intents),
        lookalikes=named_lookalikes(reader, sorted(alike, key=lambda g: (-g.contradictions, -g.size))[:CLUSTERS]),
        lookalike_count=len(alike),
        tenants=curves.shares(traffic, traffic.tenant.code, traffic.tenant.words, confidence),
        languages=curves.shares(traffic, traffic.language.code, traffic.language.words, confidence),
        strata=curves.shares(traffic, recorded.stratum, recorded.strata, confidence),
        reasons=tuple(
            (traffic.reason.words[i], int(counts[i])) for i in np.argsort(-counts, kind="stable") if counts[i]
        ),
        never_hit=wanted.never_hit,
        drift=drifts,
        drift_before=before,
        hit_rate_before=rate_before,
        texts_kept=bool((traffic.shape != 0).any()) or not bool((traffic.answer != 0).any()),
        thumbnails_kept=False,
    )
    step()
    return replace(report, advice=advise(report))


def order_of(traffic: Traffic) -> list[str]:
    """The tenants, the busiest first."""
    counts = np.bincount(traffic.tenant.code, minlength=len(traffic.tenant.words))
    return [traffic.tenant.words[i] for i in np.argsort(-counts, kind="stable")] if len(traffic) else []


def suggestion(traffic: Traffic, tenant: str, policy: Policy, thresholds: Thresholds, now: float) -> Suggested:
    """What a tenant's labels carry, and what it would have done on record."""
    chosen = traffic.tenant.mask(tenant)
    recorded = traffic.recorded if chosen.all() else traffic.recorded.rows(chosen)
    found = suggest(recorded, policy, thresholds, time=now)
    wrong = Interval(0.0, 0.0, 1.0)
    hit_rate = found.hit_rate_then
    if found.reason == "SUGGESTED":
        served = serves(recorded, replace(found.policy, mode=Mode.STATIC), thresholds)
        wrong = wrong_rate(recorded, served, policy.confidence)
    return Suggested(
        tenant=tenant,
        reason=found.reason,
        image_threshold=found.policy.image_threshold,
        question_threshold=found.policy.question_threshold,
        current_image_threshold=policy.image_threshold,
        current_question_threshold=policy.question_threshold,
        hit_rate_now=float(np.count_nonzero(recorded.would_hit)) / max(1, len(recorded)),
        hit_rate_then=hit_rate,
        wrong_then=wrong,
        upper=found.upper,
        labels=found.labels,
        needed=found.needed,
    )


def savings(traffic: Traffic, wanted: Wanted) -> Savings:
    """Calls, model time and money."""
    served = traffic.recorded.hit
    seconds = float(traffic.saved_seconds[served].sum(dtype=np.float64))
    asked = served & traffic.explored
    spent = float(traffic.saved_seconds[asked].sum(dtype=np.float64))
    money = None if wanted.price is None else (seconds - spent) / 3_600 * wanted.price
    calls = int(np.count_nonzero(served))
    return Savings(calls, seconds, int(np.count_nonzero(asked)), money, wanted.price, wanted.currency)


def compare_periods(
    reader: Reader, traffic: Traffic, wanted: Wanted
) -> tuple[tuple[curves.Drift, ...], int, float | None]:
    """This period against the one of equal length before: drifts, the decisions in the other, and its hit rate."""
    length = wanted.until - wanted.since
    if not np.isfinite(length) or wanted.since - length < 0:
        return (), 0, None
    span = Span(wanted.since - length, wanted.since, wanted.tenant)
    names = ("pair", "image_score", "question_score", "hit", "image_tier", "question_tier")
    parts: list[tuple[np.ndarray, ...]] = []
    requests = hits = 0
    for pair, image, question, hit, image_tier, question_tier in reader.columns(names, span):
        requests += len(pair)
        hits += sum(hit)
        chosen = ~(
            np.isin(np.array(image_tier), ("BYTES", "PIXELS"))
            & np.isin(np.array(question_tier), ("EXACT", "NORMALISED"))
        )
        columns = (np.array(pair, np.int64), np.array(image, np.float64), np.array(question, np.float64))
        parts.append(tuple(column[chosen] for column in columns))
    if requests == 0:
        return (), 0, None
    before = tuple(np.concatenate([part[i] for part in parts]) for i in range(3))
    recorded = traffic.recorded
    chosen = ~recorded.exact
    now = (recorded.pair[chosen], recorded.image_score[chosen], recorded.question_score[chosen])
    return curves.drift(now, (before[0], before[1], before[2])), requests, hits / requests


def shown(reader: Reader, traffic: Traffic, found: Sequence[Finding]) -> tuple[Shown, ...]:
    """The findings with everything that a reader needs to judge them."""
    ids = [finding.decision for finding in found] + [finding.witness for finding in found if finding.witness]
    decisions = {decision.id: decision for decision in reader.by_id(ids)}
    removed = {each.entry for each in reader.feedback(Span(tenant=None)) if each.entry} if found else set()
    rows = []
    for finding in found:
        decision = decisions.get(finding.decision)
        if decision is None:
            continue
        left, right = spans_of(decision)
        said = [
            label.answer_text for label in reader.labels(decision.id) if label.answer_text and label.same is not True
        ]
        witness = decisions.get(finding.witness)
        other = said[0] if said else (witness.nearest_answer_text or "") if witness else ""
        rows.append(
            Shown(
                decision=decision.id, tenant=decision.tenant, time=decision.time, hit=decision.hit,
                signs=finding.signs, score=finding.score, count=finding.count, question=left, stored_question=right,
                answer=decision.nearest_answer_text or "", other_answer=other, reason=decision.reason,
                image_tier=decision.image_tier, image_score=decision.image_score, image_reason=decision.image_reason,
                question_tier=decision.question_tier, question_score=decision.question_score,
                question_reason=decision.question_reason, vetoes=decision.vetoes, risk=decision.risk,
                label=NO_LABEL.get(int(traffic.recorded.label[finding.row]), ""), box=decision.image_box,
                image=image_of(decision), stored_image=decision.nearest_image, entry=decision.nearest_entry,
                removed=decision.nearest_entry in removed,
            )
        )  # fmt: skip
    return tuple(rows)


def spans_of(decision: Decision) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both questions in pieces; nothing where texts are not kept."""
    if decision.question_text is None:
        return (), ()
    if decision.nearest_question_text is None:
        return (Piece(decision.question_text, differs=False),), ()
    return differing(decision.question_text, decision.nearest_question_text)


def image_of(decision: Decision) -> str:
    """The thumbnail key of a request's image."""
    with suppress(ValueError):
        return image_id(decision.tenant, bytes.fromhex(decision.image)) if decision.image else ""
    return ""


def named_intents(reader: Reader, groups: Sequence[clusters.Group]) -> tuple[Cluster, ...]:
    """Groups of questions with their texts, or their digests where texts are not kept."""
    found = []
    for group, decisions in with_decisions(reader, groups):
        members = dict.fromkeys(
            text
            for decision in decisions
            for text in (
                decision.question_text or decision.question_digest[:12],
                decision.nearest_question_text or decision.nearest_question_digest[:12],
            )
        )
        found.append(cluster_of(group, tuple(members)[:8], decisions))
    return tuple(found)


def named_lookalikes(reader: Reader, groups: Sequence[clusters.Group]) -> tuple[Cluster, ...]:
    """Groups of images by the keys of their thumbnails."""
    found = []
    for group, decisions in with_decisions(reader, groups):
        members = dict.fromkeys(key for d in decisions for key in (d.nearest_image, image_of(d)) if key)
        found.append(cluster_of(group, tuple(members)[:8], decisions))
    return tuple(found)


def with_decisions(reader: Reader, groups: Sequence[clusters.Group]) -> list[tuple[clusters.Group, list[Decision]]]:
    """Every group with the decisions that show its members."""
    by_row: dict[str, Decision] = {d.id: d for d in reader.by_id([i for g in groups for i in g.ids])}
    return [(group, [by_row[i] for i in group.ids if i in by_row]) for group in groups]


def cluster_of(group: clusters.Group, members: tuple[str, ...], decisions: Sequence[Decision]) -> Cluster:
    """A group as the report shows it."""
    tenant = decisions[0].tenant if decisions else ""
    return Cluster(members, group.size, group.decisions, group.newest, group.contradictions, tenant)


def thumbnails(engine: Engine, report: Report) -> dict[tuple[str, str], bytes]:
    """The thumbnails of everything that the report shows, as far as they are kept."""
    keys = [(s.tenant, key) for s in (*report.suspicious, *report.promising) for key in (s.image, s.stored_image)]
    keys += [(cluster.tenant, key) for cluster in report.lookalikes for key in cluster.members]
    return Thumbnails(engine).get(keys)


def version() -> str:
    """The version of askonce that made the report."""
    try:
        return metadata.version("askonce")
    except metadata.PackageNotFoundError:
        return "development"
