"""The three services together, as processes, over gRPC."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest_asyncio
from PIL import Image, ImageDraw, ImageFont

from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2
from compose.local import System

READY = {"inference": "benchmarks.ready_model"}
"""A model that answers at once; its answer is a function of image and question."""


class Client:
    """Asks a system's gateway."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.channel = grpc.aio.insecure_channel(system.gateway)
        self.stub: answer_pb2_grpc.AnswerServiceAsyncStub = answer_pb2_grpc.AnswerServiceStub(self.channel)

    async def ask(self, image: bytes, text: str, timeout: float = 60.0, **fields: Any) -> answer_pb2.AnswerResponse:
        """One answer."""
        request = answer_pb2.AnswerRequest(
            image=content_pb2.Image(content=image), question=content_pb2.Question(text=text), **fields
        )
        return await self.stub.Answer(request, timeout=timeout)


@asynccontextmanager
async def started(home: Path, environ: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Client]:
    """A running system and its client."""
    async with System(home, {"OMP_NUM_THREADS": "1", **(environ or {})}, **options) as system:
        client = Client(system)
        try:
            yield client
        finally:
            await client.channel.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(tmp_path_factory: Any) -> AsyncIterator[Client]:
    """The embedded default: the reader as the model."""
    home = tmp_path_factory.mktemp("reader")
    async with started(home, {"ASKONCE_GATEWAY_JOBS_FOLDER": str(home / "jobs")}) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ready(tmp_path_factory: Any) -> AsyncIterator[Client]:
    """A system whose model answers at once."""
    async with started(tmp_path_factory.mktemp("ready"), modules=READY) as client:
        yield client


def receipt(company: str = "KEDAI LIM SDN BHD", total: str = "138.90", date: str = "12/03/2024") -> Image.Image:
    """A receipt, printed large enough to be read."""
    image = Image.new("RGB", (640, 860), "white")
    pen = ImageDraw.Draw(image)
    lines = [
        (company, 34), ("12 JALAN MERDEKA, 50050 KUALA LUMPUR", 24), ("TEL: 03-2288 1199", 24),
        (f"DATE: {date}", 28), ("INVOICE NO: INV-20931", 28), ("NASI LEMAK        12.90", 28),
        ("TEH TARIK          6.00", 28), ("CATERING         120.00", 28), (f"TOTAL  RM {total}", 38), ("THANK YOU", 28),
    ]  # fmt: skip
    top = 40
    for text, size in lines:
        pen.text((40, top), text, fill="black", font=ImageFont.load_default(size=size))
        top += size + 38
    return image


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def quick() -> bool:
    """Whether slow system tests should be left out."""
    return bool(os.environ.get("ASKONCE_QUICK"))
