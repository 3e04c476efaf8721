"""Images are decoded where a file can end a child and nothing else."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from inference_service.engine import BadAskError
from inference_service.openai.picture import picture_of
from inference_service.picture_work import ChildPictureWork, PictureWorkHere
from inference_service.pictures import upright


def crash(content: bytes) -> None:
    """What a decoder does with a file that corrupts its memory."""
    os.kill(os.getpid(), signal.SIGSEGV)


def file_of(kind: str = "PNG") -> bytes:
    pixels = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3) % 251
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def work() -> Iterator[ChildPictureWork]:
    made = ChildPictureWork(1)
    yield made
    made.close()


def test_a_child_makes_the_same_pixels(work: ChildPictureWork) -> None:
    """Engines get the picture that they would decode themselves, and the file that they would send."""
    here = PictureWorkHere()
    assert work.run(upright, file_of(), 10**6).tobytes() == here.run(upright, file_of(), 10**6).tobytes()
    assert work.run(picture_of, file_of(), 1_000, 10**6) == here.run(picture_of, file_of(), 1_000, 10**6)


def test_a_file_that_ends_the_decoder_is_refused_and_nothing_else_ends(work: ChildPictureWork) -> None:
    """The request gets an error with a reason; the next file is decoded by a new child."""
    with pytest.raises(BadAskError) as caught:
        work.run(crash, b"file")
    assert caught.value.reason == "IMAGE_UNREADABLE"
    assert work.run(upright, file_of(), 10**6).size == (64, 48)


def test_reasons_come_through(work: ChildPictureWork) -> None:
    """What a decoder refuses has the same reason as without a child; what costs too much is refused unseen."""
    scans = b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00" * 200
    header = file_of("JPEG").partition(b"\xff\xda")[0]
    for content, most, reason in (
        (b"GIF89a" + bytes(100), 10**6, "IMAGE_UNREADABLE"),
        (file_of()[:300], 10**6, "IMAGE_UNREADABLE"),
        (file_of(), 3_000, "IMAGE_TOO_MANY_PIXELS"),
        (header + scans + b"\xff\xd9", 10**6, "IMAGE_TOO_COMPLEX"),
    ):
        for each in (work, PictureWorkHere()):
            with pytest.raises(BadAskError) as caught:
                each.run(upright, content, most)
            assert caught.value.reason == reason
