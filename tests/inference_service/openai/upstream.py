"""A small real HTTP server that speaks the OpenAI chat protocol, well or badly."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

WORDS = ("The ", "total ", "is ", "12", ".50")


class FakeUpstream:
    """Answers every request the way `manner` says; keeps what it was sent."""

    def __init__(self, manner: str = "well") -> None:
        self.manner = manner
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.connections = 0
        self.running = 0
        self.most_running = 0
        self.delay = 0.0
        self.words: tuple[str, ...] = WORDS
        self.finish = "length"
        self.usage: dict[str, Any] = {
            "prompt_tokens": 2_000,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 3},
        }
        self.listed: list[dict[str, Any]] = [{"id": "tiny"}]
        self.judge: Callable[[dict[str, Any]], list[tuple[str, float]]] | None = None
        """What it says to a pair, in place of `top`."""
        self.top: list[tuple[str, float]] | None = [("Yes", -0.1), ("No", -2.5), ("the", -6.0)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                if head.startswith("GET"):
                    self.plain(writer, 200, {"data": self.listed})
                else:
                    self.bodies.append(json.loads(body))
                    self.running += 1
                    self.most_running = max(self.most_running, self.running)
                    try:
                        await self.chat(writer, self.bodies[-1])
                    finally:
                        self.running -= 1
                await writer.drain()
                if writer.is_closing():
                    return

    def plain(self, writer: asyncio.StreamWriter, status: int, found: object, extra: str = "") -> None:
        content = found if isinstance(found, bytes) else json.dumps(found).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)

    def event(self, writer: asyncio.StreamWriter, found: object) -> None:
        text = found if isinstance(found, str) else json.dumps(found)
        content = f"data: {text}\n\n".encode()
        writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    async def chat(self, writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        await asyncio.sleep(self.delay)
        manner = self.manner
        if manner == "hang":
            await asyncio.sleep(60)
        if manner == "reset":
            writer.transport.abort()
            return
        status, _, only = manner.partition(" if ")
        if status.isdigit() and (not only or only in json.dumps(body)):  # "400 if word": refuses what holds the word
            extra = {"429": "Retry-After: 0.2\r\n", "307": "Location: http://127.0.0.1:9/\r\n"}.get(status, "")
            self.plain(writer, int(status), {"error": {"message": "secret words"}}, extra)
            return
        if manner == "html":
            self.plain(writer, 200, b"<html>hello</html>")
            return
        if not body.get("stream"):
            message: dict[str, Any] = {"choices": [{"message": {"content": "Yes"}}], "usage": self.usage}
            top = self.top if self.judge is None else self.judge(body)
            if top is not None:
                listed = [{"token": token, "logprob": chance} for token, chance in top]
                message["choices"][0]["logprobs"] = {"content": [{"top_logprobs": listed}]}
            self.plain(writer, 200, message)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if manner == "malformed":
            self.event(writer, "{not json")
        if manner == "strange":
            self.event(writer, {"choices": [{"delta": "text?"}]})
        if manner == "error event":
            self.event(writer, {"error": {"message": "engine died", "code": 500}})
        for place, word in enumerate(self.words):
            self.event(writer, {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            await writer.drain()
            if place == 1:
                if manner == "hang midway":
                    await asyncio.sleep(60)
                if manner == "reset midway":
                    writer.transport.abort()
                    return
                if manner == "malformed midway":
                    self.event(writer, "]]")
        while manner == "endless":
            self.event(writer, {"choices": [{"index": 0, "delta": {"content": secrets.token_hex(5_000)}}]})
            await writer.drain()
        if manner != "unfinished":
            self.event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish}]})
            self.event(writer, {"choices": [], "usage": self.usage})
            self.event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")


async def through(fake: FakeUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves one connection and closes it whatever happens."""
    try:
        await fake.serve(reader, writer)
    finally:
        if fake.manner.startswith("reset"):
            writer.transport.abort()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(*manners: str) -> AsyncIterator[list[FakeUpstream]]:
    """Runs one server for each manner on a free port."""
    fakes = [FakeUpstream(manner) for manner in manners]
    servers = []
    tasks: set[asyncio.Task[None]] = set()
    for fake in fakes:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fake: FakeUpstream = fake) -> None:
            task = asyncio.ensure_future(through(fake, reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        servers.append(server)
    try:
        yield fakes
    finally:
        for server in servers:
            server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
