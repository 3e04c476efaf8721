"""Which form is an image of, and which image of that form is it likely to be?"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

import numpy as np
import structlog
from cachetools import LRUCache
from numpy.typing import NDArray

from askonce.fair import in_threads
from askonce.periodic import PeriodicTask
from dedup_service.image.fingerprint import Fingerprint
from dedup_service.image.form import Form, Learnt, belongs, found_form, founds, likeliest, of_form
from dedup_service.image.keypoints import NO_KEYPOINTS, Keypoints, Matrix, Registration, find_keypoints, register
from dedup_service.image.local_descriptor import describe
from dedup_service.image.residual import Cells, Projection, cells_of
from dedup_service.image.sequence import pages_of, split_packed
from dedup_service.store.descriptors import Described, Descriptors, local_space, space_of
from dedup_service.store.records import Memory, Vector
from dedup_service.usecases.image_features import Features, grey_of

T = TypeVar("T")
log = structlog.get_logger("forms")

MOST_FORMS = 100
"""Most forms of one tenant. Beyond them the least recently used is given up; its images are described anew."""
MOST_TENANTS = 8
"""Tenants whose forms are at hand: at most 100 forms of about 120 kB each."""
SIGHTINGS = 256
"""Images whose look-up is remembered until they are stored: about 100 kB each."""
TRIED = 3
"""Most forms to which one image is registered."""
CLEAR = 0.4
"""An image that shows this share of the keypoints that members of a form usually show is tried with no other form."""
KEPT = 500
"""Keypoints kept of an image that is of no form: 18 kB."""
NEIGHBOURS = 3
"""Images of no form with which a new one is compared for what they share."""
FRESH = 5.0
"""Seconds for which a tenant's forms are taken as they are; then another replica may have changed them."""
SAVED_EVERY = 16
"""Members after which what a form learnt is stored. What a crash loses of it is learnt from later members."""
STROLL = 64
"""Images looked at in one background step for some without a valid descriptor."""
HEALED = 8
"""Most images described anew in one background step, about 60 ms of a core each."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What an image is described by."""

    width: int
    """Of the fingerprint's rendering, pixels."""
    height: int
    keypoints: Keypoints
    """In pixels of the rendering."""
    descriptor: Vector
    """Shape (256,): the local descriptor."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """An image in the frame of a form, in one or two ways."""

    form: Form
    ways: tuple[tuple[Matrix, Cells], ...]
    """Maps (3 x 3) of the rendering's pixels to the frame's, with what is seen there; the likelier first."""
    agreed: NDArray[np.int64]
    """The form's keypoints that the image shows."""
    vectors: tuple[tuple[str, Vector], ...]
    """For each of the form's projections its space and vectors, shape (ways, 256)."""


@dataclass(frozen=True, slots=True, eq=False)
class Kin:
    """A stored image of no form that shares most of its print with a new one, though it is another image."""

    described: Described
    registration: Registration
    """The new image's pixels to the stored one's."""


@dataclass(slots=True, eq=False)
class Sighting:
    """What a look-up found out about an image, kept until the image is stored."""

    seen: Seen
    places: tuple[Place, ...]
    """The forms that it is of, the likelier first."""
    tried: frozenset[str]
    """The forms that there were."""
    kin: Kin | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Likely:
    """A stored image that may be the one looked for."""

    image: str
    similarity: float
    """Cosine of residuals, or share of keypoints that agree; -1 to 1."""
    guess: Matrix | None
    """Pixels of the stored rendering to the query's, where a map is known."""


@dataclass(eq=False)
class Known:
    """The forms of a tenant, as they were last read, and what was learnt since."""

    forms: dict[str, Form]
    news: dict[str, Learnt]
    read_time: float
    compared: set[str] = field(default_factory=set)
    """Forms that were compared with all older ones."""

    def current(self, form: str) -> Form:
        """A form with what was learnt since."""
        base = self.forms[form]
        news = self.news.get(form)
        return base if news is None else base.with_learnt(news)


class Forms:
    """Finds and keeps forms. For the event loop; the work itself is done in worker threads."""

    def __init__(
        self,
        descriptors: Descriptors,
        memory: Memory,
        workers: Executor,
        *,
        clock: Callable[[], float] = time.time,
        most: int = MOST_FORMS,
    ) -> None:
        """`most` bounds the forms of a tenant; `clock` gives seconds since the epoch."""
        self.descriptors = descriptors
        self.memory = memory
        self.workers = workers
        self.clock = clock
        self.most = most
        self.tenants: LRUCache[str, Known] = LRUCache(MOST_TENANTS)
        self.sightings: LRUCache[tuple[str, str], Sighting] = LRUCache(SIGHTINGS)
        self.locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.stroll_after: str | None = None
        self.keeper = PeriodicTask("forms", self.tend, FRESH)

    # Looking up

    async def sight(self, tenant: str, image: str, features: Features) -> Sighting:
        """The forms that an image is of. `image` is the id of the record that it would found."""
        forms = await self.of(tenant)
        page = pages_of(features.fingerprint)[0]
        height, width = page.rgb.shape[:2]
        seen = Seen(width, height, features.keypoints, features.local)
        places = await in_threads(self.workers, lambda: find_places(forms, seen, page))
        sighting = self.sightings[(tenant, image)] = Sighting(seen, places, ids(forms))
        known = self.tenants.get(tenant)
        for place in places[:1]:
            if known is not None and place.form.id in known.forms:
                base = known.forms[place.form.id]
                known.forms[place.form.id] = replace(base, last_use=self.clock())
        return sighting

    async def siblings(self, tenant: str, sighting: Sighting, limit: int) -> list[Likely]:
        """The images of its forms that differ from the form as the image does, likeliest first."""
        found: dict[str, Likely] = {}
        for place in sighting.places:
            stored: dict[str, Described] = {}
            for space, vectors in place.vectors:
                for scored in await self.descriptors.nearest(tenant, space, vectors, limit):
                    stored[scored.record.image] = scored.record
            for likely in await in_threads(self.workers, partial(compared, place, list(stored.values()))):
                if likely.image not in found or found[likely.image].similarity < likely.similarity:
                    found[likely.image] = likely
        return sorted(found.values(), key=lambda one: one.similarity, reverse=True)[:limit]

    async def local(self, tenant: str, features: Features, limit: int) -> list[Described]:
        """Images of no form whose local features are most alike."""
        found = await self.descriptors.nearest(tenant, local_space(tenant), features.local[None], limit)
        return [scored.record for scored in found]

    async def registered(
        self, features: Features, stored: Sequence[Described], sighting: Sighting | None = None
    ) -> list[Likely]:
        """Those of some images of no form to which an image registers, best first. The best of them that could found a
        form with it is noted in the sighting."""
        maps = await in_threads(
            self.workers, lambda: [first(register(features.keypoints, keypoints_of(one))) for one in stored]
        )
        likely = []
        for one, registration in zip(stored, maps, strict=True):
            if registration is None:
                continue
            share = len(registration.agreed) / max(1, min(KEPT, len(features.keypoints)))
            likely.append(Likely(one.image, share, np.linalg.inv(registration.matrix)))
            if sighting is not None and founds(registration):
                kin = sighting.kin
                if kin is None or len(kin.registration.agreed) < len(registration.agreed):
                    sighting.kin = Kin(one, registration)
        return sorted(likely, key=lambda one: one.similarity, reverse=True)

    def likeness(self, tenant: str, image: str, other: str) -> float | None:
        """How alike two images on their way are within their form, -1 to 1; None when they are not of one form."""
        one, two = self.sightings.get((tenant, image)), self.sightings.get((tenant, other))
        if one is None or two is None:
            return None
        spaces = {space: vectors for place in one.places for space, vectors in place.vectors}
        for place in two.places:
            for space, vectors in reversed(place.vectors):
                if space in spaces:
                    return float((vectors @ spaces[space].T).max())
        return None

    # Storing

    async def describe(self, tenant: str, image: str) -> None:
        """Describes a stored image: within its form, or with another image that founds one with it, or by itself."""
        sighting = self.sightings.pop((tenant, image), None)
        async with self.lock(tenant):
            forms = await self.of(tenant)
            present = first(await self.descriptors.described(tenant, [image]))
            if present is not None and valid(present, forms):
                return
            if sighting is None or not (sighting.places or ids(forms) <= sighting.tried):
                content = await self.memory.fingerprint(tenant, image)
                if content is None:
                    return
                kin = sighting.kin if sighting is not None else None
                sighting = await in_threads(self.workers, lambda: see(content, forms))
                sighting.kin = kin
            place = first([one for one in sighting.places if self.takes(tenant, one)])
            if place is not None:
                await self.join(tenant, image, place, sighting.seen)
                return
            kin = sighting.kin or await self.kin_of(tenant, image, sighting.seen)
            if kin is not None and await self.found(tenant, image, kin):
                return
            seen = sighting.seen
            alone = Described(
                image, tenant, local_space(tenant), "", np.eye(3), seen.width, seen.height,
                seen.keypoints.first(KEPT).to_bytes(),
            )  # fmt: skip
            await self.descriptors.put([(alone, seen.descriptor)])

    def takes(self, tenant: str, place: Place) -> bool:
        """Whether the form is still there and takes the image for a member."""
        known = self.tenants[tenant]
        return place.form.id in known.forms and belongs(known.current(place.form.id), len(place.agreed))

    async def kin_of(self, tenant: str, image: str, seen: Seen) -> Kin | None:
        """The image of no form with which a new one can found a form."""
        found = await self.descriptors.nearest(tenant, local_space(tenant), seen.descriptor[None], NEIGHBOURS + 1)
        stored = [one.record for one in found if one.record.image != image]
        maps = await in_threads(
            self.workers, lambda: [first(register(seen.keypoints, keypoints_of(one))) for one in stored]
        )
        kin = [Kin(one, found) for one, found in zip(stored, maps, strict=True) if found is not None and founds(found)]
        return max(kin, key=lambda one: len(one.registration.agreed), default=None)

    async def found(self, tenant: str, image: str, kin: Kin) -> bool:
        """Founds a form of two images. False when the first of them is gone, or joined a form meanwhile."""
        stored = first(await self.descriptors.described(tenant, [kin.described.image]))
        contents = [await self.memory.fingerprint(tenant, one) for one in (kin.described.image, image)]
        if stored is None or stored.form or None in contents:
            return False
        await self.bound(tenant)
        form, _ = found_form(stored.image, tenant, keypoints_of(stored), stored.width, stored.height, self.clock())
        sightings = [
            await in_threads(self.workers, partial(see, content, [form])) for content in contents if content is not None
        ]
        if not all(sighting.places for sighting in sightings):
            return False
        self.tenants[tenant].forms[form.id] = form
        await self.descriptors.put_form(form)
        log.info("form_founded", tenant=tenant, form=form.id)
        for member, sighting in zip((stored.image, image), sightings, strict=True):
            await self.join(tenant, member, sighting.places[0], sighting.seen)
        return True

    async def join(self, tenant: str, image: str, place: Place, seen: Seen) -> None:
        """Stores an image as a member of a form, which learns from it."""
        known = self.tenants[tenant]
        form = known.current(place.form.id)
        matrix, cells = place.ways[0]
        vector = await in_threads(self.workers, lambda: form.projection.apply(cells))
        space = space_of(form.id, form.projection.key)
        described = Described(image, tenant, space, form.id, matrix, seen.width, seen.height, cells.to_bytes())
        await self.descriptors.put([(described, vector)])
        taught = Learnt.of(cells, place.agreed, len(form.keypoints))
        news = known.news.get(form.id)
        known.news[form.id] = taught if news is None else news.merge(taught)
        form = known.current(form.id)
        if form.loose():
            await self.remove(tenant, form.id)
        elif form.due() or known.news[form.id].members >= SAVED_EVERY:
            await self.save(tenant, form.id, learn=form.due())

    async def save(self, tenant: str, form_id: str, *, learn: bool = False, settle: bool = False) -> None:
        """Stores what a form learnt here on top of what others stored meanwhile; learns a new projection if asked to,
        or gives up the old one."""
        known = self.tenants[tenant]
        stored = first(await self.descriptors.forms(tenant, [form_id])) or known.forms[form_id]
        news = known.news.pop(form_id, None)
        form = stored if news is None else stored.with_learnt(news)
        if settle and len(form.projections) > 1:
            form = form.settled()
        elif learn and form.due():
            form = await in_threads(self.workers, lambda: form.relearnt(secrets.token_hex(4)))
        known.forms[form_id] = replace(form, revision=stored.revision + 1, last_use=known.forms[form_id].last_use)
        await self.descriptors.put_form(known.forms[form_id])

    async def bound(self, tenant: str) -> None:
        """Gives up the least recently used form when there are too many."""
        known = self.tenants[tenant]
        while len(known.forms) >= self.most:
            await self.remove(tenant, min(known.forms.values(), key=lambda form: form.last_use).id)

    async def remove(self, tenant: str, form: str) -> None:
        """Gives a form up. Its members are described anew by and by: into tighter forms, a form that they also fit, or
        by themselves."""
        known = self.tenants[tenant]
        known.forms.pop(form, None)
        known.news.pop(form, None)
        await self.descriptors.remove_form(form)
        log.info("form_removed", tenant=tenant, form=form)

    # In the background

    async def tend(self) -> float | None:
        """One background step: moves members to new projections, merges forms that are one, and describes images that
        have no valid descriptor. Whatever a crash cut off is taken up here."""
        for tenant in list(self.tenants):
            for form in await self.of(tenant):
                if len(form.projections) > 1:
                    await self.reproject(tenant, form)
            await self.merge(tenant)
        return await self.heal()

    async def reproject(self, tenant: str, form: Form) -> None:
        """Describes the members of a form by its last projection; then the former one is given up."""
        former, latest = form.projections
        space = space_of(form.id, latest.key)
        async for members in self.descriptors.members(tenant, form.id, space_of(form.id, former.key)):
            vectors = await in_threads(self.workers, partial(projected, latest, members))
            moved = [replace(one, space=space) for one in members]
            await self.descriptors.put(list(zip(moved, vectors, strict=True)))
        async with self.lock(tenant):
            if form.id in self.tenants[tenant].forms:
                await self.save(tenant, form.id, settle=True)

    async def merge(self, tenant: str) -> None:
        """Gives up a form whose first image registers to a larger form: its members will join that one."""
        forms = sorted(await self.of(tenant), key=lambda form: -form.learnt.members)
        if len(forms) < 2:
            return
        newest = max(forms, key=lambda form: form.create_time)
        compared = self.tenants[tenant].compared
        if newest.id in compared:
            return
        compared.add(newest.id)
        others = [form for form in forms if form.id != newest.id]
        near = await in_threads(self.workers, lambda: likeliest(others, newest.keypoints, newest.descriptor, TRIED))
        for other in near:
            found = first(await in_threads(self.workers, partial(register, newest.keypoints, other.keypoints)))
            if found is not None and founds(found) and 2 * len(found.agreed) >= len(newest.keypoints):
                async with self.lock(tenant):
                    await self.remove(tenant, min(newest, other, key=lambda form: form.learnt.members).id)
                return

    async def heal(self) -> float | None:
        """Describes images among the next few that have no descriptor, or one of a form or projection that is gone."""
        page, after = await self.descriptors.images(self.stroll_after, STROLL)
        healed = 0
        for image, (tenant, described) in page.items():
            if healed >= HEALED:
                return 0.2
            if described is not None and (not described.form or valid(described, await self.of(tenant))):
                continue
            await self.describe(tenant, image)
            healed += 1
        self.stroll_after = after
        return 0.2 if healed else None

    # Parts

    async def of(self, tenant: str) -> list[Form]:
        """The forms of a tenant, read again where another replica changed them."""
        known = self.tenants.get(tenant)
        if known is None or self.clock() - known.read_time >= FRESH:
            before = set(known.forms) if known is not None else set()
            revisions = await self.descriptors.revisions(tenant)
            known = self.tenants.get(tenant) or Known({}, {}, 0.0)
            stale = [
                form
                for form, revision in revisions.items()
                if form not in known.forms or known.forms[form].revision < revision
            ]
            known.forms |= {form.id: form for form in await self.descriptors.forms(tenant, stale)}
            for gone in before - revisions.keys():
                known.forms.pop(gone, None)
                known.news.pop(gone, None)
            known.read_time = self.clock()
            self.tenants[tenant] = known
        return [known.current(form) for form in list(known.forms)]

    def lock(self, tenant: str) -> asyncio.Lock:
        """The lock of a tenant's forms; kept for as long as someone holds or awaits it."""
        return self.locks.setdefault(tenant, asyncio.Lock())


def see(content: bytes, forms: Sequence[Form]) -> Sighting:
    """What a stored fingerprint shows, and of which of these forms it is; a sequence of images is of none."""
    if len(split_packed(content)) > 1:
        return Sighting(Seen(0, 0, NO_KEYPOINTS, describe(NO_KEYPOINTS)), (), ids(forms))
    fingerprint = Fingerprint.from_bytes(content)
    keypoints = find_keypoints(grey_of(fingerprint))
    height, width = fingerprint.rgb.shape[:2]
    seen = Seen(width, height, keypoints, describe(keypoints))
    return Sighting(seen, find_places(forms, seen, fingerprint), ids(forms))


def find_places(forms: Sequence[Form], seen: Seen, fingerprint: Fingerprint) -> tuple[Place, ...]:
    """The forms that an image is of, at most two, the one first of which it shows most."""
    places: list[Place] = []
    grey = grey_of(fingerprint)
    for form in likeliest(forms, seen.keypoints, seen.descriptor, TRIED):
        found = of_form(form, seen.keypoints, grey)
        if found:
            ways = tuple((one.matrix, cells_of(grey, one.matrix, form.frame)) for one in found)
            vectors = tuple(
                (space_of(form.id, projection.key), np.stack([projection.apply(cells) for _, cells in ways]))
                for projection in form.projections
            )
            places.append(Place(form, ways, found[0].agreed, vectors))
            if len(found[0].agreed) >= CLEAR * form.usual():
                break
    return tuple(sorted(places, key=lambda place: -len(place.agreed))[:2])


def compared(place: Place, stored: Sequence[Described]) -> list[Likely]:
    """How alike stored members of a form are to an image of it, by the form's last projection, which alone makes those
    that were found by different projections comparable; and the map that follows from the two maps to the form."""
    likely = []
    _, vectors = place.vectors[-1]
    for one in stored:
        cosines = vectors @ place.form.projection.apply(Cells.from_bytes(one.content))
        way = int(np.argmax(cosines))
        guess = np.asarray(np.linalg.inv(place.ways[way][0]) @ one.matrix)
        likely.append(Likely(one.image, float(cosines[way]), guess))
    return likely


def projected(projection: Projection, members: Sequence[Described]) -> list[Vector]:
    """The vectors of some members under a projection of their form."""
    return [projection.apply(Cells.from_bytes(one.content)) for one in members]


def ids(forms: Sequence[Form]) -> frozenset[str]:
    """The ids of some forms."""
    return frozenset(form.id for form in forms)


def valid(described: Described, forms: Sequence[Form]) -> bool:
    """Whether a descriptor can be found: its form and projection are in use."""
    if not described.form:
        return True
    spaces = [space_of(form.id, one.key) for form in forms if form.id == described.form for one in form.projections]
    return described.space in spaces


def keypoints_of(described: Described) -> Keypoints:
    """The keypoints of an image of no form; none of another."""
    if described.form:
        return NO_KEYPOINTS
    return Keypoints.from_bytes(described.content)


def first(items: Sequence[T]) -> T | None:
    """The first of some; None of none."""
    return items[0] if items else None
