"""Keeps user text from becoming control tokens, and words the wish for a language."""

from __future__ import annotations

import re
from collections.abc import Sequence

GUARDED = re.compile(
    r"<\|[a-z_]+\|>|\[[gs]?MASK\]|</?(?:think|tool_call|tool_response|arg_key|arg_value)>|<[se]op>|/nothink|</?s>|\[/?INST\]|<</?SYS>>"
)
"""What GLM's tokenizer, and those of other models behind the OpenAI protocol, would read as control tokens."""

LANGUAGES = {
    "zh": "请用中文回答。",
    "en": "Answer in English.",
    "ja": "日本語で答えてください。",
    "ko": "한국어로 대답해 주세요.",
    "fr": "Réponds en français.",
    "de": "Antworte auf Deutsch.",
    "es": "Responde en español.",
}
"""How to ask for an answer in a language; others are asked for by their code."""


def sanitised(text: str, guarded: Sequence[str]) -> str:
    """The text with every control token broken up by a space after its first character, so that it stays plain text."""
    while found := next((token for token in guarded if token in text), None):
        text = text.replace(found, f"{found[0]} {found[1:]}")
    return text


def plain(text: str) -> str:
    """User text without control tokens."""
    return sanitised(text, tuple(sorted(set(GUARDED.findall(text)), key=len, reverse=True))) if text else text
