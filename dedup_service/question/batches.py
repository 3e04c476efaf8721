"""Calls that wait for one encoder go through it together: many threads cost one pass."""

import concurrent.futures
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Call = tuple[Sequence[str], concurrent.futures.Future[NDArray[np.float32]]]


class Batches:
    """One worker thread runs `encode`; what arrives while it is busy is encoded in the next batch."""

    def __init__(self, encode: Callable[[list[str]], NDArray[np.float32]], most: int) -> None:
        """`encode` takes up to `most` texts (more, if one call brings more) and returns a row for each."""
        self._encode = encode
        self._most = most
        self._waiting: list[Call] = []
        self._lock = threading.Lock()
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="question-encoder")

    def run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The rows of these texts, (N, D). Waits for its turn; raises what `encode` raises."""
        answer: concurrent.futures.Future[NDArray[np.float32]] = concurrent.futures.Future()
        with self._lock:
            self._waiting.append((list(texts), answer))
        self._thread.submit(self._drain)
        return answer.result()

    def close(self) -> None:
        """Ends the worker after the calls under way."""
        self._thread.shutdown()

    def _drain(self) -> None:
        with self._lock:
            taken: list[Call] = []
            size = 0
            while self._waiting and (not taken or size + len(self._waiting[0][0]) <= self._most):
                taken.append(self._waiting.pop(0))
                size += len(taken[-1][0])
        if not taken:
            return
        try:
            rows = self._encode([text for texts, _ in taken for text in texts])
        except Exception as failure:
            for _, answer in taken:
                answer.set_exception(failure)
            return
        at = 0
        for texts, answer in taken:
            answer.set_result(rows[at : at + len(texts)])
            at += len(texts)
