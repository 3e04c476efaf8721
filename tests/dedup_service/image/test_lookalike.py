"""Copies are accepted, whatever a codec or a phone did to them; a look-alike never is, however small its difference."""

import cv2
import numpy as np
import pytest

from dedup_service.image.lookalike import Limits, compare, judge, measure, thumbnail
from tests.dedup_service.image.pages import Rgb, page, query, scene, stored


def resized(rgb: Rgb, scale: float) -> Rgb:
    return np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def framed(rgb: Rgb) -> Rgb:
    """A screenshot: a dark bar with a clock above, a dark border around."""
    frame = np.full((rgb.shape[0] + 90, rgb.shape[1] + 40, 3), 30, np.uint8)
    frame[60:-30, 20:-20] = rgb
    cv2.putText(
        frame, "12:30   Gallery   84%", (30, 38), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (220, 220, 220), 1, cv2.LINE_AA
    )
    return frame


COPIES = {
    "unchanged": lambda rgb: query(rgb),
    "jpeg 50": lambda rgb: query(rgb, "JPEG", quality=50),
    "webp 60": lambda rgb: query(rgb, "WEBP", quality=60),
    "smaller": lambda rgb: query(resized(rgb, 0.7), "JPEG", quality=80),
    "larger": lambda rgb: query(np.asarray(cv2.resize(rgb, None, fx=1.4, fy=1.4, interpolation=cv2.INTER_CUBIC))),
    "cropped": lambda rgb: query(np.ascontiguousarray(rgb[6:-8, 9:-5]), "JPEG", quality=85),
    "darker": lambda rgb: query((rgb * 0.86).astype(np.uint8), "JPEG", quality=85),
    "more contrast": lambda rgb: query(np.clip((rgb.astype(int) - 128) * 1.15 + 128, 0, 255).astype(np.uint8)),
    "gamma": lambda rgb: query((255 * (rgb / 255.0) ** 1.15).astype(np.uint8)),
    "border": lambda rgb: query(cv2.copyMakeBorder(rgb, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=(0, 0, 0))),
}


@pytest.mark.parametrize("way", sorted(COPIES))
@pytest.mark.parametrize("draw", [page, scene])
def test_copies_are_accepted(way: str, draw: object) -> None:
    """Re-encoding, scaling, trimming, tone and borders leave an image the same, document or photo."""
    rgb = draw()  # type: ignore[operator]
    verdict = compare(stored(rgb), COPIES[way](rgb))
    assert (verdict.verdict, verdict.reason) == ("same", "COPY")
    assert 0 <= verdict.score < 1
    assert verdict.same_probability > 0.5
    assert verdict.box is None


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_copies_are_accepted_and_the_turn_is_told(turn: int) -> None:
    """A quarter turn is found, and named as the stored image's turn to the query's."""
    turned = np.ascontiguousarray(np.rot90(page(), turn // 90))
    verdict = compare(stored(page()), query(turned, "JPEG", quality=80))
    assert (verdict.verdict, verdict.turn) == ("same", turn)


def test_a_mirrored_image_is_not_a_copy() -> None:
    """Left and right may be what is asked about."""
    assert compare(stored(scene()), query(np.ascontiguousarray(scene()[:, ::-1]))).verdict != "same"


@pytest.mark.parametrize("ink", [30, 120, 175])
@pytest.mark.parametrize("quality", [95, 60])
def test_one_changed_digit_is_found_and_located(ink: int, quality: int) -> None:
    """A 3 that became an 8 is a difference, in black or faint print, through JPEG, and the box lies on it."""
    verdict = compare(stored(page(ink=ink)), query(page(changed=True, ink=ink), "JPEG", quality=quality))
    assert (verdict.verdict, verdict.reason) == ("different", "LOCAL_DIFFERENCE")
    assert verdict.same_probability == 0
    assert verdict.box is not None
    changed = (page(ink=ink) != page(changed=True, ink=ink)).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    x, y, width, height = verdict.box
    assert x * 640 < columns.mean() < (x + width) * 640
    assert y * 520 < rows.mean() < (y + height) * 520


def test_a_changed_digit_is_found_in_a_turned_and_smaller_copy() -> None:
    """The transformations of copies do not hide a difference."""
    altered = resized(np.ascontiguousarray(np.rot90(page(changed=True))), 0.8)
    verdict = compare(stored(page()), query(altered, "JPEG", quality=75))
    assert (verdict.verdict, verdict.turn) == ("different", 90)


def test_a_patch_in_another_colour_of_equal_brightness_is_found() -> None:
    """A grey check alone would accept it."""
    rgb = page()
    rgb[300:340, 400:460] = (200, 60, 60)
    grey = cv2.cvtColor(np.uint8([[[200, 60, 60]]]), cv2.COLOR_RGB2GRAY)[0, 0]
    other = rgb.copy()
    other[300:340, 400:460] = (60, 60, 60)
    blue = np.uint8([[[40, 110, 180]]])
    blue = np.clip(blue.astype(int) + int(grey) - int(cv2.cvtColor(blue, cv2.COLOR_RGB2GRAY)[0, 0]), 0, 255)
    other[300:340, 400:460] = blue[0, 0]
    verdict = compare(stored(rgb), query(other, "JPEG", quality=85))
    assert (verdict.verdict, verdict.reason) == ("different", "COLOUR_DIFFERENCE")


def test_a_flat_area_in_another_shade_is_found() -> None:
    """A local gain would explain it away; the level of an area is compared as well."""
    rgb, other = page(), page()
    rgb[300:380, 380:560], other[300:380, 380:560] = 120, 160
    assert compare(stored(rgb), query(other, "JPEG", quality=85)).verdict == "different"


def test_a_part_that_moved_is_not_a_copy() -> None:
    """The next frame of a video shows the same things elsewhere."""
    rgb = scene()
    y, x = np.mgrid[0:360, 0:480].astype(np.float32)
    push = 3 * np.exp(-((x - 240) ** 2 + (y - 180) ** 2) / (2 * 60**2)).astype(np.float32)
    moved = cv2.remap(rgb, x - push, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    assert compare(stored(rgb), query(moved, "JPEG", quality=90)).verdict == "different"


def test_two_views_of_one_scene_are_not_copies() -> None:
    """Each shows a strip that the other does not: a camera that moved, not a crop."""
    rgb = scene()
    verdict = compare(stored(rgb[:, :-24]), query(np.ascontiguousarray(rgb[:, 24:])))
    assert (verdict.verdict, verdict.reason) == ("unsure", "CONTENT_OUTSIDE")


def test_a_crop_that_lost_a_line_of_text_is_not_a_copy() -> None:
    """The stored answer may be in the line that is gone."""
    rgb = page()
    verdict = compare(stored(rgb), query(np.ascontiguousarray(rgb[64:])))
    assert (verdict.verdict, verdict.reason) == ("unsure", "CONTENT_OUTSIDE")


def test_a_page_that_shows_a_line_more_is_not_a_copy() -> None:
    """What was stored has not seen that line."""
    rgb = page()
    assert compare(stored(np.ascontiguousarray(rgb[64:])), query(rgb)).verdict == "unsure"


def test_half_a_photo_is_not_a_copy() -> None:
    """Trimming an edge is a copy; cutting off what the question may be about is not, in either direction."""
    rgb = scene()
    half = np.ascontiguousarray(rgb[:, :400])
    for verdict in (compare(stored(rgb), query(half)), compare(stored(half), query(rgb))):
        assert (verdict.verdict, verdict.reason) == ("unsure", "CONTENT_OUTSIDE")


def test_a_screenshot_frame_may_hold_text_of_its_own() -> None:
    """An edge all around tells a frame from a larger page."""
    assert compare(stored(page()), query(framed(page()), "JPEG", quality=85)).verdict == "same"


def test_another_image_is_different() -> None:
    """Nothing to lay one over the other."""
    verdict = compare(stored(scene(5)), query(scene(6)))
    assert (verdict.verdict, verdict.reason) in {("different", "NOT_REGISTERED"), ("unsure", "POORLY_ALIGNED")}


def test_text_too_small_to_tell_its_digits_apart_is_unsure() -> None:
    """An honest "can't tell" is a miss, never a guess."""
    tiny = resized(page(), 0.3)
    verdict = compare(stored(page()), query(tiny))
    assert verdict.verdict != "same"


def test_the_verdict_does_not_depend_on_chance() -> None:
    """RANSAC draws from a seeded generator: the same pair, the same numbers."""
    a, b = stored(page()), query(page(), "JPEG", quality=70)
    first, second = compare(a, b), compare(a, b)
    assert (first.score, first.reason) == (second.score, second.reason)


@pytest.mark.parametrize("rgb", [np.full((200, 300, 3), 255, np.uint8), np.zeros((16, 3200, 3), np.uint8)])
def test_a_picture_with_nothing_on_it_is_never_believed(rgb: Rgb) -> None:
    """Nothing to register by: not a copy, and no crash."""
    assert compare(stored(rgb), query(rgb)).verdict != "same"


def test_tighter_limits_accept_no_more() -> None:
    """Limits only tighten: what a looser one refuses, a tighter one refuses too."""
    evidence = measure(stored(page()), query(page(), "JPEG", quality=50))
    assert judge(evidence)[0] == "same"
    assert judge(evidence, Limits(shape=0.01))[0] == "different"


def test_the_thumbnail_is_a_small_webp() -> None:
    """Reports show the fingerprint, since the image is not kept."""
    small = thumbnail(stored(page()), side=128)
    image = cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR)
    assert small[8:12] == b"WEBP"
    assert max(image.shape[:2]) == 128
