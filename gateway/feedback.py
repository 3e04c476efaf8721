"""Passes a client's verdict on an answer to the memory that gave it."""

from __future__ import annotations

from askonce.v1 import answer_pb2, dedup_pb2
from gateway.clients import DedupClient
from gateway.deadlines import Deadline
from gateway.validation import check_feedback


class Feedback:
    """Submits feedback."""

    def __init__(self, dedup: DedupClient, timeout: float) -> None:
        self.dedup = dedup
        self.timeout = timeout

    def tenant_of(self, request: answer_pb2.SubmitFeedbackRequest) -> str:
        """Checks a request and returns the tenant that its decision belongs to. Raises InvalidInput."""
        return check_feedback(request)

    async def submit(
        self, request: answer_pb2.SubmitFeedbackRequest, tenant: str, seconds: float | None
    ) -> answer_pb2.SubmitFeedbackResponse:
        """Reports a verdict. Raises Fault; unlike a look-up it needs dedup, so there is no going on without it."""
        deadline = Deadline.after(self.timeout if seconds is None else seconds)
        evidence = dedup_pb2.LearnRequest(parent=tenant, feedback=request)
        response = await self.dedup.learn(evidence, deadline.cap(self.timeout))
        return answer_pb2.SubmitFeedbackResponse(removed_count=response.removed_count)
