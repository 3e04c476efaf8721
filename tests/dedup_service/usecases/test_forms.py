"""Forms come and go with what is stored, and the original of a copy is found among its siblings meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from dedup_service.image.dct import DctEncoder
from dedup_service.image.form import FIRST_LEARNT, JOINED, Learnt
from dedup_service.image.picture import open_picture
from dedup_service.store.descriptors import PointDescriptors, local_space, space_of
from dedup_service.store.points import Equals, Kind, Layout
from dedup_service.store.qdrant_server import ServerMemory, ServerPoints
from dedup_service.store.records import ImageRecord, Selection, image_id
from dedup_service.store.repository import PointMemory
from dedup_service.usecases.forms import FRESH, Forms, valid
from dedup_service.usecases.image_features import Features, extract
from tests.dedup_service.bench import Clock
from tests.dedup_service.image.forms import WAYS, copied, sheet
from tests.dedup_service.image.pages import saved, scene

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

ENCODER = DctEncoder()


@dataclass
class Place:
    """A store, and a process that works on it."""

    memory: PointMemory
    clock: Clock
    forms: Forms

    def restarted(self, **options: int) -> Forms:
        """Another process over the same store, or this one after a crash: nothing but the store is left."""
        self.forms = Forms(self.forms.descriptors, self.memory, self.forms.workers, clock=self.clock, **options)
        return self.forms

    async def keep(self, rgb: np.ndarray, tenant: str = "acme", *, describe: bool = True) -> str:
        """Looks an image up and stores it; its id."""
        features = features_of(saved(rgb))
        image = image_id(tenant, bytes.fromhex(features.byte_digest))
        sighting = await self.forms.sight(tenant, image, features)
        await self.forms.registered(features, await self.forms.local(tenant, features, 5), sighting)
        record = ImageRecord(
            image, tenant, (features.byte_digest, features.pixel_digest), features.hashes[0], 900, 700, self.clock()
        )
        await self.memory.put_image(record, features.vectors[0], features.fingerprint.to_bytes())
        if describe:
            await self.forms.describe(tenant, image)
        return image

    async def likely(self, rgb: np.ndarray, tenant: str = "acme") -> list[str]:
        """The images of its form that an image may be, likeliest first."""
        features = features_of(saved(rgb))
        sighting = await self.forms.sight(tenant, "new", features)
        return [likely.image for likely in await self.forms.siblings(tenant, sighting, 5)]

    async def found(self, tenant: str = "acme") -> list[str]:
        """The ids of the forms."""
        return [form.id for form in await self.forms.of(tenant)]

    async def healed(self) -> None:
        """Lets the background come to rest."""
        while await self.forms.tend() is not None or self.forms.stroll_after is not None:
            self.clock.now += FRESH


@cache
def features_of(content: bytes) -> Features:
    return extract(open_picture(content), ENCODER)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    clock = Clock()
    layout = Layout(ENCODER.identity, ENCODER.dimension, "q", 4)
    memory = ServerMemory(ServerPoints(AsyncQdrantClient(":memory:"), layout), clock)
    await memory.start()
    with ThreadPoolExecutor(1) as threads:
        yield Place(memory, clock, Forms(PointDescriptors(memory.points), memory, threads, clock=clock))
    await memory.close()


async def test_the_second_page_founds_the_form(place: Place) -> None:
    """A page that comes alone is of no form; with its first sibling it founds one, to which both belong."""
    one = await place.keep(sheet(1))
    assert await place.found() == []
    other = await place.keep(sheet(2))
    assert await place.found() == [one]
    described = await place.forms.descriptors.described("acme", [one, other])
    assert {descriptor.form for descriptor in described} == {one}
    assert (await place.likely(sheet(2)))[0] == other


async def test_other_images_found_nothing(place: Place) -> None:
    """A page and photo-like scenes have too little in common; each is described by itself."""
    images = [await place.keep(rgb) for rgb in (sheet(1), scene(5), scene(6))]
    assert await place.found() == []
    described = await place.forms.descriptors.described("acme", images)
    assert [one.space for one in described] == [local_space("acme")] * 3


@pytest.mark.parametrize("way", WAYS)
async def test_the_original_comes_first(place: Place, way: str) -> None:
    """Before and after the form has learnt, whatever was done to the copy."""
    images = [await place.keep(sheet(number)) for number in range(FIRST_LEARNT + 2)]
    for number in (0, 5):
        assert (await place.likely(copied(sheet(number), way)))[0] == images[number]
    await place.healed()
    (form,) = await place.forms.of("acme")
    assert form.projection.samples >= FIRST_LEARNT
    for number in (0, 5):
        assert (await place.likely(copied(sheet(number), way)))[0] == images[number]


async def test_the_guess_maps_the_original_onto_the_copy(place: Place) -> None:
    """From the two maps to the form follows the map from one image to the other, to a few pixels."""
    for number in range(3):
        await place.keep(sheet(number))
    features = features_of(saved(copied(sheet(1), "framed")))
    sighting = await place.forms.sight("acme", "new", features)
    guess = (await place.forms.siblings("acme", sighting, 1))[0].guess
    assert guess is not None
    assert (guess @ [450, 350, 1])[:2] == pytest.approx((530, 460), abs=3)


async def test_a_restart_keeps_forms(place: Place) -> None:
    """What is found before a crash is found after it."""
    images = [await place.keep(sheet(number)) for number in range(4)]
    place.restarted()
    assert await place.found() == [images[0]]
    assert (await place.likely(copied(sheet(3), "saved")))[0] == images[3]


async def test_an_image_that_a_crash_left_undescribed_is_described(place: Place) -> None:
    """Between storing an image and describing it anything may happen; the background makes up for it."""
    images = [await place.keep(sheet(number), describe=number < 2) for number in range(4)]
    place.restarted()
    await place.healed()
    assert (await place.likely(copied(sheet(3), "saved")))[0] == images[3]


async def test_a_projection_that_a_crash_cut_off_is_completed(place: Place) -> None:
    """While members are moved to a new projection all of them are found, also when a crash stops it halfway."""
    images = [await place.keep(sheet(number)) for number in range(FIRST_LEARNT)]
    (form,) = await place.forms.of("acme")
    assert len(form.projections) == 2
    former, latest = (space_of(form.id, one.key) for one in form.projections)
    keep, place.forms.descriptors = place.forms.descriptors, Halfway(place.memory.points, after=3)
    with pytest.raises(ConnectionError):
        await place.forms.tend()
    place.forms.descriptors = keep
    counts = [await place.memory.points.count(Kind.DESCRIPTORS, (Equals("space", one),)) for one in (former, latest)]
    assert counts == [FIRST_LEARNT - 3, 3]
    place.restarted()
    for number, image in enumerate(images):
        assert (await place.likely(copied(sheet(number), "saved")))[0] == image
    await place.healed()
    (form,) = await place.forms.of("acme")
    assert [space_of(form.id, one.key) for one in form.projections] == [latest]
    assert await place.memory.points.count(Kind.DESCRIPTORS, (Equals("space", latest),)) == FIRST_LEARNT


async def test_what_two_processes_learn_adds_up(place: Place) -> None:
    """Each sees what the other stored, and what both learnt is kept."""
    for number in range(2):
        await place.keep(sheet(number))
    here = place.forms
    await here.save("acme", (await place.found())[0])
    there = place.restarted()
    await place.keep(sheet(2))
    place.forms = here
    await place.keep(sheet(3))
    (form,) = await place.found()
    await there.save("acme", form)
    await here.save("acme", form)
    (stored,) = await here.descriptors.forms("acme", [form])
    assert stored.learnt.members == 4


async def test_forms_are_bounded(place: Place) -> None:
    """Beyond the limit the least recently used form is given up, and its images are described anew."""
    place.restarted(most=1)
    first = [await place.keep(sheet(number, form=1)) for number in range(2)]
    place.clock.now += 1
    second = [await place.keep(sheet(number, form=2)) for number in range(2)]
    assert await place.found() == [second[0]]
    place.restarted(most=2)
    await place.healed()
    forms = await place.forms.of("acme")
    assert all(valid(one, forms) for one in await place.forms.descriptors.described("acme", first + second))
    assert (await place.likely(copied(sheet(1, form=1), "saved")))[0] == first[1]


async def test_two_forms_that_are_one_become_one(place: Place) -> None:
    """Two processes that found a form of the same print each at one moment: one of the forms takes in the other."""
    for number in range(3):
        await place.keep(sheet(number))
    there = place.restarted()
    there.tenants["acme"] = known = type(await known_of(there))({}, {}, place.clock())
    images = [await place.keep(sheet(number)) for number in range(3, 5)]
    assert list(known.forms) == [images[0]]
    place.clock.now += FRESH
    assert len(await place.found()) == 2
    await place.healed()
    assert len(await place.found()) == 1
    for number in (3, 4):
        assert (await place.likely(copied(sheet(number), "saved")))[0] == images[number - 3]


async def test_a_form_whose_members_share_nothing_is_given_up(place: Place) -> None:
    """When hardly any keypoint is shown by most members, they were never of one form."""
    await place.keep(sheet(0))
    await place.keep(sheet(1))
    known = place.forms.tenants["acme"]
    (form,) = known.forms.values()
    shown = np.zeros(len(form.keypoints), np.int64)
    shown[: JOINED - 5] = FIRST_LEARNT
    known.news[form.id] = Learnt(form.learnt.statistics, shown, 2 * FIRST_LEARNT)
    assert known.current(form.id).loose()
    await place.keep(sheet(2))
    assert await place.found() == []


async def test_what_is_forgotten_has_no_descriptor(place: Place) -> None:
    """A removed image is no sibling any more; a purged tenant has no forms."""
    images = [await place.keep(sheet(number)) for number in range(3)]
    await place.memory.delete(Selection("acme", images=(images[2],)))
    assert images[2] not in await place.likely(sheet(2))
    await place.memory.delete(Selection("acme"))
    place.clock.now += FRESH
    assert await place.found() == []
    assert await place.forms.descriptors.described("acme", images) == []


async def test_tenants_do_not_meet(place: Place) -> None:
    """A form of one tenant is none of another's, and neither are its members."""
    for number in range(3):
        await place.keep(sheet(number))
    assert await place.found("globex") == []
    assert await place.likely(sheet(1), "globex") == []
    assert await place.forms.descriptors.nearest("globex", local_space("acme"), np.ones((1, 256), np.float32), 5) == []
    other = await place.keep(sheet(1), "globex")
    assert [one.tenant for one in await place.forms.descriptors.described("globex", [other])] == ["globex"]


async def test_siblings_that_arrive_together_are_told_apart(place: Place) -> None:
    """Two images on their way are alike when they are copies, and not when they are siblings."""
    for number in range(FIRST_LEARNT + 1):
        await place.keep(sheet(number))
    await place.healed()
    for name, rgb in (
        ("one", sheet(20)),
        ("copy", copied(sheet(20), "saved")),
        ("other", sheet(21)),
        ("scene", scene()),
    ):
        await place.forms.sight("acme", name, features_of(saved(rgb)))
    copy, other = (place.forms.likeness("acme", "one", name) for name in ("copy", "other"))
    assert copy is not None
    assert other is not None
    assert copy > 0.6 > other
    assert place.forms.likeness("acme", "one", "scene") is None


class Halfway(PointDescriptors):
    """A store that is gone after a few points have been moved."""

    def __init__(self, points: object, after: int) -> None:
        super().__init__(points)  # type: ignore[arg-type]
        self.left = after

    async def put(self, descriptors: object) -> None:
        """Stores some, then fails."""
        await super().put(list(descriptors)[: self.left])  # type: ignore[call-overload]
        raise ConnectionError("the store is gone")


async def known_of(forms: Forms) -> object:
    """What a process knows of a tenant."""
    await forms.of("acme")
    return forms.tenants["acme"]
