"""One answer in the making, and one batch of pairs to judge."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inference_service.answer_text import Shown
from inference_service.engine import THINKING_LEAKED, Ask, Completed, EngineError, Finish, Piece, StageTimes, Usage
from inference_service.glm.detokenizer import Detokenizer
from inference_service.glm.grammar import Constraint
from inference_service.glm.judge import JudgePrompt
from inference_service.glm.prompt import Prompt
from inference_service.glm.sampling import Dice
from inference_service.judge_prompt import Reading
from inference_service.loop_guard import LoopGuard

RESERVED = 128
"""Tokens of an answer that a row has room for at least, and that its room grows by."""

Item = Piece | Completed | EngineError


@dataclass(slots=True, eq=False)
class SequenceState:
    """The state of one answer. The worker's thread owns all but `mailbox` and `cancelled`."""

    ask: Ask
    prompt: Prompt
    detokenizer: Detokenizer
    dice: Dice
    mailbox: asyncio.Queue[Item]
    preprocess: float
    """Seconds that the prompt took."""
    arrived: float = field(default_factory=time.monotonic)
    """When the request arrived, on the clock of `time.monotonic`."""
    cancelled: bool = False
    """Set by the event loop when nobody listens any more."""
    done: bool = False
    """Whether the row can be taken out of the batch."""
    filled: int = 0
    """Places of the KV cache that hold keys and values."""
    position: int = 0
    """The rotary position of the next token."""
    token: int = 0
    """The token chosen last."""
    output: int = 0
    """Tokens generated."""
    cached: int = 0
    """Prompt tokens that came from a kept prefix."""
    admitted: float = 0.0
    prefilled: float = 0.0
    vision: float | None = None
    prefill: float = 0.0

    generated: list[int] = field(default_factory=list)
    """The tokens of the answer so far, thinking included."""
    ready: bool = False
    """Whether the whole prompt is in the KV cache, so that decoding goes on."""
    paused: bool = False
    """Whether the row leaves the batch for want of room, to come back later."""
    pixels: Any = None
    """Patches of the images, until the vision tower has seen them."""
    features: Any = None
    """What the vision tower saw, until the images are in the KV cache."""
    constraint: Constraint | None = None
    """Which tokens the answer's form allows; None for free text."""
    guard: LoopGuard = field(default_factory=LoopGuard)
    judged: bool = False
    """Whether the row says a verdict on a pair of questions: it is read after its prompt, and ends."""
    reading: Reading | None = None
    """What the model said, of a row that is judged."""
    held: Shown = field(default_factory=Shown)
    """What is to be shown with the next event."""
    shown_at: float = 0.0
    """When the last event was sent."""

    @property
    def places(self) -> int:
        """Places of the KV cache that the row needs for now, waste bin included: what it holds and some to go on."""
        steps = min(self.ask.sampling.max_tokens, (self.output // RESERVED + 1) * RESERVED)
        return len(self.prompt.ids) + steps + 1

    @property
    def total(self) -> int:
        """Tokens to take in before decoding: the prompt and, after a pause, what was generated."""
        return len(self.prompt.ids) + len(self.generated)

    def tokens(self, begin: int, end: int) -> list[int]:
        """Tokens `begin` to `end` of prompt and answer."""
        size = len(self.prompt.ids)
        return self.prompt.ids[begin:end] + self.generated[max(0, begin - size) : max(0, end - size)]

    def positions(self, begin: int, end: int) -> np.ndarray:
        """Rotary positions of these tokens, shape (3, tokens)."""
        known = self.prompt.positions
        more = np.arange(max(begin, known.shape[1]), end) - known.shape[1] + int(known[:, -1].max()) + 1
        return np.concatenate([known[:, begin:end], np.broadcast_to(more, (3, len(more)))], axis=1)

    def late(self, now: float) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.cancelled or (self.ask.deadline is not None and now >= self.ask.deadline)

    def pieces(self, shown: Shown) -> list[Item]:
        """What one step shows, as items of the stream."""
        items: list[Item] = []
        if shown.thinking:
            items.append(Piece(shown.thinking, thinking=True))
        if shown.text:
            items.append(Piece(shown.text))
        return items

    def completed(self, finish: Finish) -> Completed:
        """The end of the stream."""
        times = StageTimes(
            queue=max(0.0, self.admitted - self.arrived - self.preprocess),
            preprocess=self.preprocess,
            vision=self.vision,
            prefill=self.prefill,
            decode=time.monotonic() - self.prefilled,
        )
        usage = Usage(len(self.prompt.ids), self.output, self.cached)
        answer = self.detokenizer.answer
        unfit = THINKING_LEAKED if answer.leaked else ""
        return Completed(answer.text, finish, usage, times, answer.thinking_text, unfit=unfit)


@dataclass(slots=True, eq=False)
class JudgeBatch:
    """Pairs to judge together; a pair is put several times."""

    prompts: list[JudgePrompt]
    mailbox: asyncio.Queue[list[Reading] | EngineError]
    deadline: float | None = None
    cancelled: bool = False
    readings: list[Reading] = field(default_factory=list)
    """Of the first prompts, as far as they have been judged."""

    def late(self, now: float) -> bool:
        """Whether nobody waits for the verdicts any more."""
        return self.cancelled or (self.deadline is not None and now >= self.deadline)
