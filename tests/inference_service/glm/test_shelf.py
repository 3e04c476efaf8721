"""Per-image caches stay within their bytes."""

from __future__ import annotations

from inference_service.glm.shelf import Shelf


def test_the_least_recently_used_goes_first() -> None:
    """Room is made by forgetting what was not asked for longest; a peek is no use."""
    shelf: Shelf[bytes] = Shelf("test", 10, len)
    for name in (b"a", b"b", b"c"):
        assert shelf.put(name, name * 3)
    assert shelf.get(b"a") == b"aaa"
    assert shelf.peek(b"b") == b"bbb"
    shelf.put(b"d", b"dddd")
    assert (shelf.peek(b"a"), shelf.peek(b"b"), shelf.peek(b"c")) == (b"aaa", None, b"ccc")
    state = shelf.state()
    assert (state.bytes_used, state.bytes_limit, state.entries, state.hits, state.misses) == (10, 10, 3, 1, 0)


def test_what_is_too_large_is_not_kept() -> None:
    """A value beyond the limit leaves the others alone; a limit of 0 keeps nothing."""
    shelf: Shelf[bytes] = Shelf("test", 4, len)
    shelf.put(1, b"abc")
    assert not shelf.put(2, b"abcde")
    assert shelf.peek(1) == b"abc"
    none: Shelf[bytes] = Shelf("none", 0, len)
    assert not none.put(1, b"a")
    assert none.get(1) is None
    shelf.clear()
    assert shelf.state().bytes_used == 0
