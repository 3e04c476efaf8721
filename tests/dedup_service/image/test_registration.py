"""Two images of one thing are laid on each other to a fraction of a pixel; two things are not."""

import cv2
import numpy as np
import pytest

from dedup_service.image.legibility import measure_text
from dedup_service.image.registration import Features, align
from tests.dedup_service.image.pages import page, scene


def grey(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("draw", [page, scene])
@pytest.mark.parametrize("angle", [0.0, 1.5, 90.0, 181.2])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.3])
def test_a_known_map_is_recovered(draw: object, angle: float, scale: float) -> None:
    """Scale, shift and turn together are found to under half a pixel anywhere in the overlap."""
    image = grey(draw())  # type: ignore[operator]
    height, width = image.shape
    truth = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale), [0, 0, 1]])
    truth[:2, 2] += (350 - width / 2, 330 - height / 2)
    other = cv2.warpAffine(image, truth[:2], (700, 660), flags=cv2.INTER_AREA, borderValue=255)
    found = align(Features(image), Features(other))
    assert found is not None
    inner = np.array([[width * x, height * y, 1] for x in (0.3, 0.5, 0.7) for y in (0.3, 0.5, 0.7)])
    off = np.abs((inner @ (found.matrix - truth).T)[:, :2]).max()
    assert off < 0.5
    assert found.rms < 0.5


def test_text_height_is_measured_in_pixels() -> None:
    """The height of small letters and digits, which grows with the image; none on a picture without text."""
    full = measure_text(grey(page())).height
    assert 9 <= full <= 16
    double = cv2.resize(grey(page()), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert 1.5 < measure_text(double).height / full < 2.3
    assert measure_text(np.full((100, 100), 255, np.uint8)).height == 0
