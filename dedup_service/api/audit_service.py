"""The AuditService over gRPC, and the long-running operations that its reports are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import grpc
from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.empty_pb2 import Empty
from google.rpc.status_pb2 import Status

from askonce import faults, telemetry
from askonce.faults import Absent, Exhausted, InvalidInput
from askonce.names import ALL, child_name, split_child, tenant_id, tenant_name
from askonce.paging import page_size, position
from askonce.times import to_duration, to_seconds, to_timestamp
from askonce.v1 import audit_pb2, audit_pb2_grpc, content_pb2, policy_pb2
from dedup_service.api import wire_names
from dedup_service.audit.jobs import BusyError, Reports
from dedup_service.ledger.records import time_of
from dedup_service.ledger.report_rows import ReportState

CONTEXT = grpc.aio.ServicerContext[Any, Any]
WEEK, MINUTE, YEARS = 604_800.0, 60.0, 315_360_000.0
PAGE, FINDINGS, MOST = 50, 20, 100
OPERATION = re.compile(r"operations/([0-9a-f]{32})")
CURRENCY = re.compile(r"[A-Za-z]{1,8}")
RETRY = 15.0
"""Seconds after which a caller may ask again while another report is made."""


class AuditService(audit_pb2_grpc.AuditServiceServicer):
    """Makes reports and reads them."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports

    async def CreateAuditReport(
        self, request: audit_pb2.CreateAuditReportRequest, context: CONTEXT
    ) -> operations_pb2.Operation:
        """See the proto."""
        tenant = owner(request.parent)
        wanted = request.audit_report
        window = to_seconds(wanted.window) if wanted.HasField("window") else WEEK
        within(window, MINUTE, YEARS, "window")
        max_wrong = optional(wanted, "max_wrong_rate", 0.0, 0.5)
        confidence = optional(wanted, "confidence", 0.5, 0.9999)
        price = optional(wanted, "gpu_hour_price", 0.0, 1e9)
        if wanted.currency_code and not CURRENCY.fullmatch(wanted.currency_code):
            raise InvalidInput("CURRENCY_INVALID", "currency_code: 1 to 8 letters.", field="audit_report.currency_code")
        try:
            running = await self.reports.start(
                tenant,
                window,
                max_wrong=max_wrong,
                confidence=confidence,
                price=price,
                currency=wanted.currency_code or "USD",
            )
        except BusyError as error:
            raise Exhausted(
                "AUDIT_BUSY", "Another report is being made; wait for it or cancel it.", retry_after=RETRY
            ) from error
        telemetry.note(tenant=tenant, report=running.id)
        return to_operation(running, None)

    async def GetAuditReport(self, request: audit_pb2.GetAuditReportRequest, context: CONTEXT) -> audit_pb2.AuditReport:
        """See the proto."""
        tenant, report = named(request.name)
        try:
            message = to_report(
                tenant, report, await asyncio.to_thread(self.reports.read, tenant, report), self.reports.keep
            )
            if request.view == audit_pb2.AUDIT_REPORT_VIEW_FULL:
                message.html, message.json = await asyncio.to_thread(self.reports.files, tenant, report)
        except LookupError as error:
            raise absent() from error
        return message

    async def ListAuditReports(
        self, request: audit_pb2.ListAuditReportsRequest, context: CONTEXT
    ) -> audit_pb2.ListAuditReportsResponse:
        """See the proto."""
        tenant = owner(request.parent)
        size = page_size(request.page_size, PAGE)

        def read() -> tuple[list[audit_pb2.AuditReport], str]:
            self.reports.sweep()
            ids = [i for i in self.reports.ids(tenant) if not request.page_token or i < request.page_token]
            found = [to_report(tenant, i, self.reports.read(tenant, i), self.reports.keep) for i in ids[:size]]
            return found, ids[size - 1] if len(ids) > size else ""

        found, token = await asyncio.to_thread(read)
        return audit_pb2.ListAuditReportsResponse(audit_reports=found, next_page_token=token)

    async def DeleteAuditReport(
        self, request: audit_pb2.DeleteAuditReportRequest, context: CONTEXT
    ) -> audit_pb2.DeleteAuditReportResponse:
        """See the proto."""
        tenant, report = named(request.name)
        await self.reports.cancel(report)
        await asyncio.to_thread(self.reports.delete, tenant, report)
        return audit_pb2.DeleteAuditReportResponse()

    async def ListAuditFindings(
        self, request: audit_pb2.ListAuditFindingsRequest, context: CONTEXT
    ) -> audit_pb2.ListAuditFindingsResponse:
        """See the proto."""
        tenant, report = named(request.parent, "parent")
        size = page_size(request.page_size, FINDINGS)
        start = position(request.page_token) or 0
        kind = "promising" if request.kind == audit_pb2.AUDIT_FINDING_KIND_PROMISING else "suspicious"
        try:
            found = (await asyncio.to_thread(self.reports.read, tenant, report))[kind]
        except LookupError as error:
            raise absent() from error
        return audit_pb2.ListAuditFindingsResponse(
            findings=[to_finding(each) for each in found[start : start + size]],
            next_page_token=str(start + size) if len(found) > start + size else "",
        )


class Operations(operations_pb2.OperationsServicer):  # type: ignore[misc]
    """google.longrunning.Operations for the reports on their way. Faults are mapped here: the server's own mapping is
    for askonce's services."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: CONTEXT
    ) -> operations_pb2.Operation:
        """The operation as it stands."""
        return await self.operation(request.name, context)

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: CONTEXT
    ) -> operations_pb2.Operation:
        """The operation once it is done, or when the timeout (at most 60 s) is over."""
        running = await self.running(request.name, context)
        timeout = min(60.0, to_seconds(request.timeout)) if request.HasField("timeout") else 60.0
        if not running.done:
            await self.reports.wait(running.id, timeout)
        return await self.operation(request.name, context)

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: CONTEXT
    ) -> operations_pb2.ListOperationsResponse:
        """The newest operations, newest first; at most 100, so one page."""
        jobs = await self.reports.states()
        return operations_pb2.ListOperationsResponse(operations=[await self.described(job) for job in jobs])

    async def CancelOperation(self, request: operations_pb2.CancelOperationRequest, context: CONTEXT) -> Empty:
        """Stops a report; nothing of it is left."""
        await self.reports.cancel((await self.running(request.name, context)).id)
        return Empty()

    async def DeleteOperation(self, request: operations_pb2.DeleteOperationRequest, context: CONTEXT) -> Empty:
        """Forgets an operation that is done; the report stays."""
        running = await self.running(request.name, context)
        if running.done:
            await self.reports.unlist(running.id)
        return Empty()

    async def operation(self, name: str, context: CONTEXT) -> operations_pb2.Operation:
        """The message of a named operation."""
        return await self.described(await self.running(name, context))

    async def described(self, running: ReportState) -> operations_pb2.Operation:
        """The message of an operation, with its report when it is done."""
        report = None
        if running.done and not running.reason:
            try:
                read = await asyncio.to_thread(self.reports.read, running.tenant, running.id)
                report = to_report(running.tenant, running.id, read, self.reports.keep)
            except LookupError:
                running = replace(running, reason="REPORT_DELETED", message="The report was deleted.")
        return to_operation(running, report)

    async def running(self, name: str, context: CONTEXT) -> ReportState:
        """The job behind a name; ends the call with NOT_FOUND when there is none."""
        found = OPERATION.fullmatch(name)
        running = await self.reports.state(found[1]) if found else None
        if running is None:
            fault = Absent("OPERATION_UNKNOWN", "There is no such operation, or it is past its 30 days.")
            await context.abort(fault.code, fault.message, faults.trailing_metadata(fault))
        assert running is not None
        return running


def owner(parent: str) -> str:
    """The tenant of a parent, "-" for all."""
    return ALL if parent == tenant_name(ALL) else tenant_id(parent)


def named(name: str, field: str = "name") -> tuple[str, str]:
    """Tenant and id of a report's name."""
    return split_child(name, "auditReports", field, wildcard=True)


def absent() -> Absent:
    """The fault of a report that is not there."""
    return Absent("REPORT_UNKNOWN", "There is no such report, or it is past its 30 days.")


def within(value: float, least: float, most: float, name: str) -> float:
    """`value`, which must lie in a range."""
    if not least <= value <= most:
        raise InvalidInput("OUT_OF_RANGE", f"{name}: from {least:g} to {most:g}.", field=f"audit_report.{name}")
    return value


def optional(wanted: audit_pb2.AuditReport, name: str, least: float, most: float) -> float | None:
    """An optional number of the wanted report; None when unset."""
    presence: Any = wanted
    return within(getattr(wanted, name), least, most, name) if presence.HasField(name) else None


def to_operation(running: ReportState, report: audit_pb2.AuditReport | None) -> operations_pb2.Operation:
    """The message of a job."""
    operation = operations_pb2.Operation(name=f"operations/{running.id}", done=running.done)
    metadata = audit_pb2.CreateAuditReportMetadata(
        stage=running.stage, stage_share=running.share, start_time=to_timestamp(time_of(running.id))
    )
    operation.metadata.Pack(metadata)
    if running.done and running.reason:
        code = grpc.StatusCode.CANCELLED if running.cancelled else grpc.StatusCode.FAILED_PRECONDITION
        fault = faults.Precondition(running.reason, running.message)
        status = Status(code=code.value[0], message=running.message, details=faults.to_status(fault).details)
        operation.error.CopyFrom(status)
    elif report is not None:
        packed = Packed()
        packed.Pack(report)
        operation.response.CopyFrom(packed)
    return operation


def to_report(tenant: str, report: str, read: Mapping[str, Any], keep: float) -> audit_pb2.AuditReport:
    """The message of a finished report."""
    accuracy, savings = read["accuracy"], read["savings"]
    message = audit_pb2.AuditReport(
        name=child_name(tenant, "auditReports", report),
        create_time=to_timestamp(read["created"]),
        expire_time=to_timestamp(read["created"] + keep),
        window=to_duration(read["until"] - read["since"]),
        max_wrong_rate=read["budget"],
        confidence=accuracy["confidence"],
        currency_code=savings["currency"],
        request_count=read["requests"],
        hit_count=read["hits"],
        verified_count=accuracy["verified"],
        wrong_rate=policy_pb2.RateInterval(**accuracy["interval"]),
        wrong_rate_upper=accuracy["upper"],
        verdict=read["verdict"],
        saved_duration=to_duration(savings["model_seconds"]),
    )
    if savings["price"] is not None:
        message.gpu_hour_price = savings["price"]
    return message


def to_finding(shown: Mapping[str, Any]) -> audit_pb2.AuditFinding:
    """The message of a finding."""
    message = audit_pb2.AuditFinding(
        decision=wire_names.decision_name(shown["tenant"], shown["decision"]),
        decide_time=to_timestamp(shown["time"]),
        hit=shown["hit"],
        signs=shown["signs"],
        score=shown["score"],
        decision_count=shown["count"],
        question="".join(piece["text"] for piece in shown["question"]),
        stored_question="".join(piece["text"] for piece in shown["stored_question"]),
        answer=shown["answer"],
        other_answer=shown["other_answer"],
        reason=shown["reason"],
        risk=shown["risk"],
        right={"RIGHT": True, "WRONG": False}.get(shown["label"]),
    )
    if shown["box"] is not None:
        x, y, width, height = shown["box"]
        message.difference.CopyFrom(content_pb2.Box(x=x, y=y, width=width, height=height))
    return message
