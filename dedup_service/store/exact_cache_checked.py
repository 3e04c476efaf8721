"""A shared hot tier whose word is checked: what the store no longer holds is not served, whatever the tier says."""

from __future__ import annotations

from typing import Any

import prometheus_client

from dedup_service.store.exact_cache import ExactCache, ExactKey
from dedup_service.store.records import Entry, Memory, MemoryUnavailableError

STALE = prometheus_client.Counter(
    "askonce_dedup_hot_stale_total", "Entries of the hot tier that the store no longer held, or held otherwise."
)


class CheckedExactCache:
    """Implements `Hot` over a tier that keeps its own disk or replicas, such as Redis.

    Restored from an older snapshot, or failed over to a replica that lagged behind, it would serve again what feedback
    or a purge had removed. So an entry counts only while the store has it, of the same age: one look-up by id.
    """

    def __init__(self, tier: ExactCache, memory: Memory) -> None:
        self.tier = tier
        self.memory = memory

    async def get(self, key: ExactKey) -> Entry | None:
        """The tier's entry, if the store has it too. A store that is away has nothing."""
        entry = await self.tier.get(key)
        if entry is None:
            return None
        try:
            stored = await self.memory.entry(key.tenant, entry.id)
            if stored is not None and stored.create_time == entry.create_time:
                return entry
            STALE.inc()
            await self.tier.drop(key.tenant, frozenset([entry.id]))
        except MemoryUnavailableError:
            return None
        return None

    async def put(self, key: ExactKey, entry: Entry) -> None:
        """See `Hot`."""
        await self.tier.put(key, entry)

    async def drop(self, tenant: str, entries: frozenset[str] | None = None, **options: Any) -> None:
        """See `Hot`."""
        await self.tier.drop(tenant, entries, **options)

    async def close(self) -> None:
        """See `Hot`."""
        await self.tier.close()
