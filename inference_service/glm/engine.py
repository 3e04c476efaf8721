"""GLM-4.6V-Flash in this process, behind the engine port."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any

from PIL import Image

from askonce.fair import in_threads
from inference_service.engine import (
    OPTIONAL_PARAMS,
    Ask,
    BadAskError,
    Completed,
    EngineBusyError,
    EngineError,
    EngineInfo,
    EngineUnavailableError,
    JudgedOn,
    Judgement,
    Piece,
    Sampling,
)
from inference_service.glm.detokenizer import Detokenizer
from inference_service.glm.grammar import Constraint, Grammars
from inference_service.glm.judge import Judge
from inference_service.glm.loading import Loaded, load, versions
from inference_service.glm.network import Network
from inference_service.glm.prompt import Prompt, Prompter, Vocabulary, vocabulary_of
from inference_service.glm.sampling import Dice
from inference_service.glm.scheduler import Scheduler
from inference_service.glm.sequence import JudgeBatch, SequenceState
from inference_service.glm.settings import GlmSettings, Quantisation
from inference_service.judge_prompt import Calibration, Put, Reading, Script, bias_of, empty_puts, judgement, puts
from inference_service.picture_work import PictureWork, PictureWorkHere

__all__ = ["GlmEngine", "GlmSettings", "Quantisation"]

LOOK_S = 1.0
"""How often an answer under way looks whether the worker is still well."""
STOP_TIMEOUT_S = 30.0
"""How long `stop` waits for the worker to come out of the model."""


class GlmEngine:
    """Answers with a GLM-4.6V-Flash held in memory. `loader` is where the model comes from, `work` where images are
    decoded: in this process unless given."""

    def __init__(
        self,
        settings: GlmSettings,
        loader: Callable[[GlmSettings], Loaded] = load,
        work: PictureWork | None = None,
    ) -> None:
        self.settings, self.loader = settings, loader
        self.work = work or PictureWorkHere()
        self.capacity = 2 * settings.max_batch_rows  # one batch decodes while the next is being prepared
        self.in_flight = 0
        self.started = False
        self.revision = ""
        self.can_judge = False
        self.grammars: Grammars | None = None
        self.calibration = Calibration(settings.judge_temperature, settings.judge_same_at, settings.judge_different_at)
        self.bias: dict[Script, float] = {}
        self.versions: tuple[str, ...] = ()

    async def start(self) -> None:
        """Loads the model, starts the worker and runs one small request. Raises EngineError."""
        loop = asyncio.get_running_loop()
        loaded, network = await asyncio.to_thread(self.assemble)
        vocabulary = vocabulary_of(loaded.processor.tokenizer, loaded.model.config, loaded.model.generation_config)
        self.vocabulary, self.network, self.revision = vocabulary, network, loaded.revision
        self.prompter = Prompter(
            loaded.processor,
            vocabulary,
            self.settings,
            network.rope,
            lambda key: self.scheduler.runner.grids_of(key),
            self.work,
        )
        self.grammars = await asyncio.to_thread(grammars_of, loaded, vocabulary)
        self.judge = Judge(self.prompter)
        self.can_judge = self.judge.able
        self.scheduler = Scheduler(
            network, self.settings, vocabulary.ends, self.judge.verdicts, self.prompter.patches, loop
        )
        self.pool = ThreadPoolExecutor(self.settings.preprocess_threads, thread_name_prefix="glm-preprocess")
        self.scheduler.thread.start()
        self.started = True
        if self.settings.warm_up:
            try:
                async for _ in self.generate(warm_up_ask(self.settings)):
                    pass
                if self.can_judge:  # also warms the instructions in every language
                    asked = empty_puts()
                    self.bias = bias_of(asked, await self.read(asked))
            except EngineError:
                await self.stop()
                raise

    def assemble(self) -> tuple[Loaded, Network]:
        self.versions = versions()
        loaded = self.loader(self.settings)
        try:
            network = Network(loaded.model, self.settings.max_batch_tokens, self.settings.cuda_graphs)
        except (RuntimeError, MemoryError) as error:
            raise EngineError("MODEL_UNAVAILABLE", f"no memory for the KV cache: {error}") from error
        return loaded, network

    async def stop(self) -> None:
        """Ends running answers with an error, the worker and the pool; frees the model."""
        if not self.started:
            return
        self.started = False
        self.scheduler.stop()
        await asyncio.to_thread(self.scheduler.thread.join, STOP_TIMEOUT_S)
        self.pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.work.close)
        await asyncio.sleep(0)  # lets the last deliveries arrive
        if not self.scheduler.thread.is_alive():
            await asyncio.to_thread(self.scheduler.runner.free)
            del self.network, self.scheduler, self.prompter, self.judge

    async def generate(self, ask: Ask) -> AsyncIterator[Piece | Completed]:
        """Yields pieces and at last a Completed. Raises EngineError; closing the iterator cancels the work."""
        self.require_up()
        if self.in_flight >= self.capacity:
            raise EngineBusyError("ENGINE_BUSY", f"{self.in_flight} requests are being answered", 1.0)
        arrived = time.monotonic()
        self.in_flight += 1
        row: SequenceState | None = None
        try:
            prompt, constraint, took = await self.prepare(ask)
            row = self.row(ask, prompt, took, asyncio.Queue(), constraint=constraint, arrived=arrived)
            self.scheduler.submit(row)
            with self.watching(row.mailbox, ask.deadline):
                while True:
                    item = await row.mailbox.get()
                    if isinstance(item, EngineError):
                        raise item
                    yield item
                    if isinstance(item, Completed):
                        return
        finally:
            self.in_flight -= 1
            if row is not None:
                row.cancelled = True

    def row(
        self, ask: Ask, prompt: Prompt, preprocess: float, mailbox: asyncio.Queue[Any], **more: Any
    ) -> SequenceState:
        """The state of a sequence that begins. Raises BadAskError for one that no KV cache would hold."""
        if (needed := len(prompt.ids) + ask.sampling.max_tokens + 1) > self.network.kv_cache.tokens:
            raise BadAskError("TOO_MANY_TOKENS", f"{needed} tokens are needed; at most {self.network.kv_cache.tokens}")
        spelling, marks = self.vocabulary.spelling, self.vocabulary.marks
        return SequenceState(
            ask=ask,
            prompt=replace(prompt, pixels=None),
            pixels=prompt.pixels,
            detokenizer=Detokenizer(spelling, marks, ask.sampling.stop, prompt.open_thought),
            dice=Dice(ask.sampling.seed),
            mailbox=mailbox,
            preprocess=preprocess,
            **more,
        )

    async def prepare(self, ask: Ask) -> tuple[Prompt, Constraint | None, float]:
        """The prompt and what the answer's form allows, made in the pool, and the seconds it took."""

        def make() -> tuple[Prompt, Constraint | None, float]:
            begin = time.monotonic()
            if ask.deadline is not None and begin >= ask.deadline:
                raise late()
            form = ask.sampling.response_format
            constraint = self.grammars.constraint(form) if form is not None and self.grammars is not None else None
            return self.prompter.prompt(ask), constraint, time.monotonic() - begin

        waiting = in_threads(self.pool, make)
        try:
            async with asyncio.timeout(remaining(ask.deadline)):
                return await waiting
        except TimeoutError as error:
            raise late() from error

    @contextmanager
    def watching(self, mailbox: asyncio.Queue[Any], deadline: float | None) -> Iterator[None]:
        """Puts an error into the mailbox once the deadline has passed, or when the worker is stuck or dead.

        One timer for the whole answer: waiting for each item with a timeout of its own costs more than the item.
        """
        loop = asyncio.get_running_loop()
        timer: asyncio.Handle | None = None

        def look() -> None:
            nonlocal timer
            left = remaining(deadline)
            if left == 0:
                mailbox.put_nowait(late())
            elif mailbox.empty() and not self.healthy():
                mailbox.put_nowait(EngineUnavailableError("ENGINE_STUCK", "the model does not respond"))
            else:
                timer = loop.call_later(LOOK_S if left is None else min(LOOK_S, left), look)

        look()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    async def compare(
        self, pairs: Sequence[tuple[str, str]], deadline: float | None = None, on: JudgedOn | None = None
    ) -> list[Judgement]:
        """Judges pairs of questions with one token for each put. Raises EngineError.

        On an image, what is kept of it is used, and what is made of it is kept, as for questions about it.
        """
        self.require_up()
        if not self.can_judge or not pairs:
            return [Judgement("unsure") for _ in pairs]
        asked = [puts(left, right, on is not None) for left, right in pairs]
        every = [put for each in asked for put in each]
        if on is None:
            readings = await self.read(every, deadline)
        else:
            empty = empty_puts({put.script: None for put in every if put.script not in self.bias})
            readings = await self.read_on([*empty, *every], on, deadline)
            self.bias |= bias_of(empty, readings[: len(empty)])
            readings = readings[len(empty) :]
        judged, place = [], 0
        for each in asked:
            judged.append(judgement(each, readings[place : place + len(each)], self.bias, self.calibration))
            place += len(each)
        return judged

    async def read_on(self, asked: Sequence[Put], on: JudgedOn, deadline: float | None = None) -> list[Reading]:
        """What the model says to each put with the image before it. Raises EngineError."""
        if self.in_flight >= self.capacity:
            raise EngineBusyError("ENGINE_BUSY", f"{self.in_flight} requests are being answered", 1.0)
        self.in_flight += 1
        rows: list[SequenceState] = []
        mailbox: asyncio.Queue[Any] = asyncio.Queue()
        try:
            for put in asked:
                ask = Ask(
                    "judge",
                    on.image.content,
                    on.image.digest,
                    put.text(str),
                    sampling=Sampling(max_tokens=1, max_pixels=on.max_pixels),
                    deadline=deadline,
                    scope=on.scope,
                )
                prompt, _, took = await self.prepare(ask)
                rows.append(self.row(ask, prompt, took, mailbox, judged=True))
                # The first one reads the image; the others follow on what is kept of it.
                self.scheduler.submit(rows[-1])
            with self.watching(mailbox, deadline):
                while any(row.reading is None for row in rows):
                    item = await mailbox.get()
                    if isinstance(item, EngineError):
                        raise item
            return [row.reading for row in rows if row.reading is not None]
        finally:
            self.in_flight -= 1
            for row in rows:
                row.cancelled = True

    async def read(self, asked: Sequence[Put], deadline: float | None = None) -> list[Reading]:
        """What the model says to each put. Raises EngineError."""
        prompts = await in_threads(self.pool, lambda: [self.judge.prompt(put) for put in asked])
        if max(len(prompt.ids) for prompt in prompts) + 1 > self.network.kv_cache.tokens:
            raise BadAskError("TOO_MANY_TOKENS", "the questions are too long to judge")
        batch = JudgeBatch(prompts, asyncio.Queue(), deadline)
        self.scheduler.judge(batch)
        try:
            with self.watching(batch.mailbox, deadline):
                readings = await batch.mailbox.get()
        finally:
            batch.cancelled = True
        if isinstance(readings, EngineError):
            raise readings
        return readings

    def require_up(self) -> None:
        if not self.started:
            raise EngineUnavailableError("ENGINE_STOPPED", "the engine is not started")
        if not self.healthy():
            raise EngineUnavailableError("ENGINE_STUCK", "the model does not respond")

    def image_tokens(self, width: int, height: int) -> int | None:
        """Image tokens of a picture of this size. Raises BadAskError for a shape that the model can't look at."""
        return self.prompter.image_tokens(width, height) if self.started else None

    def info(self) -> EngineInfo:
        """The model, its limits and its caches."""
        caches = (
            (self.scheduler.runner.prefixes.state(), self.scheduler.runner.features.state()) if self.started else ()
        )
        quantised = "" if self.settings.quantisation is Quantisation.NONE else f"+{self.settings.quantisation.value}"
        return EngineInfo(
            engine="transformers",
            model=self.settings.model,
            revision=self.revision,
            dtype=self.settings.dtype + quantised,
            max_tokens_limit=self.settings.max_tokens_limit,
            max_pixels_limit=self.settings.max_pixels_limit,
            max_images=self.settings.max_images,
            caches=caches,
            can_judge=self.can_judge,
            supported_params=frozenset(OPTIONAL_PARAMS) - (set() if self.grammars else {"response_format"}),
            versions=self.versions,
        )

    def healthy(self) -> bool:
        """Whether the worker lives and comes out of the model in time."""
        return self.started and self.scheduler.healthy()


def grammars_of(loaded: Loaded, vocabulary: Vocabulary) -> Grammars | None:
    """What holds answers to a form; None where llguidance is not installed."""
    try:
        size = int(loaded.model.config.text_config.vocab_size)
        return Grammars(loaded.processor.tokenizer, vocabulary.ends, size)
    except ImportError:
        return None


def remaining(deadline: float | None) -> float | None:
    """Seconds left until a deadline, not below 0."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def late() -> EngineError:
    """The error of a request whose deadline has passed."""
    return EngineError("DEADLINE_EXCEEDED", "the deadline passed")


def warm_up_ask(settings: GlmSettings) -> Ask:
    """A small request through every stage."""
    file = io.BytesIO()
    Image.new("RGB", (224, 224), (128, 128, 128)).save(file, "PNG")
    content = file.getvalue()
    sampling = Sampling(max_tokens=min(4, settings.max_tokens_limit))
    return Ask("warm-up", content, sha256(content).digest(), "What is this?", sampling=sampling)
