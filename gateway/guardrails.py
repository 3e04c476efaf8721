"""What may be asked at all: a port, and the built-in rules behind it.

The rules look at text only. They refuse what would change the meaning of the prompt rather than ask about the image:
the model's control tokens, and orders to the model (see `injection`). An operator adds terms of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Protocol

from askonce.faults import InvalidInput
from askonce.v1 import content_pb2
from gateway.injection import gives_orders

# Tokens that chat templates give a meaning: <|user|>, <|image|>, <think>, [INST], <<SYS>>. (<s> is HTML too.)
TOKENS = re.compile(r"<\|[^|<>]{1,40}\|>|</?think>|\[/?INST\]|<</?SYS>>|\[[gs]?MASK\]|<sop>|<eop>", re.IGNORECASE)


class Guardrails(Protocol):
    """Decides whether a question may be asked."""

    def screen(self, question: content_pb2.Question) -> None:
        """Lets a question pass, or raises a Fault. Called in a thread when the texts are long."""
        ...


class BuiltInGuardrails:
    """The built-in rules."""

    def __init__(self, injection: bool = True, terms: Iterable[str] = ()) -> None:
        self.injection = injection
        folded = [fold(term) for term in terms if term.strip()]
        self.terms = re.compile("|".join(re.escape(term) for term in sorted(folded, key=len, reverse=True)) or r"(?!)")

    def screen(self, question: content_pb2.Question) -> None:
        """Raises InvalidInput with QUESTION_CONTROL_TOKENS, PROMPT_INJECTION or TERM_FORBIDDEN."""
        self.check(question.text, "question.text")
        for number, turn in enumerate(question.history):
            self.check(turn.text, f"question.history[{number}].text", spoken=turn.role == content_pb2.ROLE_USER)

    def check(self, text: str, field: str, *, spoken: bool = True) -> None:
        """Checks one text; orders to the model only where a user has `spoken`: an operator's instructions are orders,
        and an answer may quote one."""
        folded = fold(text)
        if TOKENS.search(folded):
            message = f"{field}: remove the model's control tokens, such as <|user|>."
            raise InvalidInput("QUESTION_CONTROL_TOKENS", message, field=field)
        if self.injection and spoken and gives_orders(folded):
            message = f"{field}: ask about the image; text that tries to override the model's instructions is refused."
            raise InvalidInput("PROMPT_INJECTION", message, field=field)
        if self.terms.search(folded):
            message = f"{field}: this deployment does not answer questions with this content."
            raise InvalidInput("TERM_FORBIDDEN", message, field=field)


def fold(text: str) -> str:
    """The text without differences of case and width. Marks that show nothing are gone already (`askonce.visible`)."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.lower()


def read_terms(lines: Iterable[str]) -> list[str]:
    """Terms from a file's lines; "#" begins a comment."""
    return [term for line in lines if (term := line.partition("#")[0].strip())]
