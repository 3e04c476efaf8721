"""`askonce feedback`: says whether an answer was right."""

from __future__ import annotations

import click
import grpc

from askonce import telemetry
from askonce.v1 import answer_pb2, dedup_pb2, dedup_pb2_grpc
from dedup_service.console.calling import Failure, Peer, with_peer
from dedup_service.console.printing import as_json, print_json, say


@click.command()
@click.argument("decision")
@click.argument("verdict", type=click.Choice(["right", "wrong"]))
@click.option("--correct", default="", help="The right answer.")
@click.option("--comment", default="", help="Why, in your words.")
@as_json
@with_peer
def feedback(peer: Peer, decision: str, verdict: str, correct: str, comment: str, json_: bool) -> None:
    """Say whether the answer behind DECISION (tenants/TENANT/decisions/ID) was right. A wrong one goes at once."""
    tenant, found, _ = decision.partition("/decisions/")
    if not found or not tenant.startswith("tenants/"):
        raise Failure(f"NAME_INVALID: {decision!r} is not tenants/TENANT/decisions/ID")
    chosen = answer_pb2.VERDICT_RIGHT if verdict == "right" else answer_pb2.VERDICT_WRONG

    async def work(channel: grpc.aio.Channel) -> dedup_pb2.LearnResponse:
        submitted = answer_pb2.SubmitFeedbackRequest(
            decision=decision, verdict=chosen, correct_text=correct, comment=comment
        )
        request = dedup_pb2.LearnRequest(parent=tenant, feedback=submitted)
        stub: dedup_pb2_grpc.DedupServiceAsyncStub = dedup_pb2_grpc.DedupServiceStub(channel)
        return await stub.Learn(request, timeout=peer.timeout, metadata=telemetry.outgoing())

    response = peer.call(work)
    if json_:
        print_json(response)
    else:
        say(f"Recorded; {response.removed_count} entries removed.")
