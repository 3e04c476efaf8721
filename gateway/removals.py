"""Follows what is purged at dedup: answers that jobs keep here go too."""

from __future__ import annotations

from askonce.faults import Fault
from askonce.times import to_seconds
from askonce.v1 import dedup_pb2
from gateway.clients import DedupClient
from gateway.jobs import Queue

INTERVAL = 5.0
"""Seconds between two looks."""
TIMEOUT = 2.0


class Removals:
    """The removals of the last 24 hours, from the first look on."""

    def __init__(self, dedup: DedupClient, jobs: Queue) -> None:
        self.dedup = dedup
        self.jobs = jobs
        self.token = ""

    async def step(self) -> float | None:
        """Takes a page; the next one at once while there is more. What fails now is done at the next
        look."""
        try:
            page = await self.dedup.removals(dedup_pb2.ListRemovalsRequest(page_token=self.token), TIMEOUT)
            for removal in page.removals:
                await self.jobs.purge(removal.parent, to_seconds(removal.remove_time))
        except Fault:
            return None
        self.token = page.next_page_token
        return 0.0 if page.removals else None
