"""Per-image caches stay within their bytes."""

from __future__ import annotations

from inference_service.glm.byte_lru import ByteLRU


def test_the_least_recently_used_goes_first() -> None:
    """Room is made by forgetting what was not asked for longest; a peek is no use."""
    lru: ByteLRU[bytes] = ByteLRU("test", 10, len)
    for name in (b"a", b"b", b"c"):
        assert lru.put(name, name * 3)
    assert lru.get(b"a") == b"aaa"
    assert lru.peek(b"b") == b"bbb"
    lru.put(b"d", b"dddd")
    assert (lru.peek(b"a"), lru.peek(b"b"), lru.peek(b"c")) == (b"aaa", None, b"ccc")
    state = lru.state()
    assert (state.bytes_used, state.bytes_limit, state.entries, state.hits, state.misses) == (10, 10, 3, 1, 0)


def test_what_is_too_large_is_not_kept() -> None:
    """A value beyond the limit leaves the others alone; a limit of 0 keeps nothing."""
    lru: ByteLRU[bytes] = ByteLRU("test", 4, len)
    lru.put(1, b"abc")
    assert not lru.put(2, b"abcde")
    assert lru.peek(1) == b"abc"
    none: ByteLRU[bytes] = ByteLRU("none", 0, len)
    assert not none.put(1, b"a")
    assert none.get(1) is None
    lru.clear()
    assert lru.state().bytes_used == 0
