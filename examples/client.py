"""A client in Python: asks about an image, streams the answer, asks again, and says where each answer came from.

    python examples/client.py receipt.png "What is the total?" --gateway 127.0.0.1:50051

Needs `pip install askonce` (protobuf, grpcio and nothing of the servers) and a gateway (`make serve`).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import askonce


def ask(client: askonce.Client, image: Path, question: str, tenant: str) -> askonce.Answer | None:
    """Streams one answer to the terminal and returns it."""
    pieces = client.stream(image, question, tenant=tenant)
    for piece in pieces:
        print(piece, end="", flush=True)
    answer = pieces.answer
    if answer is not None:
        milliseconds = answer.response.provenance.timings.total.ToMilliseconds()
        source = "memory" if answer.cached else "the model"
        print(f"\n    from {source} ({answer.reason}) in {milliseconds} ms")
    return answer


def main() -> int:
    """Asks twice; the second answer should come from memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="a JPEG, PNG, WebP or PDF file of at most 5 MiB")
    parser.add_argument("question")
    parser.add_argument("--gateway", default="127.0.0.1:50051")
    parser.add_argument("--tenant", default="", help="such as acme; default: the caller's own")
    parser.add_argument("--wrong", action="store_true", help="report the second answer as wrong, which removes it")
    arguments = parser.parse_args()
    with askonce.Client(arguments.gateway, api_key=os.environ.get("ASKONCE_API_KEY", "")) as client:
        try:
            ask(client, arguments.image, arguments.question, arguments.tenant)
            time.sleep(0.5)  # the answer is stored behind the first caller's back
            answer = ask(client, arguments.image, arguments.question, arguments.tenant)
            if arguments.wrong and answer is not None:
                removed = client.feedback(answer, right=False)
                print(f"reported as wrong; {removed} removed")
        except askonce.AskOnceError as error:
            print(error, file=sys.stderr)
            if error.retry_after is not None:
                print(f"try again in {error.retry_after:g} s", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
