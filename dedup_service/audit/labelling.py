"""People label pairs: which ones, a page on this machine only, and the label with the draw that led to it."""

from __future__ import annotations

import base64
import secrets
import threading
import time as clock
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import Engine

from askonce.reasons import explain
from dedup_service.audit.making import image_of
from dedup_service.audit.report import Piece
from dedup_service.audit.sampling import next_to_label, note_of
from dedup_service.audit.spans import differing
from dedup_service.audit.suspicion import suspicious
from dedup_service.audit.traffic import AuditError, read_traffic
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Decision, Label, Source
from dedup_service.ledger.thumbnails import Thumbnails

VERDICTS: dict[str, bool | None] = {"same": True, "different": False, "unsure": None}
"""What a person may say: the stored answer is right for what was asked, is not, can't be told."""
LARGEST_FORM = 4_096
"""Most bytes of a form that the page takes."""
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; frame-ancestors 'none'"
)
"""What the page may load: its own style and the pictures inside it."""
PATIENCE = 5.0
"""Seconds until a label must be on disk."""


@dataclass(frozen=True)
class Task:
    """One pair to be judged."""

    decision: str
    tenant: str
    question: str
    stored_question: str
    left: tuple[Piece, ...]
    """The question in pieces, those that the stored one lacks marked."""
    right: tuple[Piece, ...]
    answer: str
    """The stored answer, which was served."""
    other_answer: str
    """What the model said when it was asked again; empty when it was not."""
    note: str
    """The draw that led here, for the label."""
    pictures: tuple[str, str]
    """Data URIs of both images; empty where no thumbnail is kept."""
    box: tuple[float, float, float, float] | None
    evidence: tuple[tuple[str, str], ...] = ()
    """What the decision rested on: pairs of a name and a value in words."""


def evidence_of(decision: Decision) -> tuple[tuple[str, str], ...]:
    """What a decision rested on, as the page shows it."""
    rows = [
        ("reason 原因", f"{decision.reason}: {explain(decision.reason)} {explain(decision.reason, 'zh')}"),
        ("image 图片", side_of(decision.image_tier, decision.image_score, decision.image_reason)),
        ("question 问题", side_of(decision.question_tier, decision.question_score, decision.question_reason)),
        ("risk 风险", "" if decision.risk is None else f"{decision.risk:.4f}, {decision.stratum}"),
        *(("veto 否决", f"{kind}: “{left}” / “{right}”") for kind, left, right in decision.vetoes),
    ]
    return tuple((name, value) for name, value in rows if value)


def side_of(tier: str, score: float | None, reason: str) -> str:
    """One side's tier, probability and reason."""
    return " ".join(part for part in (tier, "" if score is None else f"{score:.4f}", reason) if part)


class Session:
    """Hands tasks out one by one and records the labels. Thread-safe."""

    def __init__(self, tasks: list[Task], ledger: Ledger) -> None:
        self.tasks = tasks
        self.ledger = ledger
        self.labelled: dict[str, str] = {}
        self.lock = threading.Lock()

    @property
    def done(self) -> int:
        """Labels recorded."""
        return len(self.labelled)

    def next(self) -> Task | None:
        """The next task without a label; None when all are done."""
        with self.lock:
            return next((task for task in self.tasks if task.decision not in self.labelled), None)

    def record(self, decision: str, verdict: str) -> None:
        """Records a label, on disk on return. Saying it again replaces it. Raises KeyError for what is no task or no
        verdict, AuditError when the ledger can't be written."""
        task = next((task for task in self.tasks if task.decision == decision), None)
        if task is None:
            raise KeyError(decision)
        label = Label(decision, task.tenant, Source.AUDIT, VERDICTS[verdict], clock.time(), note=task.note)
        # The note holds nothing but the draw, so it is kept whatever the policy says about texts.
        if not self.ledger.record_label(label, keep_text=True) or not self.ledger.flush(PATIENCE):
            raise AuditError("LEDGER_UNWRITABLE", "the label could not be written: is the ledger read-only?")
        with self.lock:
            self.labelled[decision] = verdict

    def close(self) -> None:
        """Writes what waits, and ends."""
        self.ledger.close()


def open_session(engine: Engine, span: Span, count: int, *, suspicious: bool = False) -> Session:
    """A session of up to `count` tasks: drawn by the sampling plan, or the most suspicious reuses. Hits whose texts are
    not kept can't be judged and are left out."""
    reader = Reader(engine)
    traffic = read_traffic(reader, span)
    drawn: list[tuple[str, str]]
    if suspicious:
        drawn = [(found.decision, note_of(None, "")) for found in find_suspicious(traffic, reader, count)]
    else:
        chosen = next_to_label(traffic, count)
        drawn = [(traffic.recorded.id[row].decode(), note_of(share, cell)) for row, share, cell in chosen]
    notes = dict(drawn)
    decisions = reader.by_id(list(notes))
    keys = [(d.tenant, key) for d in decisions for key in (image_of(d), d.nearest_image)]
    pictures = {key: as_uri(webp) for key, webp in Thumbnails(engine).get(keys).items()}
    tasks = []
    for decision in decisions:
        if (
            decision.question_text is None
            or decision.nearest_question_text is None
            or decision.nearest_answer_text is None
        ):
            continue
        left, right = differing(decision.question_text, decision.nearest_question_text)
        said = [label.answer_text for label in reader.labels(decision.id) if label.answer_text]
        both = tuple(pictures.get((decision.tenant, key), "") for key in (image_of(decision), decision.nearest_image))
        tasks.append(
            Task(
                decision.id, decision.tenant, decision.question_text, decision.nearest_question_text, left, right,
                decision.nearest_answer_text, said[0] if said else "", notes[decision.id], (both[0], both[1]),
                decision.image_box, evidence_of(decision),
            )
        )  # fmt: skip
    # A random order, so that stopping early leaves a random part of every cell behind.
    secrets.SystemRandom().shuffle(tasks)
    return Session(tasks, Ledger(engine))


def find_suspicious(traffic: Any, reader: Reader, count: int) -> Any:
    """The most suspicious reuses without a label."""
    return [found for found in suspicious(traffic, reader.by_id, count * 2) if "LABELLED_WRONG" not in found.signs][
        :count
    ]


def as_uri(webp: bytes) -> str:
    """A picture as a data URI."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


class Page:
    """The labelling page, on 127.0.0.1 only. Its address holds a secret, so that no other page and no other user of the
    machine can label. Use as a context manager."""

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.secret = secrets.token_urlsafe(18)
        environment = Environment(
            loader=PackageLoader("dedup_service.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self.template = environment.get_template("label.html.j2")
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self.handler())
        self.server.daemon_threads = True
        self.port = int(self.server.server_address[1])

    @property
    def url(self) -> str:
        """Where to open it."""
        return f"http://127.0.0.1:{self.port}/{self.secret}/"

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.server_close()

    def serve(self) -> None:
        """Serves until `stop` or an interrupt."""
        self.server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """Ends `serve`; from another thread."""
        self.server.shutdown()

    def render(self, problem: str = "") -> str:
        """The page with the next task."""
        session = self.session
        return self.template.render(task=session.next(), done=session.done, total=len(session.tasks), problem=problem)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The request handler, bound to this page."""
        page = self

        class Handler(BaseHTTPRequestHandler):
            """Answers the page's own two requests and nothing else."""

            timeout = 30

            def do_GET(self) -> None:
                if self.known("/"):
                    self.reply(200, page.render())

            def do_POST(self) -> None:
                if not self.known("/label"):
                    return
                size = self.headers.get("Content-Length", "")
                if not size.isdecimal() or int(size) > LARGEST_FORM:
                    self.reply(413, page.render("That form was too large."))
                    return
                form = parse_qs(self.rfile.read(int(size)).decode("utf-8", "replace"))
                try:
                    page.session.record(form.get("decision", [""])[0], form.get("verdict", [""])[0])
                except KeyError:
                    self.reply(400, page.render("That was no pair of this session, or no verdict."))
                except AuditError as error:
                    self.reply(503, page.render(str(error)))
                else:
                    self.send_response(303)
                    self.send_header("Location", f"/{page.secret}/")
                    self.end_headers()

            def known(self, path: str) -> bool:
                """Whether the request is for this page, from this machine, by its right name."""
                hosts = (f"127.0.0.1:{page.port}", f"localhost:{page.port}")
                if self.headers.get("Host") in hosts and urlsplit(self.path).path == f"/{page.secret}{path}":
                    return True
                self.reply(404, "Not found.")
                return False

            def reply(self, status: int, text: str) -> None:
                """Sends a page that may load nothing from anywhere."""
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                self.send_header("Content-Security-Policy", CONTENT_POLICY)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
                """Keeps the terminal clean."""

        return Handler
