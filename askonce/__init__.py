"""AskOnce: ask a vision-language model once.

    import askonce

    with askonce.Client("127.0.0.1:50051") as client:
        answer = client.ask("receipt.png", "What is the total?")
        print(answer.text, answer.source, answer.reason)

The client and the wire (`askonce.v1`) need protobuf and grpcio only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from askonce.client.asynchronous import AsyncClient as AsyncClient
    from askonce.client.asynchronous import AsyncStream as AsyncStream
    from askonce.client.blocking import Client as Client
    from askonce.client.blocking import Stream as Stream
    from askonce.client.connection import Connection as Connection
    from askonce.client.values import Answer as Answer
    from askonce.client.values import Job as Job
    from askonce.client.values import Options as Options
    from askonce.errors import AskOnceError as AskOnceError
    from askonce.errors import AuthenticationError as AuthenticationError
    from askonce.errors import BusyError as BusyError
    from askonce.errors import DeadlineError as DeadlineError
    from askonce.errors import InvalidRequestError as InvalidRequestError
    from askonce.errors import NotFoundError as NotFoundError
    from askonce.errors import PermissionDeniedError as PermissionDeniedError
    from askonce.errors import UnavailableError as UnavailableError

_HOMES = {
    "askonce.client.asynchronous": ("AsyncClient", "AsyncStream"),
    "askonce.client.blocking": ("Client", "Stream"),
    "askonce.client.connection": ("Connection",),
    "askonce.client.values": ("Answer", "Job", "Options"),
    "askonce.errors": (
        "AskOnceError",
        "AuthenticationError",
        "BusyError",
        "DeadlineError",
        "InvalidRequestError",
        "NotFoundError",
        "PermissionDeniedError",
        "UnavailableError",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Loads what is asked for when it is asked for: services import this package and need no client."""
    if (home := _HOME.get(name)) is None:
        raise AttributeError(f"module 'askonce' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
