"""Secrets in a file, one a line: the first one signs, all are accepted. The file is read again when it changes.

To change a secret, write the new one on a line before the old one, and take the old one out once nothing is under way
that it signed.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from askonce.os_errors import advice
from askonce.settings import SettingsError

MIN_SECRET = 16
"""Characters that a secret needs."""
SHOW_SECONDS = 5.0
"""How long a new first secret waits before it signs, while the one before is still accepted: everybody who reads the
same file knows it by then."""


class SecretFile:
    """The secrets of one file. Everything may be called while `refresh` runs."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Makes the file where there is none. Raises SettingsError."""
        self.path = path
        self.clock = clock
        self.accepted = read_or_make(path)
        """All secrets, the newest first."""
        self.stamp = stamp_of(path)
        self.former = self.accepted[0]
        self.until = 0.0

    @property
    def first(self) -> bytes:
        """The secret to sign with, or to show."""
        waiting = self.clock() < self.until and self.former in self.accepted
        return self.former if waiting else self.accepted[0]

    def refresh(self) -> None:
        """Reads the file again when it changed; call it every second or so, off the event loop.

        Raises SettingsError or OSError when it can't be read; the secrets then stay as they are.
        """
        if (stamp := stamp_of(self.path)) == self.stamp:
            return
        found = read(self.path)
        if found[0] != self.accepted[0]:
            self.former, self.until = self.first, self.clock() + SHOW_SECONDS
        self.accepted, self.stamp = found, stamp


def stamp_of(path: Path) -> tuple[int, int, int]:
    """What changes with a file. Raises OSError."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_or_make(path: Path) -> tuple[bytes, ...]:
    """The secrets in a file, newest first; makes the file, for its owner alone, where there is none.

    Raises SettingsError.
    """
    try:
        if not path.exists():
            make(path)
        return read(path)
    except OSError as error:
        raise SettingsError(f"can't use {path} as a file of secrets: {advice(error)}") from error


def make(path: Path) -> None:
    """Writes a new secret. Of several processes that do so at once, the first one's counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def read(path: Path) -> tuple[bytes, ...]:
    """The secrets in a file. A file that is not text is one secret as a whole. Raises OSError and SettingsError."""
    content = path.read_bytes()
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in content):
        return checked((line.strip() for line in content.split(b"\n")), str(path))
    return checked((content,), str(path))


def checked(found: Iterable[bytes], where: str) -> tuple[bytes, ...]:
    """Secrets that are long enough, empty ones left out; `where` says in an error whose they are. Raises
    SettingsError."""
    kept = tuple(each for each in found if each)
    if not kept or any(len(each) < MIN_SECRET for each in kept):
        raise SettingsError(f"{where} needs a secret of at least {MIN_SECRET} characters on each line")
    return kept
