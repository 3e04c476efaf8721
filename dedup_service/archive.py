"""A tenant's memory as files: for audits, backups and moves to another store.

A folder holds `images.jsonl` and `entries.jsonl`, one record a line in the words of the payloads; `images.f32` and
`entries.f32`, their vectors as little-endian 32-bit floats, row by row in the order of the lines (`numpy.fromfile`);
`fingerprints.bin`, one after the other; and `archive.json`, written last, with what belongs to it: encoders, counts,
sizes and digests of the files. A folder without it is half an export, and is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dedup_service.store.payloads import entry_of, entry_payload, image_of, image_payload
from dedup_service.store.records import Entry, Exported, Memory, Vector, entry_id, image_id

FORMAT = 1
IMAGES, IMAGE_VECTORS = "images.jsonl", "images.f32"
ENTRIES, ENTRY_VECTORS = "entries.jsonl", "entries.f32"
FINGERPRINTS = "fingerprints.bin"
FILES = (IMAGES, IMAGE_VECTORS, ENTRIES, ENTRY_VECTORS, FINGERPRINTS)
MANIFEST = "archive.json"
BLOCK = 1 << 20
LONGEST_LINE = 64 << 20
"""Bytes of the longest line that is read: an import holds one image with its entries in memory, never more."""


class ArchiveError(Exception):
    """The folder is no archive, only half of one, damaged, or not for this store. `reason` is stable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says about itself."""

    tenant: str
    image_encoder: str
    image_dimension: int
    question_encoder: str
    question_dimension: int
    create_time: float
    images: int
    entries: int
    files: dict[str, tuple[int, str]]
    """Size in bytes and hexadecimal SHA-256 of each file."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Encoders:
    """The encoders whose vectors a store holds."""

    image: str
    image_dimension: int
    question: str
    question_dimension: int


class Writer:
    """The files of an export under way. Blocking: for a worker thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ArchiveError("FOLDER_NOT_EMPTY", str(folder))
        self.folder = folder
        self.images = 0
        self.entries = 0
        self.sizes = dict.fromkeys(FILES, 0)
        self.digests = {name: hashlib.sha256() for name in FILES}
        with ExitStack() as stack:
            self.files: dict[str, BinaryIO] = {name: stack.enter_context((folder / name).open("xb")) for name in FILES}
            self.stack = stack.pop_all()

    def write(self, name: str, content: bytes) -> None:
        """Appends to one of the files."""
        self.files[name].write(content)
        self.digests[name].update(content)
        self.sizes[name] += len(content)

    def add(self, exported: Exported) -> None:
        """Appends one image with its entries."""
        image = replace(exported.image, fingerprint_bytes=len(exported.fingerprint))
        self.write(IMAGES, line({"id": image.id, **image_payload(image), "entries": len(exported.entries)}))
        self.write(IMAGE_VECTORS, rows(exported.image_vector))
        self.write(FINGERPRINTS, exported.fingerprint)
        for entry, vector in zip(exported.entries, exported.entry_vectors, strict=True):
            self.write(ENTRIES, line({"id": entry.id, **entry_payload(entry)}))
            self.write(ENTRY_VECTORS, rows(vector))
        self.images += 1
        self.entries += len(exported.entries)

    def finish(self, tenant: str, encoders: Encoders, time: float) -> Manifest:
        """Brings everything to the disk, and then writes the manifest that makes it an archive."""
        manifest = Manifest(
            tenant=tenant,
            image_encoder=encoders.image,
            image_dimension=encoders.image_dimension,
            question_encoder=encoders.question,
            question_dimension=encoders.question_dimension,
            create_time=time,
            images=self.images,
            entries=self.entries,
            files={name: (self.sizes[name], self.digests[name].hexdigest()) for name in FILES},
        )
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
        self.close()
        fresh = self.folder / f"{MANIFEST}.new"
        with fresh.open("w", encoding="utf-8") as text:
            json.dump(asdict(manifest), text, ensure_ascii=False, indent=2)
            text.flush()
            os.fsync(text.fileno())
        fresh.replace(self.folder / MANIFEST)
        return manifest

    def close(self) -> None:
        """Closes the files. Safe to call twice."""
        self.stack.close()


async def export_tenant(
    memory: Memory,
    tenant: str,
    folder: Path,
    encoders: Encoders,
    time: float,
    progress: Callable[[int, int], None] = lambda images, entries: None,
) -> Manifest:
    """Writes everything of a tenant into an empty or new folder, image by image, and returns the manifest.

    `progress` is called after each image with the numbers of images and entries written so far. Raises ArchiveError
    (FOLDER_NOT_EMPTY) and OSError; what was written until then has no manifest.
    """
    writer = await asyncio.to_thread(Writer, folder)
    try:
        async for exported in memory.export(tenant):
            await asyncio.to_thread(writer.add, exported)
            progress(writer.images, writer.entries)
        return await asyncio.to_thread(writer.finish, tenant, encoders, time)
    finally:
        await asyncio.to_thread(writer.close)


async def import_tenant(
    memory: Memory,
    folder: Path,
    encoders: Encoders,
    keep: int,
    tenant: str | None = None,
    progress: Callable[[int, int], None] = lambda images, entries: None,
) -> Manifest:
    """Stores everything of an archive; what is there under the same ids is replaced.

    Everything is verified before anything is stored. With `tenant` the records become this tenant's, under ids of its
    own. `keep` is the most answers kept for an image. Raises ArchiveError with one of the reasons NO_ARCHIVE,
    HALF_WRITTEN, UNKNOWN_FORMAT, DAMAGED, OTHER_ENCODERS.
    """
    manifest = await asyncio.to_thread(verify, folder)
    held = Encoders(
        manifest.image_encoder, manifest.image_dimension, manifest.question_encoder, manifest.question_dimension
    )
    if held != encoders:
        raise ArchiveError("OTHER_ENCODERS", f"the archive holds vectors of {held}, the store those of {encoders}")
    images = entries = 0
    async for exported in read(folder, manifest):
        moved = exported if tenant in (None, manifest.tenant) else given(exported, str(tenant))
        await memory.put_image(moved.image, moved.image_vector, moved.fingerprint)
        images += 1
        for entry, vector in zip(moved.entries, moved.entry_vectors, strict=True):
            await memory.put_entry(entry, vector, keep)
            entries += 1
        progress(images, entries)
    return manifest


async def read(folder: Path, manifest: Manifest) -> AsyncIterator[Exported]:
    """Yields what an archive holds, image by image. The archive has been verified."""
    iterator = read_files(folder, manifest)
    try:
        while (exported := await asyncio.to_thread(next, iterator, None)) is not None:
            yield exported
    finally:
        await asyncio.to_thread(iterator.close)


def read_files(folder: Path, manifest: Manifest) -> Generator[Exported, None, None]:
    """Yields what an archive holds. Blocking; raises ArchiveError (DAMAGED) where files and records disagree."""
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("rb")) for name in FILES}
        for _ in range(manifest.images):
            try:
                payload = record_of(files[IMAGES])
                image = image_of(payload["id"], payload)
                image_vector = vectors_of(files[IMAGE_VECTORS], 1, manifest.image_dimension)[0]
                fingerprint = exactly(files[FINGERPRINTS], image.fingerprint_bytes)
                entries: list[Entry] = []
                for _ in range(int(payload["entries"])):
                    described = record_of(files[ENTRIES])
                    entries.append(entry_of(described["id"], described))
                vectors = vectors_of(files[ENTRY_VECTORS], len(entries), manifest.question_dimension)
            except (KeyError, TypeError, ValueError) as error:
                raise ArchiveError("DAMAGED", f"{type(error).__name__} in a record") from error
            tenants = {image.tenant, *(entry.tenant for entry in entries)}
            if tenants != {manifest.tenant} or any(entry.image != image.id for entry in entries):
                raise ArchiveError("DAMAGED", "a record belongs to another tenant or image")
            yield Exported(image, image_vector, fingerprint, tuple(entries), vectors)


def verify(folder: Path) -> Manifest:
    """Reads the manifest and checks every file against it. Blocking. Raises ArchiveError."""
    if not folder.is_dir():
        raise ArchiveError("NO_ARCHIVE", f"{folder} is no folder")
    try:
        described = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        reason = "HALF_WRITTEN" if any((folder / name).exists() for name in FILES) else "NO_ARCHIVE"
        raise ArchiveError(reason, f"{folder} has no {MANIFEST}") from None
    except ValueError as error:
        raise ArchiveError("DAMAGED", f"{MANIFEST} can't be read") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ArchiveError("UNKNOWN_FORMAT", f"{MANIFEST} is not of format {FORMAT}")
    try:
        files = {name: (int(size), str(digest)) for name, (size, digest) in described.pop("files").items()}
        manifest = Manifest(**described, files=files)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArchiveError("DAMAGED", f"{MANIFEST} lacks something") from error
    if set(files) != set(FILES):
        raise ArchiveError("DAMAGED", f"{MANIFEST} names other files")
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise ArchiveError("DAMAGED", f"{name} is missing or has another size")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise ArchiveError("DAMAGED", f"{name} has changed")
    return manifest


def given(exported: Exported, tenant: str) -> Exported:
    """The records as another tenant's, under the ids that they have there."""
    image = replace(exported.image, id=image_id(tenant, bytes.fromhex(exported.image.digests[0])), tenant=tenant)
    entries = tuple(
        replace(
            entry,
            id=entry_id(tenant, image.id, entry.space, entry.normal),
            tenant=tenant,
            image=image.id,
        )
        for entry in exported.entries
    )
    return replace(exported, image=image, entries=entries)


def line(record: dict[str, Any]) -> bytes:
    """A record as one line of JSON."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def record_of(file: BinaryIO) -> dict[str, Any]:
    """The record on the next line. Raises ValueError when there is none."""
    text = file.readline(LONGEST_LINE)
    if not text.endswith(b"\n"):
        raise ValueError("a line is cut off")
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("a line holds no record")
    return record


def rows(vectors: Vector) -> bytes:
    """Vectors as little-endian 32-bit floats."""
    return np.ascontiguousarray(vectors, "<f4").tobytes()


def vectors_of(file: BinaryIO, count: int, dimension: int) -> Vector:
    """The next vectors, shape (count, dimension). Raises ValueError when there are fewer."""
    content = exactly(file, count * dimension * 4)
    return np.frombuffer(content, "<f4").astype(np.float32).reshape(count, dimension)


def exactly(file: BinaryIO, size: int) -> bytes:
    """The next bytes. Raises ValueError when there are fewer."""
    content = file.read(size)
    if len(content) != size:
        raise ValueError("a file is too short")
    return content
