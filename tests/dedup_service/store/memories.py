"""Images and entries to store, and stores to put them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from dedup_service.settings import Qdrant
from dedup_service.store.edge.client import EdgeMemory
from dedup_service.store.points import Layout
from dedup_service.store.records import (
    Entry,
    ImageRecord,
    Vector,
    entry_id,
    image_id,
)
from dedup_service.store.repository import PointMemory

NOW = 1_000_000.0
IMAGE_SIZE, QUESTION_SIZE = 12, 8
LAYOUT = Layout("dct", IMAGE_SIZE, "sentence", QUESTION_SIZE)

OPTIONS = Qdrant(check_version=False, timeout=30.0)


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def edge_memory(folder: Path, clock: Callable[[], float]) -> EdgeMemory:
    return EdgeMemory(folder, "dct", IMAGE_SIZE, "sentence", QUESTION_SIZE, clock=clock)


def direction(seed: int, size: int) -> Vector:
    vector = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def an_image(number: int = 1, tenant: str = "acme", **changes: object) -> ImageRecord:
    digest = number.to_bytes(32)
    record = ImageRecord(
        id=image_id(tenant, digest),
        tenant=tenant,
        digests=(digest.hex(), (number + 1000).to_bytes(32).hex()),
        perceptual_hash=np.random.default_rng(number).bytes(32),
        width=640,
        height=480,
        create_time=NOW,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def an_entry(image: ImageRecord, normal: str = "how much", **changes: object) -> Entry:
    space = str(changes.get("space", "space"))
    entry = Entry(
        id=entry_id(image.tenant, image.id, space, normal),
        tenant=image.tenant,
        image=image.id,
        space=space,
        question=f"{normal}? 多少",
        normal=normal,
        language="en",
        answer=b"\x00\xffanswer",
        answer_text="RM 138.90",
        model="glm",
        model_revision="r1",
        create_time=NOW,
        hot_until=NOW + 7200.0,
        expire_time=NOW + 604_800.0,
        last_use=NOW,
        policy_revision="7",
        generate_seconds=1.25,
        tags=("audit", "发票"),
        decision="d-1",
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


async def store(memory: PointMemory, image: ImageRecord, seed: int = 1) -> ImageRecord:
    """Stores an image and returns it as it must be found."""
    fingerprint = b"fingerprint of " + image.id.encode()
    await memory.put_image(image, direction(seed, IMAGE_SIZE), fingerprint)
    return replace(image, fingerprint_bytes=len(fingerprint))


async def put(memory: PointMemory, entry: Entry, seed: int = 1, keep: int = 20) -> list[str]:
    return await memory.put_entry(entry, direction(seed, QUESTION_SIZE), keep)


def flipped(hashed: bytes, *bits: int) -> bytes:
    """The hash with these bits turned over; bit 0 is in the first band, bit 32 in the second."""
    value = int.from_bytes(hashed)
    for bit in bits:
        value ^= 1 << (255 - bit)
    return value.to_bytes(32)


async def fill(memory: PointMemory) -> dict[str, Entry]:
    """Two images of one tenant with three entries, and one of another tenant; an alias on the first image."""
    first, second = await store(memory, an_image(1)), await store(memory, an_image(2), seed=2)
    stranger = await store(memory, an_image(1, "other"))
    await memory.add_digests("acme", first.id, ["aa"])
    entries = {
        "old": an_entry(first, "old", create_time=NOW - 100.0, model="minicpm", tags=()),
        "new": an_entry(first, "new", expire_time=NOW + 50.0),
        "second": an_entry(second, "second", model_revision="r2", tags=("x",)),
        "stranger": an_entry(stranger, "old", create_time=NOW - 100.0, model="minicpm", tags=("x",)),
    }
    for entry in entries.values():
        await put(memory, entry)
    return entries
