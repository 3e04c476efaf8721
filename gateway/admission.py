"""The way in: who asks, how often, and how much is under way already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from askonce import telemetry
from askonce.access import METHODS, Role
from askonce.faults import Exhausted, Fault, Forbidden
from askonce.names import tenant_id
from askonce.v1 import answer_pb2
from gateway import metrics
from gateway.auth import Authenticator
from gateway.rates import Rate

ANSWER, FEEDBACK = "AnswerService/Answer", "AnswerService/SubmitFeedback"
STORING = METHODS[FEEDBACK]
"""Roles of which one is enough to have answers stored."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A caller who was let in."""

    caller: str
    tenant: str
    """The tenant of the request, "tenants/{tenant}"."""
    stores: bool = True
    """Whether a fresh answer of this caller may be stored."""

    def bounded(self, asked: answer_pb2.AnswerRequest) -> answer_pb2.AnswerRequest:
        """The request as this caller may make it: who may not have answers stored asks without."""
        if not self.stores and asked.cache_mode != answer_pb2.CACHE_MODE_ONLY_IF_CACHED:
            if asked.cache_mode in (answer_pb2.CACHE_MODE_BYPASS, answer_pb2.CACHE_MODE_REFRESH):
                raise Forbidden(
                    "ROLE_MISSING", "cache_mode: storing an answer unread needs the role writer.", field="cache_mode",
                    metadata={"roles": Role.WRITER},
                )  # fmt: skip
            asked.cache_mode = answer_pb2.CACHE_MODE_NO_STORE
        return asked


class Admission:
    """Lets callers in, or tells them why not."""

    def __init__(self, authenticator: Authenticator, answers: Rate, feedback: Rate, limit: int) -> None:
        self.authenticator = authenticator
        self.answers = answers
        self.feedback = feedback
        self.limit = limit
        self.inside = 0
        self.interval = metrics.Interval()

    def knows(self, credentials: Mapping[str, str], method: str = ANSWER) -> None:
        """Makes sure that a caller would be let in, before its upload is read. Raises Unauthenticated and Forbidden."""
        try:
            self.authenticator.authenticate(credentials).may(method)
        except Fault as fault:
            metrics.REFUSED.labels(fault.reason).inc()
            raise

    def visit(
        self, credentials: Mapping[str, str], parent: str, method: str = ANSWER, *, poll: bool = False
    ) -> Entrance:
        """Lets a caller of "Service/Method" in for the length of one request; looking after a job (`poll`) counts
        towards no rate.

        Entering raises Unauthenticated, Forbidden without the method's role or for somebody else's tenant, InvalidInput
        for a malformed one, and Exhausted when the tenant asks too often or the gateway is full.
        """
        return Entrance(self, credentials, parent, method, poll)

    async def let_in(self, credentials: Mapping[str, str], parent: str, method: str, poll: bool) -> Visit:
        """See `visit`; `leave` ends what this begins."""
        self.interval.tick()
        try:
            caller = self.authenticator.authenticate(credentials)
            caller.may(method)
            if parent:
                tenant_id(parent)
            tenant = caller.tenant_for(parent)
            telemetry.note(tenant=tenant, caller=caller.name)
            if self.inside >= self.limit:
                raise Exhausted("GATEWAY_BUSY", "The gateway is full; try again shortly.", retry_after=0.5)
            if method == FEEDBACK:
                await self.feedback.take(tenant)
            elif not poll:
                await self.answers.take(tenant, caller.rate)
        except Fault as fault:
            metrics.REFUSED.labels(fault.reason).inc()
            raise
        self.inside += 1
        metrics.WAITING.set(self.inside)
        return Visit(caller.name, tenant, bool(caller.roles & STORING))

    def leave(self) -> None:
        """A caller who was let in leaves."""
        self.inside -= 1
        metrics.WAITING.set(self.inside)


class Entrance:
    """A visit as a context manager; a class, because one made of a generator costs four times as much."""

    def __init__(
        self, admission: Admission, credentials: Mapping[str, str], parent: str, method: str, poll: bool
    ) -> None:
        self.admission = admission
        self.asked = (credentials, parent, method, poll)

    async def __aenter__(self) -> Visit:
        return await self.admission.let_in(*self.asked)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.admission.leave()
