"""The PolicyService over gRPC: reads and changes policies, and says what a change would do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import unquote

import grpc
from sqlalchemy.exc import SQLAlchemyError

from askonce import telemetry
from askonce.access import ANYBODY, OPERATOR, PEER
from askonce.faults import Absent, Conflict, InvalidInput, Unreachable
from askonce.interceptor import current_identity
from askonce.names import policy_tenant
from askonce.paging import page_size, position
from askonce.v1 import policy_pb2, policy_pb2_grpc
from dedup_service.api import policy_messages
from dedup_service.ledger.reading import Reader, Span
from dedup_service.policy.policy import PolicyInvalidError, merge
from dedup_service.policy.preview import preview
from dedup_service.policy.revisions import PolicyBook, PolicyStaleError, RevisionUnknownError
from dedup_service.policy.suggestion import suggest

T = TypeVar("T")
CONTEXT = grpc.aio.ServicerContext[Any, Any]

DAY = 86_400.0
PAGE_DEFAULT = 50
OPERATOR_LENGTH = 64
"""Most characters of the name by which an operator calls themselves."""
EXAMPLES_DEFAULT, EXAMPLES_MOST = 20, 100


class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Policies, their history, and what-if. Previews and suggestions read the ledger, one at a time, in a thread."""

    def __init__(self, book: PolicyBook, reader: Reader, *, clock: Callable[[], float] = time.time) -> None:
        self.book = book
        self.reader = reader
        self.clock = clock
        self.studying = asyncio.Semaphore(1)

    async def GetPolicy(self, request: policy_pb2.GetPolicyRequest, context: CONTEXT) -> policy_pb2.Policy:
        """See the proto."""
        tenant = policy_tenant(request.name)
        async with named_errors():
            return policy_messages.to_policy(await asyncio.to_thread(self.book.read, tenant))

    async def UpdatePolicy(self, request: policy_pb2.UpdatePolicyRequest, context: CONTEXT) -> policy_pb2.Policy:
        """See the proto."""
        tenant = policy_tenant(request.policy.name, "policy.name")
        note = policy_messages.from_note(request.note)
        async with named_errors():
            update, mask = policy_messages.from_policy(request.policy, request.update_mask.paths)
            revision = await asyncio.to_thread(
                self.book.update,
                tenant,
                update,
                mask,
                etag=request.policy.etag,
                validate_only=request.validate_only,
                author=author_of(context),
                note=note,
            )
        telemetry.note(tenant=tenant, revision=revision.revision, validate_only=request.validate_only)
        return policy_messages.to_policy(revision)

    async def ListPolicyRevisions(
        self, request: policy_pb2.ListPolicyRevisionsRequest, context: CONTEXT
    ) -> policy_pb2.ListPolicyRevisionsResponse:
        """See the proto."""
        tenant = policy_tenant(request.name)
        below = position(request.page_token)
        size = page_size(request.page_size)
        async with named_errors():
            found = await asyncio.to_thread(self.book.history, tenant, below=below, size=size)
        more = len(found) == size and found[-1].revision > 1
        return policy_pb2.ListPolicyRevisionsResponse(
            policies=[policy_messages.to_policy(revision) for revision in found],
            next_page_token=str(found[-1].revision) if more else "",
        )

    async def RollbackPolicy(
        self, request: policy_pb2.RollbackPolicyRequest, context: CONTEXT
    ) -> policy_pb2.RollbackPolicyResponse:
        """See the proto."""
        tenant = policy_tenant(request.name)
        note = policy_messages.from_note(request.note)
        if not request.HasField("revision") or request.revision < 0:
            raise InvalidInput("REVISION_MISSING", "revision: name the revision to bring back.", field="revision")
        async with named_errors():
            revision = await asyncio.to_thread(
                self.book.rollback,
                tenant,
                request.revision,
                etag=request.etag,
                author=author_of(context),
                note=note,
            )
        telemetry.note(tenant=tenant, revision=revision.revision)
        return policy_pb2.RollbackPolicyResponse(policy=policy_messages.to_policy(revision))

    async def PreviewPolicy(
        self, request: policy_pb2.PreviewPolicyRequest, context: CONTEXT
    ) -> policy_pb2.PreviewPolicyResponse:
        """See the proto."""
        tenant = policy_tenant(request.policy.name, "policy.name")
        window = policy_messages.from_window(request.window, request.HasField("window"), 7 * DAY)
        examples = request.example_count if request.HasField("example_count") else EXAMPLES_DEFAULT
        if not 0 <= examples <= EXAMPLES_MOST:
            raise InvalidInput("OUT_OF_RANGE", f"example_count: from 0 to {EXAMPLES_MOST}.", field="example_count")

        def study() -> policy_pb2.PreviewPolicyResponse:
            base = self.book.read(tenant)
            update, mask = policy_messages.from_policy(request.policy, request.update_mask.paths)
            proposed = merge(base.policy, update, mask)
            recorded = self.reader.recorded(Span(since=self.clock() - window, tenant=tenant))
            found = preview(recorded, base.policy, proposed, self.book.thresholds(tenant), examples=examples)
            decisions = self.reader.by_id(found.examples)
            labels = {decision.id: self.reader.labels(decision.id) for decision in decisions}
            return policy_messages.to_preview(found, decisions, labels, base.policy.keep_question_text)

        return await self.study(study)

    async def SuggestPolicy(
        self, request: policy_pb2.SuggestPolicyRequest, context: CONTEXT
    ) -> policy_pb2.SuggestPolicyResponse:
        """See the proto."""
        tenant = policy_tenant(request.name)
        window = policy_messages.from_window(request.window, request.HasField("window"), 30 * DAY)

        def study() -> policy_pb2.SuggestPolicyResponse:
            base = self.book.read(tenant)
            recorded = self.reader.recorded(Span(since=self.clock() - window, tenant=tenant))
            found = suggest(recorded, base.policy, self.book.thresholds(tenant), time=self.clock())
            return policy_messages.to_suggestion(found, base)

        return await self.study(study)

    async def study(self, work: Callable[[], T]) -> T:
        """Runs a study of the ledger in a thread; one at a time, since each may hold a million decisions."""
        async with named_errors(), self.studying:
            return await asyncio.to_thread(work)


def author_of(context: CONTEXT) -> str:
    """The caller's name, as authenticated. A service's key names no person: who uses it to call may say who they are,
    and their word stands in brackets behind it."""
    name = current_identity.get().name
    certified = next(iter(context.auth_context().get("x509_common_name") or ()), b"").decode(errors="replace")
    if name == ANYBODY.name and certified:
        return certified
    if name not in (PEER.name, ANYBODY.name):
        return name
    said = next((value for key, value in context.invocation_metadata() or () if key == OPERATOR), "")
    operator = "".join(c for c in unquote(str(said))[:OPERATOR_LENGTH] if c.isprintable())
    return f"{name} ({operator})" if operator else name


@asynccontextmanager
async def named_errors() -> AsyncIterator[None]:
    """Turns what policies and their store raise into faults."""
    try:
        yield
    except PolicyInvalidError as error:
        raise policy_messages.to_fault(error) from error
    except PolicyStaleError as error:
        raise Conflict(
            "POLICY_CHANGED", f"{error}: read the policy again and repeat the change.", field="policy.etag"
        ) from error
    except RevisionUnknownError as error:
        raise Absent("REVISION_UNKNOWN", f"{error}.", field="revision") from error
    except SQLAlchemyError as error:
        raise Unreachable("LEDGER_UNAVAILABLE", "The ledger does not answer.", retry_after=1.0) from error
