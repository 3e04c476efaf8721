"""A tenant's memory as files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from askonce.v1 import store_pb2
from dedup_service.console import exports
from dedup_service.console.calling import Failure


def image(number: int, entries: int) -> store_pb2.ExportedImage:
    """An image with entries."""
    made = store_pb2.ExportedImage(
        digests=[bytes([number]) * 32, bytes([number + 1]) * 32], perceptual_hash=bytes(32), width=640, height=480,
        vector=[0.5, 0.25], fingerprint=b"\x00\xff",
    )  # fmt: skip
    made.create_time.FromSeconds(1_700_000_000 + number)
    for i in range(entries):
        entry = made.entries.add(
            space="s", question=f"总额{i}?", normal_question="n", language_code="zh", answer=b"\x01",
            answer_text="RM 1", model="m", model_revision="r", hit_count=i, tags=["a", "b"], vector=[1.0, 0.0],
        )  # fmt: skip
        entry.create_time.FromSeconds(1_700_000_000)
        entry.expire_time.FromSeconds(1_800_000_000)
        entry.last_use_time.FromSeconds(1_700_000_100)
        entry.generate_duration.FromMilliseconds(1_250)
    return made


def header() -> store_pb2.ExportHeader:
    """The header of an export."""
    made = store_pb2.ExportHeader(format_version=1, image_encoder="i", question_encoder="q")
    made.create_time.FromSeconds(1_700_000_000)
    return made


def written(out: Path, images: list[store_pb2.ExportedImage]) -> None:
    """A finished export."""
    with exports.Writer(out, "acme") as writer:
        writer.start(header())
        for each in images:
            writer.add(each)
        writer.finish()


def test_what_a_killed_export_left_goes_with_the_next(tmp_path: Path) -> None:
    """The next export to the same place deletes the half-made one of a dead process, and leaves alone one under way."""
    dead, alive = (tmp_path / f".out.draft-{name}" for name in ("dead", "alive"))
    for draft in (dead, alive):
        draft.mkdir()
        (draft / "entries.parquet").write_text("a question")
    owner = exports.own(alive)
    written(tmp_path / "out", [image(1, 1)])
    os.close(owner)
    assert (dead.exists(), alive.exists()) == (False, True)


async def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every image and entry comes back as it was, in order, also over more than one batch."""
    images = [image(number % 200, number % 3) for number in range(exports.BATCH + 20)]
    written(tmp_path / "export", images)
    head = exports.read_header(tmp_path / "export")
    assert (head["tenant"], head["images"], head["entries"]) == (
        "acme",
        len(images),
        sum(n % 3 for n in range(len(images))),
    )
    found = [message async for message in exports.messages(tmp_path / "export", head, "globex")]
    assert found[0].parent == "tenants/globex"
    assert found[0].header == header()
    assert [message.image for message in found[1:]] == images


def test_a_half_export_is_none(tmp_path: Path) -> None:
    """What stopped half-way leaves nothing; what lost a file afterwards, or a part of one, is refused."""
    with pytest.raises(RuntimeError), exports.Writer(tmp_path / "export", "acme") as writer:
        writer.start(header())
        writer.add(image(1, 1))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "export", [image(1, 2)])
    table = tmp_path / "export" / "entries.parquet"
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(Failure, match="EXPORT_INCOMPLETE"):
        exports.read_header(tmp_path / "export")
    (tmp_path / "export" / "export.json").unlink()
    with pytest.raises(Failure, match="EXPORT_INCOMPLETE"):
        exports.read_header(tmp_path / "export")


def test_an_export_replaces_nothing(tmp_path: Path) -> None:
    """A folder that is there stays as it is."""
    with pytest.raises(Failure, match="OUT_EXISTS"):
        exports.Writer(tmp_path, "acme")
