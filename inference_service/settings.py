"""Settings of the inference service; section `inference`, variables `ASKONCE_INFERENCE_…`.

Each engine has a section of its own, named after its kind: `[reader]` (`ASKONCE_READER_…`), `[transformers]`,
`[openai]`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from askonce.access import Access
from askonce.serving import Serving
from askonce.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken at most. The gateway's own limits are tighter; these keep the service safe on its own."""

    max_image_bytes: int = 5 * 2**20
    """Bytes of an encoded image."""
    max_question_chars: int = 4_000
    """Characters of a question, and of one turn of the history."""
    max_history_turns: int = 16
    """Earlier turns of a conversation."""
    max_pairs: int = 32
    """Pairs of questions in one CompareQuestions call."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the service needs to know before it starts. The defaults run the reader on this machine."""

    engine: str = "reader"
    """"reader", "transformers:<path or hub id>" or "openai:<base url>"."""
    queue_limit: int = 64
    """Requests that may wait for the engine; more are refused with QUEUE_FULL. 0: none may wait."""
    timeout: float = 120.0
    """Seconds for a call whose client set no deadline."""
    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    serving: Serving = field(default_factory=lambda: Serving(listen="127.0.0.1:50053", max_message_bytes=24 * 2**20))
    telemetry: Telemetry = field(default_factory=Telemetry)
