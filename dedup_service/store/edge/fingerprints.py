"""The fingerprints of images, in SQLite beside the points."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path


class Fingerprints:
    """Fingerprints by image. They are 33 to 97 kB each and never searched: a table keeps them out of the points, where
    every look at a payload and every build would carry them along."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unsynced = False
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=NORMAL")
        self.database.execute("PRAGMA wal_autocheckpoint=0")  # `sync` does it, in its own thread
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS fingerprint (image TEXT PRIMARY KEY, time REAL NOT NULL, content BLOB NOT NULL)"
        )

    def put(self, image: str, content: bytes, stored: float) -> None:
        """Stores a fingerprint."""
        self.database.execute("INSERT OR REPLACE INTO fingerprint VALUES (?, ?, ?)", (image, stored, content))
        self.unsynced = True

    def get(self, image: str) -> bytes | None:
        """A fingerprint."""
        row = self.database.execute("SELECT content FROM fingerprint WHERE image = ?", (image,)).fetchone()
        return bytes(row[0]) if row else None

    def remove(self, images: Sequence[str]) -> None:
        """Removes fingerprints."""
        self.database.executemany("DELETE FROM fingerprint WHERE image = ?", [(image,) for image in images])
        self.unsynced = True

    def ids(self, before: float, limit: int, after: str | None) -> tuple[list[str], str | None]:
        """Images in order, and where the next run starts."""
        rows = self.database.execute(
            "SELECT image, time FROM fingerprint WHERE image >= ? ORDER BY image LIMIT ?", (after or "", limit + 1)
        ).fetchall()
        following = rows[limit][0] if len(rows) > limit else None
        return [image for image, stored in rows[:limit] if stored < before], following

    def sync(self) -> None:
        """Moves the log into the database and both to the disk. For another thread."""
        if self.unsynced:
            self.unsynced = False
            with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as database:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Closes the database."""
        self.database.close()
