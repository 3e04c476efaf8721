"""The page on the architecture names files that are there, and every room that there is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("askonce", "gateway", "dedup_service", "inference_service")


def test_files_that_are_named_exist() -> None:
    """A path in back quotes is a file or a folder of the project, written from the root or within a service."""
    found = {path for path in re.findall(r"`([a-z_/.*]+(?:\.py|\.proto|\.toml|/))`", PAGE) if "*" not in path}
    assert len(found) > 40
    places = [ROOT, *(ROOT / room for room in ROOMS), ROOT / "dedup_service" / "usecases"]
    assert {path for path in found if not any((place / path).exists() for place in places)} == set()


def test_every_room_is_named() -> None:
    """Each folder of the dedup service has its place in the picture."""
    picture = PAGE.split("## The rooms of dedup")[1].split("## One request")[0]
    rooms = {path.name for path in (ROOT / "dedup_service").iterdir() if (path / "__init__.py").exists()}
    assert {room for room in rooms if f"{room}/" not in picture} == set()
