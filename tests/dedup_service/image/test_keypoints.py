"""Keypoints are found again in copies and give the map; unrelated images give none."""

import cv2
import numpy as np
import pytest

from dedup_service.image.keypoints import FEWEST, Keypoints, apply, find_keypoints, register
from tests.dedup_service.image.forms import WAYS, copied, grey, sheet
from tests.dedup_service.image.pages import scene


@pytest.mark.parametrize(("angle", "scale"), [(0.0, 1.0), (3.0, 0.6), (-90.0, 1.3), (180.0, 0.8)])
def test_a_known_map_is_found(angle: float, scale: float) -> None:
    """The map of a turned and scaled image is found to less than three pixels anywhere on it."""
    image = grey(sheet(1))
    true = np.vstack([cv2.getRotationMatrix2D((450, 350), angle, scale), [0, 0, 1]])
    true[:2, 2] += 150
    moved = cv2.warpAffine(image, true[:2], (1200, 1200), flags=cv2.INTER_AREA, borderValue=250)
    (found,) = register(find_keypoints(image), find_keypoints(np.asarray(moved, np.uint8)))
    corners = np.array([[0, 0], [899, 0], [0, 699], [899, 699]], np.float32)
    assert np.abs(apply(found.matrix, corners) - apply(true, corners)).max() < 3.0


def test_an_unrelated_image_gives_no_map() -> None:
    """A photo-like scene does not register to a page, nor a blank image to anything."""
    page = find_keypoints(grey(sheet(1)))
    assert register(find_keypoints(grey(scene())), page) == []
    blank = find_keypoints(np.full((300, 400), 200, np.uint8))
    assert len(blank) == 0
    assert register(blank, page) == []


def test_a_moved_part_gives_a_second_map() -> None:
    """Where the head of a page stayed and its foot moved down, both maps are found."""
    one = grey(sheet(1))
    other = np.full((820, 900), 250, np.uint8)
    other[:350], other[470:] = one[:350], one[350:]
    found = register(find_keypoints(other), find_keypoints(one), 2)
    assert sorted(round(float(registration.matrix[1, 2])) for registration in found) == [-120, 0]


@pytest.mark.parametrize("way", WAYS)
def test_the_first_keypoints_suffice(way: str) -> None:
    """A third of the keypoints, being spread over the whole image, register every kind of copy."""
    found = register(find_keypoints(copied(grey(sheet(1)), way)), find_keypoints(grey(sheet(1))).first(400))
    assert len(found[0].agreed) > 3 * FEWEST
    assert found[0].spread > 0.5


def test_the_same_pair_gets_the_same_map() -> None:
    """Chance plays no part, whatever was registered before."""
    one, other = find_keypoints(grey(sheet(1))), find_keypoints(grey(sheet(2)))
    first = register(one, other)[0].matrix
    register(other, one)
    assert (register(one, other)[0].matrix == first).all()


def test_stored_keypoints_come_back() -> None:
    """Bytes hold descriptors exactly and positions to a sixteenth of a pixel; anything else is refused."""
    found = find_keypoints(grey(sheet(1)))
    back = Keypoints.from_bytes(found.to_bytes())
    assert (back.described == found.described).all()
    assert np.abs(back.at - found.at).max() <= 1 / 32
    for broken in (b"", b"\x01", found.to_bytes()[:-1]):
        with pytest.raises(ValueError, match="keypoints"):
            Keypoints.from_bytes(broken)
