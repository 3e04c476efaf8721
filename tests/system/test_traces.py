"""With an endpoint named, one request is one trace through all services."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.system.conftest import started

RECEIPT = Path(__file__).parents[2] / "examples" / "pages" / "receipt-grocer.jpg"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector:
    """Takes spans over OTLP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {each.key: each.value.string_value for each in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        collector.spans += [
                            (names["service.name"], span.trace_id.hex(), span.name) for span in scope.spans
                        ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.slow
@pytest.mark.system
async def test_one_request_is_one_trace(collector: Collector, tmp_path: Path) -> None:
    """The caller's trace id is kept, and each service's part of it arrives at the collector."""
    environ = {}
    for service in ("GATEWAY", "DEDUP", "INFERENCE"):
        environ[f"ASKONCE_{service}_TELEMETRY_TRACES_ENDPOINT"] = collector.address
        environ[f"ASKONCE_{service}_TELEMETRY_TRACES_SHARE"] = "0"  # the caller decides
    content = await asyncio.to_thread(RECEIPT.read_bytes)
    async with started(tmp_path, environ) as client:
        from askonce.v1 import answer_pb2, content_pb2

        request = answer_pb2.AnswerRequest(
            image=content_pb2.Image(content=content), question=content_pb2.Question(text="What is the total?")
        )
        await client.stub.Answer(request, timeout=90, metadata=(("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),))
        await client.stub.Answer(request, timeout=90)
    mine = {(service, name) for service, trace, name in collector.spans if trace == TRACE}
    assert {service for service, _ in mine} == {"askonce-gateway", "askonce-dedup", "askonce-inference"}
    assert ("askonce-dedup", "/askonce.v1.DedupService/Lookup") in mine
    assert {trace for _, trace, _ in collector.spans} == {TRACE}, "what nobody asked to trace is not traced"
