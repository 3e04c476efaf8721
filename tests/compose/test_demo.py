"""The demo's script and its pages."""

from __future__ import annotations

import io

from PIL import Image
from rich.console import Console

from askonce.v1 import answer_pb2, content_pb2
from compose.demo import ACTS, CACHE, FIRST, MODEL, PAGES, Step, Tally, row, shrunk, sum_up

STEPS = [step for _, steps in ACTS for step in steps]


def test_pages_are_there_and_small() -> None:
    """Every page that the demo asks about exists; there are at least twelve, within 2.5 MB together."""
    files = list(PAGES.iterdir())
    assert {step.page for step in STEPS} <= {file.name for file in files}
    assert len({page for page, _ in FIRST}) >= 12
    assert sum(file.stat().st_size for file in files) <= 2_500_000


def test_every_case_is_shown() -> None:
    """Model, exact, re-encoded, reworded, look-alike, another question, another tenant: each has its step."""
    asked = {(step.page, step.question) for step in STEPS if step.expected == MODEL}
    assert all((step.page, step.question) in asked for step in ACTS[1][1])
    assert all(step.shrink and step.expected == CACHE for step in ACTS[2][1])
    reworded = {(step.page, step.question) for step in ACTS[3][1]}
    assert not reworded & asked
    assert any("lookalike" in step.page and step.expected == MODEL for step in STEPS)
    assert any(step.tenant != "demo" and step.expected == MODEL for step in STEPS)


def test_the_look_alike_differs_from_its_twin() -> None:
    """The two invoices have one size and one template, and are not the same picture."""
    with Image.open(PAGES / "invoice-en.png") as left, Image.open(PAGES / "invoice-en-lookalike.png") as right:
        assert left.size == right.size
        assert left.convert("RGB").tobytes() != right.convert("RGB").tobytes()


def test_a_page_is_shrunk_to_another_file_of_the_same_picture() -> None:
    """80 % of each side, JPEG."""
    with Image.open(io.BytesIO(shrunk((PAGES / "chart-sales.png").read_bytes()))) as image:
        assert (image.format, image.size) == ("JPEG", (768, 496))


def test_a_wrong_source_is_counted_and_told() -> None:
    """The table shows source and reason; the totals own up to answers from the wrong source."""
    console = Console(file=io.StringIO(), width=200)
    provenance = content_pb2.Provenance(source=CACHE, reason="EXACT")
    response = answer_pb2.AnswerResponse(answer=content_pb2.Answer(text="一\n二"), provenance=provenance)
    row(console, Step("a.png", "总额？", MODEL), response, 0.0123)
    sum_up(console, Tally(model=[2.0], cache=[0.01, 0.03], unexpected=1))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "CACHE EXACT" in printed
    assert "12.3 ms" in printed
    assert "一 / 二" in printed
    assert "3 questions, 1 calls to the model, 2 answered from memory (67%)" in printed
    assert "up to 4.0 s saved" in printed
    assert "1 answers came from another source" in printed
