"""How images are described beside their global vector, and the forms that most of them are of.

Each image has one descriptor: among images of its form, what differs from the form; among all others, its local
features. So the thousands of one form are never in each other's way, nor in anybody else's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dedup_service.image.form import Form
from dedup_service.image.keypoints import Matrix
from dedup_service.store.payloads import bytes_of, text_of
from dedup_service.store.points import Equals, Found, Kind, Point, Points, Where
from dedup_service.store.records import Scored, Vector

PAGE = 64
"""Descriptors read in one call."""
FORMS_PAGE = 8
"""Forms read in one call; each has 60 to 200 kB."""
LOCAL = "local"
"""What the space of local descriptors is called; the tenant's name follows."""


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """An image's descriptor.

    Attributes:
        image: id of the image record.
        tenant: whose it is.
        space: what its vector may be compared with: a projection of its form, or the tenant's local descriptors.
        form: id of its form, or "".
        matrix: 3 x 3, pixels of the image's rendering to those of the form's frame; the identity without a form.
        width, height: of the rendering, pixels.
        content: the image's cells in its form's frame, or its keypoints.
    """

    image: str
    tenant: str
    space: str
    form: str
    matrix: Matrix
    width: int
    height: int
    content: bytes


class Descriptors(Protocol):
    """Keeps and finds them. Every method may raise MemoryUnavailableError; none blocks the event loop."""

    async def nearest(self, tenant: str, space: str, vectors: Vector, limit: int) -> list[Scored[Described]]:
        """The nearest in this space to any of the vectors, shape (K, 256), nearest first, each once."""
        ...

    async def described(self, tenant: str, images: Sequence[str]) -> list[Described]:
        """Those of these images that have one."""
        ...

    def members(self, tenant: str, form: str, space: str = "") -> AsyncIterator[list[Described]]:
        """Yields those of a form, of one space if given, some at a time."""
        ...

    async def put(self, descriptors: Sequence[tuple[Described, Vector]]) -> None:
        """Stores descriptors with their vectors, shape (256,); an image's former one is replaced."""
        ...

    async def remove(self, images: Sequence[str]) -> None:
        """Removes those of these images."""
        ...

    async def revisions(self, tenant: str) -> dict[str, int]:
        """The revision of each form of a tenant."""
        ...

    async def forms(self, tenant: str, ids: Sequence[str]) -> list[Form]:
        """The forms of these ids that can be read."""
        ...

    async def put_form(self, form: Form) -> None:
        """Stores a form; one of the same id is replaced."""
        ...

    async def remove_form(self, form: str) -> None:
        """Removes a form; its members stay."""
        ...

    async def images(self, after: str | None, limit: int) -> tuple[dict[str, tuple[str, Described | None]], str | None]:
        """Tenants and descriptors of the next `limit` images, by their ids, and where the next run starts."""
        ...


class PointDescriptors:
    """Implements `Descriptors` over points."""

    def __init__(self, points: Points) -> None:
        self.points = points

    async def nearest(self, tenant: str, space: str, vectors: Vector, limit: int) -> list[Scored[Described]]:
        where = (Equals("tenant", tenant), Equals("space", space))
        found = await self.points.nearest(Kind.DESCRIPTORS, vectors, where, limit)
        return [Scored(described_of(one), one.score) for one in found]

    async def described(self, tenant: str, images: Sequence[str]) -> list[Described]:
        found = await self.points.retrieve(Kind.DESCRIPTORS, list(images)) if images else []
        return [described_of(one) for one in found if one.payload["tenant"] == tenant]

    async def members(self, tenant: str, form: str, space: str = "") -> AsyncIterator[list[Described]]:
        where: Where = (Equals("tenant", tenant), Equals("form", form))
        if space:
            where = (*where, Equals("space", space))
        after: str | None = None
        while True:
            page = await self.points.page(Kind.DESCRIPTORS, where, PAGE, after=after)
            if page.points:
                yield [described_of(one) for one in page.points]
            after = page.after
            if after is None:
                return

    async def put(self, descriptors: Sequence[tuple[Described, Vector]]) -> None:
        points = [Point(one.image, vector, described_payload(one)) for one, vector in descriptors]
        await self.points.put(Kind.DESCRIPTORS, points)

    async def remove(self, images: Sequence[str]) -> None:
        await self.points.remove(Kind.DESCRIPTORS, images)

    async def revisions(self, tenant: str) -> dict[str, int]:
        revisions: dict[str, int] = {}
        after: str | None = None
        while True:
            page = await self.points.page(
                Kind.FORMS, (Equals("tenant", tenant),), PAGE, after=after, fields=("revision",)
            )
            revisions |= {one.id: int(one.payload["revision"]) for one in page.points}
            after = page.after
            if after is None:
                return revisions

    async def forms(self, tenant: str, ids: Sequence[str]) -> list[Form]:
        forms: list[Form] = []
        for start in range(0, len(ids), FORMS_PAGE):
            found = await self.points.retrieve(Kind.FORMS, ids[start : start + FORMS_PAGE])
            forms += [form_of(one) for one in found if one.payload["tenant"] == tenant]
        return forms

    async def put_form(self, form: Form) -> None:
        await self.points.put(Kind.FORMS, [Point(form.id, form.descriptor, form_payload(form))])

    async def remove_form(self, form: str) -> None:
        await self.points.remove(Kind.FORMS, [form])

    async def images(self, after: str | None, limit: int) -> tuple[dict[str, tuple[str, Described | None]], str | None]:
        page = await self.points.page(Kind.IMAGES, (), limit, after=after, fields=("tenant",))
        ids = [one.id for one in page.points]
        held = {one.id: described_of(one) for one in await self.points.retrieve(Kind.DESCRIPTORS, ids)} if ids else {}
        return {one.id: (one.payload["tenant"], held.get(one.id)) for one in page.points}, page.after


def local_space(tenant: str) -> str:
    """The space of a tenant's images that are of no form."""
    return f"{LOCAL}/{tenant}"


def space_of(form: str, projection: str) -> str:
    """The space of a form's members under one of its projections."""
    return f"{form}/{projection}"


def described_payload(described: Described) -> dict[str, Any]:
    """The payload of a descriptor's point; the image is the point's own id."""
    return {
        "tenant": described.tenant,
        "space": described.space,
        "form": described.form,
        "matrix": [float(value) for value in described.matrix[:2].ravel()],
        "width": described.width,
        "height": described.height,
        "content": text_of(described.content),
    }


def described_of(found: Found) -> Described:
    """The descriptor that a point holds. Raises KeyError or ValueError for a payload that is none."""
    payload: Mapping[str, Any] = found.payload
    return Described(
        image=found.id,
        tenant=payload["tenant"],
        space=payload["space"],
        form=payload["form"],
        matrix=np.vstack([np.array(payload["matrix"], np.float64).reshape(2, 3), [0.0, 0.0, 1.0]]),
        width=int(payload["width"]),
        height=int(payload["height"]),
        content=bytes_of(payload["content"]),
    )


def form_payload(form: Form) -> dict[str, Any]:
    """The payload of a form's point; its id is the point's own."""
    return {
        "tenant": form.tenant,
        "projections": [one.key for one in form.projections],
        "create_time": form.create_time,
        "last_use": form.last_use,
        "revision": form.revision,
        "content": text_of(form.to_bytes()),
    }


def form_of(found: Found) -> Form:
    """The form that a point holds. Raises KeyError or ValueError for a payload that is none."""
    payload: Mapping[str, Any] = found.payload
    return Form.from_bytes(
        bytes_of(payload["content"]),
        id=found.id,
        tenant=payload["tenant"],
        keys=tuple(payload["projections"]),
        create_time=float(payload["create_time"]),
        last_use=float(payload["last_use"]),
        revision=int(payload["revision"]),
    )
