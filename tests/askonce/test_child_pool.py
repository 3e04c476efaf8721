"""Children: what happens to a call, to the others and to the child when native code fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from askonce.child_pool import ChildError, ChildPool, OpeningError
from askonce.fair import FairExecutor
from askonce.faults import InvalidInput


@pytest.fixture
def pool() -> Iterator[ChildPool]:
    """Two children."""
    made = ChildPool("test", "tests.askonce.crasher:Crasher", size=2, limit=20.0, abandon=0.5)
    made.start()
    yield made
    made.close()


def test_values_and_errors_come_back(pool: ChildPool) -> None:
    """A call returns what the method returns, however large, and raises what it raises."""
    large = b"\0" * 9_000_000
    assert pool.call("echo", ("a", large)) == ("a", large)
    with pytest.raises(ValueError, match="no"):
        pool.call("complain")
    assert pool.call("echo", 1) == 1


def test_the_start_tells_what_the_object_is() -> None:
    """`start` returns the object's own description; a second pool is another process."""
    made = ChildPool("test", "tests.askonce.crasher:Crasher")
    try:
        assert made.start()["pid"] == made.call("pid") != os.getpid()
    finally:
        made.close()


def test_a_dead_child_costs_one_call_and_is_replaced(pool: ChildPool) -> None:
    """A deadly input ends the call with DIED, is not tried again, and leaves the pool working."""
    with pytest.raises(ChildError) as died:
        pool.call("die", "x")
    assert died.value.cause == "DIED"
    with pytest.raises(ChildError) as again:
        pool.call("die", "x")
    assert (again.value.cause, again.value.digest) == ("CONDEMNED", died.value.digest)
    assert pool.call("echo", "alive") == "alive"


def test_a_child_killed_from_outside_costs_nothing(pool: ChildPool, tmp_path: Path) -> None:
    """A call whose child dies by no fault of its own is answered by another child."""
    assert pool.call("die_once", str(tmp_path / "mark")) == "well"
    for child in list(pool.alive):
        child.process.send_signal(signal.SIGKILL)
    assert pool.call("echo", "alive") == "alive"


def test_the_limit_ends_the_work(pool: ChildPool) -> None:
    """A call over its limit fails with OVERRAN and its process is gone: nothing works on behind our back."""
    pids = {child.process.pid for child in pool.alive}
    with pytest.raises(ChildError) as late:
        pool.call("hang", 600.0, limit=0.3)
    assert late.value.cause == "OVERRAN"
    left = {pid for pid in pids if psutil.pid_exists(pid)}
    assert len(left) == len(pids) - 1
    assert pool.call("echo", 2) == 2


def test_others_are_served_meanwhile(pool: ChildPool) -> None:
    """One hanging child does not hold up a call that another child can take."""

    def hang() -> None:
        with pytest.raises(ChildError):
            pool.call("hang", 600.0, limit=3.0)

    stuck = threading.Thread(target=hang)
    stuck.start()
    time.sleep(0.2)
    assert pool.call("echo", 3) == 3
    assert stuck.is_alive()
    stuck.join()


def test_cancelled_work_ends(pool: ChildPool) -> None:
    """Cancelling the future of a running call ends its child; work that had not begun never runs."""
    threads = FairExecutor(1, "test")
    running = threads.submit(pool.call, "hang", 600.0)
    waiting = threads.submit(pool.call, "hang", 600.0)
    time.sleep(0.3)
    assert waiting.cancel()
    running.cancel()
    with pytest.raises(ChildError) as given_up:
        running.result(10)
    assert given_up.value.cause == "ABANDONED"
    threads.shutdown()


def test_memory_is_bounded() -> None:
    """A child that wants more memory than it may have raises MemoryError, and the machine keeps its own."""
    made = ChildPool("test", "tests.askonce.crasher:Crasher", memory=512 * 2**20)
    made.start()
    try:
        assert made.call("swallow", 2**20) == 2**20
        with pytest.raises(MemoryError):
            made.call("swallow", 2**30)
    finally:
        made.close()


def test_an_object_that_can_not_be_made_is_named() -> None:
    """A start that can't work says why, at once, and leaves no process."""
    made = ChildPool("test", "tests.askonce.crasher:Crasher", ("/missing",))
    with pytest.raises(OpeningError, match="/missing"):
        made.start()
    assert not made.alive


def test_an_error_that_can_not_be_sent_is_told() -> None:
    """Its kind and its text arrive, not a complaint about pickling."""
    made = ChildPool("test", "tests.askonce.crasher:Crasher", ("/unsendable",))
    with pytest.raises(OpeningError) as caught:
        made.start()
    assert str(caught.value.__cause__) == "UnsendableError: this and that"


def test_a_pool_has_at_least_one_child() -> None:
    """None at all would let every call wait for ever."""
    with pytest.raises(ValueError, match="test: at least 1 worker is needed, not 0"):
        ChildPool("test", "tests.askonce.crasher:Crasher", size=0)


def test_a_first_call_starts_the_children() -> None:
    """A pool that nobody started starts when it is first needed."""
    made = ChildPool("test", "tests.askonce.crasher:Crasher")
    try:
        assert not made.alive
        assert made.call("echo", 4) == 4
    finally:
        made.close()


def test_faults_come_back_whole(pool: ChildPool) -> None:
    """An error of ours that is raised in a child is caught here with its reason, field and metadata."""
    with pytest.raises(InvalidInput) as caught:
        pool.call("refuse")
    fault = caught.value
    assert (fault.reason, fault.message, fault.field) == ("OUT_OF_RANGE", "too much", "image")
    assert (fault.metadata, fault.retry_after) == ({"limit": "3"}, None)


def test_children_end_with_the_pool(pool: ChildPool) -> None:
    """`close` leaves no process behind, and calls after it say DOWN."""
    pids = [child.process.pid for child in pool.alive]
    pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(ChildError) as down:
        pool.call("echo", 1)
    assert down.value.cause == "DOWN"
