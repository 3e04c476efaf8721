"""The vector of a question: that of what it asks, projected to where wordings of one question lie close."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dedup_service.question.encoder import QuestionEncoder
from dedup_service.question.pair_model import PairModel, shipped_model
from dedup_service.question.scope import asked


class AskedEncoder:
    """An encoder of questions on top of an encoder of sentences. What a question tells beside what it asks, and what it
    sets aside, does not reach the encoder. The projection applies to the encoder that it was trained on; vectors of any
    other stay as they are, and their cosines only find candidates (``calibrated`` is false). Thread-safe if the
    encoder is."""

    def __init__(self, encoder: QuestionEncoder, model: PairModel | None = None) -> None:
        self._encoder = encoder
        self._model = model or shipped_model()
        self.calibrated = encoder.identity == self._model.encoder
        self.dimension = self._model.projection.shape[1] if self.calibrated else encoder.dimension
        self.identity = f"{encoder.identity}-asked" + (f"{self.dimension}" if self.calibrated else "")

    def readable(self, text: str) -> bool:
        """Tells whether the encoder can read the question."""
        return self._encoder.readable(text)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes questions to (N, dimension), each row of length 1."""
        rows = self._encoder.encode([asked(text) for text in texts])
        return self._model.project(rows) if self.calibrated and len(rows) else rows.reshape(-1, self.dimension)
