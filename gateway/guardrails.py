"""What may be asked at all: a port, and the built-in rules behind it.

The rules look at text only. They refuse what would change the meaning of the prompt rather than ask about the image:
the model's control tokens, and phrases that try to override its instructions. An operator adds terms of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Protocol

from askonce.faults import InvalidInput
from askonce.v1 import content_pb2

# Tokens that chat templates give a meaning: <|user|>, <|image|>, <think>, [INST], <<SYS>>, <s>.
TOKENS = re.compile(r"<\|[^|<>]{1,40}\|>|</?think>|\[/?INST\]|<</?SYS>>|</?s>|\[gMASK\]|<sop>|<eop>", re.IGNORECASE)

OVERRIDES = (
    r"\b(ignore|disregard|forget|override)\b.{0,24}\b(previous|prior|above|earlier|all|your|system)\b.{0,24}"
    r"\b(instructions?|prompts?|rules?|guidelines?)\b",
    r"\b(reveal|show|print|repeat|output)\b.{0,24}\b(system prompt|hidden instructions?|initial instructions?)\b",
    r"\byou are (now|no longer)\b.{0,40}\b(dan|jailbroken|unrestricted|unfiltered)\b",
    r"(忽略|无视|忘记|忘掉|不要理会|不要遵守).{0,10}(之前|以前|先前|上面|以上|前面|所有|全部|系统).{0,10}(指令|指示|提示|提示词|规则|要求|设定)",
    r"(输出|显示|告诉我|重复|泄露).{0,8}(系统提示|系统提示词|初始指令|隐藏指令)",
)

TRIGGERS = re.compile(
    r"ignore|disregard|forget|override|reveal|show|print|repeat|output|you are|"
    r"忽略|无视|忘记|忘掉|不要|输出|显示|告诉|重复|泄露"
)
"""Words without which none of OVERRIDES matches; most questions have none and are done with."""

# Invisible marks that a word can be broken up with: soft hyphen, zero-width and directional marks, joiners, BOM.
INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)


class Guardrails(Protocol):
    """Decides whether a question may be asked."""

    def screen(self, question: content_pb2.Question) -> None:
        """Lets a question pass, or raises a Fault. Called in a thread when the texts are long."""
        ...


class BuiltInGuardrails:
    """The built-in rules."""

    def __init__(self, injection: bool = True, terms: Iterable[str] = ()) -> None:
        self.overrides = re.compile("|".join(OVERRIDES), re.DOTALL) if injection else None
        folded = [fold(term) for term in terms if term.strip()]
        self.terms = re.compile("|".join(re.escape(term) for term in sorted(folded, key=len, reverse=True)) or r"(?!)")

    def screen(self, question: content_pb2.Question) -> None:
        """Raises InvalidInput with QUESTION_CONTROL_TOKENS, PROMPT_INJECTION or TERM_FORBIDDEN."""
        self.check(question.text, "question.text")
        for number, turn in enumerate(question.history):
            self.check(turn.text, f"question.history[{number}].text")

    def check(self, text: str, field: str) -> None:
        folded = fold(text)
        if TOKENS.search(folded):
            message = f"{field}: remove the model's control tokens, such as <|user|>."
            raise InvalidInput("QUESTION_CONTROL_TOKENS", message, field=field)
        if self.overrides is not None and TRIGGERS.search(folded) and self.overrides.search(folded):
            message = f"{field}: ask about the image; text that tries to override the model's instructions is refused."
            raise InvalidInput("PROMPT_INJECTION", message, field=field)
        if self.terms.search(folded):
            message = f"{field}: this deployment does not answer questions with this content."
            raise InvalidInput("TERM_FORBIDDEN", message, field=field)


def fold(text: str) -> str:
    """The text without differences of case, width and invisible marks."""
    if not text.isascii():
        text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return text.lower()


def read_terms(lines: Iterable[str]) -> list[str]:
    """Terms from a file's lines; "#" begins a comment."""
    return [term for line in lines if (term := line.partition("#")[0].strip())]
