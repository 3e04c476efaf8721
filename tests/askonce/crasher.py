"""What a child holds in the tests of the pool: an object that can be told to fail in every way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from askonce.faults import InvalidInput


class UnsendableError(Exception):
    """An error that pickle can't make again: its arguments are not those of its constructor."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class Crasher:
    """Fails on demand."""

    def __init__(self, folder: str = "") -> None:
        if folder == "/missing":
            raise FileNotFoundError(folder)
        if folder == "/unsendable":
            raise UnsendableError("this", "that")
        self.folder = folder

    def describe(self) -> dict[str, int]:
        """What the parent learns at the start."""
        return {"pid": os.getpid()}

    def echo(self, value: object) -> object:
        """Gives back what it gets."""
        return value

    def pid(self) -> int:
        """Which process this is."""
        return os.getpid()

    def die(self, _name: str) -> None:
        """Ends as a heap corruption would."""
        os.kill(os.getpid(), signal.SIGABRT)

    def die_once(self, path: str) -> str:
        """Ends the first time, and answers the second."""
        if not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        return "well"

    def hang(self, seconds: float) -> None:
        """Takes its time."""
        time.sleep(seconds)

    def complain(self) -> None:
        """Raises."""
        raise ValueError("no")

    def refuse(self) -> None:
        """Raises one of our own errors."""
        raise InvalidInput("OUT_OF_RANGE", "too much", field="image", metadata={"limit": "3"})

    def swallow(self, count: int) -> int:
        """Takes memory."""
        return len(bytearray(count))
