"""The embedded engine: reads each image once and answers from the text that it read."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from askonce.fair import FairExecutor, in_threads
from inference_service.engine import (
    Ask,
    Completed,
    EngineError,
    EngineInfo,
    EngineUnavailableError,
    Finish,
    ImageFile,
    JudgedOn,
    Judgement,
    Piece,
    Sampling,
    StageTimes,
    Usage,
)
from inference_service.reader.answering import Reply, reply_about
from inference_service.reader.cache import Key, PageCache
from inference_service.reader.child import ChildRecogniser
from inference_service.reader.document import Document, study
from inference_service.reader.understanding import understand

TOKEN = re.compile(r"\s*(?:[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+)")
"""What counts as one token of an answer: a word, or a Chinese character."""
REVISION = "2"
"""Changes with every change of the rules that can change an answer: stored answers of another revision are not used."""


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """Settings of the reader; section `reader`, variables `ASKONCE_READER_…`."""

    threads: int = 1
    """Threads of ONNX Runtime, 1 to the number of cores. They spin while they wait: two halve the time of a page on an
    idle machine and cost half as much again in processor time, which a busy machine does not have."""
    max_side: int = 2_000
    """Pixels of the longer side beyond which a page is scaled down before text is looked for."""
    max_pixels: int = 3_000_000
    """Pixels of the page beyond which it is scaled down; a request may ask for fewer."""
    max_images: int = 16
    """The most pages in one request."""
    cache_bytes: int = 32 * 2**20
    """Bytes of pages that are kept for follow-up questions; a page takes about 20 kB."""
    capacity: int = 16
    """Requests taken at once. One page is read at a time; questions about pages already read overtake it."""
    stuck_after: float = 60.0
    """Seconds that one page may take: then its reading is ended, and the image refused."""


@dataclass(slots=True)
class Reading:
    """One page that is being read, and how many wait for it."""

    work: Future[Document]
    result: asyncio.Future[Document]
    waiting: int = 0


class ReaderEngine:
    """Implements `inference_service.engine.Engine` by reading text. For one event loop."""

    def __init__(self, settings: ReaderSettings) -> None:
        self.settings = settings
        self.pages = PageCache(settings.cache_bytes)
        self.readings: dict[Key, Reading] = {}
        self.thread = FairExecutor(1, "reader")
        self.recogniser: ChildRecogniser | None = None
        self.begun: float | None = None
        self.versions = versions()

    @property
    def capacity(self) -> int:
        """Requests taken at once."""
        return self.settings.capacity

    async def start(self) -> None:
        """Loads the weights and reads one small page, so that the first request finds everything warm."""
        try:
            await in_threads(self.thread, self.load)
        except EngineError:
            raise
        except Exception as error:
            raise EngineUnavailableError(
                "READER_UNAVAILABLE", f"The text recogniser can't be loaded: {error}"
            ) from error

    def load(self) -> None:
        """Blocking part of `start`."""
        settings = self.settings
        self.recogniser = ChildRecogniser(settings.threads, settings.max_side, settings.stuck_after)
        understand("总额是多少？")

    async def stop(self) -> None:
        """Drops pages that wait to be read and ends the thread after the one under way."""
        for reading in self.readings.values():
            reading.work.cancel()
        await asyncio.to_thread(self.thread.shutdown, wait=True, cancel_futures=True)
        if self.recogniser is not None:
            await asyncio.to_thread(self.recogniser.close)
        self.recogniser = None

    async def generate(self, ask: Ask) -> AsyncIterator[Piece | Completed]:
        """Answers in pieces of one line."""
        started = time.monotonic()
        pages = [await self.document(image, ask.sampling) for image in ask.images]
        cached = all(known for _, known in pages)
        read = time.monotonic()
        answer = await asyncio.to_thread(reply_about, [page for page, _ in pages], ask.question, ask.language)
        text, finish, tokens = shorten(answer, ask.sampling.max_tokens, ask.sampling.stop)
        for line in text.splitlines(keepends=True):
            yield Piece(line)
        yield Completed(
            text,
            finish,
            usage=Usage(output_tokens=tokens),
            times=StageTimes(vision=None if cached else read - started, decode=time.monotonic() - read),
        )

    async def document(self, image: ImageFile, sampling: Sampling) -> tuple[Document, bool]:
        """What stands on an image, and whether it was known already. One reading serves all who wait for it."""
        pixels = min(sampling.max_pixels or self.settings.max_pixels, self.settings.max_pixels)
        key = image.digest, pixels
        known = self.pages.get(key)
        if known is not None:
            return known, True
        reading = self.readings.get(key) or self.begin(key, image.content)
        reading.waiting += 1
        try:
            return await asyncio.shield(reading.result), False
        finally:
            reading.waiting -= 1
            if not reading.waiting and not reading.result.done() and reading.work.cancel():
                self.readings.pop(key, None)  # nobody waits any more, and the thread has not begun

    def begin(self, key: Key, content: bytes) -> Reading:
        """Hands a page to the thread."""
        if self.recogniser is None:
            raise EngineUnavailableError("READER_UNAVAILABLE", "The reader is not running.")
        work = self.thread.submit(self.read, self.recogniser, content, key[1])
        reading = self.readings[key] = Reading(work, asyncio.wrap_future(work))
        reading.result.add_done_callback(lambda result: self.finish(key, result))
        return reading

    def finish(self, key: Key, result: asyncio.Future[Document]) -> None:
        """Keeps a page that has been read."""
        self.readings.pop(key, None)
        if not result.cancelled() and result.exception() is None:
            self.pages.put(key, result.result())

    def read(self, recogniser: ChildRecogniser, content: bytes, max_pixels: int) -> Document:
        """Reads a page; runs on the thread."""
        self.begun = time.monotonic()
        try:
            return study(recogniser.read(content, max_pixels))
        finally:
            self.begun = None

    async def compare(
        self, pairs: Sequence[tuple[str, str]], deadline: float | None = None, on: JudgedOn | None = None
    ) -> list[Judgement]:
        """The reader has no judgement about questions."""
        return [Judgement("unsure") for _ in pairs]

    def image_tokens(self, width: int, height: int) -> int | None:
        """The reader has no image tokens."""
        return None

    def info(self) -> EngineInfo:
        """Describes the engine."""
        return EngineInfo(
            engine="reader",
            model="reader",
            revision=REVISION,
            max_pixels_limit=self.settings.max_pixels,
            max_images=self.settings.max_images,
            caches=(self.pages.state(),),
            versions=self.versions,
        )

    def healthy(self) -> bool:
        """False while one page takes far too long, when the recogniser can't be started again, and when not running."""
        begun = self.begun
        if self.recogniser is None or self.recogniser.pool.failing():
            return False
        return begun is None or time.monotonic() - begun < self.settings.stuck_after + 1.0


def shorten(answer: Reply, max_tokens: int, stops: Sequence[str]) -> tuple[str, Finish, int]:
    """Cuts an answer at the first stop string and at the token limit; says how it ended and how many tokens it has."""
    text, finish = answer.text, Finish.STOP if answer.answered else Finish.UNANSWERABLE
    ends = [position for stop in stops if (position := text.find(stop)) >= 0]
    if ends:
        text = text[: min(ends)]
    text = text.strip()
    tokens = list(TOKEN.finditer(text))
    if len(tokens) > max_tokens:
        text = text[: tokens[max_tokens - 1].end()]
        finish = Finish.LENGTH if answer.answered else finish
    return text, finish, min(len(tokens), max_tokens)


def versions() -> tuple[str, ...]:
    """Names and versions of the libraries that matter."""
    found: list[str] = []
    for package in ("rapidocr", "onnxruntime", "opencv-python-headless", "pillow"):
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return tuple(found)
