"""The port that every inference engine implements, and the values that cross it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

from askonce.limits import DEFAULT_MAX_TOKENS, MAX_PIXELS, MAX_TOKENS


class Role(Enum):
    """Who spoke in a conversation."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier message of a conversation."""

    role: Role
    text: str
    image_count: int = 0
    """Of the request's images, how many came with this turn."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An encoded image and what names it."""

    content: bytes
    """JPEG, PNG or WebP."""
    digest: bytes
    """SHA-256 of `content`, salted by who may share caches, 32 bytes: the key of per-image caches."""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form of an answer that a program reads: a JSON object, or what a schema allows."""

    schema: str = ""
    """A JSON Schema as text, its properties in the order in which they are written; empty for any JSON object."""
    strict: bool = False
    """Whether a server that would otherwise only try must keep to the schema."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate. The defaults are greedy decoding of few tokens."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    """The most tokens to generate, 1 to the engine's limit."""
    temperature: float = 0.0
    """0 is greedy; up to 2."""
    top_p: float = 1.0
    """The share of probability kept, above 0 and up to 1."""
    seed: int | None = None
    """The seed of a sampled answer; None lets the engine choose."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer and are not part of it."""
    thinking: bool = False
    """Whether the model may think before it answers."""
    max_pixels: int | None = None
    """The most pixels of the image to look at; None means the engine's limit."""
    repetition_penalty: float = 1.0
    """Divides the scores of tokens that prompt or answer hold already; above 0 and up to 2, 1 changes nothing."""
    top_k: int = 0
    """How many of the likeliest tokens sampling chooses from; 0 means all."""
    min_p: float = 0.0
    """The least share of the likeliest token's probability that a sampled token may have, 0 to 1."""
    presence_penalty: float = 0.0
    """Taken from the scores of tokens that the answer holds already, -2 to 2."""
    frequency_penalty: float = 0.0
    """Taken from a token's score for each time that the answer holds it, -2 to 2."""
    response_format: ResponseFormat | None = None
    """The form that the answer must have; None for free text."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to an engine, already validated."""

    request_id: str
    image: bytes
    """The encoded file: JPEG, PNG or WebP."""
    image_digest: bytes
    """The key of per-image caches, 32 bytes: SHA-256 of `image`, salted with the request's scope where it has one."""
    question: str
    history: tuple[Turn, ...] = ()
    language: str = ""
    """BCP 47 code of the language to answer in; empty leaves it to the engine."""
    sampling: Sampling = field(default_factory=Sampling)
    deadline: float | None = None
    """The moment, on the clock of `time.monotonic`, after which nobody waits for the answer."""
    background: bool = False
    """Whether nobody waits: such work runs only when nothing else does."""
    more_images: tuple[ImageFile, ...] = ()
    """Images after the first, in order; only for an engine whose `max_images` is above 1."""
    scope: str = ""
    """Who shares caches with this request, a tenant as a rule; empty for everybody."""

    @property
    def images(self) -> tuple[ImageFile, ...]:
        """All images, in order."""
        return (ImageFile(self.image, self.image_digest), *self.more_images)

    def images_by_turn(self) -> list[tuple[ImageFile, ...]]:
        """The images of each turn of the history and, last, of the question.

        Where no turn says how many it has, all stand before the conversation: with the first turn of the user's.
        """
        left = list(self.images)
        counts = [turn.image_count for turn in self.history]
        if not any(counts):
            users = [number for number, turn in enumerate(self.history) if turn.role is Role.USER]
            if users:
                counts[users[0]] = len(left)
        found = []
        for count in counts:
            found.append(tuple(left[:count]))
            left = left[count:]
        return [*found, tuple(left)]


OPTIONAL_PARAMS = (
    "repetition_penalty",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
)
"""Fields of Sampling that an engine need not honour; one that does not refuses requests that set them."""


class Finish(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    FILTERED = "filtered"
    UNANSWERABLE = "unanswerable"
    REPETITION = "repetition"
    TOOL_CALLS = "tool_calls"
    INTERRUPTED = "interrupted"
    """The engine broke off, or ended in a way that is not known here. Only STOP is known to be whole."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took; zero where an engine does not count."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds per stage; None for a stage that did not run or is not known."""

    queue: float | None = None
    preprocess: float | None = None
    vision: float | None = None
    prefill: float | None = None
    decode: float | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of an answer, or of the thinking before it."""

    text: str
    thinking: bool = False


THINKING_LEAKED = "THINKING_LEAKED"
"""The model's thinking was shown as the answer before it could be told apart."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of an answer; the last item of every successful stream."""

    text: str
    finish: Finish
    usage: Usage = field(default_factory=Usage)
    times: StageTimes = field(default_factory=StageTimes)
    thinking_text: str = ""
    detail: str = ""
    """The engine's own word for the end where `finish` does not say it all, such as "abort"."""
    unfit: str = ""
    """Why the answer must not be stored although it ended well: THINKING_LEAKED; empty for one that may be."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict on two questions about one image, unseen or seen."""

    verdict: Literal["same", "different", "unsure"]
    same_probability: float | None = None
    """Probability that they always have the same answer, 0 to 1; None when the judge can't tell."""


@dataclass(frozen=True, slots=True)
class JudgedOn:
    """The image on which pairs of questions are judged."""

    image: ImageFile
    max_pixels: int | None = None
    """The most pixels of it to look at, as in `Sampling`: what is kept of an image is kept by this number, too."""
    scope: str = ""
    """As in `Ask`."""


@dataclass(frozen=True, slots=True)
class CacheState:
    """The state of one per-image cache."""

    name: str
    bytes_used: int
    bytes_limit: int
    entries: int
    hits: int
    misses: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is and how it is doing."""

    engine: str
    model: str
    revision: str = ""
    dtype: str = ""
    max_tokens_limit: int = MAX_TOKENS[1]
    max_pixels_limit: int = MAX_PIXELS[1]
    caches: tuple[CacheState, ...] = ()
    can_judge: bool = False
    versions: tuple[str, ...] = ()
    supported_params: frozenset[str] = frozenset()
    """Which of `OPTIONAL_PARAMS` the engine honours."""
    max_images: int = 1
    """The most images that one request may have."""


class EngineError(Exception):
    """An engine could not answer.

    `reason` is a stable UPPER_SNAKE word; `retry_after` says in how many seconds it may work, if it may.
    """

    def __init__(self, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, str, float | None]]:
        """Lets it be raised in one process and caught in another."""
        return type(self), (self.reason, str(self), self.retry_after)


class EngineBusyError(EngineError):
    """No place in the queue, or background work while the engine is busy."""


class EngineUnavailableError(EngineError):
    """The model or its upstream is not there at the moment."""


class BadAskError(EngineError):
    """The request itself can't be served: an unreadable image, too many image tokens, unsupported parameters."""


class Engine(Protocol):
    """Answers questions about images. Implementations never block the event loop.

    An engine bounds its own concurrency through `capacity`; the admission queue in front of it holds what waits.
    """

    @property
    def capacity(self) -> int:
        """Requests that the engine takes at once; at least 1. A batching engine states its largest batch, or more."""
        ...

    async def start(self) -> None:
        """Loads and warms up. Raises EngineError when the model can't be loaded."""
        ...

    async def stop(self) -> None:
        """Ends running work and frees what was loaded. Safe to call twice."""
        ...

    def generate(self, ask: Ask) -> AsyncIterator[Piece | Completed]:
        """Yields pieces and at last a Completed. Closing the iterator cancels the work. Raises EngineError."""
        ...

    async def compare(
        self, pairs: Sequence[tuple[str, str]], deadline: float | None = None, on: JudgedOn | None = None
    ) -> list[Judgement]:
        """Judges pairs of questions, in order: for any image, or on one. An engine without judgement says unsure."""
        ...

    def image_tokens(self, width: int, height: int) -> int | None:
        """Image tokens that a picture of this size takes under the default budget; None where there are none."""
        ...

    def info(self) -> EngineInfo:
        """Describes the engine. Cheap: called by every info request."""
        ...

    def healthy(self) -> bool:
        """Whether the engine would take work now. False once its worker is stuck or dead."""
        ...
