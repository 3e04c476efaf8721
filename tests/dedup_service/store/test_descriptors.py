"""One suite for descriptors and forms over both kinds of Qdrant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dedup_service.image.form import Form, found_form
from dedup_service.image.keypoints import Keypoints
from dedup_service.store.descriptors import PAGE, Described, PointDescriptors, local_space, space_of
from dedup_service.store.points import DESCRIPTOR_DIMENSION
from dedup_service.store.records import Vector, image_id
from dedup_service.store.repository import PointMemory
from tests.dedup_service.store.memories import an_image, direction, store

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

MATRIX = np.array([[0.5, 0.1, 7.0], [-0.1, 0.5, -3.5], [0, 0, 1]])


@pytest.fixture
def descriptors(memory: PointMemory) -> PointDescriptors:
    return PointDescriptors(memory.points)


def described(number: int, space: str, tenant: str = "acme", form: str = "") -> tuple[Described, Vector]:
    one = Described(image_id(tenant, number.to_bytes(32)), tenant, space, form, MATRIX, 900, 700, b"\x00\xffcells")
    return one, direction(number, DESCRIPTOR_DIMENSION)


def a_form(number: int = 1, tenant: str = "acme") -> Form:
    rng = np.random.default_rng(number)
    keypoints = Keypoints(
        rng.uniform(0, 700, (50, 2)).astype(np.float32), rng.integers(0, 256, (50, 32), dtype=np.uint8)
    )
    return found_form(image_id(tenant, number.to_bytes(32)), tenant, keypoints, 900, 700, 5.0)[0]


async def test_the_nearest_are_of_the_space(descriptors: PointDescriptors) -> None:
    """Vectors of other projections, forms and tenants are never compared, however near."""
    space = space_of("form", "one")
    mine, near = described(1, space, form="form"), described(2, space, form="form")
    others = [described(3, space_of("form", "two")), described(4, local_space("acme")), described(5, space, "globex")]
    await descriptors.put([mine, near, *((one, mine[1]) for one, _ in others)])
    queries = np.stack([direction(9, DESCRIPTOR_DIMENSION), mine[1]])
    found = await descriptors.nearest("acme", space, queries, 5)
    assert [one.record.image for one in found] == [mine[0].image, near[0].image]
    assert found[0].similarity == pytest.approx(1.0, abs=0.01)
    best = found[0].record
    assert (best.matrix == MATRIX).all()
    assert (best.content, best.form, best.width, best.height) == (b"\x00\xffcells", "form", 900, 700)


async def test_members_come_page_by_page(descriptors: PointDescriptors) -> None:
    """All of a form, or of one of its projections, each once, also when those read are moved meanwhile."""
    count = PAGE + 3
    old, new = space_of("form", "one"), space_of("form", "two")
    await descriptors.put([described(number, old, form="form") for number in range(count)])
    await descriptors.put([described(1000, new, form="form"), described(1001, old, "globex", "form")])
    moved = 0
    async for some in descriptors.members("acme", "form", old):
        await descriptors.put([(replace(one, space=new), direction(1, DESCRIPTOR_DIMENSION)) for one in some])
        moved += len(some)
    assert moved == count
    assert [len(some) async for some in descriptors.members("acme", "form", old)] == []
    assert sum([len(some) async for some in descriptors.members("acme", "form")]) == count + 1


async def test_an_image_has_one_descriptor(descriptors: PointDescriptors) -> None:
    """A new one replaces the former one; another tenant can't ask for it; removing is for good."""
    await descriptors.put([described(1, local_space("acme"))])
    member, vector = described(1, "form/one", form="form")
    await descriptors.put([(member, vector)])
    (found,) = await descriptors.described("acme", [member.image])
    assert found.form == "form"
    assert await descriptors.described("globex", [member.image]) == []
    assert await descriptors.described("acme", []) == []
    await descriptors.remove([member.image])
    assert await descriptors.described("acme", [member.image]) == []


async def test_forms_come_back(descriptors: PointDescriptors) -> None:
    """With everything they hold; the revisions tell which have changed."""
    forms = [a_form(number) for number in range(10)]
    for form in [*forms, a_form(1, "globex")]:
        await descriptors.put_form(form)
    changed = replace(forms[3].relearnt("late"), revision=7, last_use=9.0)
    await descriptors.put_form(changed)
    assert await descriptors.revisions("acme") == {form.id: 7 if form.id == changed.id else 0 for form in forms}
    found = {form.id: form for form in await descriptors.forms("acme", [form.id for form in forms])}
    assert len(found) == 10
    back = found[changed.id]
    assert [one.key for one in back.projections] == ["0", "late"]
    assert (back.create_time, back.last_use, back.revision) == (5.0, 9.0, 7)
    assert await descriptors.forms("globex", [changed.id]) == []
    await descriptors.remove_form(changed.id)
    assert changed.id not in await descriptors.revisions("acme")


async def test_images_are_walked_with_their_descriptors(
    descriptors: PointDescriptors,
    memory: PointMemory,
) -> None:
    """Every image is seen, with or without a descriptor, whosever it is."""
    images = [await store(memory, an_image(number, tenant)) for number, tenant in ((1, "acme"), (2, "acme"), (3, "b"))]
    await descriptors.put([described(1, local_space("acme"))])
    walked, after = await descriptors.images(None, 2)
    assert after is not None
    rest, after = await descriptors.images(after, 2)
    assert after is None
    walked |= rest
    assert {image: tenant for image, (tenant, _) in walked.items()} == {one.id: one.tenant for one in images}
    assert [one is not None for one in (walked[image.id][1] for image in images)] == [True, False, False]
