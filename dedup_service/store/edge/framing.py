"""Messages between the processes of the embedded store: pickles behind a length."""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any, BinaryIO

LENGTH = struct.Struct("!I")


def send(connection: socket.socket, message: object) -> None:
    """Writes one message."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    connection.sendall(LENGTH.pack(len(body)) + body)


def receive(stream: BinaryIO) -> Any:
    """Reads one message. Raises EOFError when the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    if len(body) < length:
        raise EOFError
    return pickle.loads(body)
