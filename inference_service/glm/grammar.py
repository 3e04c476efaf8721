"""Holds an answer to a JSON Schema, token by token (llguidance)."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import numpy as np

from inference_service.engine import BadAskError, ResponseFormat


class Constraint:
    """Which tokens may come next in one answer."""

    def __init__(self, matcher: Any, size: int) -> None:
        self._matcher, self._size = matcher, size

    def allowed(self) -> np.ndarray:
        """For each token of the vocabulary whether it may come next, (vocabulary,), bool."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = np.zeros(self._size, dtype=bool)
        count = min(self._size, len(bits))
        allowed[:count] = bits[:count]
        return allowed

    def take(self, token: int) -> None:
        """Goes on after a token that was allowed."""
        self._matcher.consume_token(token)


class Grammars:
    """Makes constraints for one tokenizer. Safe to use from several threads."""

    def __init__(self, tokenizer: Any, ends: Collection[int], size: int) -> None:
        """`ends` are the tokens that end an answer, `size` the width of the model's scores. Raises ImportError."""
        from llguidance.hf import from_tokenizer

        self._size = size
        self._tokenizer: Any = from_tokenizer(tokenizer, n_vocab=size, eos_token=sorted(ends))

    def constraint(self, form: ResponseFormat) -> Constraint:
        """The constraint of a form. Raises BadAskError for a schema that can't be held to."""
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(json.loads(form.schema or '{"type": "object"}'))
        except ValueError as error:
            raise BadAskError("RESPONSE_FORMAT_INVALID", "the schema can't be read") from error
        matcher = LLMatcher(self._tokenizer, grammar)
        if matcher.is_error():
            raise BadAskError("RESPONSE_FORMAT_INVALID", "the model can't be held to this schema")
        return Constraint(matcher, self._size)
