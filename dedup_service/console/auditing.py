"""What `askonce audit` does: reports, the gate for CI, labelling, copies of a ledger. Imported when it is called."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import grpc
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import make_url

from askonce import settings, telemetry
from askonce.names import tenant_name
from askonce.v1 import store_pb2, store_pb2_grpc
from dedup_service.audit.job import OLDEST
from dedup_service.audit.report import NeverHit, Report, finite
from dedup_service.audit.sampling import accuracy, gate
from dedup_service.audit.traffic import AuditError, check_file, open_ledger, read_traffic
from dedup_service.audit.traffic import Progress as AuditProgress
from dedup_service.console.calling import Failure, Peer
from dedup_service.console.printing import print_json, say
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.revisions import RevisionRows
from dedup_service.policy.policy import Policy, PolicyInvalidError, from_json
from dedup_service.settings import Settings

if TYPE_CHECKING:
    from dedup_service.audit.labelling import Session


def report(
    peer: Peer,
    ledger: str | None,
    window: float,
    until: float | None,
    tenant: str | None,
    out: Path | None,
    max_wrong: float | None,
    confidence: float | None,
    price: float | None,
    currency: str,
    pairs: str,
    store: Path | None,
    from_service: bool,
    json_: bool,
) -> None:
    """The report, the gate, or both; see `askonce audit`. The exit status is the gate's."""
    if out is None and max_wrong is None:
        raise click.UsageError("name --out for a report, --max-wrong for the gate, or both")
    if confidence is not None and not 0.5 <= confidence < 1:
        raise click.BadParameter("from 50% to under 100%", param_hint="--confidence")
    end = time.time() if until is None else until
    with audited():
        engine = open_ledger(ledger or own_ledger())
        try:
            if out is None:
                assert max_wrong is not None
                judge(Reader(engine), Span(end - window, end, tenant), max_wrong, confidence, json_)
                return
            from dedup_service.audit.making import Wanted, make_report

            wanted = Wanted(
                end - window, end, tenant, max_wrong, confidence, price, currency,
                pairs={"both": ("parquet", "csv"), "none": ()}.get(pairs, (pairs,)),
                never_hit=never_hit(peer, store, tenant, from_service),
                default=own_policy(),
            )  # fmt: skip
            with bar(json_) as progress:
                made = make_report(engine, wanted, out, progress)
        finally:
            engine.dispose()
    conclude(made, out, max_wrong, json_)


def conclude(report: Report, out: Path, max_wrong: float | None, json_: bool) -> None:
    """Prints what the report says in short, and ends with the gate's exit code."""
    code, _ = gate(report.accuracy, report.budget)
    if json_:
        summary = {
            "out": str(out),
            "requests": report.requests,
            "hits": report.hits,
            "budget": report.budget,
            "verdict": report.verdict,
            "accuracy": asdict(report.accuracy),
            "savings": asdict(report.savings),
            "suggested": [asdict(each) for each in report.suggested],
        }
        print_json(finite(summary))
    else:
        say(f"{report.requests:,} decisions, {report.hit_rate:.1%} answered from memory.")
        say(verdict_line(report.verdict, report.accuracy.upper, report.budget, report.accuracy.verified))
        for number, advice in enumerate(report.advice[:5], 1):
            say(f"{number}. {advice.title}." + (f"  {advice.command}" if advice.command else ""))
        say(f"Open {out / 'report.html'}")
    if max_wrong is not None:
        sys.exit(code)


def verdict_line(verdict: str, upper: float, budget: float, verified: int) -> str:
    """The gate's verdict in a sentence."""
    sentence = {
        "BOUND_HOLDS": f"at most {upper:.2%} of the hits are wrong, and {budget:.2%} is allowed",
        "BOUND_BROKEN": f"up to {upper:.2%} of the hits are wrong, and {budget:.2%} is allowed",
        "TOO_FEW_LABELS": f"{verified:,} verified hits can't show that at most {budget:.2%} are (up to {upper:.2%})",
    }[verdict]
    return f"{verdict}: {sentence}."


def judge(reader: Reader, span: Span, max_wrong: float, confidence: float | None, json_: bool) -> None:
    """The gate alone: no report."""
    if confidence is None:
        revision = RevisionRows(reader.engine).latest(span.tenant) if span.tenant else None
        confidence = (revision.policy if revision else own_policy()).confidence
    found = accuracy(read_traffic(reader, span), confidence)
    code, verdict = gate(found, max_wrong)
    if json_:
        print_json(finite({"verdict": verdict, "max_wrong": max_wrong, **asdict(found)}))
    else:
        say(verdict_line(verdict, found.upper, max_wrong, found.verified))
    sys.exit(code)


def label(
    ledger: str | None,
    window: float,
    until: float | None,
    tenant: str | None,
    count: int,
    suspicious: bool,
    terminal: bool,
    port: int,
) -> None:
    """A session of labels; see `askonce audit label`."""
    end = time.time() if until is None else until
    with audited():
        engine = open_ledger(ledger or own_ledger())
        try:
            from dedup_service.audit import labelling  # with it comes all that makes a report

            session = labelling.open_session(engine, Span(end - window, end, tenant), count, suspicious=suspicious)
            if not session.tasks:
                say("Nothing to label: no hit in this time has its texts kept and no label.")
                return
            with closing(session):
                if terminal:
                    ask_here(session)
                else:
                    serve(session, port)
        finally:
            engine.dispose()


def serve(session: Session, port: int) -> None:
    """Serves the page until it is interrupted."""
    from dedup_service.audit import labelling

    with labelling.Page(session, port) as page:
        say(f"Label at {page.url}   (only this machine can open it; Ctrl-C ends)")
        with suppress(KeyboardInterrupt):
            page.serve()
    say(f"{session.done:,} labels recorded.")


def ask_here(session: Session) -> None:
    """Asks in the terminal."""
    words = {"s": "same", "d": "different", "c": "unsure"}
    while (task := session.next()) is not None:
        say(f"\n[{session.done + 1} of {len(session.tasks)}] {task.tenant}")
        say(f"  asked:   {task.question}\n  stored:  {task.stored_question}\n  answer:  {task.answer}")
        if task.other_answer:
            say(f"  said now: {task.other_answer}")
        said = click.prompt("Is the stored answer right for what was asked? s(ame) d(ifferent) c(an't tell) q(uit)",
                            type=click.Choice([*words, "q"]), show_choices=False)  # fmt: skip
        if said == "q":
            break
        session.record(task.decision, words[said])
    say(f"{session.done:,} labels recorded.")


def copy(out: Path, ledger: str | None) -> None:
    """The ledger in one file; see `askonce audit copy`."""
    url = make_url(ledger or own_ledger())
    if url.get_backend_name() != "sqlite":
        raise Failure("LEDGER_UNSUPPORTED: copy PostgreSQL with pg_dump; only SQLite ledgers are files")
    with audited():
        check_file(Path(url.database or ""))
    if out.exists():
        raise Failure(f"OUT_EXISTS: {out} is there already")
    draft = out.with_name(f".{out.name}.draft")
    draft.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(draft)) as target,
        ):
            source.backup(target, pages=4_096)
            target.execute("PRAGMA journal_mode=DELETE")
        draft.replace(out)
    except (sqlite3.Error, OSError) as error:
        raise Failure(f"OUT_UNWRITABLE: can't write {out}: {error}; nothing was left behind") from error
    finally:
        draft.unlink(missing_ok=True)
    say(f"{out}: {out.stat().st_size:,} bytes.")


@contextmanager
def audited() -> Iterator[None]:
    """Turns an audit's errors into the command line's."""
    try:
        yield
    except AuditError as error:
        raise Failure(f"{error.reason}: {error}") from error
    except MemoryError as error:
        raise Failure("OUT_OF_MEMORY: look at a shorter --since or one --tenant") from error


@contextmanager
def bar(quiet: bool) -> Iterator[AuditProgress]:
    """A progress bar on standard error; yields what it is to be told."""
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        shown = progress.add_task("starting", total=1.0)
        yield lambda stage, share: progress.update(shown, description=stage, completed=share)


def own_ledger() -> str:
    """The ledger that the dedup service on this machine writes."""
    try:
        chosen = settings.load(Settings, "dedup")
    except settings.SettingsError as error:
        raise Failure(f"SETTINGS_INVALID: {error}") from error
    return chosen.ledger or f"sqlite:///{chosen.data / 'ledger.sqlite'}"


def own_policy() -> Policy:
    """The default policy that the settings name."""
    try:
        path = settings.load(Settings, "dedup").default_policy
        return from_json(path.read_text(encoding="utf-8")) if path else Policy()
    except (settings.SettingsError, OSError, ValueError, PolicyInvalidError) as error:
        raise Failure(f"SETTINGS_INVALID: {error}") from error


def never_hit(peer: Peer, store: Path | None, tenant: str | None, from_service: bool) -> NeverHit | None:
    """Entries that were never served, from an export or from the running service."""
    if store is not None:
        from dedup_service.console import exports

        exports.read_header(store)
        names = ["question", "model", "create_time", "hit_count", "expire_time"]
        return counted(
            (e["question"], e["model"], e["create_time"], e["hit_count"]) for e in exports.read_entries(store, names)
        )
    if not from_service:
        return None
    if tenant is None:
        raise click.UsageError("--from-service needs --tenant")

    async def work(channel: grpc.aio.Channel) -> NeverHit:
        stub: store_pb2_grpc.StoreServiceAsyncStub = store_pb2_grpc.StoreServiceStub(channel)
        request = store_pb2.ExportEntriesRequest(parent=tenant_name(tenant))
        entries: list[tuple[str, str, float, int]] = []
        async for piece in stub.ExportEntries(request, timeout=3_600.0, metadata=telemetry.outgoing()):
            entries.extend(
                (e.question, e.model, float(e.create_time.seconds), e.hit_count) for e in piece.image.entries
            )
        return counted(iter(entries))

    return peer.call(work)


def counted(entries: Iterator[tuple[str, str, float, int]]) -> NeverHit:
    """Counts entries (question, model, time, hits), and keeps the oldest that were never hit."""
    total, never = 0, []
    for question, model, stored, hits in entries:
        total += 1
        if hits == 0:
            never.append((question, model, stored))
    never.sort(key=lambda each: each[2])
    return NeverHit(total, len(never), tuple(never[:OLDEST]))
