"""The fingerprints of images, in SQLite beside the points."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from dedup_service.store.edge.integrity import DamageError, quarantine


class Fingerprints:
    """Fingerprints by image. They are 33 to 97 kB each and never searched: a table keeps them out of the points, where
    every look at a payload and every build would carry them along."""

    def __init__(self, path: Path, images: int, *, aside: bool = False) -> None:
        """Opens or creates. Where the table is gone or unreadable although there are `images`, DamageError is raised
        or, with `aside`, what is left is set aside (`findings` says where) and an empty table made."""
        self.path = path
        self.unsynced = False
        self.findings: list[str] = []
        try:
            if images and not path.exists():
                raise DamageError(f"{path.name} is missing, though there are {images} images", expected=images, found=0)
            self.open()
        except (DamageError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.OperationalError):  # busy, no room, no right: nothing is broken
                raise
            if not aside:
                raise error if isinstance(error, DamageError) else DamageError(f"{path.name}: {error}") from error
            moved = [quarantine(each).name for each in files_of(path) if each.exists()]
            self.findings.append(f"{error}; set aside as {', '.join(moved) or 'nothing'}")
            self.open()

    def open(self) -> None:
        """Opens the database. Raises sqlite3.DatabaseError for what is none."""
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=NORMAL")
        self.database.execute("PRAGMA secure_delete=ON")  # what is removed must not stay in free pages
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
            try:
                with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as database:
                    database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error:
                self.unsynced = True
                raise

    def empty_log(self) -> None:
        """Writes the log back and cuts it off: it holds fingerprints as they were."""
        self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Closes the database."""
        self.database.close()


def files_of(path: Path) -> list[Path]:
    """The files that a database may consist of."""
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))]
