"""The embedded store: restarts, deaths of its process, builds under way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable
from pathlib import Path

import pytest

from dedup_service.store.edge import shard
from dedup_service.store.edge.client import EdgeMemory, EdgePoints
from dedup_service.store.points import Kind
from dedup_service.store.records import (
    Deleted,
    MemoryUnavailableError,
    Selection,
    Touch,
)
from tests.dedup_service.store.memories import (
    IMAGE_SIZE,
    LAYOUT,
    NOW,
    QUESTION_SIZE,
    Clock,
    an_entry,
    an_image,
    direction,
    edge_memory,
    fill,
    put,
    store,
)


async def test_everything_is_there_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    """What was stored before an orderly stop is found after the next start."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    held = await fill(memory)
    await memory.close()
    again = edge_memory(tmp_path, clock)
    await again.start()
    for entry in held.values():
        assert await again.entry(entry.tenant, entry.id) == entry
        assert await again.fingerprint(entry.tenant, entry.image) is not None
    await again.close()


CHILD = """
    import asyncio, os, sys
    from pathlib import Path
    sys.path.insert(0, "")
    from tests.dedup_service.store.memories import NOW, an_entry, an_image, edge_memory, put, store

    async def main():
        memory = edge_memory(Path(sys.argv[1]), lambda: NOW)
        await memory.start()
        number = 0
        while True:
            number += 1
            image = await store(memory, an_image(number))
            entry = an_entry(image)
            await put(memory, entry)
            await memory.add_digests("acme", image.id, [f"alias-{number}"])
            print("stored", number, memory.points.process.pid, flush=True)

    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["service", "store"])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, clock: Clock, victim: str) -> None:
    """The service, or the process that owns the store, is killed in the middle of writes: every answer whose storing
    was acknowledged is there afterwards, with its image, fingerprint and alias."""

    def write_until_killed() -> int:
        command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as child:
            assert child.stdout is not None
            acknowledged = 0
            for line in child.stdout:
                if not line.startswith(b"stored"):  # a log line about the death of the store's process
                    continue
                acknowledged, store_process = map(int, line.split()[1:])
                if acknowledged == 300:
                    os.kill(child.pid if victim == "service" else store_process, signal.SIGKILL)
            child.wait()
        return acknowledged

    acknowledged = await asyncio.to_thread(write_until_killed)
    assert acknowledged >= 300
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    for number in range(1, acknowledged + 1):
        image = an_image(number)
        assert await memory.entry("acme", an_entry(image).id) == an_entry(image)
        assert await memory.fingerprint("acme", image.id) is not None
        found = await memory.image_by_digest("acme", f"alias-{number}")
        assert found is not None
        assert found.id == image.id
    await memory.close()


async def test_the_store_comes_back_by_itself(tmp_path: Path, clock: Clock) -> None:
    """When the process that owns the store dies, calls fail at once with the known error, and work again soon."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    held = await fill(memory)
    process = memory.points.process
    assert process is not None
    process.kill()
    entry = held["new"]
    found = None
    failures = 0
    for _ in range(200):
        try:
            found = await memory.entry("acme", entry.id)
            break
        except MemoryUnavailableError:
            failures += 1
            await asyncio.sleep(0.05)
    assert failures > 0
    assert found == entry
    await memory.close()


async def test_a_folder_has_one_owner(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second store over the same folder does not open: two owners would spoil it."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    second = EdgeMemory(tmp_path, "dct", IMAGE_SIZE, "sentence", QUESTION_SIZE)
    second.points.opening = 2.0
    second.points.options["patience"] = 0.1
    with pytest.raises(MemoryUnavailableError):
        await second.start()
    assert (await memory.holdings()).entries == 0
    await memory.close()


async def test_too_many_waiting_calls_are_refused(tmp_path: Path) -> None:
    """The queue in front of the store is bounded: beyond it a call fails at once."""
    points = EdgePoints(tmp_path / "edge", LAYOUT, waiting=4)
    await points.start()
    results = await asyncio.gather(*(points.count(Kind.ENTRIES) for _ in range(10)), return_exceptions=True)
    assert [result for result in results if not isinstance(result, BaseException)] == [0, 0, 0, 0]
    assert sum(isinstance(result, MemoryUnavailableError) for result in results) == 6
    await points.close()


async def built(points: EdgePoints) -> None:
    """Waits until no build is going on."""
    for _ in range(900):
        if not await points.call("building"):
            return
        await asyncio.sleep(0.1)
    pytest.fail("the build did not end")


COUNT = shard.BUILD_PAGE + 60
"""Points that a build is handed in more than one page."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Kind))
async def test_changes_during_a_build_are_in_its_result(tmp_path: Path, clock: Clock, kind: Kind) -> None:
    """While a generation is built the store answers, and what is added, changed and removed meanwhile is in the new
    generation as it was in the old one; after a restart too."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    images = [await store(memory, an_image(number), seed=number) for number in range(COUNT)]
    for image in images:
        await put(memory, an_entry(image))
    folder = tmp_path / "edge" / LAYOUT.name(kind)
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["000001"]
    assert await memory.points.call("build", kind)
    changes: list[Awaitable[object]] = [
        memory.delete(Selection("acme", images=(images[0].id,))),
        memory.add_digests("acme", images[1].id, ["during"]),
        memory.touch([Touch("acme", an_entry(images[1]).id, NOW, 5, NOW, NOW + 9.0)]),
        store(memory, an_image(9000), seed=9000),
        put(memory, an_entry(an_image(9000))),
    ]
    await asyncio.gather(*changes)
    assert await memory.points.call("building"), "the changes came too late to be during the build"
    await built(memory.points)
    assert (folder / "000002").exists()
    for _ in range(2):
        assert (await memory.holdings()).images == COUNT
        assert (await memory.holdings()).entries == COUNT
        assert await memory.image("acme", images[0].id) is None
        touched = await memory.entry("acme", an_entry(images[1]).id)
        assert touched is not None
        assert touched.hits == 5
        changed = await memory.image_by_digest("acme", "during")
        assert changed is not None
        for number in (1, COUNT // 2, COUNT - 1, 9000):
            (near,) = await memory.images_near("acme", direction(number, IMAGE_SIZE)[None], 1)
            assert near.record.id == an_image(number).id
            assert len(await memory.entries_of("acme", near.record.id)) == 1
        await memory.close()
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["000002"]
        memory = edge_memory(tmp_path, clock)
        await memory.start()
    await memory.close()


async def test_a_failed_build_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    """A builder that dies leaves the store as it was."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    held = await fill(memory)
    pid = await memory.points.call("build", Kind.IMAGES)
    os.kill(pid, signal.SIGKILL)
    await built(memory.points)
    assert await memory.image("acme", held["new"].image) is not None
    await memory.close()
    folders = [path for path in (tmp_path / "edge" / LAYOUT.name(Kind.IMAGES)).iterdir() if path.is_dir()]
    assert [path.name for path in folders] == ["000001"]


async def test_what_is_in_use_is_no_leftover(tmp_path: Path, clock: Clock) -> None:
    """Beside its own collections, and the logs of their databases, a store sees nothing that others left."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    await store(memory, an_image())
    assert list((tmp_path / "edge").glob("fingerprints-*-wal"))
    assert not await asyncio.to_thread(memory.points.foreign)
    assert await memory.delete_stale(dry_run=True) == Deleted()
    await memory.close()
