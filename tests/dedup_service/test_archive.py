"""A tenant's memory as files: complete, verified, and refused when it is not."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from dedup_service.archive import (
    ENTRIES,
    ENTRY_VECTORS,
    FILES,
    FINGERPRINTS,
    IMAGE_VECTORS,
    IMAGES,
    MANIFEST,
    ArchiveError,
    Encoders,
    export_tenant,
    import_tenant,
)
from dedup_service.store.qdrant_server import ServerMemory, ServerPoints
from dedup_service.store.records import Exported, Memory, entry_id, image_id
from dedup_service.store.repository import PointMemory
from tests.dedup_service.store.test_repository import (
    IMAGE_SIZE,
    LAYOUT,
    NOW,
    QUESTION_SIZE,
    an_entry,
    an_image,
    direction,
    fill,
    put,
    store,
)

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

ENCODERS = Encoders("dct", IMAGE_SIZE, "sentence", QUESTION_SIZE)


@pytest.fixture
async def memories() -> AsyncIterator[tuple[PointMemory, PointMemory]]:
    """Two empty stores."""
    opened = [ServerMemory(ServerPoints(AsyncQdrantClient(":memory:"), LAYOUT), lambda: NOW) for _ in range(2)]
    for memory in opened:
        await memory.start()
    yield opened[0], opened[1]
    for memory in opened:
        await memory.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def everything(memory: Memory, tenant: str) -> dict[str, Exported]:
    return {exported.image.id: exported async for exported in memory.export(tenant)}


def assert_equal(one: Exported, other: Exported) -> None:
    assert one.image == other.image
    assert one.fingerprint == other.fingerprint
    np.testing.assert_allclose(one.image_vector, other.image_vector, atol=1e-6)
    assert {entry.id: entry for entry in one.entries} == {entry.id: entry for entry in other.entries}
    rows = {entry.id: row for entry, row in zip(other.entries, other.entry_vectors, strict=True)}
    for entry, row in zip(one.entries, one.entry_vectors, strict=True):
        np.testing.assert_allclose(row, rows[entry.id], atol=1e-6)


async def test_what_is_exported_and_imported_is_the_same(
    memories: tuple[PointMemory, PointMemory], tmp_path: Path
) -> None:
    """Everything of the tenant, and nothing of another, is in the other store afterwards, field for field."""
    here, there = memories
    await fill(here)
    await store(here, an_image(9))
    steps: list[tuple[int, int]] = []
    written = await export_tenant(
        here, "acme", tmp_path / "out", ENCODERS, NOW, lambda images, entries: steps.append((images, entries))
    )
    assert (written.images, written.entries) == (3, 3)
    assert [images for images, _ in steps] == [1, 2, 3]
    assert await import_tenant(there, tmp_path / "out", ENCODERS, keep=20) == written
    before, after = await everything(here, "acme"), await everything(there, "acme")
    assert set(before) == set(after)
    for image, exported in before.items():
        assert_equal(exported, after[image])
    assert await everything(there, "other") == {}
    record = await there.image_by_digest("acme", "aa")
    assert record is not None


async def test_an_import_twice_changes_nothing(memories: tuple[PointMemory, PointMemory], tmp_path: Path) -> None:
    """An import that is repeated, as after an interruption, leaves the same records."""
    here, there = memories
    await fill(here)
    await export_tenant(here, "acme", tmp_path, ENCODERS, NOW)
    for _ in range(2):
        await import_tenant(there, tmp_path, ENCODERS, keep=20)
    holdings = await there.holdings()
    assert (holdings.images, holdings.entries) == (2, 3)


async def test_records_given_to_another_tenant_get_its_ids(
    memories: tuple[PointMemory, PointMemory], tmp_path: Path
) -> None:
    """Imported for another tenant, records are found as if that tenant had stored them, and its source is untouched."""
    here, _ = memories
    await fill(here)
    await export_tenant(here, "acme", tmp_path, ENCODERS, NOW)
    await import_tenant(here, tmp_path, ENCODERS, keep=20, tenant="heir")
    image = image_id("heir", bytes.fromhex(an_image(1).digests[0]))
    entry = await here.entry("heir", entry_id("heir", image, "space", "old"))
    assert entry is not None
    assert entry.image == image
    assert len(await here.entries_of("heir", image)) == 2
    assert len(await here.entries_of("acme", an_image(1).id)) == 2


async def test_the_vectors_open_with_numpy(memories: tuple[PointMemory, PointMemory], tmp_path: Path) -> None:
    """An auditor reads the files without our code: lines of JSON, rows of floats in the same order."""
    here, _ = memories
    await fill(here)
    await export_tenant(here, "acme", tmp_path, ENCODERS, NOW)
    lines = (tmp_path / ENTRIES).read_text(encoding="utf-8").splitlines()
    vectors = np.fromfile(tmp_path / ENTRY_VECTORS, "<f4").reshape(-1, QUESTION_SIZE)
    assert len(lines) == len(vectors) == 3
    assert {json.loads(line)["normal"] for line in lines} == {"old", "new", "second"}
    np.testing.assert_allclose(vectors[0], direction(1, QUESTION_SIZE), atol=1e-5)


async def reason_of(memory: Memory, folder: Path, encoders: Encoders = ENCODERS) -> str:
    """The reason for which an import is refused; nothing may have been stored."""
    with pytest.raises(ArchiveError) as caught:
        await import_tenant(memory, folder, encoders, keep=20)
    holdings = await memory.holdings()
    assert (holdings.images, holdings.entries) == (0, 0)
    return caught.value.reason


async def test_half_an_export_is_refused(memories: tuple[PointMemory, PointMemory], tmp_path: Path) -> None:
    """An export that was cut off has no manifest, whatever else is there."""
    here, there = memories
    await fill(here)

    def stop(images: int, entries: int) -> None:
        if images == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await export_tenant(here, "acme", tmp_path / "out", ENCODERS, NOW, stop)
    assert names(tmp_path / "out") == set(FILES)
    assert await reason_of(there, tmp_path / "out") == "HALF_WRITTEN"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
async def test_a_damaged_file_is_refused(
    memories: tuple[PointMemory, PointMemory], tmp_path: Path, name: str, damage: str
) -> None:
    """A file that is shorter, altered in one bit, or gone is noticed before anything is stored."""
    here, there = memories
    await fill(here)
    await export_tenant(here, "acme", tmp_path, ENCODERS, NOW)
    content = bytearray((tmp_path / name).read_bytes())
    if damage == "cut":
        (tmp_path / name).write_bytes(content[:-1])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
    else:
        (tmp_path / name).unlink()
    assert await reason_of(there, tmp_path) == "DAMAGED"


Spoil = Callable[[dict[str, object]], object]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda manifest: manifest.update(format=2), "UNKNOWN_FORMAT"),
        (lambda manifest: manifest.clear(), "UNKNOWN_FORMAT"),
        (lambda manifest: manifest.pop("tenant"), "DAMAGED"),
        (lambda manifest: manifest.update(files={}), "DAMAGED"),
        (lambda manifest: manifest.update(files=None), "DAMAGED"),
        (lambda manifest: manifest.update(image_encoder="clip"), "OTHER_ENCODERS"),
    ],
)
async def test_a_wrong_manifest_is_refused(
    memories: tuple[PointMemory, PointMemory], tmp_path: Path, spoil: Spoil, reason: str
) -> None:
    """A manifest of another format, with something missing, or of other encoders is refused by name."""
    here, there = memories
    await fill(here)
    await export_tenant(here, "acme", tmp_path, ENCODERS, NOW)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    spoil(manifest)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert await reason_of(there, tmp_path) == reason


async def test_other_encoders_and_no_archive_are_refused(
    memories: tuple[PointMemory, PointMemory], tmp_path: Path
) -> None:
    """Vectors of another encoder never enter a store, and a folder that is no archive is called so."""
    here, there = memories
    await fill(here)
    await export_tenant(here, "acme", tmp_path / "out", ENCODERS, NOW)
    assert await reason_of(there, tmp_path / "out", replace(ENCODERS, question="another")) == "OTHER_ENCODERS"
    assert await reason_of(there, tmp_path) == "NO_ARCHIVE"
    assert await reason_of(there, tmp_path / "nowhere") == "NO_ARCHIVE"


async def test_an_export_needs_an_empty_folder(memories: tuple[PointMemory, PointMemory], tmp_path: Path) -> None:
    """An export never mixes with what is there."""
    (tmp_path / "something").write_text("dear")
    with pytest.raises(ArchiveError) as caught:
        await export_tenant(memories[0], "acme", tmp_path, ENCODERS, NOW)
    assert caught.value.reason == "FOLDER_NOT_EMPTY"
    assert names(tmp_path) == {"something"}


async def test_a_tenant_without_records_exports_an_empty_archive(
    memories: tuple[PointMemory, PointMemory], tmp_path: Path
) -> None:
    """Nothing to export is an archive of nothing, which imports."""
    written = await export_tenant(memories[0], "nobody", tmp_path, ENCODERS, NOW)
    assert (written.images, written.entries) == (0, 0)
    assert [(tmp_path / name).stat().st_size for name in (IMAGES, IMAGE_VECTORS, FINGERPRINTS)] == [0, 0, 0]
    assert await import_tenant(memories[1], tmp_path, ENCODERS, keep=20) == written


class Endless(PointMemory):
    """Exports images whose fingerprints would not fit in the bound all together, and swallows imports."""

    def __init__(self) -> None:
        super().__init__(ServerPoints(AsyncQdrantClient(":memory:"), LAYOUT), lambda: NOW)
        self.swallowed = 0

    async def export(self, tenant: str) -> AsyncIterator[Exported]:
        for number in range(200):
            image = an_image(number, tenant)
            yield Exported(
                image,
                direction(number, IMAGE_SIZE),
                bytes([number]) * 100_000,
                (an_entry(image),),
                direction(1, QUESTION_SIZE)[None],
            )

    async def put_image(self, image: object, vector: object, fingerprint: bytes) -> None:
        self.swallowed += len(fingerprint)

    async def put_entry(self, entry: object, vector: object, keep: int) -> list[str]:
        return []


async def test_memory_is_bounded_by_one_image(tmp_path: Path) -> None:
    """Twenty megabytes pass through in both directions in less than four."""
    memory = Endless()
    tracemalloc.start()
    try:
        await export_tenant(memory, "acme", tmp_path, ENCODERS, NOW)
        await import_tenant(memory, tmp_path, ENCODERS, keep=20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert memory.swallowed == 20_000_000
    assert peak < 4_000_000


async def test_put_entries_respect_the_limit(memories: tuple[PointMemory, PointMemory], tmp_path: Path) -> None:
    """An import keeps no more answers of an image than the policy allows."""
    here, there = memories
    image = await store(here, an_image())
    for number in range(6):
        await put(here, an_entry(image, f"q{number}", last_use=NOW + number))
    await export_tenant(here, "acme", tmp_path, ENCODERS, NOW)
    await import_tenant(there, tmp_path, ENCODERS, keep=4)
    assert len(await there.entries_of("acme", image.id)) == 4
