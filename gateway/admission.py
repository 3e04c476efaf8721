"""The way in: who asks, how often, and how much is under way already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from askonce import telemetry
from askonce.faults import Exhausted, Fault
from askonce.names import tenant_id
from gateway import metrics
from gateway.auth import Authenticator
from gateway.rates import Rate


@dataclass(frozen=True, slots=True)
class Visit:
    """A caller who was let in."""

    caller: str
    tenant: str
    """The tenant of the request, "tenants/{tenant}"."""


class Admission:
    """Lets callers in, or tells them why not."""

    def __init__(self, authenticator: Authenticator, answers: Rate, feedback: Rate, limit: int) -> None:
        self.authenticator = authenticator
        self.answers = answers
        self.feedback = feedback
        self.limit = limit
        self.inside = 0
        self.interval = metrics.Interval()

    def knows(self, credentials: Mapping[str, str]) -> None:
        """Makes sure that a caller would be let in, before its upload is read. Raises Unauthenticated."""
        try:
            self.authenticator.authenticate(credentials)
        except Fault as fault:
            metrics.REFUSED.labels(fault.reason).inc()
            raise

    @asynccontextmanager
    async def visit(
        self, credentials: Mapping[str, str], parent: str, *, feedback: bool = False, poll: bool = False
    ) -> AsyncIterator[Visit]:
        """Lets a caller in for the length of one request; looking after a job (`poll`) counts towards no rate.

        Raises Unauthenticated, Forbidden for somebody else's tenant, InvalidInput for a malformed one, and Exhausted
        when the tenant asks too often or the gateway is full.
        """
        self.interval.tick()
        try:
            caller = self.authenticator.authenticate(credentials)
            if parent:
                tenant_id(parent)
            tenant = caller.tenant_for(parent)
            telemetry.note(tenant=tenant, caller=caller.name)
            if self.inside >= self.limit:
                raise Exhausted("GATEWAY_BUSY", "The gateway is full; try again shortly.", retry_after=0.5)
            if feedback:
                await self.feedback.take(tenant)
            elif not poll:
                await self.answers.take(tenant, caller.rate)
        except Fault as fault:
            metrics.REFUSED.labels(fault.reason).inc()
            raise
        self.inside += 1
        metrics.WAITING.set(self.inside)
        try:
            yield Visit(caller.name, tenant)
        finally:
            self.inside -= 1
            metrics.WAITING.set(self.inside)
