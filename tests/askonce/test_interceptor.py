"""A caller is looked at before its message is read, and whatever bytes arrive end in a clear status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from askonce import faults, serving
from askonce.access import SERVICE_KEY, Access, Guard, shows
from askonce.dialing import Dialing, dial
from askonce.interceptor import WATCHES_EACH
from askonce.secret_file import SecretFile
from askonce.v1 import store_pb2, store_pb2_grpc

NAME = "askonce.v1.StoreService"
PURGE = f"/{NAME}/Purge"
SHOWN: dict[Path, tuple[tuple[str, str], ...]] = {}
CONTEXT = grpc.aio.ServicerContext[Any, Any]


class Store(store_pb2_grpc.StoreServiceServicer):
    """Counts what reaches it."""

    def __init__(self) -> None:
        self.calls = 0
        self.waiting = asyncio.Event()
        self.waiting.set()

    async def Purge(self, request: store_pb2.PurgeRequest, context: CONTEXT) -> store_pb2.PurgeResponse:
        self.calls += 1
        await self.waiting.wait()
        return store_pb2.PurgeResponse()

    async def ImportEntries(
        self, requests: AsyncIterator[store_pb2.ImportEntriesRequest], context: CONTEXT
    ) -> store_pb2.ImportEntriesResponse:
        async for _ in requests:
            self.calls += 1
        return store_pb2.ImportEntriesResponse()


@asynccontextmanager
async def served(tmp_path: Path, **changes: Any) -> AsyncIterator[tuple[Store, grpc.aio.Channel, serving.Server]]:
    store = Store()
    registration = serving.Registration(
        NAME, lambda server: store_pb2_grpc.add_StoreServiceServicer_to_server(store, server)
    )
    guard = await asyncio.to_thread(Guard, Access(tmp_path / "service.key"))
    SHOWN[tmp_path] = shows(await asyncio.to_thread(SecretFile, tmp_path / "service.key"))
    server = serving.Server("dedup", serving.Serving(**changes), [registration], guard=guard)
    await server.start()
    channel = dial(Dialing(target=server.address, max_message_bytes=64 * 2**20))
    try:
        yield store, channel, server
    finally:
        await channel.close()
        await server.server.stop(0)


def shown(tmp_path: Path) -> tuple[tuple[str, str], ...]:
    """The metadata of one who belongs to the deployment."""
    return SHOWN[tmp_path]


async def raw(channel: grpc.aio.Channel, method: str, message: bytes, metadata: Any = ()) -> faults.Fault:
    """Sends bytes as they are; the fault of the answer."""
    call = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(message, timeout=10, metadata=metadata)
    return faults.from_error(refused.value)


async def test_strangers_are_turned_away_unread(tmp_path: Path) -> None:
    """Without a key the call ends UNAUTHENTICATED, its message never deserialised and nothing of it kept."""
    async with served(tmp_path) as (store, channel, _):
        big = store_pb2.PurgeRequest(model="x" * 8_000_000).SerializeToString()
        many = await asyncio.gather(*(raw(channel, PURGE, big) for _ in range(20)))
        assert {fault.reason for fault in many} == {"CREDENTIALS_MISSING"}
        assert store.calls == 0
        assert (await raw(channel, PURGE, b"", [(SERVICE_KEY, "guess-guess-guess")])).reason == "CREDENTIALS_UNKNOWN"


async def test_acts_of_administration_are_written_down(tmp_path: Path) -> None:
    """A purge leaves a line that names it, its author and its tenant's request."""
    async with served(tmp_path) as (store, channel, _):
        stub: store_pb2_grpc.StoreServiceAsyncStub = store_pb2_grpc.StoreServiceStub(channel)
        with capture_logs() as logs:
            await stub.Purge(store_pb2.PurgeRequest(parent="tenants/acme"), timeout=10, metadata=shown(tmp_path))
        assert store.calls == 1
        (line,) = [each for each in logs if each["event"] == "administrative_act"]
        assert (line["caller"], line["method"], line["code"]) == ("service", "Purge", "OK")


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05abc", b"\x0a\x02\xff\xfe", bytes(range(256))])
async def test_bytes_that_are_no_message_have_a_reason(tmp_path: Path, message: bytes) -> None:
    """Malformed protobuf is INVALID_ARGUMENT with a reason, never UNKNOWN or INTERNAL, and no traceback is logged."""
    async with served(tmp_path) as (store, channel, _):
        with capture_logs() as logs:
            fault = await raw(channel, PURGE, message, shown(tmp_path))
        assert (type(fault), fault.reason) == (faults.InvalidInput, "MESSAGE_INVALID")
        assert store.calls == 0
        assert not [line for line in logs if line["event"] == "bug"]


async def test_a_malformed_piece_of_an_upload_has_a_reason(tmp_path: Path) -> None:
    """The same holds for each message of a stream."""
    async with served(tmp_path) as (_, channel, _server):
        call = channel.stream_unary(f"/{NAME}/ImportEntries", request_serializer=None, response_deserializer=None)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(iter([b"\xff\xff"]), timeout=10, metadata=shown(tmp_path))
        assert faults.from_error(refused.value).reason == "MESSAGE_INVALID"


async def test_large_messages_are_refused_with_the_limit(tmp_path: Path) -> None:
    """A message above the limit, and one too many of all that are under way, are refused with what to do."""
    async with served(tmp_path, max_message_bytes=1_000, max_bytes_in_flight=1_500) as (store, channel, _):
        key = shown(tmp_path)
        large = store_pb2.PurgeRequest(model="x" * 1_200).SerializeToString()
        fault = await raw(channel, PURGE, large, key)
        assert (fault.reason, fault.metadata["max_bytes"]) == ("MESSAGE_TOO_LARGE", "1000")
        store.waiting.clear()
        stub: store_pb2_grpc.StoreServiceAsyncStub = store_pb2_grpc.StoreServiceStub(channel)
        half = store_pb2.PurgeRequest(parent="tenants/acme", model="x" * 800)
        first = asyncio.ensure_future(stub.Purge(half, timeout=10, metadata=key))
        while not store.calls:
            await asyncio.sleep(0.005)
        second = await raw(channel, PURGE, half.SerializeToString(), key)
        assert (second.reason, second.retry_after) == ("SERVER_BUSY", 0.5)
        store.waiting.set()
        await first
        await stub.Purge(half, timeout=10, metadata=key)
        assert store.calls == 2


async def test_unknown_methods_are_not_kept(tmp_path: Path) -> None:
    """Calls of methods that do not exist leave nothing behind in the server."""
    async with served(tmp_path) as (_, channel, server):
        (requests,) = server.interceptors
        for number in range(50):
            fault = await raw(channel, f"/askonce.v1.StoreService/No{number}", b"")
            assert fault.code is grpc.StatusCode.UNIMPLEMENTED
        assert requests.handlers == {}


async def test_errors_carry_the_request_id(tmp_path: Path) -> None:
    """The id under which a refused call was logged comes back in the trailing metadata."""
    async with served(tmp_path) as (_, channel, _server):
        call = channel.unary_unary(PURGE, request_serializer=None, response_deserializer=None)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", timeout=10, metadata=[("askonce-request-id", "abc-1")])
        assert dict(refused.value.trailing_metadata() or ())["askonce-request-id"] == "abc-1"


async def test_streams_of_health_leave_room_for_calls(tmp_path: Path) -> None:
    """Watching needs no key and may last for ever: one address gets so many streams of health and reflection and no
    more, those that it has go on, and calls go through meanwhile. What ends makes room."""
    async with served(tmp_path, max_concurrent_calls=200) as (store, channel, _):
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        reflect: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")

        async def silent() -> AsyncIterator[bytes]:
            await asyncio.sleep(600)
            yield b""

        opened = [watch(b"") for _ in range(WATCHES_EACH)]
        for each in opened:
            assert await each.read()
        for late in (watch(b""), reflect(silent())):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await late.read()
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert faults.reason_of(refused.value) == "SERVER_BUSY"
        stub: store_pb2_grpc.StoreServiceAsyncStub = store_pb2_grpc.StoreServiceStub(channel)
        await stub.Purge(store_pb2.PurgeRequest(parent="tenants/acme"), timeout=10, metadata=shown(tmp_path))
        assert store.calls == 1
        for each in opened:
            each.cancel()
        for _ in range(100):
            again = watch(b"")
            try:
                assert await again.read()
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("streams that ended made no room")
        again.cancel()


async def test_calls_that_send_nothing_take_half_of_the_places(tmp_path: Path) -> None:
    """Whoever opens calls and sends no message is refused beyond half of the places; a caller with another key is not,
    and messages that come make room."""
    (tmp_path / "service.key").write_text("one-key-of-enough-length\nother-key-of-enough-length\n", encoding="ascii")
    other = ((SERVICE_KEY, "other-key-of-enough-length"),)
    async with served(tmp_path, max_concurrent_calls=8) as (store, channel, _):
        upload: Any = channel.stream_unary(PURGE)
        go = asyncio.Event()

        async def late() -> AsyncIterator[bytes]:
            await go.wait()
            yield store_pb2.PurgeRequest(parent="tenants/acme").SerializeToString()

        calls = [upload(late(), metadata=shown(tmp_path)) for _ in range(6)]
        refused, _ = await asyncio.wait({asyncio.ensure_future(one(call)) for call in calls}, timeout=3.0)
        assert [each.result() for each in refused] == ["SERVER_BUSY"] * 2
        stub: store_pb2_grpc.StoreServiceAsyncStub = store_pb2_grpc.StoreServiceStub(channel)
        await stub.Purge(store_pb2.PurgeRequest(parent="tenants/acme"), timeout=10, metadata=other)
        go.set()
        assert sorted([await one(call) for call in calls]) == [""] * 4 + ["SERVER_BUSY"] * 2
        await stub.Purge(store_pb2.PurgeRequest(parent="tenants/acme"), timeout=10, metadata=shown(tmp_path))
        assert store.calls == 6


async def one(call: Any) -> str:
    """The reason of a call's refusal; empty for none."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return faults.reason_of(error)
    return ""
