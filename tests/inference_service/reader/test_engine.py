"""The embedded engine on real weights and real pages."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image, ImageDraw

from benchmarks.hostile_files import many_scans
from inference_service.engine import Ask, BadAskError, Completed, EngineUnavailableError, Finish, Piece, Sampling
from inference_service.reader.answering import Reply
from inference_service.reader.cache import PageCache
from inference_service.reader.child import ChildRecogniser
from inference_service.reader.document import study
from inference_service.reader.engine import ReaderEngine, ReaderSettings, shorten
from inference_service.reader.page import Page
from inference_service.reader.recogniser import decode
from tests.inference_service.reader.pages import RECEIPT, SCREEN

EXAMPLES = Path(__file__).parents[3] / "examples" / "pages"


def picture(text: str = "Total 12.50", mode: str = "RGB", form: str = "PNG", **options: object) -> bytes:
    """A small page with one line."""
    image = Image.new("RGB", (320, 96), "white")
    ImageDraw.Draw(image).text((20, 30), text, fill="black", font_size=28)
    file = io.BytesIO()
    image.convert(mode).save(file, form, **options)
    return file.getvalue()


def make(content: bytes, question: str = "What is the total?", **sampling: object) -> Ask:
    """An ask about an encoded file."""
    return Ask("r", content, hashlib.sha256(content).digest(), question, sampling=Sampling(**sampling))  # type: ignore[arg-type]


async def run(engine: ReaderEngine, ask: Ask) -> tuple[list[str], Completed]:
    """The pieces and the end of an answer."""
    items = [item async for item in engine.generate(ask)]
    assert isinstance(items[-1], Completed)
    return [item.text for item in items if isinstance(item, Piece)], items[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[ReaderEngine]:
    """A started engine."""
    engine = ReaderEngine(ReaderSettings(threads=1))
    await engine.start()
    yield engine
    await engine.stop()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_reads_once_and_answers_many_questions(engine: ReaderEngine) -> None:
    """The first question reads the page, later ones find it; stage times say which."""
    before = engine.pages.state()
    ask = make(picture("Total 77.10"))
    _, first = await run(engine, ask)
    _, second = await run(engine, replace(ask, question="总金额是多少？"))
    after = engine.pages.state()
    assert (first.text, second.text, first.finish) == ("77.10", "77.10", Finish.STOP)
    assert first.times.vision is not None
    assert second.times.vision is None
    assert (after.hits - before.hits, after.misses - before.misses) == (1, 1)
    assert 0 < after.bytes_used < after.bytes_limit


async def test_waiters_for_one_page_share_one_reading(engine: ReaderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent questions about a new image run the recogniser once."""
    count = 0

    def counted(self: ChildRecogniser, content: bytes, max_pixels: int) -> Page:
        nonlocal count
        count += 1
        assert threading.current_thread().name.startswith("reader")
        time.sleep(0.05)
        return RECEIPT

    monkeypatch.setattr(ChildRecogniser, "read", counted)
    ask = make(b"one image")
    answers = await asyncio.gather(*(run(engine, ask) for _ in range(5)))
    assert [end.text for _, end in answers] == ["19.48"] * 5
    assert count == 1


async def test_a_failure_is_shared_and_not_kept(engine: ReaderEngine) -> None:
    """Everybody who waits for an unreadable file is told so; nothing of it is stored."""
    before = engine.pages.state().entries
    ask = make(b"\xff\xd8\xff broken")
    results = await asyncio.gather(*(run(engine, ask) for _ in range(3)), return_exceptions=True)
    assert [isinstance(each, BadAskError) and each.reason for each in results] == ["IMAGE_UNREADABLE"] * 3
    assert engine.pages.state().entries == before
    assert engine.readings == {}


async def test_a_page_that_nobody_waits_for_is_not_read(engine: ReaderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last waiter leaves before the thread has begun, the page leaves the line; a first one alone does not."""
    release, seen = threading.Event(), list[bytes]()

    def slow(self: ChildRecogniser, content: bytes, max_pixels: int) -> Page:
        seen.append(content)
        release.wait(5)
        return RECEIPT

    monkeypatch.setattr(ChildRecogniser, "read", slow)
    busy = asyncio.create_task(run(engine, make(b"busy")))
    while not seen:
        await asyncio.sleep(0.01)
    dropped = asyncio.create_task(run(engine, make(b"dropped")))
    left, kept = (asyncio.create_task(run(engine, make(b"kept"))) for _ in range(2))
    await asyncio.sleep(0.02)
    dropped.cancel()
    left.cancel()
    await asyncio.gather(dropped, left, return_exceptions=True)
    release.set()
    assert (await busy)[1].text == (await kept)[1].text == "19.48"
    assert seen == [b"busy", b"kept"]


async def test_unhealthy_while_a_page_takes_far_too_long(engine: ReaderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck thread shows in the health, and the health comes back with it."""
    assert engine.healthy()
    monkeypatch.setattr(engine, "begun", time.monotonic() - 62)
    assert not engine.healthy()


async def test_a_killed_recogniser_costs_no_answer(engine: ReaderEngine) -> None:
    """When the child is killed, the page is read by the next one; the engine stays healthy."""
    assert engine.recogniser is not None
    for child in list(engine.recogniser.pool.alive):
        child.process.kill()
    assert (await run(engine, make(picture("Total 41.10"))))[1].text == "41.10"
    assert engine.healthy()


async def test_costly_files_are_refused(engine: ReaderEngine) -> None:
    """A file that would take long to decode is refused by its header."""
    with pytest.raises(BadAskError) as refused:
        await run(engine, make(many_scans(300)))
    assert refused.value.reason == "IMAGE_TOO_COMPLEX"


async def test_an_engine_that_is_not_running_says_so() -> None:
    """Before start and after stop work is refused, and stopping twice is safe."""
    idle = await asyncio.to_thread(ReaderEngine, ReaderSettings())  # asks for the versions of packages: reads files
    assert not idle.healthy()
    with pytest.raises(EngineUnavailableError):
        await run(idle, make(b"x"))
    await idle.stop()
    await idle.stop()


FILES = {
    "palette": picture(mode="P"),
    "grey": picture(mode="L"),
    "bits": picture(mode="1"),
    "alpha": picture(mode="RGBA"),
    "cmyk": picture(mode="CMYK", form="JPEG"),
    "webp": picture(form="WEBP", lossless=True),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
async def test_every_kind_of_pixel_is_read(engine: ReaderEngine, content: bytes) -> None:
    """Palette, grey, bilevel, alpha and CMYK pictures are read like plain ones."""
    assert (await run(engine, make(content)))[1].text == "12.50"


async def test_sixteen_bits_of_grey_and_transparent_parts() -> None:
    """Sixteen bits are scaled, not cut off; what is transparent is white paper."""
    file = io.BytesIO()
    Image.fromarray(np.full((20, 20), 32_768, dtype=np.uint16)).save(file, "PNG")
    assert decode(file.getvalue(), 10_000)[0, 0].tolist() == [128, 128, 128]
    file = io.BytesIO()
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(file, "PNG")
    assert decode(file.getvalue(), 10_000)[0, 0].tolist() == [255, 255, 255]


async def test_pages_are_turned_as_their_exif_says() -> None:
    """An EXIF orientation is applied before reading."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(picture(form="JPEG", exif=exif), 10**6).shape == (320, 96, 3)


async def test_the_pixel_budget_is_kept() -> None:
    """A page is scaled down to the pixels that a request allows, and its sides keep their ratio."""
    height, width, _ = decode(picture(), 7_680).shape
    assert height * width <= 7_680
    assert width / height == pytest.approx(320 / 96, rel=0.05)


def sized(width: int, height: int) -> bytes:
    """A picture of that size."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "IMAGE_UNREADABLE"),
        (b"plain text", "IMAGE_UNREADABLE"),
        (picture(form="GIF"), "IMAGE_UNREADABLE"),
        (picture(form="JPEG")[:900], "IMAGE_UNREADABLE"),
        (picture()[:300], "IMAGE_UNREADABLE"),
        (sized(1, 1), "IMAGE_TOO_SMALL"),
        (sized(3_000, 10), "IMAGE_ASPECT_UNSUPPORTED"),
        (sized(10_000, 10_000), "IMAGE_TOO_MANY_PIXELS"),
    ],
)
async def test_unreadable_files_are_named(content: bytes, reason: str) -> None:
    """Each kind of bad file has its reason, also when the gateway did not stand in front."""
    with pytest.raises(BadAskError) as refused:
        decode(content, 10**6)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("limit", "stops", "text", "finish"),
    [
        (128, (), "one two 三四", Finish.STOP),
        (3, (), "one two 三", Finish.LENGTH),
        (4, (), "one two 三四", Finish.STOP),
        (128, (" two",), "one", Finish.STOP),
    ],
)
async def test_answers_end_where_they_were_asked_to(
    limit: int, stops: tuple[str, ...], text: str, finish: Finish
) -> None:
    """A word or a Chinese character is a token; a cut answer says LENGTH; a stop string is no part of it."""
    assert shorten(Reply("one two 三四"), limit, stops)[:2] == (text, finish)


async def test_what_can_not_be_answered_is_marked() -> None:
    """UNANSWERABLE, also when it was cut: such an answer is never stored."""
    assert shorten(Reply("I can't", answered=False), 1, ())[1] is Finish.UNANSWERABLE


async def test_the_cache_is_bounded_by_bytes_and_drops_the_oldest() -> None:
    """Least recently used pages leave first; a page larger than the whole cache is not kept."""
    document = study(RECEIPT)
    cache = PageCache(2 * document.size)
    keys = [(bytes([number]) * 32, 1) for number in range(3)]
    cache.put(keys[0], document)
    cache.put(keys[1], document)
    assert cache.get(keys[0]) is document
    cache.put(keys[2], document)
    assert cache.get(keys[1]) is None
    assert cache.get(keys[0]) is document
    assert cache.state().bytes_used <= cache.state().bytes_limit
    small = PageCache(10)
    small.put(keys[0], study(SCREEN))
    assert small.state().entries == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "question", "answer"),
    [
        ("receipt-grocer.jpg", "What is the total?", "£19.09"),
        ("receipt-cafe.jpg", "How much is the almond croissant?", "3.25"),
        ("receipt-supermarket-zh.jpg", "找零是多少？", "30.00"),
        ("invoice-en.png", "What is the total?", "£904.80"),
        ("invoice-en-lookalike.png", "What is the total?", "£1,079.40"),
        ("invoice-zh.png", "销售方名称是什么？", "杭州云杉办公设备有限公司"),
        ("chart-sales.png", "What is the value for Q3?", "1735"),
        ("screen-settings.png", "What is the IP address?", "10.24.8.117"),
    ],
)
async def test_example_pages(engine: ReaderEngine, page: str, question: str, answer: str) -> None:
    """The pages of the demo are read right, end to end."""
    assert (await run(engine, make((EXAMPLES / page).read_bytes(), question)))[1].text == answer
