"""Small pictures for audit reports: kept only where a tenant's policy allows it, bounded, deletable."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import Engine, delete, func, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from dedup_service.ledger.database import empty_log
from dedup_service.ledger.ledger import THUMBNAILS, delete_some

SIDE = 192
"""Longest side of a thumbnail in pixels: enough to tell two receipts apart, too little to read one."""
QUALITIES = (70, 50, 30)
MOST_BYTES = 6_144
"""Most bytes of one; a picture that does not fit at the least quality is not kept."""
MOST = 20_000
"""Most thumbnails kept, about 80 MB; the oldest go first."""

SWEEP_EVERY = 500
"""Thumbnails kept between two looks for too many."""
log = structlog.get_logger("thumbnails")


def thumbnail_of(rgb: NDArray[np.uint8]) -> bytes | None:
    """A WebP of an upright picture (H, W, 3), at most `SIDE` pixels a side and `MOST_BYTES` bytes; None when it can't
    be made that small."""
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    bgr = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    for quality in QUALITIES:
        done, packed = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
        if done and len(packed) <= MOST_BYTES:
            return packed.tobytes()
    return None


class Album:
    """Keeps thumbnails off the request path: in a thread of its own, at most `waiting` at a time; a request never waits
    for one, and beyond that number they are left out."""

    def __init__(self, thumbnails: Thumbnails, *, waiting: int = 64) -> None:
        self.thumbnails = thumbnails
        self.places = threading.BoundedSemaphore(waiting)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="thumbnails")
        self.kept = 0

    def keep(self, tenant: str, image: str, rgb: NDArray[np.uint8]) -> bool:
        """Takes a picture (H, W, 3) to be kept under the id of its image record; False when too many wait."""
        if not self.places.acquire(blocking=False):
            return False
        self.thread.submit(self.work, tenant, image, rgb)
        return True

    def work(self, tenant: str, image: str, rgb: NDArray[np.uint8]) -> None:
        """The thread's part."""
        try:
            webp = thumbnail_of(rgb)
            if webp is not None:
                self.thumbnails.put(tenant, image, webp)
                self.kept += 1
                if self.kept % SWEEP_EVERY == 0:
                    self.thumbnails.sweep()
        except (SQLAlchemyError, cv2.error) as error:
            log.warning("thumbnail_failed", error=type(error).__name__)
        finally:
            self.places.release()

    def forget(self, tenant: str, images: Sequence[str] | None = None, *, before: float | None = None) -> None:
        """Deletes the thumbnails of some images, or all of a tenant's, with a time only older ones; soon, and after
        those that wait."""
        self.thread.submit(self.remove, tenant, images, before)

    def remove(self, tenant: str, images: Sequence[str] | None, before: float | None) -> None:
        """The thread's part of `forget`."""
        try:
            self.thumbnails.delete(tenant, images, before=before)
        except SQLAlchemyError as error:
            log.warning("thumbnail_not_deleted", error=type(error).__name__)

    def close(self) -> None:
        """Finishes what waits. Blocks."""
        self.thread.shutdown()


class Thumbnails:
    """Keeps thumbnails in the ledger's database, whose retention deletes them by age. Every method blocks.

    They are named by tenant and by the id of the image record that the file founds or would found (`memory.image_id`),
    so that a request's image and a stored one are found alike.
    """

    def __init__(self, engine: Engine, *, most: int = MOST) -> None:
        self.engine = engine
        self.most = most

    def put(self, tenant: str, image: str, webp: bytes) -> None:
        """Keeps one; one that is there already stays."""
        row = {"tenant": tenant, "image": image, "time": clock.time(), "size": len(webp), "webp": webp}
        with self.engine.execution_options(writes=True).begin() as connection:
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            connection.execute(insert(THUMBNAILS).values(row).on_conflict_do_nothing())

    def get(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """Those that are kept of the given (tenant, image) keys; none when there is no table."""
        found: dict[tuple[str, str], bytes] = {}
        with self.engine.connect() as connection:
            if not connection.dialect.has_table(connection, THUMBNAILS.name):
                return found
            for tenant in {tenant for tenant, _ in keys}:
                images = sorted({image for owner, image in keys if owner == tenant and image})
                for start in range(0, len(images), 500):
                    part = THUMBNAILS.c.image.in_(images[start : start + 500])
                    query = select(THUMBNAILS.c.image, THUMBNAILS.c.webp).where(THUMBNAILS.c.tenant == tenant, part)
                    found.update({(tenant, image): webp for image, webp in connection.execute(query)})
        return found

    def delete(self, tenant: str, images: Sequence[str] | None = None, *, before: float | None = None) -> int:
        """Deletes those of some images, or all of a tenant's; with a time only those made before it. Returns how many
        there were."""
        query = delete(THUMBNAILS).where(THUMBNAILS.c.tenant == tenant)
        if before is not None:
            query = query.where(THUMBNAILS.c.time < before)
        if images is not None:
            query = query.where(THUMBNAILS.c.image.in_(list(images)))
        with self.engine.execution_options(writes=True).begin() as connection:
            deleted = int(connection.execute(query).rowcount)
        if deleted:
            empty_log(self.engine)
        return deleted

    def sweep(self, limit: int = 500) -> int:
        """Deletes up to `limit` of the oldest beyond the most that are kept. Returns how many."""
        with self.engine.execution_options(writes=True).begin() as connection:
            excess = int(connection.execute(select(func.count()).select_from(THUMBNAILS)).scalar_one()) - self.most
            if excess <= 0:
                return 0
            return delete_some(connection, THUMBNAILS, true(), min(limit, excess))
