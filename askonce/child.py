"""The child's side of `askonce.child_pool`: makes one object, then runs its methods on demand.

    python -m askonce.child FILE_DESCRIPTOR PARENT_PID POOL

The pool's name is for people who look at the list of processes.

Messages are pickles behind a length of eight bytes, between processes of one user that are parent and child.
"""

from __future__ import annotations

import importlib
import pickle
import resource
import socket
import struct
import sys
import time
from typing import Any

from askonce import logs
from askonce.lifeline import die_with

LENGTH = struct.Struct("!Q")


class RemoteError(Exception):
    """What went wrong in a child where the error itself can't be sent: its type and text."""


def pack(message: object) -> bytes:
    """A message as it is sent."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def receive(connection: socket.socket, deadline: float | None = None) -> Any:
    """The next message. `deadline` is on the clock of `time.monotonic`. Raises EOFError when the other side is gone,
    TimeoutError after the deadline."""
    (length,) = LENGTH.unpack(read(connection, LENGTH.size, deadline))
    return pickle.loads(read(connection, length, deadline))


def read(connection: socket.socket, size: int, deadline: float | None) -> bytearray:
    """So many bytes."""
    got = bytearray(size)
    view, at = memoryview(got), 0
    while at < size:
        if deadline is not None:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        count = connection.recv_into(view[at:])
        if not count:
            raise EOFError
        at += count
    return got


def sendable(error: Exception) -> Exception:
    """The error itself if it survives the journey, else one that names it."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # pickling an error runs code of its class: anything may happen
        pass
    return RemoteError(f"{type(error).__name__}: {error}")


def serve(connection: socket.socket) -> None:
    """Makes the object that the first message names, says so, and runs calls until the other side hangs up."""
    target, arguments, memory = receive(connection)
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    module, _, name = target.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)(*arguments)
        described = made.describe() if hasattr(made, "describe") else None
    except Exception as error:
        connection.sendall(pack((False, sendable(error))))
        return
    connection.sendall(pack((True, described)))
    while True:
        method, given = receive(connection)
        try:
            answer = pack((True, getattr(made, method)(*given)))
        except Exception as error:
            answer = pack((False, sendable(error)))
        connection.sendall(answer)


def main() -> None:
    """Runs the child on the socket whose number is given."""
    number, parent = (int(each) for each in sys.argv[1:3])
    die_with(parent)
    logs.configure_child()
    with socket.socket(fileno=number) as connection:
        try:
            serve(connection)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # nobody is left to answer to


if __name__ == "__main__":
    from askonce import child  # not this copy of it: an error is sent by the name of its class's module

    child.main()
