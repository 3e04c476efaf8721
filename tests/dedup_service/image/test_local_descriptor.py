"""The local descriptor knows a copy in its frame, and does not depend on the machine."""

import hashlib

import numpy as np
import pytest

from dedup_service.image.keypoints import find_keypoints
from dedup_service.image.local_descriptor import DIMENSION, describe, signs_of
from tests.dedup_service.image.forms import WAYS, copied, grey, sheet
from tests.dedup_service.image.pages import page, scene


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_nearest(way: str) -> None:
    """A copy, framed or turned upside down as well, is nearer to its image than to images of other things."""
    images = [page(), scene(), scene(6), sheet(1), np.ascontiguousarray(page(lines=4)[::-1])]
    vectors = np.stack([describe(find_keypoints(grey(rgb))) for rgb in images])
    for number in range(4):
        likeness = vectors @ describe(find_keypoints(grey(copied(images[number], way))))
        assert likeness.argmax() == number


def test_an_image_without_features_has_a_vector() -> None:
    """Of length one, like every other."""
    vector = describe(find_keypoints(np.full((200, 200), 128, np.uint8)))
    assert vector.shape == (DIMENSION,)
    assert float(vector @ vector) == pytest.approx(1.0)


def test_the_drawn_signs_never_change() -> None:
    """Stored vectors depend on them, so they are the same on every machine and in every release."""
    drawn = (signs_of("residual", 256, 8192) > 0).tobytes()
    assert hashlib.sha256(drawn).hexdigest()[:16] == "726f4b80ad7f15b1"
