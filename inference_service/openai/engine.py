"""Answers through OpenAI-compatible servers: vLLM, SGLang, `transformers serve` or a hosted endpoint."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from httpx_sse import SSEError, aconnect_sse
from PIL import Image

from inference_service.answer_text import AnswerText, Shown
from inference_service.engine import (
    THINKING_LEAKED,
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
    StageTimes,
    Usage,
)
from inference_service.judge_prompt import Calibration, Put, Reading, Script, bias_of, empty_puts, judgement, puts
from inference_service.loop_guard import LoopGuard
from inference_service.metrics import UPSTREAM_TROUBLE
from inference_service.openai.messages import (
    MOST_ANSWER_CHARACTERS,
    chat_body,
    detail_of,
    finish_of,
    judge_body,
    listed,
    malformed,
    parsed,
    pieces_of,
    reading_of,
    retry_after,
    supported,
    usage_of,
)
from inference_service.openai.picture import Picture, picture_of
from inference_service.openai.settings import OpenAISettings
from inference_service.openai.upstreams import RetryBudget, Upstream, Upstreams
from inference_service.picture_work import PictureWork, PictureWorkHere

__all__ = ["OpenAIEngine", "OpenAISettings"]

log = structlog.get_logger("openai_engine")


MISCONFIGURED, LOST_IMAGE = "UPSTREAM_MISCONFIGURED", "UPSTREAM_LOST_IMAGE"

DOUBTFUL = frozenset({400, 413, 422})
"""Refusals that are the client's fault or the operator's: a trial of the server tells."""

TRIAL_SIDE = 448
"""Pixels of the sides of a trial's image: 256 image tokens."""

TRIAL_KEEPS_S = 30.0
"""How long the outcome of a trial holds."""


class OpenAIEngine:
    """The engine port in front of OpenAI-compatible servers. `transport` replaces the network in tests; `work` is where
    images are decoded: in this process unless given."""

    def __init__(
        self,
        settings: OpenAISettings,
        transport: httpx.AsyncBaseTransport | None = None,
        work: PictureWork | None = None,
    ) -> None:
        urls = tuple(dict.fromkeys(url.strip().rstrip("/") for url in settings.base_url.split(",") if url.strip()))
        self.settings, self.urls, self.transport = settings, urls, transport
        self.work = work or PictureWorkHere()
        self.capacity = max(1, settings.concurrency * len(urls))
        self.upstreams = Upstreams(urls, settings.breaker_threshold, settings.breaker_ttl_s)
        self.budget = RetryBudget(settings.retry_share)
        self.model = settings.model
        self.client: httpx.AsyncClient | None = None
        self.prober: asyncio.Task[None] | None = None
        self.in_flight = 0
        self.can_judge = settings.judge
        self.calibration = Calibration(settings.judge_temperature, settings.judge_same_at, settings.judge_different_at)
        self.bias: dict[Script, float] = {}
        """Of the judge, for the scripts with which a pair was judged already."""
        self.trials: dict[str, tuple[float, bool]] = {}

    async def start(self) -> None:
        """Opens the connection pool and asks for the model's name. Raises EngineError when no server answers."""
        if not self.urls:
            raise EngineError("MODEL_UNAVAILABLE", "no base URL is named")
        if bad := [url for url in self.urls if not url.startswith(("http://", "https://"))]:
            raise EngineError("MODEL_UNAVAILABLE", f"{bad[0]!r} is no http or https address")
        settings = self.settings
        self.client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {},
            timeout=httpx.Timeout(settings.idle_timeout_s, connect=settings.connect_timeout_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=self.capacity),
            verify=trusted(settings.ca_bundle),
            # A proxy of the environment is for what lies outside: a server on this machine is asked directly.
            mounts={f"all://{host}": None for host in map(host_of, self.urls) if is_loopback(host)},
            transport=self.transport,
        )
        await asyncio.gather(*(self.probe(each) for each in self.upstreams.members))
        if not any(each.reachable for each in self.upstreams.members):
            await self.stop()
            raise EngineUnavailableError("UPSTREAM_UNREACHABLE", "no upstream lists its models")
        if not self.model:
            await self.stop()
            raise EngineError("MODEL_UNAVAILABLE", "the upstream lists no model: name one")
        self.prober = asyncio.create_task(self.watch())

    async def stop(self) -> None:
        """Ends the probes and closes every connection."""
        if self.prober is not None:
            self.prober.cancel()
            with suppress(asyncio.CancelledError):
                await self.prober
            self.prober = None
        if self.client is not None:
            await self.client.aclose()
            self.client = None
            await asyncio.to_thread(self.work.close)

    async def watch(self) -> None:
        """Asks every server now and then whether it is there, and one in trouble whether that is over."""
        while True:
            await asyncio.sleep(self.settings.probe_interval_s)
            await asyncio.gather(*(self.probe(each) for each in self.upstreams.members))
            for each in self.upstreams.members:
                if each.trouble and each.reachable and await self.trial(each):
                    log.info("upstream_well_again", url=each.url)
                    each.trouble = ""

    async def probe(self, upstream: Upstream) -> None:
        """Asks for the list of models and notes whether the server is there and what it hosts."""
        try:
            timeout = self.settings.connect_timeout_s + self.settings.probe_interval_s
            answer = await self.opened().get(f"{upstream.url}/models", timeout=timeout)
            upstream.reachable = answer.status_code not in (502, 503, 504)  # a server without the list still serves
            found = answer.json()["data"] if answer.status_code == 200 else []
            named = {str(each["id"]): each for each in found}
            chosen = self.settings.model or (self.model if self.model in named else next(iter(named), ""))
            upstream.model, upstream.root = chosen, str(named.get(chosen, {}).get("root") or "")
            self.name_model()
        except httpx.HTTPError:
            upstream.reachable = False
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # it speaks HTTP but lists nothing that we understand; requests will tell

    def name_model(self) -> None:
        """Takes the model's name from the servers where the settings name none; a name in use is kept while any server
        lists it."""
        names = [each.model for each in self.upstreams.members if each.model]
        if not self.settings.model and names and self.model not in names:
            self.model = names[0]

    def opened(self) -> httpx.AsyncClient:
        if self.client is None:
            raise EngineUnavailableError("ENGINE_STOPPED", "the engine is not started")
        return self.client

    async def generate(self, ask: Ask) -> AsyncIterator[Piece | Completed]:
        """Yields pieces and at last a Completed. Raises EngineError within the deadline."""
        self.opened()
        self.check(ask)
        if self.in_flight >= self.capacity:
            raise EngineBusyError("ENGINE_BUSY", f"{self.in_flight} requests are being answered", 1.0)
        deadline = self.deadline(ask.deadline)
        self.in_flight += 1
        try:
            begin = time.monotonic()
            try:
                async with asyncio.timeout(remaining(deadline)):
                    pictures, body = await asyncio.to_thread(self.prepare, ask)
            except TimeoutError as error:
                raise late() from error
            prepared = time.monotonic() - begin
            self.budget.earn()
            tried: set[str] = set()
            for attempt in range(1, self.settings.attempts + 1):
                upstream = self.upstreams.choose(tried, ask.image_digest)
                tried.add(upstream.url)
                silent = True
                answer = self.answer(upstream, pictures, body, deadline)
                try:
                    async for item in answer:
                        silent = False
                        if isinstance(item, Completed):
                            item = replace(item, times=replace(item.times, preprocess=prepared))
                        yield item
                    return
                except BadAskError:
                    raise
                except EngineError as error:
                    last = attempt == self.settings.attempts
                    if last or not silent or not await self.again(error, attempt, tried, deadline):
                        raise
                finally:
                    await answer.aclose()
        finally:
            self.in_flight -= 1

    def prepare(self, ask: Ask) -> tuple[list[Picture], dict[str, Any]]:
        """The images and the request's body; runs in a thread."""
        settings = self.settings
        budget = min(ask.sampling.max_pixels or settings.max_pixels_limit, settings.max_pixels_limit)
        pictures = [
            self.work.run(picture_of, image.content, budget, settings.max_source_pixels) for image in ask.images
        ]
        return pictures, chat_body(ask, [picture.data_uri() for picture in pictures], self.model, settings)

    def check(self, ask: Ask) -> None:
        """Raises BadAskError for settings that no server takes."""
        sampling = ask.sampling
        if not 1 <= sampling.max_tokens <= self.settings.max_tokens_limit:
            raise BadAskError("MAX_TOKENS_OUT_OF_RANGE", f"max_tokens must be 1 to {self.settings.max_tokens_limit}")
        if not 0 <= sampling.temperature <= 2:  # false for NaN, too
            raise BadAskError("TEMPERATURE_OUT_OF_RANGE", "temperature must be 0 to 2")
        if not 0 < sampling.top_p <= 1:
            raise BadAskError("TOP_P_OUT_OF_RANGE", "top_p must be above 0 and at most 1")
        if len(sampling.stop) > 4 or any(not 0 < len(stop) <= 256 for stop in sampling.stop):
            raise BadAskError("STOP_OUT_OF_RANGE", "at most 4 stop strings of 1 to 256 characters")

    def deadline(self, wanted: float | None) -> float:
        """The request's deadline, or the engine's own."""
        return time.monotonic() + self.settings.request_timeout_s if wanted is None else wanted

    async def again(self, error: EngineError, attempt: int, tried: set[str], deadline: float) -> bool:
        """Whether to ask once more: another server at once, or, when all were tried, any after a pause."""
        if error.reason == "DEADLINE_EXCEEDED":
            return False
        fresh = len(tried) < len(self.urls)
        if not fresh and error.reason in (MISCONFIGURED, LOST_IMAGE, "UPSTREAM_UNAUTHORISED"):
            return False
        pause = 0.0 if fresh else max(error.retry_after or 0.0, 0.05 * 2**attempt)
        if time.monotonic() + pause >= deadline or not self.budget.spend():
            return False
        if not fresh:
            await asyncio.sleep(pause)
            tried.clear()
        return True

    async def answer(
        self, upstream: Upstream, pictures: Sequence[Picture], body: Mapping[str, Any], deadline: float
    ) -> AsyncGenerator[Piece | Completed, None]:
        """One attempt at one server. Raises EngineError for whatever goes wrong there."""
        begin = time.monotonic()
        first: float | None = None
        answer, usage, finish = AnswerText(), Usage(), ""
        guard, held, emitted = LoopGuard(), Shown(), 0.0
        length = 0
        async with self.upstreams.using(upstream):
            events = self.events(upstream, body, deadline)
            try:
                async for event in events:
                    first = time.monotonic() if first is None else first
                    usage = usage_of(event, usage)
                    self.look_for_images(upstream, pictures, usage)
                    for choice in listed(event, "choices"):
                        delta = choice.get("delta") or {}
                        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
                        text = delta.get("content") or ""
                        if not isinstance(thought, str) or not isinstance(text, str):
                            raise malformed("a delta holds something other than text")
                        length += len(thought) + len(text)
                        if length > MOST_ANSWER_CHARACTERS:
                            raise malformed("the answer does not end")
                        for shown in (answer.add_thought(thought), answer.feed(text)):
                            held = Shown(held.thinking + shown.thinking, held.text + shown.text)
                        finish = str(choice.get("finish_reason") or finish)
                        if guard.feed(thought + text):
                            finish = "repetition"
                    if (now := time.monotonic()) - emitted >= self.settings.emit_interval_s:
                        pieces, held = pieces_of(held), Shown()
                        emitted = now if pieces else emitted
                        for piece in pieces:
                            yield piece
                    if guard.looping:
                        break
            finally:
                await events.aclose()
            if not finish:
                raise EngineUnavailableError("UPSTREAM_RESET", "the stream ended before the answer did")
            rest = answer.finish()
            for piece in pieces_of(Shown(held.thinking + rest.thinking, held.text + rest.text)):
                yield piece
            now = time.monotonic()
            first = now if first is None else first
            if answer.leaked:
                UPSTREAM_TROUBLE.labels(THINKING_LEAKED).inc()
            yield Completed(
                answer.text,
                finish_of(finish),
                usage,
                StageTimes(prefill=first - begin, decode=now - first),
                answer.thinking_text,
                detail=detail_of(finish),
                unfit=THINKING_LEAKED if answer.leaked else "",
            )

    def look_for_images(self, upstream: Upstream, pictures: Sequence[Picture], usage: Usage) -> None:
        """Raises EngineError when the prompt, as the server counted it, is too short to have held the images."""
        least = self.least_tokens(pictures)
        if 0 < usage.input_tokens < least:
            self.condemn(upstream, LOST_IMAGE)
            raise EngineUnavailableError(
                LOST_IMAGE, f"the upstream saw {usage.input_tokens} tokens; the image alone costs {2 * least:.0f}"
            )

    def least_tokens(self, pictures: Sequence[Picture]) -> float:
        """The tokens that a prompt with these images has at the very least."""
        return sum(picture.tokens(self.settings.image_token_side) for picture in pictures) / 2

    def condemn(self, upstream: Upstream, reason: str) -> None:
        """Sends a server nothing more until a trial goes well."""
        UPSTREAM_TROUBLE.labels(reason).inc()
        if not upstream.trouble:
            log.error("upstream_left_alone", url=upstream.url, reason=reason)
        upstream.trouble = reason

    async def trial(self, upstream: Upstream) -> bool:
        """Whether a server answers a small request that can't be wrong, with its image; remembered for a while."""
        if (known := self.trials.get(upstream.url)) and time.monotonic() - known[0] < self.trial_keeps():
            return known[1]
        try:
            pictures, body = await asyncio.to_thread(self.prepare, trial_ask())
            body |= {"stream": False}
            del body["stream_options"]
            limit = self.settings.first_token_timeout_s
            answer = await self.opened().post(f"{upstream.url}/chat/completions", json=body, timeout=limit)
            usage = usage_of(parsed(answer.text), Usage()) if answer.status_code == 200 else Usage()
            least = self.least_tokens(pictures)
            well = answer.status_code == 200 and not 0 < usage.input_tokens < least
        except (httpx.HTTPError, EngineError):
            well = False
        self.trials[upstream.url] = (time.monotonic(), well)
        return well

    def trial_keeps(self) -> float:
        """How long a trial's outcome holds: not longer than to the next probe but one."""
        return min(TRIAL_KEEPS_S, 2 * self.settings.probe_interval_s)

    async def refuse(self, upstream: Upstream, response: httpx.Response) -> None:
        """Raises the EngineError that belongs to a refusal; returns for 200. A server's words never reach a client."""
        status = response.status_code
        if status == 200:
            return
        pause = retry_after(response.headers.get("retry-after", ""))
        if status == 429:
            raise EngineBusyError("UPSTREAM_RATE_LIMITED", "the upstream is busy", pause)
        if status in (401, 403):
            raise EngineUnavailableError("UPSTREAM_UNAUTHORISED", "the upstream refused our key")
        if status in (408, 425) or (status >= 500 and status != 501):
            raise EngineUnavailableError("UPSTREAM_FAILED", f"the upstream answered {status}", pause)
        if status in DOUBTFUL and await self.trial(upstream):
            raise BadAskError("UPSTREAM_REFUSED", f"the upstream refused this request with {status}")
        with suppress(httpx.HTTPError, httpx.StreamError):
            async for part in response.aiter_bytes(1_000):
                log.error("upstream_refused", url=upstream.url, status=status, body=part.decode(errors="replace"))
                break
        self.condemn(upstream, MISCONFIGURED)
        raise EngineUnavailableError(MISCONFIGURED, f"the upstream answers {status} to a request that can't be wrong")

    async def events(
        self, upstream: Upstream, body: Mapping[str, Any], deadline: float
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of one streamed completion, each a JSON object. Raises EngineError."""
        try:
            wait = remaining(deadline)
            limit = min(wait, self.settings.first_token_timeout_s)
            timeout = httpx.Timeout(limit, connect=min(wait, self.settings.connect_timeout_s))
            async with aconnect_sse(
                self.opened(), "POST", f"{upstream.url}/chat/completions", json=body, timeout=timeout
            ) as source:
                await self.refuse(upstream, source.response)
                stream = source.aiter_sse()
                try:
                    while True:
                        limit = min(remaining(deadline), limit)
                        async with asyncio.timeout(limit):
                            event = await anext(stream, None)
                        if event is None:
                            return
                        if event.data.strip() == "[DONE]":
                            with suppress(TimeoutError, httpx.HTTPError):  # read to the end: the connection is kept
                                async with asyncio.timeout(min(remaining(deadline), 0.5)):
                                    await anext(stream, None)
                            return
                        yield parsed(event.data)
                        limit = self.settings.idle_timeout_s
                finally:
                    await stream.aclose()
        except (TimeoutError, httpx.TimeoutException) as error:
            upstream.reachable = not isinstance(error, httpx.ConnectTimeout)
            if time.monotonic() >= deadline - 0.01:
                raise late() from error
            raise EngineUnavailableError("UPSTREAM_TIMEOUT", "the upstream went silent") from error
        except SSEError as error:
            raise malformed("the upstream sent no event stream") from error
        except httpx.ConnectError as error:
            upstream.reachable = False
            raise EngineUnavailableError("UPSTREAM_UNREACHABLE", "the upstream can't be reached") from error
        except httpx.HTTPError as error:
            raise EngineUnavailableError("UPSTREAM_RESET", "the connection to the upstream broke") from error

    async def compare(
        self, pairs: Sequence[tuple[str, str]], deadline: float | None = None, on: JudgedOn | None = None
    ) -> list[Judgement]:
        """Judges pairs with one token and its log-probabilities for each put. Raises EngineError.

        On an image, the image stands before each put and goes to the server that has it in its caches.

        A server that gives no log-probabilities can't judge: from its first reply on the engine says so.
        """
        if not self.can_judge or not pairs:
            return [Judgement("unsure") for _ in pairs]
        until = self.deadline(deadline)
        asked = [puts(left, right, on is not None) for left, right in pairs]
        picture = None if on is None else await self.picture(on, until)
        empty = empty_puts({put.script: None for each in asked for put in each if put.script not in self.bias})
        every = [*empty, *(put for each in asked for put in each)]
        limit = asyncio.Semaphore(min(16, self.capacity))
        readings: list[Reading | None] = [None] * len(every)

        async def ask(place: int) -> None:
            async with limit:
                if self.can_judge:
                    readings[place] = await self.read(every[place], until, on, picture)

        try:
            async with asyncio.timeout(remaining(until)), asyncio.TaskGroup() as group:
                for place in range(len(every)):
                    group.create_task(ask(place))
        except TimeoutError as error:
            raise late() from error
        except ExceptionGroup as errors:
            raise first_of(errors) from None
        if self.can_judge:
            self.bias |= bias_of(empty, readings[: len(empty)])
        judged, place = [], len(empty)
        for each in asked:
            judged.append(judgement(each, readings[place : place + len(each)], self.bias, self.calibration))
            place += len(each)
        return judged

    async def picture(self, on: JudgedOn, deadline: float) -> Picture:
        """The image as it goes to the servers. Raises EngineError."""
        sampling = Sampling(max_tokens=1, max_pixels=on.max_pixels)
        ask = Ask("judge", on.image.content, on.image.digest, "", sampling=sampling)
        try:
            async with asyncio.timeout(remaining(deadline)):
                (picture,), _ = await asyncio.to_thread(self.prepare, ask)
        except TimeoutError as error:
            raise late() from error
        return picture

    async def read(
        self, put: Put, deadline: float, on: JudgedOn | None = None, picture: Picture | None = None
    ) -> Reading | None:
        """The model's word on one put; None when the server gives no log-probabilities, which ends all judging."""
        uri, scope = (picture.data_uri(), on.scope) if picture is not None and on is not None else ("", "")
        body = judge_body(put, self.model, self.settings, uri, scope)
        upstream = self.upstreams.choose((), on.image.digest if on is not None else b"")
        async with self.upstreams.using(upstream):
            try:
                timeout = httpx.Timeout(max(0.01, remaining(deadline)), connect=self.settings.connect_timeout_s)
                answer = await self.opened().post(f"{upstream.url}/chat/completions", json=body, timeout=timeout)
                await self.refuse(upstream, answer)
                said = parsed(answer.text)
                if picture is not None:
                    self.look_for_images(upstream, [picture], usage_of(said, Usage()))
                reading = reading_of(said)
            except BadAskError:  # all is well but for the log-probabilities
                reading = None
            except httpx.TimeoutException as error:
                raise EngineUnavailableError("UPSTREAM_TIMEOUT", "the upstream went silent") from error
            except httpx.HTTPError as error:
                raise EngineUnavailableError("UPSTREAM_RESET", "the connection to the upstream broke") from error
        if reading is None and self.can_judge:
            log.warning("upstream_gives_no_log_probabilities", url=upstream.url)
            self.can_judge = False
        return reading

    def image_tokens(self, width: int, height: int) -> int | None:
        """Not known: the servers count."""
        return None

    def info(self) -> EngineInfo:
        """The model's name, what it stands for at the servers, and our limits."""
        roots = sorted({each.root for each in self.upstreams.members} - {"", self.model})
        return EngineInfo(
            engine="openai",
            model=self.model,
            revision=";".join([*filter(None, [self.settings.revision]), *(f"root={root}" for root in roots)]),
            max_tokens_limit=self.settings.max_tokens_limit,
            max_pixels_limit=self.settings.max_pixels_limit,
            can_judge=self.can_judge,
            versions=(f"httpx {httpx.__version__}",),
            supported_params=supported(self.settings),
            max_images=self.settings.max_images,
        )

    def healthy(self) -> bool:
        """Whether any server is there and takes requests."""
        return self.client is not None and self.upstreams.available()


def remaining(deadline: float) -> float:
    """Seconds left until a deadline, not below 0."""
    return max(0.0, deadline - time.monotonic())


def late() -> EngineError:
    """The error of a request whose deadline has passed."""
    return EngineError("DEADLINE_EXCEEDED", "the deadline passed")


def trusted(bundle: str) -> ssl.SSLContext | bool:
    """Whom to trust for https. Raises EngineError for a file that is none."""
    if not bundle:
        return True
    try:
        return ssl.create_default_context(cafile=bundle)
    except (OSError, ssl.SSLError) as error:
        raise EngineError("MODEL_UNAVAILABLE", f"ca_bundle: {bundle!r} holds no certificates") from error


def host_of(url: str) -> str:
    """The host in an address, as httpx writes it in patterns."""
    host = urlsplit(url).hostname or ""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def trial_ask() -> Ask:
    """A small request that no well configured server refuses."""
    file = io.BytesIO()
    Image.new("RGB", (TRIAL_SIDE, TRIAL_SIDE), (200, 200, 200)).save(file, "PNG")
    return Ask("trial", file.getvalue(), b"", "What is this?", sampling=Sampling(max_tokens=1))


def first_of(errors: ExceptionGroup[Exception]) -> Exception:
    """The first error of a group, however deep."""
    error = errors.exceptions[0]
    return first_of(error) if isinstance(error, ExceptionGroup) else error
