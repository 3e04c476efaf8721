"""The command `askonce`: asks a gateway, and where the servers' tools are installed, steers, audits and checks.

It starts fast: nothing is imported before it is known what is wanted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from askonce.private import UMASK

TOOLS = "askonce[dedup]"
TOOLS_MODULE = "dedup_service.console.__main__"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        from importlib.metadata import version

        print(f"askonce {version('askonce')}")
        return 0
    if arguments[:1] == ["ask"]:
        return ask(arguments[1:])
    try:
        tools = importlib.import_module(TOOLS_MODULE)  # by name: the client knows no server
    except ModuleNotFoundError:
        return without_tools(arguments)
    os.umask(UMASK)
    tools.main(arguments)
    return 0


def without_tools(arguments: Sequence[str]) -> int:
    """What the command says where only the client is installed; the exit status."""
    if arguments and arguments[0] not in ("-h", "--help"):
        print(f"askonce: {arguments[0]!r} needs more than the client: pip install '{TOOLS}'", file=sys.stderr)
        return 2
    print(
        "usage: askonce ask IMAGE... QUESTION [--gateway HOST:PORT] [--tenant ID] [--json]\n"
        "       askonce --version\n\n"
        "Asks a gateway about an image. Only the client is installed; the commands that steer, audit and check\n"
        f"AskOnce (audit, doctor, feedback, policy, purge, export, import) come with: pip install '{TOOLS}'\n"
        "The servers come with askonce[gateway], askonce[dedup] and askonce[reader], all three with askonce[embedded]."
    )
    return 0


def ask(arguments: Sequence[str]) -> int:
    """`askonce ask`: streams an answer to standard output, and where it came from to standard error."""
    parser = argparse.ArgumentParser("askonce ask", description="Asks a question about an image, or about several.")
    parser.add_argument("image", nargs="+", help="a JPEG, PNG, WebP or PDF file, or an https address")
    parser.add_argument("question")
    parser.add_argument("--gateway", default=os.environ.get("ASKONCE_GATEWAY", "127.0.0.1:50051"),
                        help="HOST:PORT; also ASKONCE_GATEWAY (default: %(default)s)")  # fmt: skip
    parser.add_argument("--tenant", default="", help="the tenant's id; default: the caller's own")
    parser.add_argument("--mode", default="default", choices=["default", "bypass", "refresh", "only_if_cached",
                        "no_store"], help="how memory may be used (default: %(default)s)")  # fmt: skip
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds (default: %(default)s)")
    parser.add_argument("--ca", help="the authority of the gateway's certificate, PEM; turns TLS on")
    parser.add_argument("--json", action="store_true", help="print the whole response as JSON")
    chosen = parser.parse_args(arguments)
    from pathlib import Path

    import askonce

    settings: dict[str, Any] = {
        "api_key": os.environ.get("ASKONCE_API_KEY", ""),
        "token": os.environ.get("ASKONCE_TOKEN", ""),
    }
    if chosen.ca:
        settings["ca"] = Path(chosen.ca)
    image = chosen.image[0] if len(chosen.image) == 1 else chosen.image
    try:
        with askonce.Client(chosen.gateway, timeout=chosen.timeout, **settings) as client:
            pieces = client.stream(image, chosen.question, tenant=chosen.tenant, cache_mode=chosen.mode)
            for piece in pieces:
                if not chosen.json:
                    print(piece, end="", flush=True)
    except askonce.AskOnceError as error:
        hint = f"; try again in {error.retry_after:g} s" if error.retry_after is not None else ""
        print(f"askonce: {error}{hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"askonce: {error.filename or chosen.image}: {error.strerror}", file=sys.stderr)
        return 1
    answer = pieces.answer
    if answer is None:
        return 1
    if chosen.json:
        from google.protobuf.json_format import MessageToJson

        print(MessageToJson(answer.response, preserving_proto_field_name=True, ensure_ascii=False))
        return 0
    source = "memory" if answer.cached else "the model"
    print(f"\nfrom {source} ({answer.reason}); decision {answer.decision}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
