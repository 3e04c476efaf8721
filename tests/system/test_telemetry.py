"""What a running system tells: traces through all services and their stores, and the metrics that dashboard and alerts
name."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import promql_parser
import pytest
import pytest_asyncio
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from askonce.v1 import answer_pb2, content_pb2
from tests.system.conftest import Client, started

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "compose" / "monitoring"
SERVICES = ("gateway", "dedup", "inference")
QUESTION = "What is the total?"
RECEIPT = ROOT / "examples" / "pages" / "receipt-grocer.jpg"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


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


class Watched:
    """A running system that is traced and measured."""

    def __init__(self, client: Client, collector: Collector, addresses: dict[str, str], edge: str) -> None:
        self.client = client
        self.edge = edge
        self.collector = collector
        self.addresses = addresses
        self.request = answer_pb2.AnswerRequest(
            image=content_pb2.Image(content=RECEIPT.read_bytes()), question=content_pb2.Question(text=QUESTION)
        )

    def complete(self, headers: dict[str, str]) -> None:
        """Asks over HTTP."""
        url = f"data:image/jpeg;base64,{base64.b64encode(self.request.image.content).decode()}"
        parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
        body = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
        address = f"http://{self.edge}/v1/chat/completions"
        request = urllib.request.Request(address, body, {"content-type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=90) as reply:
            assert reply.status == 200

    def scrape(self) -> dict[str, Metric]:
        """The metric families of all services, by name, with those of the gateway's samples first."""
        found: dict[str, Metric] = {}
        for address in self.addresses.values():
            text = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
            for family in text_string_to_metric_families(text):
                found.setdefault(family.name, family).samples.extend(family.samples)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """The embedded default; traces only what a caller asks to trace."""
    home = tmp_path_factory.mktemp("watched")
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, daemon=True)
    thread.start()
    environ = {"ASKONCE_DEDUP_METRICS_TENANTS": "default,acme", "ASKONCE_GATEWAY_EDGE_LISTEN": "127.0.0.1:0"}
    for service in ("GATEWAY", "DEDUP", "INFERENCE"):
        environ[f"ASKONCE_{service}_TELEMETRY_TRACES_ENDPOINT"] = collector.address
        environ[f"ASKONCE_{service}_TELEMETRY_TRACES_SHARE"] = "0"
        environ[f"ASKONCE_{service}_TELEMETRY_METRICS_LISTEN"] = "127.0.0.1:0"
    try:
        async with started(home, environ) as client:
            addresses = {name: await asyncio.to_thread(said, home, name, "metrics_served") for name in SERVICES}
            http = await asyncio.to_thread(said, home, "gateway", "serving_http")
            yield Watched(client, collector, addresses, http)
    finally:
        collector.server.shutdown()
        collector.server.server_close()


def said(home: Path, service: str, event: str) -> str:
    """The address that a service gave with an event of its start. Lines come in groups: the event may be on its way."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        text = (home / "logs" / f"{service}.log").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
        if found := [str(line["address"]) for line in lines if line["event"] == event]:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"{service} did not say {event}")


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.asyncio(loop_scope="module")
async def test_one_request_is_one_trace(watched: Watched) -> None:
    """The caller's trace id is kept, and each service's part of it arrives at the collector, the stores' among them;
    what nobody asked to trace is not traced."""
    asked = (("traceparent", PARENT),)
    answered = await watched.client.stub.Answer(watched.request, timeout=90, metadata=asked)
    feedback = answer_pb2.SubmitFeedbackRequest(decision=answered.provenance.decision, verdict=answer_pb2.VERDICT_RIGHT)
    await watched.client.stub.SubmitFeedback(feedback, timeout=30, metadata=asked)
    await asyncio.to_thread(watched.complete, {"traceparent": PARENT})
    await watched.client.stub.Answer(watched.request, timeout=90)
    wanted = {
        ("askonce-gateway", "POST /v1/chat/completions"),
        ("askonce-gateway", "/askonce.v1.AnswerService/Answer"),
        ("askonce-dedup", "/askonce.v1.DedupService/Lookup"),
        ("askonce-dedup", "qdrant-edge page"),
        ("askonce-dedup", "qdrant-edge put"),
        ("askonce-inference", "/askonce.v1.InferenceService/Generate"),
    }
    async with asyncio.timeout(60):
        while not wanted <= {(service, name) for service, _, name in watched.collector.spans}:
            await asyncio.sleep(0.2)
    assert {trace for _, trace, _ in watched.collector.spans} == {TRACE}
    assert any(name.startswith("SELECT") for service, _, name in watched.collector.spans if service == "askonce-dedup")


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.asyncio(loop_scope="module")
async def test_panels_and_alerts_name_metrics_that_services_show(watched: Watched) -> None:
    """What a running system shows holds every metric that a panel or an alert names; the labels that these select or
    group by are the metric's own."""
    await watched.client.stub.Answer(watched.request, timeout=90)
    shown = await asyncio.to_thread(watched.scrape)
    async with asyncio.timeout(60):
        while not shown["askonce_dedup_verified_hits"].samples or not counted(shown, "askonce_dedup_entries"):
            await asyncio.sleep(0.2)
            shown = await asyncio.to_thread(watched.scrape)
    foreign = re.compile(r"DCGM_|up$|askonce:")
    names: dict[str, set[str]] = {}
    for expression in expressions():
        for name, labels in selected(expression).items():
            if not foreign.match(name):
                names.setdefault(name, set()).update(labels)
    assert len(names) > 40
    for name, labels in names.items():
        family = shown.get(re.sub(r"_(total|bucket|count|sum)$", "", name)) or shown.get(name)
        assert family is not None, name
        for sample in family.samples[:1]:
            assert labels - {"le", "job", "instance"} <= set(sample.labels), (name, labels)


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.asyncio(loop_scope="module")
async def test_look_ups_are_measured(watched: Watched) -> None:
    """A miss and a hit show in tiers, outcome, reason, stages and store time; tenants only where they were named."""
    before = await asyncio.to_thread(watched.scrape)
    await watched.client.stub.Answer(watched.request, timeout=90)
    hit = {"image_tier": "BYTES", "question_tier": "EXACT", "outcome": "hit", "reason": "EXACT"}
    await watched.client.stub.Answer(watched.request, timeout=90)
    after = await asyncio.to_thread(watched.scrape)
    assert counted(after, "askonce_dedup_lookups", **hit) > counted(before, "askonce_dedup_lookups", **hit)
    assert counted(after, "askonce_dedup_stage_seconds", "_count", stage="hot") >= 1
    assert counted(after, "askonce_dedup_store_seconds", "_count", store="qdrant-edge") >= 1
    for family in after.values():
        tenants = {sample.labels["tenant"] for sample in family.samples if "tenant" in sample.labels}
        assert tenants <= {"-", "default", "acme"}, family.name


def counted(shown: dict[str, Metric], family: str, ending: str = "", **labels: str) -> float:
    """The sum of a family's samples with these labels."""
    return sum(
        sample.value
        for sample in shown[family].samples
        if sample.name.endswith(ending or ("_total" if shown[family].type == "counter" else ""))
        and labels.items() <= sample.labels.items()
    )


def expressions() -> list[str]:
    """Every query of the dashboard, the alerts and the recording rules."""
    board = json.loads((MONITORING / "askonce.json").read_text(encoding="utf-8"))
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [
        *(target["expr"] for panel in board["panels"] for target in panel["targets"]),
        *(rule["expr"] for group in rules for rule in group["rules"]),
    ]


def selected(expression: str) -> dict[str, set[str]]:
    """The metrics that a query names, with the labels by which it selects them or groups them."""
    found: dict[str, set[str]] = {}
    grouped: set[str] = set()

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            found[node.name] = {matcher.name for matcher in node.matchers.matchers}
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(expression), pre_visit=visit)
    return {name: labels | grouped for name, labels in found.items()}
