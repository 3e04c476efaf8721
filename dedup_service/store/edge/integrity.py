"""What a collection on disk should hold, and whether it does: manifests, damage, quarantine.

A collection's folder has one sub-folder a generation and the file `current.json`, its manifest. The manifest names the
generation in use and how many points it holds. While the store runs it is "open", and `counter` beside it says how many
points there were a moment ago and how many changes came since; after an orderly end it is "closed" and carries the
points' ids, folded into one number, and the checksum of every file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

MANIFEST = "current.json"
COUNTER = "counter"
UNFINISHED = "unfinished"
"""A file in a generation that was never in use: a start may delete that generation."""
REMOVED = "removed"
"""A file in a generation that holds, among its bytes, what was removed from it since it was built."""
QUARANTINE = ".quarantine-"
"""What the name of a folder or file contains that was set aside."""
MOST_SUMMED = 512 << 20
"""Most bytes that are read for checksums at an orderly end, about a second; of larger collections only sizes are
kept."""
BLOCK = 64 << 10
"""Bytes that are summed at once, from a multiple of it on: a sum must not depend on where a file has holes."""
_COUNTS = struct.Struct("!QQI")


class DamageError(Exception):
    """A collection is not what it should be. The message says what was expected and what was found; `expected` and
    `found` count points where that is known."""

    def __init__(self, message: str, *, expected: int | None = None, found: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a collection should hold."""

    generation: int
    built: int
    """Points that the generation was built with."""
    points: int | None = None
    """Points at the last orderly end, or when the generation came into use; None where an older version wrote it."""
    ids: str = ""
    """All points' ids folded by exclusive or, 32 hexadecimal digits; only after an orderly end."""
    closed: bool = False
    files: dict[str, list[int]] = field(default_factory=dict)
    """Size and CRC-32 of each file of the generation by its path; -1 where no checksum was taken. Only after an orderly
    end."""
    block: int = BLOCK
    """How the files were summed; of sums that were made otherwise none is compared."""


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a collection; None where there is none. Raises DamageError for one that can't be read."""
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DamageError(f"{folder / MANIFEST} can't be read: {error}") from error
    try:
        check = raw.pop("check", None)
        if check is not None and check != _check(raw):
            raise DamageError(f"{folder / MANIFEST} has another checksum than it should")
        known = {name: raw[name] for name in Manifest.__dataclass_fields__ if name in raw}
        manifest = Manifest(**known)
        files = manifest.files
        if raw.get("block") != BLOCK:
            files = {name: [size, -1] for name, (size, _) in files.items()}
        return replace(manifest, generation=int(manifest.generation), built=int(manifest.built), files=files)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise DamageError(f"{folder / MANIFEST} is no manifest") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes a manifest, all or nothing, to the disk."""
    raw = asdict(manifest)
    fresh = folder / f"{MANIFEST}.new"
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({**raw, "check": _check(raw)}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / MANIFEST)
    sync_folder(folder)


def _check(raw: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(raw, sort_keys=True).encode())


def sync_folder(folder: Path) -> None:
    """Brings a folder's own list of names to the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class Counter:
    """Points as of a moment ago and changes since, in a file that a killed process leaves behind."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points = self.changes = 0
        self.known = False
        """Whether the file said something."""
        fresh = not path.exists()
        self.file = path.open("r+b" if not fresh else "w+b")
        self.file.truncate(_COUNTS.size)
        self.map = mmap.mmap(self.file.fileno(), _COUNTS.size)
        if not fresh:
            points, changes, check = _COUNTS.unpack(self.map[:])
            if check == zlib.crc32(self.map[:16]):
                self.points, self.changes, self.known = points, changes, True

    def add(self, changes: int) -> None:
        """Notes changes."""
        self.write(self.points, self.changes + changes)

    def write(self, points: int, changes: int = 0) -> None:
        """Notes how many points there are."""
        self.points, self.changes = points, changes
        head = _COUNTS.pack(points, changes, 0)[:16]
        self.map[:] = head + zlib.crc32(head).to_bytes(4)

    def close(self) -> None:
        """Lets go of the file."""
        with contextlib.suppress(OSError, ValueError):
            self.map.close()
            self.file.close()


def fold(ids: Iterable[str]) -> str:
    """Points' ids as one number: equal for equal sets, in whatever order."""
    folded = 0
    for each in ids:
        folded ^= uuid.UUID(each).int
    return f"{folded:032x}"


def survey_files(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of each file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_blocks * 512 for path in paths)
    return {
        str(path.relative_to(folder)): [path.stat().st_size, checksum(path) if total <= MOST_SUMMED else -1]
        for path in paths
    }


def checksum(path: Path) -> int:
    """CRC-32 of a file's blocks that hold anything but zeros, and of their places. A copy has the same, whether it has
    holes where the file has zeros or not; a sparse file costs what it holds."""
    total = 0
    with path.open("rb", buffering=0) as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end:
            try:
                data = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    break
                data = at  # the file system knows no holes
            at = data - data % BLOCK
            part = os.pread(file.fileno(), BLOCK, at)
            if not part:  # cut off meanwhile
                break
            if part.strip(b"\0"):
                total = zlib.crc32(part, zlib.crc32(at.to_bytes(8), total))
            at += len(part)
    return total


def compare_files(folder: Path, expected: dict[str, list[int]]) -> list[str]:
    """What is wrong with the files of a closed generation; empty when nothing is."""
    found = survey_files(folder)
    wrong = [f"{name} is missing" for name in expected if name not in found]
    for name, (size, check) in expected.items():
        if name in found:
            if found[name][0] != size:
                wrong.append(f"{name} has {found[name][0]} bytes, not {size}")
            elif -1 not in (check, found[name][1]) and found[name][1] != check:
                wrong.append(f"{name} has another checksum")
    return wrong


def quarantine(path: Path) -> Path:
    """Sets a folder or file aside under another name, and returns that."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}{QUARANTINE}{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{QUARANTINE}{stamp}-{number}")
    path.rename(aside)
    sync_folder(path.parent)
    return aside


def quarantined(folder: Path) -> list[Path]:
    """What was set aside in a store's folder."""
    return sorted(path for path in (*folder.glob(f"*{QUARANTINE}*"), *folder.glob(f"*/*{QUARANTINE}*")))
