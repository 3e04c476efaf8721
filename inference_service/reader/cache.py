"""Pages that were read, least recently used out first, bounded by bytes."""

from __future__ import annotations

from cachetools import LRUCache

from inference_service.engine import CacheState
from inference_service.reader.document import Document

Key = tuple[bytes, int]
"""The image's SHA-256 and the pixel limit under which it was read."""


class PageCache:
    """Keeps what was read for follow-up questions. For one event loop."""

    def __init__(self, limit: int) -> None:
        self.documents: LRUCache[Key, Document] = LRUCache(limit, getsizeof=lambda document: document.size)
        self.hits = 0
        self.misses = 0

    def get(self, key: Key) -> Document | None:
        """What was read of the image, if it is still here."""
        found = self.documents.get(key)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    def put(self, key: Key, document: Document) -> None:
        """Keeps a page; one larger than the whole cache is not kept."""
        if document.size <= self.documents.maxsize:
            self.documents[key] = document

    def state(self) -> CacheState:
        """How full the cache is."""
        return CacheState(
            name="pages",
            bytes_used=int(self.documents.currsize),
            bytes_limit=int(self.documents.maxsize),
            entries=len(self.documents),
            hits=self.hits,
            misses=self.misses,
        )
