"""Looking at images in children: the same results as in this process, and what hostile files come to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from askonce.fair import FairExecutor
from benchmarks.hostile_files import bombs, damaged, honest, many_scans, profile_bomb
from dedup_service.image.load_encoder import load_image_encoder
from dedup_service.image.picture import PictureError
from dedup_service.native import image_work
from dedup_service.native.image_work import ChildImageWork
from dedup_service.usecases.image_features import LocalImageWork
from tests.dedup_service.pages import receipt

NAMED = {
    "IMAGE_ASPECT_UNSUPPORTED", "IMAGE_EMPTY", "IMAGE_TOO_COMPLEX", "IMAGE_TOO_LARGE", "IMAGE_TOO_MANY_PIXELS",
    "IMAGE_TOO_SMALL", "IMAGE_TRUNCATED", "IMAGE_TYPE_UNSUPPORTED", "IMAGE_UNREADABLE",
}  # fmt: skip


@pytest.fixture(scope="module")
def children() -> Iterator[ChildImageWork]:
    """One child."""
    made = ChildImageWork("dct", 1)
    yield made
    made.close()


def test_the_results_are_the_same(children: ChildImageWork) -> None:
    """Digests, features, the check and the stored form are what this process would have found."""
    here = LocalImageWork(load_image_encoder("dct"))
    there, mine = children.open(receipt()), here.open(receipt())
    assert there == mine
    far, near = children.extract(there), here.extract(mine)
    assert far.hashes == near.hashes
    assert np.allclose(far.vectors, near.vectors, atol=1e-5)
    assert np.array_equal(far.fingerprint.rgb, near.fingerprint.rgb)
    stored = children.pack(far.fingerprint)
    assert stored == here.pack(near.fingerprint)
    assert children.compare(stored, far.fingerprint).verdict == "same"
    assert (children.identity, children.dimension) == (here.encoder.identity, here.encoder.dimension)


@pytest.mark.parametrize("name", bombs())
def test_costly_files_are_refused_at_once(children: ChildImageWork, name: str) -> None:
    """A file that would take long is refused by its header, and no child is lost over it."""
    before = {child.process.pid for child in children.pool.alive}
    with pytest.raises(PictureError) as refused:
        children.open(bombs()[name])
    assert refused.value.reason == "IMAGE_TOO_COMPLEX"
    assert {child.process.pid for child in children.pool.alive} == before


def test_damaged_files_have_a_reason(children: ChildImageWork) -> None:
    """Whatever is wrong with a file, opening it ends in digests or in a named reason, and the next image is read."""
    reasons = set()
    for content in [*damaged(200, seed=3), profile_bomb(), b"", b"%PDF-1.4"]:
        try:
            children.open(content)
        except PictureError as error:
            reasons.add(error.reason)
    assert reasons <= NAMED
    assert {"IMAGE_TRUNCATED", "IMAGE_UNREADABLE", "IMAGE_EMPTY", "IMAGE_TYPE_UNSUPPORTED"} <= reasons
    assert children.open(honest()["jpeg"]).pixel_digest


def test_a_killed_child_costs_no_image(children: ChildImageWork) -> None:
    """The child dies between opening and extracting: the next one decodes anew."""
    opened = children.open(receipt())
    for child in list(children.pool.alive):
        os.kill(child.process.pid, signal.SIGKILL)
    assert children.extract(opened).pixel_digest == opened.pixel_digest


def test_time_is_bounded_and_the_work_really_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder over its limit is ended, the file refused, and the child's processor time stops growing."""
    monkeypatch.setattr(image_work, "SECONDS", 0.02)
    slow = ChildImageWork("dct", 1)
    try:
        pids = [child.process.pid for child in slow.pool.alive]
        with pytest.raises(PictureError) as refused:
            slow.open(many_scans(80, 2_400, 1_800))
        assert refused.value.reason == "IMAGE_TOO_COMPLEX"
        assert not any(child.process.pid in pids for child in slow.pool.alive)
    finally:
        slow.close()


def test_work_that_nobody_waits_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled request ends the decoding that it had begun."""
    monkeypatch.setattr(image_work, "ABANDON", 0.05)
    slow, threads = ChildImageWork("dct", 1), FairExecutor(1, "test")
    try:
        (pid,) = (child.process.pid for child in slow.pool.alive)
        os.kill(pid, signal.SIGSTOP)  # it takes for ever, however fast the machine is
        work = threads.submit(slow.open, many_scans(3, 240, 180))
        while not work.running():
            time.sleep(0.001)
        work.cancel()
        assert work.exception(30) is not None
        assert all(child.process.pid != pid for child in slow.pool.alive)
    finally:
        threads.shutdown()
        slow.close()
