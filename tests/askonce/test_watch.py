"""A part in the background that died turns the health, and says which it is."""

from __future__ import annotations

import threading

from structlog.testing import capture_logs

from askonce.watch import ALIVE, Watch


def test_a_dead_thread_is_named_once() -> None:
    """While all run the answer is yes; once one has died it is no, and the log names it a single time."""
    watch, end = Watch(), threading.Event()
    thread = threading.Thread(target=end.wait, args=(10,))
    thread.start()
    watch.add("writer", thread.is_alive)
    watch.add("other", lambda: True)
    assert watch()
    end.set()
    thread.join()
    with capture_logs() as lines:
        assert not watch()
        assert not watch()
    assert [(line["event"], line["part"]) for line in lines] == [("background_died", "writer")]
    assert ALIVE.labels("writer")._value.get() == 0


def test_a_part_that_comes_back_counts_again() -> None:
    """A part that runs again makes the answer yes."""
    watch, up = Watch(), [False]
    watch.add("part", lambda: up[0])
    assert not watch()
    up[0] = True
    assert watch()
