"""HTTP connections that may not dawdle: headers have a deadline, and those that are half sent take nobody's place."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol(header_seconds: float, body_seconds: float, pending: int) -> type[asyncio.Protocol]:
    """The protocol of a server's connections.

    A connection whose headers are not there within `header_seconds` of its start, or of the first byte of a further
    request, is closed. Of connections without a whole request at most `pending` are kept: the one that has waited
    longest makes room for a new one. What is left of a body whose request is answered may take `body_seconds`.
    """
    waiting: OrderedDict[Deadlined, None] = OrderedDict()

    class Deadlined(H11Protocol):
        """One connection."""

        def __init__(self, config: Config, *arguments: Any, **named: Any) -> None:
            super().__init__(config, *arguments, **named)
            self.deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is h11.IDLE:
                self.wait()
                return
            self.settle()
            if self.cycle is not None and self.cycle.response_complete:  # answered before all of its body came
                self.deadline = self.loop.call_later(body_seconds, self.late)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.conn.trailing_data[0]:  # a part of the next request came with this one
                self.wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self.settle()
            super().connection_lost(exc)

        def wait(self) -> None:
            """Begins to wait for headers, if it does not already."""
            if self.deadline is None and not self.transport.is_closing():
                self.deadline = self.loop.call_later(header_seconds, self.late)
                waiting[self] = None
                if len(waiting) > pending:
                    next(iter(waiting)).late()

        def settle(self) -> None:
            """The headers are there, or the connection is gone."""
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None
            waiting.pop(self, None)

        def late(self) -> None:
            """Closes a connection that dawdles."""
            self.settle()
            self.transport.close()

    return Deadlined
