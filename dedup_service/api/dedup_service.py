"""The DedupService over gRPC: wire values in, use cases, wire values out."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from askonce import fair, telemetry
from askonce.faults import Absent, Exhausted, InvalidInput, Unreachable
from askonce.limits import COMMENT_CHARACTERS, CORRECT_CHARACTERS
from askonce.names import child_id, tenant_id, tenant_name
from askonce.paging import page_size, position
from askonce.times import to_seconds, to_timestamp
from askonce.v1 import answer_pb2, content_pb2, dedup_pb2, dedup_pb2_grpc
from dedup_service.api import messages, wire_names
from dedup_service.image.picture import PictureError
from dedup_service.policy.policy import PolicyInvalidError
from dedup_service.policy.revisions import PolicyBook
from dedup_service.store.records import Memory, MemoryReadOnlyError, MemoryUnavailableError
from dedup_service.usecases.forget import Forget
from dedup_service.usecases.learn import DecisionUnknownError, FeedbackLimitError, Learn, Learnt
from dedup_service.usecases.lookup import Lookup
from dedup_service.usecases.miss_ticket import TicketError
from dedup_service.usecases.remember import Remember

CONTEXT = grpc.aio.ServicerContext[Any, Any]


REMOVALS = 1_000
"""Removals in one response at most."""
Removals = Callable[[int, int], list[tuple[int, str, float]]]
"""Names removals after a sequence number, so many at most: sequence number, tenant, seconds since the epoch. Blocks."""


class DedupService(dedup_pb2_grpc.DedupServiceServicer):
    """Looks up, remembers, forgets and learns."""

    def __init__(
        self,
        lookup: Lookup,
        remember: Remember,
        forget: Forget,
        learn: Learn,
        memory: Memory,
        book: PolicyBook,
        *,
        image_encoder: str,
        question_encoder: str,
        versions: tuple[str, ...],
        data: Path | None,
        removals: Removals = lambda after, size: [],
    ) -> None:
        self.removals = removals
        self.lookup = lookup
        self.remember = remember
        self.forget = forget
        self.learn = learn
        self.memory = memory
        self.book = book
        self.image_encoder = image_encoder
        self.question_encoder = question_encoder
        self.versions = versions
        self.data = data

    async def Lookup(self, request: dedup_pb2.LookupRequest, context: CONTEXT) -> dedup_pb2.LookupResponse:
        """See the proto."""
        query = messages.from_lookup(request)
        fair.share.set(query.tenant)
        with named_errors():
            return messages.to_response(await self.lookup.look_up(query), query)

    async def Remember(self, request: dedup_pb2.RememberRequest, context: CONTEXT) -> dedup_pb2.RememberResponse:
        """See the proto."""
        tenant = tenant_id(request.parent)
        fair.share.set(tenant)
        answer = messages.from_answer(request.answer, to_seconds(request.generate_duration))
        with named_errors():
            remembered = await self.remember.remember(
                tenant, request.ticket, answer, replace=request.replace, compare_only=request.compare_only
            )
        telemetry.note(reason=remembered.reason or "STORED", tenant=tenant)
        return dedup_pb2.RememberResponse(
            entry=messages.entry_name(tenant, remembered.entry), stored=remembered.stored, reason=remembered.reason
        )

    async def Forget(self, request: dedup_pb2.ForgetRequest, context: CONTEXT) -> dedup_pb2.ForgetResponse:
        """See the proto."""
        tenant = tenant_id(request.parent)
        target = request.WhichOneof("target")
        with named_errors():
            if target == "entry":
                deleted = await self.forget.entry(tenant, child_id(request.entry, tenant, "entries", "entry"))
            elif target == "image_digest":
                deleted = await self.forget.image(tenant, request.image_digest.hex())
            elif target == "alias_digest":
                deleted = await self.forget.alias(tenant, request.alias_digest.hex())
            else:
                raise InvalidInput("TARGET_MISSING", "Name an entry, an image or an alias to forget.", field="target")
        return dedup_pb2.ForgetResponse(
            entry_count=deleted.entries, image_count=deleted.images, alias_count=deleted.aliases
        )

    async def Learn(self, request: dedup_pb2.LearnRequest, context: CONTEXT) -> dedup_pb2.LearnResponse:
        """See the proto."""
        tenant = tenant_id(request.parent)
        evidence = request.WhichOneof("evidence")
        fair.share.set(tenant)
        with named_errors():
            if evidence == "feedback":
                learnt = await self.feedback(tenant, request.feedback)
            elif evidence == "fresh_answer":
                fresh = request.fresh_answer
                decision = child_id(fresh.decision, tenant, "decisions", "fresh_answer.decision")
                whole = fresh.answer.finish_reason == content_pb2.FINISH_REASON_STOP and fresh.answer.text
                learnt = await self.learn.fresh_answer(tenant, decision, fresh.answer.text if whole else None)
            elif evidence == "judged":
                learnt = await self.learn.judged(tenant, messages.from_judged(request.judged))
            else:
                raise InvalidInput("LABEL_MISSING", "Send feedback, a fresh answer or a verdict.", field="evidence")
        return dedup_pb2.LearnResponse(removed_count=learnt.removed, labelled=learnt.labelled)

    async def feedback(self, tenant: str, request: answer_pb2.SubmitFeedbackRequest) -> Learnt:
        """A client's verdict, checked."""
        decision = child_id(request.decision, tenant, "decisions", "feedback.decision")
        verdict = wire_names.enum_name(answer_pb2.Verdict, request.verdict, "VERDICT_", "feedback.verdict")
        if verdict == "UNSPECIFIED":
            raise InvalidInput("VERDICT_MISSING", "verdict: say right or wrong.", field="feedback.verdict")
        for text, limit, name in (
            (request.comment, COMMENT_CHARACTERS, "comment"),
            (request.correct_text, CORRECT_CHARACTERS, "correct_text"),
        ):
            if len(text) > limit:
                raise InvalidInput(
                    "TEXT_TOO_LONG",
                    f"{name}: at most {limit} characters.",
                    field=f"feedback.{name}",
                    metadata={"limit": str(limit)},
                )
        return await self.learn.feedback(tenant, decision, verdict == "RIGHT", request.correct_text, request.comment)

    async def ListRemovals(
        self, request: dedup_pb2.ListRemovalsRequest, context: CONTEXT
    ) -> dedup_pb2.ListRemovalsResponse:
        """See the proto."""
        size = page_size(request.page_size, REMOVALS, REMOVALS)
        found = await asyncio.to_thread(self.removals, position(request.page_token) or 0, size)
        response = dedup_pb2.ListRemovalsResponse(next_page_token=request.page_token)
        for sequence, tenant, time in found:
            response.removals.add(parent=tenant_name(tenant), remove_time=to_timestamp(time))
            response.next_page_token = str(sequence)
        return response

    async def GetDedupInfo(
        self, request: dedup_pb2.GetDedupInfoRequest, context: CONTEXT
    ) -> dedup_pb2.GetDedupInfoResponse:
        """See the proto."""
        with named_errors():
            holdings = await self.memory.holdings()
            problems = await self.memory.problems()
        revision = messages.revision_name(self.book.current(tenant_id(request.parent))) if request.parent else ""
        return dedup_pb2.GetDedupInfoResponse(
            image_encoder=self.image_encoder,
            question_encoder=self.question_encoder,
            store=self.memory.kind,
            image_count=holdings.images,
            entry_count=holdings.entries,
            policy_revision=revision,
            versions=self.versions,
            problems=problems,
            disk_free_bytes=shutil.disk_usage(self.data).free if self.data is not None else 0,
        )


@contextmanager
def named_errors() -> Iterator[None]:
    """Turns what the use cases raise into faults."""
    try:
        yield
    except PictureError as error:
        raise InvalidInput(error.reason, str(error), field="image.content") from error
    except PolicyInvalidError as error:
        first = error.violations[0]
        raise InvalidInput("LIMITS_NOT_TIGHTER", str(error), field=f"limits.{first.field}") from error
    except TicketError as error:
        raise InvalidInput(error.reason, str(error), field="ticket") from error
    except DecisionUnknownError as error:
        raise Absent("DECISION_UNKNOWN", "There is no such decision, or it is no longer kept.") from error
    except FeedbackLimitError as error:
        raise Exhausted(
            "FEEDBACK_LIMIT", "Too much feedback from this tenant; slow down.", retry_after=error.retry_after
        ) from error
    except fair.FullError as error:
        message = "Too much work waits already; try again shortly."
        raise Exhausted("DEDUP_BUSY", message, retry_after=1.0) from error
    except MemoryReadOnlyError as error:
        message = "The store's disk is full or failing; nothing can be stored at the moment."
        raise Unreachable("STORE_READ_ONLY", message, retry_after=10.0) from error
    except MemoryUnavailableError as error:
        raise Unreachable("MEMORY_UNAVAILABLE", "The store does not answer.", retry_after=1.0) from error
