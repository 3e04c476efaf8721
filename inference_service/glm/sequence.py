"""One answer in the making, and one batch of pairs to judge."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from inference_service.answer_text import Shown
from inference_service.engine import THINKING_LEAKED, Ask, Completed, EngineError, Finish, Piece, StageTimes, Usage
from inference_service.glm.detokenizer import Detokenizer
from inference_service.glm.judge import JudgePrompt
from inference_service.glm.prompt import Prompt
from inference_service.glm.sampling import Dice
from inference_service.judge_prompt import Reading

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

    @property
    def places(self) -> int:
        """Places of the KV cache that the row may come to need, waste bin included."""
        return len(self.prompt.ids) + self.ask.sampling.max_tokens + 1

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

    def late(self, now: float) -> bool:
        """Whether nobody waits for the verdicts any more."""
        return self.cancelled or (self.deadline is not None and now >= self.deadline)
