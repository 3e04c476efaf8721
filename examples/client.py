"""A client in Python: asks about an image, streams the answer, asks again, and says where each answer came from.

    python examples/client.py receipt.png "What is the total?" --gateway 127.0.0.1:50051

Needs `pip install askonce` (the wire and nothing else) and a gateway (`make serve`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import grpc

from askonce import faults
from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2

LIMIT = 8 * 2**20
"""gRPC's own limit of 4 MiB refuses photos; the gateway takes messages of 8 MiB."""


async def ask(stub: answer_pb2_grpc.AnswerServiceAsyncStub, request: answer_pb2.AnswerRequest, key: str) -> str:
    """Streams one answer to the terminal and returns the decision that gave it."""
    # Every call carries a deadline: the gateway divides it among its steps.
    call = stub.StreamAnswer(
        answer_pb2.StreamAnswerRequest(request=request),
        timeout=60,
        metadata=(("authorization", f"Bearer {key}"),) if key else None,
    )
    summary = answer_pb2.AnswerResponse()
    async for event in call:
        match event.WhichOneof("event"):
            case "text":
                print(event.text, end="", flush=True)
            case "summary":
                summary = event.summary
    found = summary.provenance
    source = "memory" if found.source == content_pb2.SOURCE_CACHE else "the model"
    print(f"\n    from {source} ({found.reason}) in {found.timings.total.ToMilliseconds()} ms")
    return found.decision


async def main() -> int:
    """Asks twice; the second answer should come from memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="a JPEG, PNG or WebP file of at most 5 MiB")
    parser.add_argument("question")
    parser.add_argument("--gateway", default="127.0.0.1:50051")
    parser.add_argument("--tenant", default="", help='such as "tenants/acme"; default: the caller\'s own')
    parser.add_argument("--wrong", action="store_true", help="report the second answer as wrong, which removes it")
    arguments = parser.parse_args()
    key = os.environ.get("ASKONCE_API_KEY", "")
    request = answer_pb2.AnswerRequest(
        parent=arguments.tenant,
        image=content_pb2.Image(content=await asyncio.to_thread(arguments.image.read_bytes)),
        question=content_pb2.Question(text=arguments.question),
    )
    options = [("grpc.max_send_message_length", LIMIT), ("grpc.max_receive_message_length", LIMIT)]
    async with grpc.aio.insecure_channel(arguments.gateway, options=options) as channel:
        stub: answer_pb2_grpc.AnswerServiceAsyncStub = answer_pb2_grpc.AnswerServiceStub(channel)
        try:
            await ask(stub, request, key)
            await asyncio.sleep(0.5)  # the answer is stored behind the first caller's back
            decision = await ask(stub, request, key)
            if arguments.wrong and decision:
                verdict = answer_pb2.SubmitFeedbackRequest(decision=decision, verdict=answer_pb2.VERDICT_WRONG)
                removed = (await stub.SubmitFeedback(verdict, timeout=10)).removed_count
                print(f"reported as wrong; {removed} removed")
        except grpc.aio.AioRpcError as error:
            fault = faults.from_error(error)
            print(f"{fault.code.name} {fault.reason}: {fault.message}", file=sys.stderr)
            if fault.retry_after is not None:
                print(f"try again in {fault.retry_after:g} s", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
