"""A build: the process that makes a new generation of a collection, and what the store knows about it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import qdrant_edge as edge

from dedup_service.store.edge.framing import receive
from dedup_service.store.edge.shard import begin_generation, create_shard, point_of
from dedup_service.store.points import GRAPHED, Kind


@dataclass
class Build:
    """A new generation on its way: what the builder has been given, and what changed since."""

    kind: Kind
    folder: Path
    process: subprocess.Popen[bytes]
    connection: socket.socket
    after: str | None = None
    given: int = 0
    """Points that it has been given."""
    ended: bool = False
    """Whether it has been given everything."""
    waiting: bool = False
    """Whether it asks for the next page."""
    fresh: edge.EdgeShard | None = None
    """The finished generation, which still lacks what changed meanwhile."""
    syncing: threading.Thread | None = None
    """Brings the finished generation to the disk before it is relied upon."""
    last: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether there is something to do for it now."""
        if self.syncing is not None:
            return not self.syncing.is_alive()
        return self.fresh is not None or (self.waiting and not self.ended)


def build(connection: socket.socket) -> None:
    """Builds one generation from the pages it is given, at low priority, and says when it is done."""
    os.nice(10)
    stream = connection.makefile("rb")
    folder, kind, dimension = receive(stream)
    begin_generation(Path(folder))
    shard = create_shard(Path(folder), kind, dimension)
    ended = False
    while not ended:
        connection.sendall(b"+")
        page, ended = receive(stream)
        if page:
            points = [point_of(point, vector, payload) for point, vector, payload in page]
            shard.update(edge.UpdateOperation.upsert_points(points))
    shard.flush()
    if kind in GRAPHED:
        shard.optimize()
    shard.close()
    connection.sendall(b".")
