"""The question encoder in a child process: its tokenizer is native code that reads clients' texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.child_pool import ChildError, ChildPool, OpeningError
from dedup_service.question.encoder import (
    EncoderFailedError,
    QuestionEncoder,
    UnknownEncoderError,
    load_question_encoder,
)

CALL_SECONDS = 10.0
"""Longest time for one call: a question takes 5 to 20 ms, a long one half a second on a busy machine."""


class HostedEncoder:
    """The child's side: the encoder itself."""

    def __init__(self, spec: str) -> None:
        self.encoder: QuestionEncoder = load_question_encoder(spec)

    def describe(self) -> tuple[str, int]:
        """What the parent must know."""
        return self.encoder.identity, self.encoder.dimension

    def readable(self, text: str) -> bool:
        """See `QuestionEncoder`."""
        return self.encoder.readable(text)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `QuestionEncoder`."""
        return self.encoder.encode(texts)


class ChildQuestionEncoder:
    """Implements `QuestionEncoder` by child processes. Starting takes as long as loading the encoder."""

    def __init__(self, spec: str, size: int = 1) -> None:
        """`spec` is what `load_question_encoder` takes. Raises UnknownEncoderError."""
        self.pool = ChildPool(
            "question_encoder",
            "dedup_service.native.question_encoder:HostedEncoder",
            (spec,),
            size=size,
            limit=CALL_SECONDS,
        )
        try:
            self.identity, self.dimension = self.pool.start()
        except OpeningError as error:
            raise UnknownEncoderError(str(error.__cause__ or error)) from error

    def readable(self, text: str) -> bool:
        """See `QuestionEncoder`. Raises EncoderFailedError."""
        return bool(self.call("readable", text))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `QuestionEncoder`. Raises EncoderFailedError."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        rows: NDArray[np.float32] = self.call("encode", list(texts))
        return rows

    def call(self, method: str, argument: object) -> Any:
        """A call whose failure is named."""
        try:
            return self.pool.call(method, argument)
        except ChildError as error:
            raise EncoderFailedError(error.cause) from error

    def close(self) -> None:
        """Ends the children."""
        self.pool.close()
