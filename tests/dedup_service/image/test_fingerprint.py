"""What is kept of an image is small, versioned, and enough."""

import numpy as np
import pytest

from dedup_service.image.fingerprint import AREA, MAX_BYTES, Fingerprint, take_fingerprint
from tests.dedup_service.image.pages import opened, page, scene


@pytest.mark.parametrize("draw", [page, scene])
def test_a_fingerprint_survives_storage(draw: object) -> None:
    """Size is exact, pixels differ by codec noise only."""
    before = take_fingerprint(opened(draw()))  # type: ignore[operator]
    after = Fingerprint.from_bytes(before.to_bytes())
    assert (after.width, after.height) == (before.width, before.height)
    assert after.rgb.shape == before.rgb.shape
    assert np.abs(after.rgb.astype(int) - before.rgb.astype(int)).mean() < 8


def test_a_fingerprint_is_bounded_in_pixels_and_bytes() -> None:
    """Noise is the worst case for a codec; its fingerprint still fits."""
    noise = np.random.default_rng(1).normal(128, 25, (1500, 2000, 1)).repeat(3, axis=2)
    fingerprint = take_fingerprint(opened(np.clip(noise, 0, 255).astype(np.uint8), "JPEG", quality=90))
    height, width = fingerprint.rgb.shape[:2]
    assert height * width <= AREA * 1.01
    assert (fingerprint.width, fingerprint.height) == (2000, 1500)
    assert len(fingerprint.to_bytes()) <= MAX_BYTES


def test_a_fingerprint_says_whether_its_file_hides_content() -> None:
    """White ink on a clear ground is not in the rendering; the mark is, also after storage."""
    hidden = Fingerprint(scene(), 480, 360, hidden=True)
    assert Fingerprint.from_bytes(hidden.to_bytes()).hidden
    assert not Fingerprint.from_bytes(take_fingerprint(opened(scene())).to_bytes()).hidden


def test_a_small_image_is_not_enlarged() -> None:
    """Nothing is made up."""
    assert take_fingerprint(opened(scene())).rgb.shape == (360, 480, 3)


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[:10], lambda b: b"XXXX" + b[4:], lambda b: b[:4] + b"\x63" + b[5:], lambda b: b[:40]],
)
def test_what_is_not_a_fingerprint_is_refused(damage: object) -> None:
    """Another version or a damaged record is an error, never a wrong image."""
    packed = take_fingerprint(opened(page())).to_bytes()
    with pytest.raises(ValueError, match="fingerprint"):
        Fingerprint.from_bytes(damage(packed))  # type: ignore[operator]
