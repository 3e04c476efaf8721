"""The original of a copy is among the few images that are checked, however many look alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_service.image.lookalike import ImageVerdict
from dedup_service.usecases.image_resolver import CHECKS
from dedup_service.usecases.lookup import Found, Missed
from tests.dedup_service.bench import Bench, bench, hit
from tests.dedup_service.image.forms import Rgb, copied, sheet
from tests.dedup_service.image.pages import saved, scene

QUESTION = "What is the amount due?"
SIBLINGS = 12


class Checks:
    """Counts the checks of a bench."""

    def __init__(self, dedup: Bench) -> None:
        self.images = dedup.lookup.resolver.images
        self.compare = self.images.compare
        self.images.compare = self  # type: ignore[method-assign, assignment]
        self.count = 0

    def __call__(self, *arguments: Any) -> ImageVerdict:
        self.count += 1
        return self.compare(*arguments)


@pytest.fixture
async def dedup(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as built:
        yield built


async def test_a_copy_is_found_among_its_siblings(dedup: Bench) -> None:
    """More pages of one form than are ever checked, nearly all of them nearer by every global measure: a copy hits its
    own page at the first check, and another page of the form misses after a few."""
    for number in range(SIBLINGS):
        await dedup.teach(saved(sheet(number)), QUESTION, f"{number}.50")
    await dedup.forms.tend()
    checks = Checks(dedup)
    for number, way in ((0, "saved"), (7, "cropped"), (11, "framed")):
        checks.count = 0
        assert hit(await dedup.ask(saved(copied(sheet(number), way)), QUESTION)) == f"{number}.50"
        assert checks.count == 1
    checks.count = 0
    assert isinstance(await dedup.ask(saved(sheet(77)), QUESTION), Missed)
    assert checks.count <= CHECKS


async def test_a_copy_in_a_frame_is_found_without_a_form(dedup: Bench) -> None:
    """A lone image in the frame of a screenshot, with a bar above it, is found by its local features."""
    await dedup.teach(saved(sheet(1)), QUESTION, "1.50")
    await dedup.teach(saved(scene()), QUESTION, "a scene")
    screen = copied(sheet(1), "framed")
    screen[10:60, 20:240] = screen[10:60, 600:640].mean() + 90
    found = await dedup.ask(saved(screen), QUESTION)
    assert isinstance(found, Found)
    assert hit(found) == "1.50"


async def test_unlike_images_are_not_checked(dedup: Bench) -> None:
    """An image that shares nothing with a stored one costs no check, though it may be the nearest there is."""
    await dedup.teach(saved(sheet(1)), QUESTION, "1.50")
    checks = Checks(dedup)
    assert isinstance(await dedup.ask(saved(scene()), QUESTION), Missed)
    assert checks.count == 0


def large(number: int) -> Rgb:
    """A page whose print is large enough to be believed at once."""
    return np.kron(sheet(number), np.ones((2, 2, 1), np.uint8))


async def test_pages_that_arrive_together_are_told_apart(dedup: Bench) -> None:
    """A page whose sibling is still on its way is not taken for it."""
    for number in range(3):
        await dedup.teach(saved(large(number)), QUESTION, f"{number}.50")
    first, second = [await dedup.ask(saved(large(number)), QUESTION) for number in (20, 21)]
    assert isinstance(first, Missed)
    assert isinstance(second, Missed)
    assert first.flight != second.flight
    again = await dedup.ask(saved(copied(large(20), "saved")), QUESTION)
    assert isinstance(again, Missed)
    assert again.flight == first.flight
