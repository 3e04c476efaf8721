"""Answers through OpenAI-compatible servers: vLLM, SGLang, `transformers serve` or a hosted endpoint."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx
from httpx_sse import SSEError, aconnect_sse
from PIL import Image

from askonce.picture import speaks_for_itself
from inference_service.engine import (
    Ask,
    BadAskError,
    Completed,
    EngineBusyError,
    EngineError,
    EngineInfo,
    EngineUnavailableError,
    Finish,
    Judgement,
    Piece,
    ResponseFormat,
    Sampling,
    StageTimes,
    Usage,
)
from inference_service.judge_prompt import judgement, script_for
from inference_service.markup import Markup
from inference_service.pictures import upright
from inference_service.sanitising import LANGUAGES, plain
from inference_service.upstreams import RetryBudget, Upstream, Upstreams

MOST_ERROR_BYTES = 2_000
"""Of a refusal's body, this much is read."""

MOST_ANSWER_CHARACTERS = 1_000_000
"""A stream that goes on beyond this is malformed."""

VENDOR_PARAMS = ("repetition_penalty", "top_k", "min_p")
"""Parameters that vLLM and SGLang take beside OpenAI's."""
PENALTIES = ("presence_penalty", "frequency_penalty")

FINISHES = {"stop": Finish.STOP, "length": Finish.LENGTH, "content_filter": Finish.FILTERED}


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """Where the servers are and how long to wait for them."""

    base_url: str = ""
    """One address or several, separated by commas, each up to and with `/v1`. Required."""
    model: str = ""
    """The model's name at the servers; empty asks the first server for its first model."""
    api_key: str = ""
    """Sent as a bearer token; empty sends none."""
    connect_timeout_s: float = 2.0
    """To open a connection."""
    first_token_timeout_s: float = 60.0
    """From the request to the first event."""
    idle_timeout_s: float = 20.0
    """Between two events."""
    request_timeout_s: float = 120.0
    """For a whole answer where the request has no deadline."""
    concurrency: int = 64
    """Requests at once, per server."""
    attempts: int = 3
    """The most servers asked for one answer. Nothing is tried again once text was received."""
    retry_share: float = 0.2
    """Retries allowed, as a share of requests."""
    breaker_threshold: int = 5
    """Failures in a row that open a server's circuit."""
    breaker_ttl_s: float = 10.0
    """How long an open circuit lets nothing through."""
    probe_interval_s: float = 5.0
    """How often each server is asked whether it is there."""
    template_kwargs: bool = True
    """Whether to send `chat_template_kwargs` to switch thinking; vLLM and SGLang take it, some endpoints refuse it."""
    max_tokens_limit: int = 4_096
    """The most tokens that one answer may take."""
    max_pixels_limit: int = 4_816_896
    """Images of more pixels are made smaller before they are sent."""
    max_source_pixels: int = 100_000_000
    """Images that decode to more pixels are refused."""
    vendor_params: bool = True
    """Whether the servers take `repetition_penalty`, `top_k` and `min_p`; vLLM and SGLang do, OpenAI's own do not."""
    response_format: bool = True
    """Whether the servers hold the model to `response_format`."""
    judge: bool = True
    """Whether CompareQuestions asks the model; needs log-probabilities from the server."""
    judge_temperature: float = 1.0
    """Divides the judge's log-odds: calibrates its probabilities on labelled pairs."""
    judge_same_at: float = 0.9
    """From this probability on, a pair is judged the same."""
    judge_different_at: float = 0.2
    """Up to this probability, a pair is judged different."""


class OpenAIEngine:
    """The engine port in front of OpenAI-compatible servers. `transport` replaces the network in tests."""

    def __init__(self, settings: OpenAISettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        urls = tuple(dict.fromkeys(url.strip().rstrip("/") for url in settings.base_url.split(",") if url.strip()))
        self.settings, self.urls, self.transport = settings, urls, transport
        self.capacity = max(1, settings.concurrency * len(urls))
        self.upstreams = Upstreams(urls, settings.breaker_threshold, settings.breaker_ttl_s)
        self.budget = RetryBudget(settings.retry_share)
        self.model = settings.model
        self.client: httpx.AsyncClient | None = None
        self.prober: asyncio.Task[None] | None = None
        self.in_flight = 0
        self.can_judge = settings.judge

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
            transport=self.transport,
        )
        found = await asyncio.gather(*(self.probe(each) for each in self.upstreams.members))
        names = [name for name in found if name]
        if not any(each.reachable for each in self.upstreams.members):
            await self.stop()
            raise EngineUnavailableError("UPSTREAM_UNREACHABLE", "no upstream lists its models")
        self.model = settings.model or (names[0] if names else "")
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

    async def watch(self) -> None:
        """Asks every server now and then whether it is there."""
        while True:
            await asyncio.sleep(self.settings.probe_interval_s)
            await asyncio.gather(*(self.probe(each) for each in self.upstreams.members))

    async def probe(self, upstream: Upstream) -> str:
        """Asks for the list of models; returns the first and notes whether the server is there."""
        try:
            timeout = self.settings.connect_timeout_s + self.settings.probe_interval_s
            answer = await self.opened().get(f"{upstream.url}/models", timeout=timeout)
            upstream.reachable = answer.status_code not in (502, 503, 504)  # a server without the list still serves
            listed = answer.json()["data"] if answer.status_code == 200 else []
            return str(listed[0]["id"]) if listed else ""
        except httpx.HTTPError:
            upstream.reachable = False
        except (ValueError, KeyError, TypeError, IndexError):
            pass  # it speaks HTTP but lists nothing that we understand; requests will tell
        return ""

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
                    body = await asyncio.to_thread(self.body, ask)
            except TimeoutError as error:
                raise late() from error
            prepared = time.monotonic() - begin
            self.budget.earn()
            tried: set[str] = set()
            for attempt in range(1, self.settings.attempts + 1):
                upstream = self.upstreams.choose(tried)
                tried.add(upstream.url)
                silent = True
                answer = self.answer(upstream, body, deadline)
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
        if error.reason in ("DEADLINE_EXCEEDED", "UPSTREAM_UNAUTHORISED"):
            return False
        fresh = len(tried) < len(self.urls)
        pause = 0.0 if fresh else max(error.retry_after or 0.0, 0.05 * 2**attempt)
        if time.monotonic() + pause >= deadline or not self.budget.spend():
            return False
        if not fresh:
            await asyncio.sleep(pause)
            tried.clear()
        return True

    def body(self, ask: Ask) -> dict[str, Any]:
        """The request in the OpenAI form; the image travels once, as a data URI."""
        messages: list[dict[str, Any]] = []
        question = plain(ask.question)
        if ask.language:
            wish = LANGUAGES.get(ask.language.split("-")[0].lower(), f"Answer in the language {plain(ask.language)}.")
            question = f"{question}\n{wish}"
        turns = [(turn.role.value, plain(turn.text)) for turn in ask.history] + [("user", question)]
        pictured = False
        for role, text in turns:
            if role == "user" and not pictured:
                picture = {"type": "image_url", "image_url": {"url": self.data_uri(ask)}}
                messages.append({"role": role, "content": [picture, {"type": "text", "text": text}]})
                pictured = True
            else:
                messages.append({"role": role, "content": text})
        sampling = ask.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self.settings.template_kwargs:
            body["chat_template_kwargs"] = {"enable_thinking": sampling.thinking}
        plain_sampling = Sampling()
        for name in VENDOR_PARAMS + PENALTIES:
            if (value := getattr(sampling, name)) != getattr(plain_sampling, name):
                body[name] = value
        if sampling.response_format is not None:
            body["response_format"] = response_format(sampling.response_format)
        return body

    def data_uri(self, ask: Ask) -> str:
        """The image as a data URI: as it came where any server decodes it alike and it is within its budget.

        Else what the cache compared is sent, as a PNG, made smaller where it must be.
        """
        picture = upright(ask.image, self.settings.max_source_pixels)
        budget = min(ask.sampling.max_pixels or self.settings.max_pixels_limit, self.settings.max_pixels_limit)
        with Image.open(io.BytesIO(ask.image)) as original:
            kind = (original.format or "PNG").lower()
            as_it_came = speaks_for_itself(original, ask.image)
        content = ask.image
        if not as_it_came or picture.width * picture.height > budget:
            scale = math.sqrt(budget / (picture.width * picture.height))
            if scale < 1:
                size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
                picture = picture.resize(size, Image.Resampling.BICUBIC)
            file = io.BytesIO()
            picture.save(file, "PNG", icc_profile=None)
            content, kind = file.getvalue(), "png"
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

    async def answer(
        self, upstream: Upstream, body: Mapping[str, Any], deadline: float
    ) -> AsyncGenerator[Piece | Completed, None]:
        """One attempt at one server. Raises EngineError for whatever goes wrong there."""
        begin = time.monotonic()
        first: float | None = None
        markup, usage, finish = Markup(), Usage(), None
        texts: dict[bool, list[str]] = {True: [], False: []}
        length = 0
        async with self.upstreams.using(upstream):
            events = self.events(upstream, body, deadline)
            try:
                async for event in events:
                    first = time.monotonic() if first is None else first
                    usage = usage_of(event, usage)
                    for choice in listed(event, "choices"):
                        delta = choice.get("delta") or {}
                        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
                        text = delta.get("content") or ""
                        if not isinstance(thought, str) or not isinstance(text, str):
                            raise malformed("a delta holds something other than text")
                        length += len(thought) + len(text)
                        if length > MOST_ANSWER_CHARACTERS:
                            raise malformed("the answer does not end")
                        if thought:
                            texts[True].append(thought)
                            yield Piece(thought, thinking=True)
                        for part in markup.feed(text):
                            texts[part.thinking].append(part.text)
                            yield Piece(part.text, part.thinking)
                        if choice.get("finish_reason"):
                            finish = FINISHES.get(str(choice["finish_reason"]), Finish.STOP)
            finally:
                await events.aclose()
            if finish is None:
                raise EngineUnavailableError("UPSTREAM_RESET", "the stream ended before the answer did")
            for part in markup.feed("", last=True):
                texts[part.thinking].append(part.text)
                yield Piece(part.text, part.thinking)
            now = time.monotonic()
            first = now if first is None else first
            times = StageTimes(prefill=first - begin, decode=now - first)
            yield Completed("".join(texts[False]), finish, usage, times, "".join(texts[True]))

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
                await raise_for(source.response)
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

    async def compare(self, pairs: Sequence[tuple[str, str]], deadline: float | None = None) -> list[Judgement]:
        """Judges pairs with one token each and its log-probabilities, in both orders. Raises EngineError."""
        if not self.can_judge:
            return [Judgement("unsure") for _ in pairs]
        until = self.deadline(deadline)
        orders = [pair for left, right in pairs for pair in ((left, right), (right, left))]
        limit = asyncio.Semaphore(min(16, self.capacity))
        odds: list[float | None] = [None] * len(orders)

        async def ask(place: int) -> None:
            async with limit:
                odds[place] = await self.log_odds(*orders[place], until)

        try:
            async with asyncio.timeout(remaining(until)), asyncio.TaskGroup() as group:
                for place in range(len(orders)):
                    group.create_task(ask(place))
        except TimeoutError as error:
            raise late() from error
        except ExceptionGroup as errors:
            raise first_of(errors) from None
        settings = self.settings
        judged = []
        for place in range(0, len(odds), 2):
            known = [each for each in odds[place : place + 2] if each is not None]
            if len(known) < 2:
                judged.append(Judgement("unsure"))
                continue
            how = (settings.judge_temperature, settings.judge_same_at, settings.judge_different_at)
            judged.append(judgement(known, *how))
        return judged

    async def log_odds(self, left: str, right: str, deadline: float) -> float | None:
        """The log-odds of "same" for one pair in one order; None when the server gives no log-probabilities."""
        script = script_for(left, right)
        left, right = (" ".join(plain(text).split()) for text in (left, right))
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": script.instruction + script.pair.format(left=left, right=right)}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 20,
        }
        if self.settings.template_kwargs:
            body["chat_template_kwargs"] = {"enable_thinking": False}
        upstream = self.upstreams.choose(())
        async with self.upstreams.using(upstream):
            try:
                timeout = httpx.Timeout(max(0.01, remaining(deadline)), connect=self.settings.connect_timeout_s)
                answer = await self.opened().post(f"{upstream.url}/chat/completions", json=body, timeout=timeout)
                await raise_for(answer)
                found = parsed(answer.text)
            except httpx.TimeoutException as error:
                raise EngineUnavailableError("UPSTREAM_TIMEOUT", "the upstream went silent") from error
            except httpx.HTTPError as error:
                raise EngineUnavailableError("UPSTREAM_RESET", "the connection to the upstream broke") from error
        return odds_of(found, script.same, script.different)

    def image_tokens(self, width: int, height: int) -> int | None:
        """Not known: the servers count."""
        return None

    def info(self) -> EngineInfo:
        """The model's name and our limits."""
        return EngineInfo(
            engine="openai",
            model=self.model,
            max_tokens_limit=self.settings.max_tokens_limit,
            max_pixels_limit=self.settings.max_pixels_limit,
            can_judge=self.can_judge,
            versions=(f"httpx {httpx.__version__}",),
            supported_params=frozenset(
                (
                    *PENALTIES,
                    *(VENDOR_PARAMS if self.settings.vendor_params else ()),
                    *(("response_format",) if self.settings.response_format else ()),
                )
            ),
        )

    def healthy(self) -> bool:
        """Whether any server is there and takes requests."""
        return self.client is not None and self.upstreams.available()


def response_format(form: ResponseFormat) -> dict[str, Any]:
    """The form of an answer as OpenAI's protocol has it."""
    if not form.schema:
        return {"type": "json_object"}
    schema = json.loads(form.schema)
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def remaining(deadline: float) -> float:
    """Seconds left until a deadline, not below 0."""
    return max(0.0, deadline - time.monotonic())


def late() -> EngineError:
    """The error of a request whose deadline has passed."""
    return EngineError("DEADLINE_EXCEEDED", "the deadline passed")


def malformed(message: str) -> EngineError:
    """The error for what can't be read."""
    return EngineUnavailableError("UPSTREAM_MALFORMED", message)


def parsed(text: str) -> Mapping[str, Any]:
    """A JSON object. Raises EngineError for anything else, and for an error object in a stream."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed("the upstream sent no JSON") from error
    if not isinstance(found, dict):
        raise malformed("the upstream sent JSON that is no object")
    if found.get("error"):
        raise EngineUnavailableError("UPSTREAM_FAILED", "the upstream reported an error in its stream")
    return found


def listed(event: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of objects in an event; empty when absent. Raises EngineError for anything else."""
    found = event.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise malformed(f"{name} is no list of objects")
    if not all(isinstance(each.get("delta") or {}, dict) for each in found):
        raise malformed("a delta is no object")
    return found


def usage_of(event: Mapping[str, Any], before: Usage) -> Usage:
    """The usage that an event states, else what was known before."""
    stated = event.get("usage")
    if not isinstance(stated, dict):
        return before
    details = stated.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    counts = (stated.get("prompt_tokens"), stated.get("completion_tokens"), cached)
    return Usage(*(each if isinstance(each, int) else 0 for each in counts))


def odds_of(answer: Mapping[str, Any], same: Sequence[str], different: Sequence[str]) -> float | None:
    """The log-odds of the words for "same" against those for "different" in the first token's log-probabilities.

    A verdict that is not among the tokens listed is taken to have the probability of the least likely one listed. None
    when neither is, or the answer holds no log-probabilities.
    """
    try:
        listed_tokens = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        chances = [(str(each["token"]).strip().lower(), float(each["logprob"])) for each in listed_tokens]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    floor = min((chance for _, chance in chances), default=0.0)
    sums: list[float | None] = []
    for words in (same, different):
        names = {word.lower() for word in words}
        total = sum(math.exp(chance) for token, chance in chances if token in names)
        sums.append(math.log(total) if total > 0 else None)
    if sums[0] is None and sums[1] is None:
        return None
    first, second = (floor if each is None else each for each in sums)
    return first - second


async def raise_for(response: httpx.Response) -> None:
    """Raises the EngineError that belongs to a refusal; returns for 200."""
    status = response.status_code
    if status == 200:
        return
    body = b""
    with suppress(httpx.HTTPError, httpx.StreamError):
        async for part in response.aiter_bytes():
            body += part
            if len(body) >= MOST_ERROR_BYTES:
                break
    hint = body[:MOST_ERROR_BYTES].decode(errors="replace")
    if status == 429:
        raise EngineBusyError("UPSTREAM_RATE_LIMITED", "the upstream is busy", retry_after(response))
    if status in (401, 403):
        raise EngineUnavailableError("UPSTREAM_UNAUTHORISED", "the upstream refused our key")
    if status in (408, 425) or status >= 500:
        raise EngineUnavailableError("UPSTREAM_FAILED", f"the upstream answered {status}", retry_after(response))
    raise BadAskError("UPSTREAM_REFUSED", f"the upstream refused the request with {status}: {hint[:200]}")


def retry_after(response: httpx.Response) -> float | None:
    """The server's Retry-After in seconds, where it states a sensible number."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= 3600 else None


def first_of(errors: ExceptionGroup[Exception]) -> Exception:
    """The first error of a group, however deep."""
    error = errors.exceptions[0]
    return first_of(error) if isinstance(error, ExceptionGroup) else error
