"""Where an engine's work on image files is done: in this process, or in child processes that a file may end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from askonce.child_pool import ChildError, ChildPool
from inference_service.engine import BadAskError, EngineUnavailableError

T = TypeVar("T")

SECONDS = 10.0
"""Longest time for one file; the usual is 5 to 200 ms."""
MEMORY = 4 << 30
"""Most bytes of a child's own data: a hundred megapixels take 1 GB while they are decoded, transparent ones 3 GB."""
ABANDON = 2.0
"""Seconds after which work that nobody waits for is ended; a new child takes about one."""


class PictureWork(Protocol):
    """Runs functions that decode clients' files. Blocks."""

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What `function`, which stands in a module, returns for `arguments`. Raises what it raises."""
        ...

    def close(self) -> None:
        """Ends what the work needs."""
        ...


class PictureWorkHere:
    """`PictureWork` in the calling thread."""

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """See `PictureWork`."""
        return function(*arguments)

    def close(self) -> None:
        """See `PictureWork`."""


class ChildPictureWork:
    """`PictureWork` in child processes, which begin when they are first needed."""

    def __init__(self, size: int) -> None:
        """`size` is the number of children."""
        self.pool = ChildPool(
            "pictures",
            "inference_service.picture_work:PictureWorkHere",
            size=size,
            limit=SECONDS,
            memory=MEMORY,
            abandon=ABANDON,
        )

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """See `PictureWork`. Raises BadAskError too for a file that ended a child, and EngineUnavailableError."""
        try:
            made: T = self.pool.call("run", function, *arguments)
        except ChildError as error:
            if error.cause in ("DOWN", "ABANDONED"):
                raise EngineUnavailableError("DECODER_UNAVAILABLE", "The decoder is starting again.", 1.0) from error
            if error.cause == "OVERRAN":
                raise BadAskError("IMAGE_TOO_COMPLEX", "The image takes too long to decode; save it anew.") from error
            raise BadAskError("IMAGE_UNREADABLE", "The image can't be decoded; save it anew.") from error
        return made

    def close(self) -> None:
        """Ends the children."""
        self.pool.close()
