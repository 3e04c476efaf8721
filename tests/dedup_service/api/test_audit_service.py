"""The AuditService and its operations over a real gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from askonce.faults import from_error
from askonce.serving import Registration, Server, Serving
from askonce.v1 import audit_pb2, audit_pb2_grpc
from benchmarks.ledgers import Made, make_ledger
from dedup_service.api.audit_service import AuditService, Operations
from dedup_service.audit.jobs import Reports
from dedup_service.ledger.database import open_database
from dedup_service.ledger.report_rows import ReportRows

pytestmark = pytest.mark.slow
END = 1_790_000_000.0
ALL = "tenants/-"


@dataclass
class Peer:
    """A client of a running service."""

    audits: Any
    operations: Any

    async def create(self, parent: str = ALL, **wanted: Any) -> Any:
        """Starts a report over the whole ledger."""
        wanted.setdefault("window", Duration(seconds=14 * 86_400))
        report = audit_pb2.AuditReport(**wanted)
        return await self.audits.CreateAuditReport(
            audit_pb2.CreateAuditReportRequest(parent=parent, audit_report=report), timeout=10
        )

    async def made(self) -> audit_pb2.AuditReport:
        """A finished report."""
        operation = await self.create()
        while not operation.done:
            operation = await self.operations.WaitOperation(
                operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=20)), timeout=30
            )
        report = audit_pb2.AuditReport()
        assert operation.response.Unpack(report), operation.error
        return report

    async def reason(self, call: Any) -> str:
        """The reason of a call that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_error(caught.value).reason


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small ledger."""
    return make_ledger(tmp_path_factory.mktemp("ledger") / "l.sqlite", decisions=1_500, exploration_rate=0.3, seed=4)


@pytest.fixture
async def peer(ledger: Made, tmp_path: Path) -> AsyncIterator[Peer]:
    """Both services on a port of their own."""
    engine = await asyncio.to_thread(open_database, ledger.url)
    reports = Reports(tmp_path / "reports", ledger.url, ReportRows(engine), clock=lambda: END)
    registrations = [
        Registration(
            "askonce.v1.AuditService",
            lambda server: audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(reports), server),
        ),
        Registration(
            "google.longrunning.Operations",
            lambda server: operations_pb2_grpc.add_OperationsServicer_to_server(Operations(reports), server),
        ),
    ]
    server = Server("dedup", Serving(), registrations)
    channel = grpc.aio.insecure_channel(await server.start())
    try:
        yield Peer(audit_pb2_grpc.AuditServiceStub(channel), operations_pb2_grpc.OperationsStub(channel))
    finally:
        await reports.stop()
        await channel.close()
        await server.server.stop(0)
        await asyncio.to_thread(reports.rows.delete_all, ["-", "acme"])
        await asyncio.to_thread(engine.dispose)


async def test_a_report_from_start_to_deletion(peer: Peer, ledger: Made) -> None:
    """It is made, read in both views, listed with its findings page by page, and deleted."""
    report = await peer.made()
    assert (report.request_count, report.hit_count) == (1_500, ledger.hits)
    assert report.wrong_rate.low <= ledger.wrong_rate <= report.wrong_rate.high
    assert report.verdict in ("BOUND_HOLDS", "BOUND_BROKEN", "TOO_FEW_LABELS")
    assert report.expire_time.seconds - report.create_time.seconds == 30 * 86_400
    assert not report.html
    full = await peer.audits.GetAuditReport(
        audit_pb2.GetAuditReportRequest(name=report.name, view=audit_pb2.AUDIT_REPORT_VIEW_FULL), timeout=10
    )
    assert full.html.startswith(b"<!doctype html>")
    listed = await peer.audits.ListAuditReports(audit_pb2.ListAuditReportsRequest(parent=ALL), timeout=10)
    assert [each.name for each in listed.audit_reports] == [report.name]
    seen: list[str] = []
    token = ""
    while True:
        page = await peer.audits.ListAuditFindings(
            audit_pb2.ListAuditFindingsRequest(parent=report.name, page_size=15, page_token=token), timeout=10
        )
        seen += [finding.decision for finding in page.findings]
        if not (token := page.next_page_token):
            break
    assert len(seen) == len(set(seen)) > 15
    await peer.audits.DeleteAuditReport(audit_pb2.DeleteAuditReportRequest(name=report.name), timeout=10)
    get = peer.audits.GetAuditReport(audit_pb2.GetAuditReportRequest(name=report.name), timeout=10)
    assert await peer.reason(get) == "REPORT_UNKNOWN"


async def test_one_at_a_time_and_cancellable(peer: Peer) -> None:
    """A second report is refused while one is made; cancelling makes room, and the operation says so."""
    operation = await peer.create()
    assert await peer.reason(peer.create("tenants/acme")) == "AUDIT_BUSY"
    await peer.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name), timeout=20)
    operation = await peer.operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name), timeout=10)
    assert operation.done
    assert operation.error.code == grpc.StatusCode.CANCELLED.value[0]
    listed = await peer.operations.ListOperations(operations_pb2.ListOperationsRequest(), timeout=10)
    assert len(listed.operations) == 1
    await peer.create("tenants/acme")


async def test_wrong_requests_have_reasons(peer: Peer) -> None:
    """Names, ranges and tokens are checked before anything is started."""
    assert await peer.reason(peer.create("acme")) == "TENANT_INVALID"
    assert await peer.reason(peer.create(window=Duration(seconds=1))) == "OUT_OF_RANGE"
    assert await peer.reason(peer.create(max_wrong_rate=0.9)) == "OUT_OF_RANGE"
    assert await peer.reason(peer.create(currency_code="§")) == "CURRENCY_INVALID"
    get = peer.audits.GetAuditReport(audit_pb2.GetAuditReportRequest(name="tenants/../auditReports/x"), timeout=10)
    assert await peer.reason(get) == "NAME_INVALID"
    unknown = peer.operations.GetOperation(operations_pb2.GetOperationRequest(name="operations/x"), timeout=10)
    assert await peer.reason(unknown) == "OPERATION_UNKNOWN"
