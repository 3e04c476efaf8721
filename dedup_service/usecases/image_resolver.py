"""Which remembered image is this? Exact digests first, then candidates that are put to the look-alike check."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import structlog
from cachetools import LRUCache
from numpy.typing import NDArray

from askonce import telemetry
from askonce.fair import in_threads
from dedup_service.image.fingerprint import Fingerprint
from dedup_service.image.keypoints import FEWEST, Matrix
from dedup_service.image.lookalike import Comparison, ImageVerdict
from dedup_service.image.perceptual import hamming
from dedup_service.image.sequence import (
    ANOTHER_COUNT,
    PageFingerprints,
    digest_of,
    join_packed,
    pages_of,
    split_packed,
    together,
)
from dedup_service.policy.policy import Policy
from dedup_service.policy.reuse import PIXELS_PROBABILITY, UNKNOWN, Side
from dedup_service.store.pending import Identified, NoPendingImages, PendingImage, PendingImages
from dedup_service.store.records import ImageRecord, Memory, MemoryReadOnlyError, image_id
from dedup_service.usecases.forms import Forms, Sighting
from dedup_service.usecases.image_features import Features, ImageWork, Opened, join
from dedup_service.usecases.known_mismatches import KnownMismatches
from dedup_service.usecases.metrics import CANDIDATES as COMPARED
from dedup_service.usecases.metrics import CHECKS as CHECK_SECONDS

AnyFingerprint = Fingerprint | PageFingerprints
log = structlog.get_logger("image_resolver")

CANDIDATES = 5
"""Stored images looked for in each way: by perceptual hash, by vector, by local features."""
CHECKS = 3
"""Most of them put to the check in one look-up: the check is the dear part, and a copy is nearly always first."""
SIBLINGS = 2
"""Most images of its own form among these."""
CLOSE = 0.25
"""How much less like the query than the first a further image of its form may be, cosine of residuals."""
USUAL, SMALL, DOUBTFUL = (0.996, 0.9987), (0.99, 0.995), (0.98, 0.99)
CHECK_PROBABILITY: Mapping[Comparison, tuple[float, float]] = {
    "PAGE": USUAL,
    "PICTURE": USUAL,
    "SMALL_TEXT": SMALL,
    "ICON": DOUBTFUL,
    "TURNED": DOUBTFUL,
    "FRAMED": DOUBTFUL,
    "PHOTO": DOUBTFUL,
    "NONE": DOUBTFUL,
}
"""Probability that a passed look-alike check is right, by kind of comparison: passed barely, and passed perfectly.

However clearly a check is passed, it is believed no further than it was tested. `benchmarks.image_check` prints the
table behind this. Of 1,792 look-alikes of 37 kinds (by another author; development material: two that passed led to the
limits on small text and on pale marks) none passes, so at most these shares do (one-sided, 95 %): 0.38 % of those
compared as a PAGE (786), 0.31 % as a PAGE or PICTURE (959), 0.5 % as SMALL_TEXT (600). A perfect pass of the first two
is believed up to what 2,251 look-alikes of `benchmarks.images` backed. 54 TURNED and 32 FRAMED ones back no more than
0.95 and 0.91: for these kinds, for icons and for photos the numbers are priors. Labels correct all of them."""
JOIN_PROBABILITY = 0.996
"""Least probability of being the same at which a file joins an image as an alias."""
FILES = 50_000
"""Files whose pixel digest is remembered, and pairs of file and image that were parted by a wrong answer."""
SAME_RESIDUAL = 0.3
"""Least cosine of residuals at which two images of one form that arrive together are worth a check."""
ALIKE = 0.9
"""Least cosine of global vectors at which an image is worth a check though no keypoints agree: some have hardly any."""
RELATED = 0.5
"""The same for the nearest image of all, by its global vector."""


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """What is known about the image of one look-up."""

    side: Side
    image: str
    """Id of the image record that a fresh answer belongs to; the record may not exist yet."""
    nearest: ImageRecord | None = None
    """The stored image that was found or compared; None when there was none, or when it is still on its way."""
    features: Features | None = None
    """Set when the image's record is still to be written."""
    box: tuple[float, float, float, float] | None = None
    """Where the nearest image differs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored image that is worth a check."""

    tier: str
    record: ImageRecord
    guess: Matrix | None
    """Pixels of its rendering to those of the query's, where a map is known."""


@dataclass(eq=False, slots=True)
class Arrival:
    """An image on its way at this replica: seen by a look-up, not yet remembered."""

    features: Features
    time: float
    resolved: asyncio.Future[ResolvedImage] = field(repr=False)
    packed: bytes = field(default=b"", repr=False)
    """Its fingerprint as it is stored; empty until somebody wanted it."""


class Pictures(Protocol):
    """Keeps small pictures for audit reports; returns at once."""

    def keep(self, tenant: str, image: str, rgb: NDArray[np.uint8]) -> bool:
        """Takes a picture (H, W, 3) under the id of the image record that its file founds or would found."""
        ...

    def forget(self, tenant: str, images: Sequence[str] | None = None, *, before: float | None = None) -> None:
        """Deletes those of some images, or all of a tenant's; with a time only those kept before it."""
        ...


class ImageResolver:
    """Finds the image. Keeps the images on their way as well, so that copies that arrive together meet."""

    def __init__(
        self,
        memory: Memory,
        images: ImageWork,
        mismatches: KnownMismatches,
        forms: Forms,
        workers: Executor,
        *,
        pictures: Pictures | None = None,
        elsewhere: PendingImages | None = None,
        clock: Callable[[], float] = time.time,
        pending: int = 512,
        pending_ttl: float = 120.0,
    ) -> None:
        """`pending` bounds the images on their way, each held for at most `pending_ttl` seconds; one takes about the
        size of a fingerprint, so the default bounds them to some 50 MB. `elsewhere` knows those of other replicas."""
        self.memory = memory
        self.images = images
        self.forms = forms
        self.workers = workers
        self.pictures = pictures
        self.elsewhere: PendingImages = elsewhere or NoPendingImages()
        self.clock = clock
        self.limit = pending
        self.ttl = pending_ttl
        self.pending: OrderedDict[tuple[str, str], Arrival] = OrderedDict()
        self.pixels: LRUCache[str, str] = LRUCache(FILES)
        self.mismatches = mismatches

    async def known(self, tenant: str, byte_digest: bytes) -> ResolvedImage | None:
        """The image by its file's digest alone; None when only the content can tell."""
        digest = byte_digest.hex()
        record = await self.memory.image_by_digest(tenant, digest)
        if record is not None and not self.mismatches.knows(tenant, digest, record.id):
            return by_digest(record, digest, "BYTES")
        if (pixel_digest := self.pixels.get(digest)) is None:
            return None
        record = await self.memory.image_by_digest(tenant, pixel_digest)
        return by_digest(record, pixel_digest, "PIXELS") if record is not None else None

    async def resolve(self, tenant: str, contents: Sequence[bytes], policy: Policy) -> ResolvedImage:
        """The image, or several as one, by content. Raises PictureError when one can't be read."""
        opened = [await self.open(content) for content in contents]
        byte_digest = digest_of([bytes.fromhex(each.byte_digest) for each in opened]).hex()
        pixel_digest = digest_of([bytes.fromhex(each.pixel_digest) for each in opened]).hex()
        self.pixels[byte_digest] = pixel_digest
        record = await self.memory.image_by_digest(tenant, pixel_digest)
        if record is not None:
            return by_digest(record, pixel_digest, "PIXELS")
        key = (tenant, byte_digest)
        if (underway := self.fresh(key)) is None:
            features = await self.extract(opened)
            if self.pictures is not None and policy.keep_thumbnails:
                image = image_id(tenant, bytes.fromhex(byte_digest))
                self.pictures.keep(tenant, image, features.fingerprint.rgb)
            underway = self.fresh(key)
        if underway is not None:
            return await self.arrived(key, await asyncio.shield(underway.resolved), policy)
        return await self.enter(key, features, policy)

    async def arrived(self, key: tuple[str, str], resolved: ResolvedImage, policy: Policy) -> ResolvedImage:
        """What was found out about a file that is on its way; the record of the image that it joined, or that joined
        it, may be there by now."""
        features = resolved.features
        same = resolved.side.verdict == "SAME"
        if features is None or (same and resolved.nearest is not None):
            return resolved
        tenant = key[0]
        record = await self.memory.image(tenant, resolved.image)
        if record is None:
            return resolved
        if not same:  # who joined this file has stored it: it is looked for anew
            self.pending.pop(key, None)
            return await self.enter(key, features, policy)
        with suppress(MemoryReadOnlyError):
            await self.memory.add_digests(tenant, record.id, [features.byte_digest, *features.marks])
        self.pending.pop(key, None)
        return ResolvedImage(resolved.side, record.id, record)

    async def open(self, content: bytes) -> Opened:
        """Checks and decodes one file. Raises PictureError."""
        return await in_threads(self.workers, lambda: self.images.open(content))

    async def extract(self, opened: Sequence[Opened]) -> Features:
        """The features of one file, or of several as one."""
        parts = [await in_threads(self.workers, partial(self.images.extract, each)) for each in opened]
        return parts[0] if len(parts) == 1 else join(parts)

    async def pack(self, tenant: str, features: Features) -> bytes:
        """The image's fingerprint as it is stored."""
        arrival = self.pending.get((tenant, features.byte_digest))
        if arrival is not None and arrival.packed:
            return arrival.packed
        pages = [
            await in_threads(self.workers, partial(self.images.pack, page)) for page in pages_of(features.fingerprint)
        ]
        packed = pages[0] if len(pages) == 1 else join_packed(pages)
        if arrival is not None:
            arrival.packed = packed
        return packed

    def fresh(self, key: tuple[str, str]) -> Arrival | None:
        """The pending image of this very file, unless it is too old."""
        arrival = self.pending.get(key)
        return arrival if arrival is not None and self.clock() - arrival.time < self.ttl else None

    async def enter(self, key: tuple[str, str], features: Features, policy: Policy) -> ResolvedImage:
        """Registers a new image on its way and recognises it among the stored and those that arrived before it."""
        tenant = key[0]
        before = [arrival for (owner, _), arrival in self.pending.items() if owner == tenant]
        arrival = Arrival(features, self.clock(), asyncio.get_running_loop().create_future())
        self.pending[key] = arrival
        while len(self.pending) > self.limit:
            self.pending.popitem(last=False)
        try:
            others = await self.elsewhere.announce(tenant, announced(features, arrival.time))
            resolved = await self.search(tenant, features, policy)
            if resolved.side.verdict != "SAME":
                resolved = await self.among(tenant, before, features, policy) or resolved
            if resolved.side.verdict != "SAME":
                mine = {each.features.byte_digest for each in before}
                strangers = [each for each in others if each.digest not in mine]
                resolved = await self.among_others(tenant, strangers, features, policy) or resolved
            await self.tell(tenant, features, resolved)
        except BaseException as error:
            self.pending.pop(key, None)
            await self.elsewhere.discard(*key)
            arrival.resolved.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            arrival.resolved.exception()
            raise
        arrival.resolved.set_result(resolved)
        if resolved.nearest is not None and resolved.side.verdict == "SAME":
            self.pending.pop(key, None)
            await self.elsewhere.discard(*key)
        return resolved

    async def tell(self, tenant: str, features: Features, resolved: ResolvedImage) -> None:
        """Tells the other replicas which image this is, and what they need to compare theirs with it."""
        if isinstance(self.elsewhere, NoPendingImages):
            return
        stored = resolved.nearest is not None and resolved.side.verdict == "SAME"
        fingerprint = b"" if stored else await self.pack(tenant, features)
        await self.elsewhere.identify(tenant, features.byte_digest, Identified(resolved.image, fingerprint))

    async def search(self, tenant: str, features: Features, policy: Policy) -> ResolvedImage:
        """Puts the likeliest stored images to the check until one is the same; else returns the likeliest."""
        best: ResolvedImage | None = None
        compared = 0
        async for candidate in self.candidates(tenant, features, policy):
            stored = await self.memory.fingerprint(tenant, candidate.record.id)
            if stored is None:
                continue
            compared += 1
            verdict = await self.check(stored, features.fingerprint, candidate.guess)
            side = side_of(verdict, candidate.tier)
            found = ResolvedImage(side, founded(tenant, features), candidate.record, features, verdict.box)
            if side.verdict == "SAME" and side.probability >= JOIN_PROBABILITY:
                with suppress(MemoryReadOnlyError):  # it will be compared anew
                    await self.memory.add_digests(tenant, candidate.record.id, [features.byte_digest, *features.marks])
                best = ResolvedImage(side, candidate.record.id, candidate.record)
                break
            if best is None or side.probability > best.side.probability:
                best = found
        COMPARED.labels("image").observe(compared)
        return best or ResolvedImage(Side(UNKNOWN, reason="NO_CANDIDATE"), founded(tenant, features), None, features)

    async def candidates(self, tenant: str, features: Features, policy: Policy) -> AsyncIterator[Candidate]:
        """Yields the stored images worth a check, likeliest first, each once and at most `CHECKS`.

        Images of the query's own form come first, by what differs from the form: there may be thousands, and nothing
        else tells them apart. Then those found in any other way, if keypoints agree or they look alike as a whole.
        """
        sighting = await self.forms.sight(tenant, founded(tenant, features), features)
        seen: set[str] = set()
        siblings = await self.forms.siblings(tenant, sighting, CANDIDATES)
        for likely in siblings:
            if len(seen) >= SIBLINGS or likely.similarity < siblings[0].similarity - CLOSE:
                break
            record = await self.wanted(tenant, features, likely.image)
            if record is not None:
                seen.add(record.id)
                yield Candidate("NEIGHBOUR", record, likely.guess)
        for candidate in await self.others(tenant, features, policy, sighting):
            if len(seen) >= CHECKS:
                return
            if candidate.record.id not in seen:
                seen.add(candidate.record.id)
                yield candidate

    async def others(self, tenant: str, features: Features, policy: Policy, sighting: Sighting) -> list[Candidate]:
        """The stored images outside the query's forms that are worth a check, likeliest first."""
        hashed, near, local = await asyncio.gather(
            self.memory.images_by_hash(tenant, features.hashes, policy.phash_distance, CANDIDATES),
            self.memory.images_near(tenant, features.vectors, CANDIDATES),
            self.forms.local(tenant, features, CANDIDATES),
        )
        tiers = {record.id: "PERCEPTUAL" for record in hashed}
        # What has no keypoints, such as a sequence of images, is only ever found as a whole.
        floor = ALIKE if len(features.keypoints) >= FEWEST else -1.0
        alike = {scored.record.id for scored in near if scored.similarity >= floor} | tiers.keys()
        known = {record.id: record for record in [*hashed, *(scored.record for scored in near)]}
        described = {one.image: one for one in await self.forms.descriptors.described(tenant, list(known))}
        own = {place.form.id for place in sighting.places}
        described = {image: one for image, one in described.items() if one.form not in own} | {
            one.image: one for one in local
        }
        likely = await self.forms.registered(features, list(described.values()), sighting)
        guesses = {one.image: one.guess for one in likely}
        within = {image for image in known if image not in described} if own else set()
        # The nearest has a place where it is at all alike, of the query's form or not: photographs of a form may not
        # lie in its frame as exactly as scans do. Behind those whose keypoints agree stand those that look alike as a
        # whole: some images have no keypoints.
        order = [*guesses][: 0 if own else 1]
        order += [scored.record.id for scored in near[:1] if scored.similarity >= RELATED]
        order += [*guesses, *(image for image in known if image in alike and image not in within)]
        found = []
        for image in list(dict.fromkeys(order))[:CHECKS]:
            record = await self.wanted(tenant, features, image, known.get(image))
            if record is not None:
                found.append(Candidate(tiers.get(image, "NEIGHBOUR"), record, guesses.get(image)))
        return found

    async def wanted(
        self, tenant: str, features: Features, image: str, record: ImageRecord | None = None
    ) -> ImageRecord | None:
        """The record of an image, unless it is gone or this file was found not to be it."""
        if self.mismatches.knows(tenant, features.byte_digest, image):
            return None
        return record or await self.memory.image(tenant, image)

    async def among(
        self, tenant: str, before: list[Arrival], features: Features, policy: Policy
    ) -> ResolvedImage | None:
        """The image among those on their way, oldest first; None when it is none of them."""
        likely = [arrival for arrival in before if self.resembles(tenant, arrival.features, features, policy)]
        for arrival in sorted(likely, key=lambda arrival: arrival.time)[:CHECKS]:
            try:
                first = await asyncio.shield(arrival.resolved)
            except Exception:  # the other look-up failed: it has said so itself, and this one goes on alone
                continue
            if arrival.features.pixel_digest == features.pixel_digest:
                return ResolvedImage(
                    Side("SAME", "PIXELS", PIXELS_PROBABILITY, "SAME_PIXELS"), first.image, None, features
                )
            verdict = await self.check(arrival.features.fingerprint, features.fingerprint)
            side = side_of(verdict, "PERCEPTUAL")
            if side.verdict == "SAME" and side.probability >= JOIN_PROBABILITY:
                return ResolvedImage(side, first.image, None, features)
        return None

    async def among_others(
        self, tenant: str, before: Sequence[PendingImage], features: Features, policy: Policy
    ) -> ResolvedImage | None:
        """The image among those on their way at other replicas; None when it is none of them."""
        ranked = sorted(((distance_of(each, features), each) for each in before), key=lambda one: one[0])
        for distance, other in ranked[:CHECKS]:
            near = distance <= policy.phash_distance or np.max(features.vectors @ other.vector) >= ALIKE
            if not near or (found := await self.elsewhere.identified(tenant, other.digest)) is None:
                continue
            if other.pixel_digest == features.pixel_digest:
                side = Side("SAME", "PIXELS", PIXELS_PROBABILITY, "SAME_PIXELS")
            elif found.fingerprint:
                side = side_of(await self.check(found.fingerprint, features.fingerprint), "PERCEPTUAL")
            else:  # it was found to be a stored image, which the search of this one has looked for itself
                continue
            if side.verdict == "SAME" and side.probability >= JOIN_PROBABILITY:
                return await self.arrived(
                    (tenant, features.byte_digest), ResolvedImage(side, found.image, None, features), policy
                )
        return None

    def resembles(self, tenant: str, one: Features, other: Features, policy: Policy) -> bool:
        """Whether two images on their way are worth a check."""
        if one.pixel_digest == other.pixel_digest:
            return True
        likeness = self.forms.likeness(tenant, founded(tenant, one), founded(tenant, other))
        if likeness is not None:
            return likeness >= SAME_RESIDUAL
        if min(hamming(one.hashes[0], turned) for turned in other.hashes) <= policy.phash_distance:
            return True
        return bool(np.max(other.vectors @ one.vectors[0]) >= ALIKE)

    async def discard(self, tenant: str, byte_digest: str) -> None:
        """The image is remembered, or will not be: it is no longer on its way."""
        self.pending.pop((tenant, byte_digest), None)
        await self.elsewhere.discard(tenant, byte_digest)

    async def check(
        self, stored: bytes | AnyFingerprint, query: AnyFingerprint, guess: Matrix | None = None
    ) -> ImageVerdict:
        """Runs the look-alike check in a worker thread. A failing check is unsure, never same."""
        started = time.perf_counter()
        try:
            verdict = await self.compare(stored, query, guess)
        except Exception:
            log.exception("check_failed", request_id=telemetry.request_id())
            verdict = ImageVerdict("unsure", 1.0, 0.0, "CHECK_FAILED", box=None, turn=0, ms=0.0)
        CHECK_SECONDS.labels(verdict.verdict).observe(time.perf_counter() - started)
        telemetry.note(check_ms=round(verdict.ms, 1), check=verdict.reason)
        return verdict

    async def compare(
        self, stored: bytes | AnyFingerprint, query: AnyFingerprint, guess: Matrix | None
    ) -> ImageVerdict:
        """The verdict on two images, or on two sequences: place by place, up to the first that is not the same."""
        kept: Sequence[bytes | Fingerprint] = split_packed(stored) if isinstance(stored, bytes) else pages_of(stored)
        asked = pages_of(query)
        if len(kept) != len(asked):
            return ANOTHER_COUNT
        verdicts: list[ImageVerdict] = []
        for left, right in zip(kept, asked, strict=True):
            verdicts.append(await in_threads(self.workers, partial(self.images.compare, left, right, guess)))
            if verdicts[-1].verdict != "same":
                return verdicts[-1]
        return together(verdicts)


def by_digest(record: ImageRecord, digest: str, tier: str) -> ResolvedImage:
    """The recognition by a digest: exact for the file it was made from, by hearsay for an alias."""
    if digest in record.digests[:2]:
        probability = 1.0 if tier == "BYTES" else PIXELS_PROBABILITY
        return ResolvedImage(Side("SAME", tier, probability, f"SAME_{tier}"), record.id, record)
    return ResolvedImage(Side("SAME", "ALIAS", JOIN_PROBABILITY, "ALIAS"), record.id, record)


def announced(features: Features, now: float) -> PendingImage:
    """What other replicas are told of an image at once."""
    return PendingImage(
        features.byte_digest, features.pixel_digest, features.hashes[0], features.vectors[0].astype(np.float32), now
    )


def distance_of(other: PendingImage, features: Features) -> int:
    """How far apart two images are: bits of their hashes at the best turn, less than none for equal pixels."""
    if other.pixel_digest == features.pixel_digest:
        return -1
    return min(hamming(other.perceptual_hash, turned) for turned in features.hashes)


def founded(tenant: str, features: Features) -> str:
    """The id of the image record that these features would found."""
    return image_id(tenant, bytes.fromhex(features.byte_digest))


def side_of(verdict: ImageVerdict, tier: str) -> Side:
    """The check's verdict in the words of the decision.

    Its word is worth `CHECK_PROBABILITY`, by the kind of comparison and by how clearly it was passed.
    """
    probability = verdict.same_probability
    if verdict.verdict == "same":
        # The check errs on each image of a sequence by itself.
        least, most = CHECK_PROBABILITY[verdict.comparison]
        probability = (least + (most - least) * probability) ** verdict.images
    return Side(verdict.verdict.upper(), tier, probability, verdict.reason)
