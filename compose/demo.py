"""Starts the system, asks about the example pages, and shows who answered: the model or memory.

    python -m compose.demo

Ends with status 0 when every question was answered by the source that it should have been answered by.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
from PIL import Image
from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from askonce.dialing import Dialing, dial
from askonce.faults import from_error
from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2
from compose.local import ROOT, StartError, System

PAGES = ROOT / "examples" / "pages"
HOME = ROOT / "var" / "demo"

MODEL, CACHE = content_pb2.SOURCE_MODEL, content_pb2.SOURCE_CACHE
NAMES = {MODEL: "MODEL", CACHE: "CACHE"}


@dataclass(frozen=True, slots=True)
class Step:
    """One question of the demo."""

    page: str
    question: str
    expected: int
    """The source that must answer."""
    shrink: bool = False
    """Whether to send the page re-encoded as JPEG at 80 % of its size."""
    tenant: str = "demo"


@dataclass(slots=True)
class Tally:
    """What the demo counts."""

    model: list[float] = field(default_factory=list)
    """Seconds of every answer by the model."""
    cache: list[float] = field(default_factory=list)
    """Seconds of every answer from memory."""
    unexpected: int = 0


FIRST = (
    ("receipt-grocer.jpg", "What is the total?"),
    ("receipt-cafe.jpg", "How much is the almond croissant?"),
    ("receipt-supermarket-zh.jpg", "应付金额是多少？"),
    ("invoice-en.png", "What is the total amount?"),
    ("invoice-zh.png", "价税合计是多少？"),
    ("chart-sales.png", "What is the value for Q3?"),
    ("chart-energy-zh.png", "生产部的用电量是多少？"),
    ("screen-settings.png", "What is the IP address?"),
    ("screen-order-zh.png", "运单号是什么？"),
    ("label-parcel.png", "What is the tracking number?"),
    ("label-medicine-zh.png", "生产批号是什么？"),
    ("ticket-train.png", "What is the seat?"),
)

ACTS: tuple[tuple[str, tuple[Step, ...]], ...] = (
    ("Asked for the first time: the model answers", tuple(Step(page, question, MODEL) for page, question in FIRST)),
    ("The same again: exact", tuple(Step(page, question, CACHE) for page, question in FIRST)),
    (
        "Re-encoded and resized files: the same image",
        (
            Step("receipt-grocer.jpg", "What is the total?", CACHE, shrink=True),
            Step("invoice-en.png", "What is the total amount?", CACHE, shrink=True),
            Step("receipt-supermarket-zh.jpg", "应付金额是多少？", CACHE, shrink=True),
        ),
    ),
    (
        "Only case, width and punctuation differ: the same question",
        (
            Step("receipt-grocer.jpg", "what is the TOTAL", CACHE),
            Step("screen-settings.png", "Ｗｈａｔ ｉｓ ｔｈｅ ＩＰ ａｄｄｒｅｓｓ？", CACHE),
            Step("invoice-zh.png", "價稅合計是多少?", CACHE),
        ),
    ),
    (
        "A look-alike, another question, another tenant: the model again",
        (
            Step("invoice-en-lookalike.png", "What is the total amount?", MODEL),
            Step("invoice-en.png", "What is the amount before tax?", MODEL),
            Step("receipt-supermarket-zh.jpg", "找零是多少？", MODEL),
            Step("receipt-grocer.jpg", "What is the total?", MODEL, tenant="other"),
        ),
    ),
    (
        "What the reader can't answer it says plainly, and that is never stored",
        (
            Step("chart-sales.png", "What colour are the bars?", MODEL),
            Step("chart-sales.png", "What colour are the bars?", MODEL),
        ),
    ),
)


def shrunk(content: bytes) -> bytes:
    """The page as JPEG at 80 % of its size."""
    with Image.open(io.BytesIO(content)) as image:
        size = round(image.width * 0.8), round(image.height * 0.8)
        smaller = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    smaller.save(file, "JPEG", quality=85)
    return file.getvalue()


async def ask(stub: answer_pb2_grpc.AnswerServiceAsyncStub, step: Step, content: bytes) -> answer_pb2.AnswerResponse:
    """Asks one question."""
    request = answer_pb2.AnswerRequest(
        parent=f"tenants/{step.tenant}",
        image=content_pb2.Image(content=content),
        question=content_pb2.Question(text=step.question),
    )
    return await stub.Answer(request, timeout=60.0)


def row(console: Console, step: Step, response: answer_pb2.AnswerResponse, seconds: float) -> None:
    """Prints one line of the table as it happens."""
    source, reason = response.provenance.source, response.provenance.reason
    page = f"{step.page.rpartition('.')[0]}{' (80 %)' if step.shrink else ''}"
    line = Text("  ")
    line.append(set_cell_size(page, 30) + " ")
    line.append(set_cell_size(step.question, 40) + " ")
    colour = "red" if source != step.expected else "green" if source == CACHE else "yellow"
    line.append(set_cell_size(NAMES.get(source, "?"), 6), style=f"bold {colour}")
    line.append(set_cell_size(reason, 20) + " ")
    line.append(f"{seconds * 1000:8,.1f} ms  ")
    line.append(response.answer.text.replace("\n", " / "))
    console.print(line)


async def play(stub: answer_pb2_grpc.AnswerServiceAsyncStub, console: Console) -> Tally:
    """Asks everything and prints each answer."""
    tally = Tally()
    contents = {path.name: path.read_bytes() for path in sorted(PAGES.iterdir())}
    for title, steps in ACTS:
        console.print(f"\n[bold]{title}[/bold]")
        for step in steps:
            content = shrunk(contents[step.page]) if step.shrink else contents[step.page]
            started = time.perf_counter()
            response = await ask(stub, step, content)
            seconds = time.perf_counter() - started
            row(console, step, response, seconds)
            (tally.cache if response.provenance.source == CACHE else tally.model).append(seconds)
            tally.unexpected += response.provenance.source != step.expected
        await asyncio.sleep(0.3)  # answers are stored in the background; the next act asks for them
    return tally


def sum_up(console: Console, tally: Tally) -> None:
    """Prints the totals."""
    asked = len(tally.model) + len(tally.cache)
    usual = sum(tally.model) / max(1, len(tally.model))
    saved = len(tally.cache) * usual - sum(tally.cache)
    console.print(
        f"\n[bold]{asked} questions, {len(tally.model)} calls to the model, {len(tally.cache)} answered from memory "
        f"({len(tally.cache) / asked:.0%}).[/bold]"
    )
    remembered = sum(tally.cache) / max(1, len(tally.cache))
    console.print(
        f"An answer took {usual * 1000:,.0f} ms from the model and {remembered * 1000:,.1f} ms from memory: "
        f"up to {max(0.0, saved):.1f} s saved."
    )
    if tally.unexpected:
        console.print(
            f"[bold red]{tally.unexpected} answers came from another source than they should have.[/bold red]"
        )
    console.print("Try your own: `make serve`, then see examples/client.py.")


async def main(arguments: Sequence[str] = ()) -> int:
    """Runs the demo; returns the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    shutil.rmtree(HOME, ignore_errors=True)
    console.print("Starting inference, dedup and gateway on this machine ...")
    started = time.perf_counter()
    system = System(HOME, environ={"ASKONCE_READER_THREADS": "2"}, echo="--logs" in arguments)
    try:
        async with system:
            console.print(f"Ready after {time.perf_counter() - started:.1f} s; clients connect to {system.gateway}.")
            channel = dial(Dialing(target=system.gateway))
            try:
                tally = await play(answer_pb2_grpc.AnswerServiceStub(channel), console)
            finally:
                await channel.close()
        sum_up(console, tally)
    except StartError as error:
        console.print(f"[red]{error}[/red]", markup=True)
        return 1
    except grpc.aio.AioRpcError as error:
        fault = from_error(error)
        console.print(f"[red]{fault.reason}: {fault.message}[/red] (logs are in {HOME / 'logs'})")
        return 1
    return 1 if tally.unexpected else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
