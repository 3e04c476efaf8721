"""kill -9 in the middle of work: what was acknowledged stays, and the gateway answers throughout."""

from __future__ import annotations

import asyncio
import hashlib

import grpc
import pytest

from askonce import faults
from askonce.v1 import answer_pb2, content_pb2
from benchmarks.ready_model import right_answer
from benchmarks.soak import ASPECTS, picture
from tests.system.conftest import Client

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

CACHED = answer_pb2.CACHE_MODE_ONLY_IF_CACHED


async def stored(client: Client, image: bytes, text: str) -> None:
    """Asks until the answer is on record."""
    await client.ask(image, text)
    for _ in range(100):
        if await hit(client, image, text):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the answer was never stored")


async def hit(client: Client, image: bytes, text: str) -> bool:
    """Whether memory has the answer, the right one."""
    try:
        answer = await client.ask(image, text, cache_mode=CACHED)
    except grpc.aio.AioRpcError as error:
        if faults.reason_of(error) in ("NOT_CACHED", "DEDUP_UNAVAILABLE"):
            return False
        raise
    assert answer.answer.text == right_answer(hashlib.sha256(image).digest(), text)
    return True


async def test_dedup_killed(ready: Client) -> None:
    """Without dedup the model answers; after its return every stored answer is a hit."""
    images = [picture(number) for number in range(5)]
    for image in images:
        for text in ASPECTS[:4]:
            await stored(ready, image, text)
    await ready.system.kill("dedup")
    down = await ready.ask(images[0], ASPECTS[0])
    assert (down.provenance.source, down.provenance.reason) == (content_pb2.SOURCE_MODEL, "DEDUP_UNAVAILABLE")
    await ready.system.launch("dedup")
    async with asyncio.timeout(30):
        while not await hit(ready, images[0], ASPECTS[0]):
            await asyncio.sleep(0.1)
    assert all([await hit(ready, image, text) for image in images for text in ASPECTS[:4]])


async def test_inference_killed(ready: Client) -> None:
    """Without inference stored answers are served, misses are told when to retry; after its return all is well."""
    image = picture(100)
    await stored(ready, image, ASPECTS[0])
    await ready.system.kill("inference")
    assert (await ready.ask(image, ASPECTS[0])).provenance.source == content_pb2.SOURCE_CACHE
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ready.ask(image, ASPECTS[1])
    fault = faults.from_error(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, "INFERENCE_UNAVAILABLE")
    assert fault.retry_after is not None
    await ready.system.launch("inference")
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await ready.ask(image, ASPECTS[1])).answer.text
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)


async def test_gateway_killed(ready: Client) -> None:
    """A gateway that comes back knows nothing of its own and needs nothing: memory is elsewhere."""
    image = picture(200)
    await stored(ready, image, ASPECTS[0])
    await ready.system.kill("gateway")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ready.ask(image, ASPECTS[0], timeout=2.0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await ready.system.launch("gateway")
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await ready.ask(image, ASPECTS[0])).provenance.source == content_pb2.SOURCE_CACHE
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)


async def test_clean_stop_loses_nothing(ready: Client) -> None:
    """An answer given just before SIGTERM is in memory after the restart: the gateway finishes what it began."""
    image = picture(300)
    await ready.ask(image, ASPECTS[2])
    assert await ready.system.terminate("gateway") == 0
    assert await ready.system.terminate("dedup") == 0
    await ready.system.launch("dedup")
    await ready.system.launch("gateway")
    async with asyncio.timeout(30):
        while True:
            try:
                assert await hit(ready, image, ASPECTS[2])
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
