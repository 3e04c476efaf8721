"""A tenant's memory as files: `images.parquet`, `entries.parquet` and, written last, `export.json`. A folder without
the last is one whose export stopped half-way."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from askonce.names import tenant_name
from askonce.times import to_seconds
from askonce.v1 import store_pb2
from dedup_service.console.calling import Failure

BATCH = 256
"""Images written or read at once."""
IMAGES = pa.schema(
    [
        ("digests", pa.list_(pa.binary())),
        ("perceptual_hash", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("create_time", pa.float64()),
        ("vector", pa.list_(pa.float32())),
        ("fingerprint", pa.binary()),
    ]
)
ENTRIES = pa.schema(
    [
        ("image", pa.int64()),
        ("space", pa.string()),
        ("question", pa.string()),
        ("normal_question", pa.string()),
        ("language_code", pa.string()),
        ("answer", pa.binary()),
        ("answer_text", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("create_time", pa.float64()),
        ("expire_time", pa.float64()),
        ("last_use_time", pa.float64()),
        ("hit_count", pa.int64()),
        ("generate_seconds", pa.float64()),
        ("tags", pa.list_(pa.string())),
        ("vector", pa.list_(pa.float32())),
    ]
)
"""`image` is the row of the image in images.parquet."""
TIMES = ("create_time", "expire_time", "last_use_time")


class Writer:
    """Writes an export; the folder appears complete or not at all. Use as a context manager and call `finish`."""

    def __init__(self, out: Path, tenant: str) -> None:
        if out.exists():
            raise Failure(f"OUT_EXISTS: {out} is there already: name another folder")
        self.out = out
        self.tenant = tenant
        self.images = 0
        self.entries = 0
        self.header: dict[str, Any] = {}

    def __enter__(self) -> Writer:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        clear(self.out)
        self.draft = Path(tempfile.mkdtemp(prefix=f".{self.out.name}.draft-", dir=self.out.parent))
        self.owner = own(self.draft)
        self.image_writer = pa.parquet.ParquetWriter(self.draft / "images.parquet", IMAGES, compression="zstd")
        self.entry_writer = pa.parquet.ParquetWriter(self.draft / "entries.parquet", ENTRIES, compression="zstd")
        self.image_rows: list[dict[str, Any]] = []
        self.entry_rows: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        self.image_writer.close()
        self.entry_writer.close()
        shutil.rmtree(self.draft, ignore_errors=True)
        os.close(self.owner)

    def start(self, header: store_pb2.ExportHeader) -> None:
        """Notes what the export is."""
        self.header = {
            "format_version": header.format_version,
            "image_encoder": header.image_encoder,
            "question_encoder": header.question_encoder,
            "create_time": to_seconds(header.create_time),
            "tenant": self.tenant,
        }

    def add(self, image: store_pb2.ExportedImage) -> None:
        """Adds an image with its entries."""
        row = {name: getattr(image, name) for name in ("perceptual_hash", "width", "height", "fingerprint")}
        row |= {"digests": list(image.digests), "vector": list(image.vector)}
        row["create_time"] = to_seconds(image.create_time)
        self.image_rows.append(row)
        for entry in image.entries:
            copied = {name: getattr(entry, name) for name in ENTRIES.names if name not in ("image", "generate_seconds")}
            copied |= {name: to_seconds(copied[name]) for name in TIMES}
            copied |= {"tags": list(entry.tags), "vector": list(entry.vector), "image": self.images}
            copied["generate_seconds"] = to_seconds(entry.generate_duration)
            self.entry_rows.append(copied)
            self.entries += 1
        self.images += 1
        if len(self.image_rows) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Writes what was gathered."""
        if self.image_rows:
            self.image_writer.write_table(pa.Table.from_pylist(self.image_rows, IMAGES))
        if self.entry_rows:
            self.entry_writer.write_table(pa.Table.from_pylist(self.entry_rows, ENTRIES))
        self.image_rows, self.entry_rows = [], []

    def finish(self) -> None:
        """Completes the export and puts it in its place. Raises Failure when the service sent no header."""
        if not self.header:
            raise Failure("EXPORT_EMPTY: the service sent no header")
        self.flush()
        self.image_writer.close()
        self.entry_writer.close()
        counts = {"images": self.images, "entries": self.entries}
        (self.draft / "export.json").write_text(json.dumps({**self.header, **counts}, indent=1), encoding="utf-8")
        self.draft.chmod(0o755)
        self.draft.rename(self.out)


def own(draft: Path) -> int:
    """Locks a half-made export for this process, for as long as the returned descriptor is open. Raises OSError for one
    that another process is making."""
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def clear(out: Path) -> None:
    """Deletes what exports to `out` left half-made whose processes were killed."""
    for draft in out.parent.glob(f".{glob.escape(out.name)}.draft-*"):
        with suppress(OSError):
            owner = own(draft)
            shutil.rmtree(draft, ignore_errors=True)
            os.close(owner)


def read_header(folder: Path) -> dict[str, Any]:
    """What an export is. Raises Failure for a folder that is none, or none that is complete."""
    try:
        header: dict[str, Any] = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"EXPORT_INCOMPLETE: {folder} holds no finished export: export it again") from error
    try:
        for name, key in (("images", "images"), ("entries", "entries")):
            found = pa.parquet.read_metadata(folder / f"{name}.parquet").num_rows
            if found != header[key]:
                raise Failure(f"EXPORT_INCOMPLETE: {folder / name}.parquet has {found} of {header[key]} rows")
    except (OSError, KeyError, pa.ArrowException) as error:
        raise Failure(f"EXPORT_INCOMPLETE: {folder} is damaged: {error}") from error
    return header


def read_entries(folder: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of the entries, one by one."""
    for batch in pa.parquet.ParquetFile(folder / "entries.parquet").iter_batches(BATCH, columns=columns):
        yield from batch.to_pylist()


async def messages(
    folder: Path, header: Mapping[str, Any], tenant: str
) -> AsyncIterator[store_pb2.ImportEntriesRequest]:
    """An export with its header as the messages of an import."""
    message = store_pb2.ExportHeader(**{k: header[k] for k in ("format_version", "image_encoder", "question_encoder")})
    message.create_time.FromNanoseconds(round(header["create_time"] * 1e9))
    yield store_pb2.ImportEntriesRequest(parent=tenant_name(tenant), header=message)
    entries = read_entries(folder, ENTRIES.names)
    waiting = next(entries, None)
    number = 0
    for batch in pa.parquet.ParquetFile(folder / "images.parquet").iter_batches(BATCH):
        for row in batch.to_pylist():
            image = store_pb2.ExportedImage(**{name: value for name, value in row.items() if name != "create_time"})
            image.create_time.FromNanoseconds(round(row["create_time"] * 1e9))
            while waiting is not None and waiting["image"] == number:
                image.entries.append(entry_of(waiting))
                waiting = next(entries, None)
            number += 1
            yield store_pb2.ImportEntriesRequest(image=image)


def entry_of(row: dict[str, Any]) -> store_pb2.ExportedEntry:
    """The message of an entry's row."""
    plain = {name: value for name, value in row.items() if name not in (*TIMES, "image", "generate_seconds")}
    entry = store_pb2.ExportedEntry(**plain)
    for name in TIMES:
        getattr(entry, name).FromNanoseconds(round(row[name] * 1e9))
    entry.generate_duration.FromNanoseconds(round(row["generate_seconds"] * 1e9))
    return entry
