"""Files that nobody but their owner can read: stores, logs, keys and exports hold customers' texts and pictures."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

UMASK = 0o077
"""What a process of ours takes away from the rights of every file and folder that it makes."""
opener = partial(os.open, mode=0o600)
"""For `open(…, opener=opener)`: a new file is its owner's alone, whatever the process's mask."""


def folder(path: Path) -> None:
    """Makes a folder, or takes one that is there, for its owner alone. Raises OSError.

    A folder that belongs to somebody else, such as the root of a mounted volume, keeps its rights.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_mode & UMASK and found.st_uid == os.geteuid():
        path.chmod(found.st_mode & 0o7700)
