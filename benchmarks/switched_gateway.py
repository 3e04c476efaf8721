"""The gateway, with parts that `benchmarks.exact_path` takes out and puts back."""

from __future__ import annotations

import hashlib
from typing import Any

from benchmarks import switches
from gateway import __main__ as gateway
from gateway import answering, images
from gateway.admission import Admission


async def passed(*_: object) -> None:
    """Lets everything pass."""


def image_digest() -> list[switches.Change]:
    """Takes SHA-256 of the image out: files are told apart by their last bytes."""
    known: dict[bytes, bytes] = {}

    async def digest(content: bytes) -> bytes:
        end = content[-256:]
        if end not in known:
            known[end] = hashlib.sha256(content).digest()
        return known[end]

    return [(images, "digest", digest)]


def checks() -> list[switches.Change]:
    """Takes the checks of the request's fields and of its text out."""
    held: Any = answering
    return [(held, "check_request", switches.nothing), (answering.Answering, "pass_screen", passed)]


if __name__ == "__main__":
    switches.follow(
        {
            "log line": switches.log_line(),
            "metrics": switches.metrics,
            "image digest": image_digest,
            "checks of fields and text": checks,
            "first look at the caller": lambda: [(Admission, "knows", switches.nothing)],
        }
    )
    gateway.main()
