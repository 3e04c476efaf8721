"""Copies are accepted, whatever a codec or a phone did to them; a look-alike never is, however small its difference."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from dedup_service.image.lookalike import Limits, compare, judge, measure, thumbnail
from tests.dedup_service.image.pages import Rgb, page, query, scene, stored


def resized(rgb: Rgb, scale: float) -> Rgb:
    return np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


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


def test_a_frame_of_plain_furniture_is_forgiven() -> None:
    """Bars and buttons around a copy say nothing that could bear on an answer."""
    rgb = page()
    frame = np.full((rgb.shape[0] + 90, rgb.shape[1] + 40, 3), 30, np.uint8)
    frame[60:-30, 20:-20] = rgb
    for n in range(3):
        cv2.circle(frame, (40 + 40 * n, 28), 11, (200, 90, 60), -1, cv2.LINE_AA)
    cv2.rectangle(frame, (500, 18), (640, 42), (120, 120, 120), -1)
    assert compare(stored(rgb), query(frame, "JPEG", quality=85)).verdict == "same"


def with_strip(rgb: Rgb, word: str, height: int, ground: int, *, above: bool = False) -> Rgb:
    """The image with a strip of one colour and a word in it below or above."""
    strip = np.full((height, rgb.shape[1], 3), ground, np.uint8)
    ink = (235, 235, 235) if ground < 128 else (25, 25, 25)
    cv2.putText(strip, word, (60, height - height // 3), cv2.FONT_HERSHEY_SIMPLEX, height / 60, ink, 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.vstack([strip, rgb] if above else [rgb, strip]))


@pytest.mark.parametrize("word", ["VOID", "CANCELLED - DO NOT PAY", "12:30   84%"])
@pytest.mark.parametrize(("height", "ground", "above"), [(30, 255, False), (60, 30, True), (90, 200, False)])
def test_writing_outside_the_overlap_is_never_forgiven(word: str, height: int, ground: int, above: bool) -> None:
    """A line on a strip beside a copy may change what it means, whatever the strip looks like, and on either image."""
    rgb, longer = page(), with_strip(page(), word, height, ground, above=above)
    for verdict in (compare(stored(rgb), query(longer, "JPEG", quality=85)), compare(stored(longer), query(rgb))):
        assert verdict.verdict != "same"


def with_status_bar(rgb: Rgb, text: str, right: str = "") -> Rgb:
    """A screenshot of a page: a bar with a text, a few words more at the right, and a battery."""
    bar = Image.new("RGB", (rgb.shape[1], 38), (245, 245, 245))
    draw = ImageDraw.Draw(bar)
    draw.text((24, 4), text, fill=(20, 20, 20), font=ImageFont.load_default(20))
    draw.text((rgb.shape[1] - 130, 4), right, fill=(20, 20, 20), font=ImageFont.load_default(20))
    draw.rounded_rectangle((rgb.shape[1] - 60, 10, rgb.shape[1] - 30, 24), 3, fill=(20, 20, 20))
    return np.vstack([np.asarray(bar), rgb])


@pytest.mark.parametrize(
    ("text", "right", "same"),
    [
        ("9:41", "", True),
        ("23:07", "LTE", True),
        ("VOID", "", False),
        ("9:41", "VOID COPY", False),
        ("9:41 CANCELLED", "", False),
        ("93.41", "", False),
        ("1:100", "", False),
    ],
)
def test_the_clock_of_a_screenshot_is_furniture_and_words_beside_it_are_not(text: str, right: str, same: bool) -> None:
    """Hours and minutes at the top of a screen say nothing about the page below; a word may."""
    screen = with_status_bar(page(), text, right)
    assert (compare(stored(page()), query(screen, "PNG")).verdict == "same") is same


def test_a_bubble_beside_a_copy_is_never_forgiven() -> None:
    """Its outline is furniture; what is written in it is not."""
    rgb = page()
    chat = np.full((rgb.shape[0] + 220, rgb.shape[1] + 80, 3), (235, 229, 221), np.uint8)
    chat[30 : 30 + rgb.shape[0], 40:-40] = rgb
    cv2.rectangle(chat, (60, rgb.shape[0] + 70), (420, rgb.shape[0] + 150), (220, 248, 198), -1)
    assert compare(stored(rgb), query(chat)).verdict == "same"
    at = (80, rgb.shape[0] + 120)
    cv2.putText(chat, "total is 15.00", at, cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2, cv2.LINE_AA)
    verdict = compare(stored(rgb), query(chat))
    assert (verdict.verdict, verdict.reason) == ("unsure", "CONTENT_OUTSIDE")


def test_a_second_page_beside_the_first_is_never_forgiven() -> None:
    """Nobody has looked at it yet."""
    both = np.ascontiguousarray(np.hstack([page(), page(seed=9)]))
    assert compare(stored(page()), query(both)).verdict != "same"


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_turn_that_nothing_readable_fixes_is_unsure(turn: int) -> None:
    """An arrow up is not an arrow down, and a scene without text may stand on its head."""
    arrow = np.full((256, 256, 3), 255, np.uint8)
    cv2.arrowedLine(arrow, (128, 220), (128, 40), (30, 90, 200), 24, cv2.LINE_AA, tipLength=0.4)
    six = np.full((200, 200, 3), 255, np.uint8)
    cv2.putText(six, "6", (60, 150), cv2.FONT_HERSHEY_SIMPLEX, 5, (20, 20, 20), 14, cv2.LINE_AA)
    for rgb in (arrow, six, scene()):
        turned = np.ascontiguousarray(np.rot90(rgb, turn))
        assert compare(stored(rgb), query(turned, "JPEG", quality=90)).verdict != "same"


def printed(change: str = "", *, size: float = 0.7) -> Rgb:
    """A page of dense figures; `change` is one small stroke in the middle of it."""
    paper = np.full((420, 640, 3), 252, np.uint8)
    rng = np.random.default_rng(4)
    for line in range(12):
        row = "  ".join(f"{rng.integers(10, 99)},{rng.integers(100, 999)}" for _ in range(5))
        cv2.putText(paper, row, (20, 34 + 33 * line), cv2.FONT_HERSHEY_SIMPLEX, size, (20,) * 3, 2, cv2.LINE_AA)
    at = (302, 204)
    if change == "dot":
        cv2.circle(paper, at, 2, (20, 20, 20), -1, cv2.LINE_AA)
    elif change == "comma":
        cv2.circle(paper, at, 2, (20, 20, 20), -1, cv2.LINE_AA)
        cv2.line(paper, at, (at[0] - 2, at[1] + 5), (20, 20, 20), 2, cv2.LINE_AA)
    elif change == "bar":
        cv2.line(paper, (at[0] - 4, at[1] - 6), (at[0] + 4, at[1] - 6), (20, 20, 20), 2, cv2.LINE_AA)
    return paper


@pytest.mark.parametrize(("one", "other"), [("", "dot"), ("dot", "comma"), ("", "bar"), ("dot", "")])
@pytest.mark.parametrize("quality", [95, 70])
def test_one_small_stroke_beside_dense_print_is_found(one: str, other: str, quality: int) -> None:
    """53,819 is not 53.819: ink near by hides no stroke, and noise is no stroke."""
    first = stored(printed(one))
    assert compare(first, query(printed(one), "JPEG", quality=quality)).verdict == "same"
    assert compare(first, query(printed(other), "JPEG", quality=quality)).verdict == "different"


def test_a_stored_thumbnail_vouches_for_no_page() -> None:
    """The coarser image sets what may be claimed: a full page with another digit looks like its thumbnail."""
    for full in (page(changed=True), page()):
        for scale in (0.18, 0.25, 0.35):
            small = resized(page(), scale)
            assert compare(stored(small), query(full)).verdict != "same"
            assert compare(stored(full), query(small)).verdict != "same"


@pytest.mark.parametrize("ink", [239, 246, 250])
def test_print_that_hardly_differs_from_its_paper_is_unsure(ink: int) -> None:
    """The stored rendering may not hold it at all."""
    verdict = compare(stored(page(ink=ink)), query(page(changed=True, ink=ink)))
    assert verdict.verdict != "same"


def photographed(rgb: Rgb, *, beside: str = "", taper: float = 0.06) -> Rgb:
    """A page on a desk, seen from a little aside, in uneven light; `beside` is written on the desk."""
    height, width = rgb.shape[:2]
    rng = np.random.default_rng(2)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    side = taper * width
    lies = np.array([[side + 70, 80], [width + 40, 95], [width + 80, height + 60], [60, height + 40]], np.float32)
    size = (width + 150, height + 240)
    matrix = cv2.getPerspectiveTransform(corners, lies)
    desk = np.clip(110 + cv2.GaussianBlur(rng.normal(0, 40, (size[1], size[0])), (0, 0), 2)[:, :, None], 0, 255)
    photo = np.repeat(desk, 3, axis=2).astype(np.uint8)
    cv2.putText(photo, beside, (60, size[1] - 40), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (20,) * 3, 2, cv2.LINE_AA)
    page_there = cv2.warpPerspective(np.full((height, width), 1.0, np.float32), matrix, size)[:, :, None]
    laid = cv2.warpPerspective(rgb, matrix, size, flags=cv2.INTER_CUBIC).astype(np.float32)
    lit = (laid * page_there + photo * (1 - page_there)) * np.linspace(0.75, 1.0, size[0])[None, :, None]
    return np.clip(cv2.GaussianBlur(lit, (0, 0), 0.5) + rng.normal(0, 2, lit.shape), 0, 255).astype(np.uint8)


def test_a_photo_of_a_page_is_a_copy_of_it() -> None:
    """Perspective, slow changes of light, and an empty desk around it are what a phone adds."""
    verdict = compare(stored(page()), query(photographed(page()), "JPEG", quality=85))
    assert (verdict.verdict, verdict.comparison) == ("same", "PHOTO")


@pytest.mark.parametrize(
    ("changed", "beside", "mirrored"), [(True, "", False), (False, "cancelled, do not pay", False), (False, "", True)]
)
def test_a_photo_of_another_page_is_no_copy(changed: bool, beside: str, mirrored: bool) -> None:
    """Another digit, something written beside the page, a page seen in a mirror."""
    photo = photographed(page(changed=changed), beside=beside)
    photo = np.ascontiguousarray(photo[:, ::-1]) if mirrored else photo
    assert compare(stored(page()), query(photo, "JPEG", quality=85)).verdict != "same"


def marked(change: int, *, pale: int = 238) -> Rgb:
    """A page with pale print between its lines, readable though faint; `change` is its number."""
    rgb = page()
    for line in range(6):
        text = f"terms and conditions {line * 111 + (change if line == 3 else 0)} apply"
        cv2.putText(rgb, text, (330, 57 + 68 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (pale,) * 3, 1, cv2.LINE_AA)
    return rgb


@pytest.mark.parametrize("pale", [228, 234])
def test_faint_print_is_compared_where_it_can_be_seen(pale: int) -> None:
    """Pale print that differs is never taken for the same; on equal pages it may be."""
    first = stored(marked(0, pale=pale))
    assert compare(first, query(marked(5, pale=pale), "JPEG", quality=92)).verdict != "same"


@pytest.mark.parametrize("strength", [12, 20])
def test_a_pale_watermark_on_the_ground_is_found(strength: int) -> None:
    """Ground that one shows even and the other does not is a difference of few levels."""
    watermarked = page().astype(int)
    layer = np.zeros(watermarked.shape[:2], np.uint8)
    cv2.putText(layer, "VOID", (60, 380), cv2.FONT_HERSHEY_SIMPLEX, 7.0, 255, 34, cv2.LINE_AA)
    watermarked -= (strength * (layer > 127))[:, :, None]
    other = np.clip(watermarked, 0, 255).astype(np.uint8)
    assert compare(stored(page()), query(other, "JPEG", quality=85)).verdict != "same"
    assert compare(stored(other), query(page(), "JPEG", quality=85)).verdict != "same"


@pytest.mark.parametrize("angle", [-1.8, 0.7, 1.3])
def test_a_page_turned_by_a_scanner_is_a_copy(angle: float) -> None:
    """Resampling softens print; that is no change of tone, and no stroke is lost to a curve that would undo it."""
    rgb = page()
    for row in range(60, 500, 34):
        cv2.line(rgb, (30, row), (610, row), (210,) * 3, 1)
    matrix = cv2.getRotationMatrix2D((320, 260), angle, 1.0)
    turned = cv2.warpAffine(rgb, matrix, (640, 520), flags=cv2.INTER_CUBIC, borderValue=(250,) * 3)
    verdict = compare(stored(rgb), query(np.asarray(turned), "JPEG", quality=88))
    assert (verdict.verdict, verdict.reason) == ("same", "COPY")


def test_files_that_hide_content_are_unsure() -> None:
    """White ink on a clear ground was not compared."""
    hidden = replace(query(page()), hidden=True)
    for verdict in (compare(stored(page()), hidden), compare(hidden, query(page()))):
        assert (verdict.verdict, verdict.reason) == ("unsure", "HIDDEN_CONTENT")


def test_the_verdict_says_what_was_compared() -> None:
    """Kinds of comparison err differently often, so each is named."""
    border = cv2.copyMakeBorder(page(), 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    turned = np.ascontiguousarray(np.rot90(page()))
    for expected, image, other in (
        ("PAGE", page(), page()),
        ("PICTURE", scene(), scene()),
        ("FRAMED", page(), border),
        ("TURNED", page(), turned),
        ("NONE", scene(5), scene(6)),
    ):
        assert compare(stored(image), query(other, "JPEG", quality=90)).comparison in {expected, "SMALL_TEXT"} - (
            {"SMALL_TEXT"} if expected != "PAGE" else set()
        )


def icon(side: int, *, down: bool = False, dot: bool = False, ink: tuple[int, int, int] = (30, 60, 160)) -> Rgb:
    """An arrow of `side` pixels; `dot` adds the small mark that tells of news."""
    large = np.full((256, 256, 3), 250, np.uint8)
    cv2.arrowedLine(large, (128, 220), (128, 36), ink, 30, cv2.LINE_AA, tipLength=0.4)
    if dot:
        cv2.circle(large, (212, 44), 26, (220, 40, 40), -1, cv2.LINE_AA)
    large = large[::-1] if down else large
    return np.asarray(cv2.resize(np.ascontiguousarray(large), (side, side), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("side", [20, 32, 64])
def test_an_icon_is_laid_frame_on_frame(side: int) -> None:
    """Too small to be registered: a copy hardly differs anywhere, and any mark or colour more is a difference."""
    first = stored(icon(side))
    verdict = compare(first, query(icon(side), "JPEG", quality=85))
    assert (verdict.verdict, verdict.comparison) == ("same", "ICON")
    for other in (
        icon(side, down=True),
        icon(side, dot=True),
        icon(side, ink=(160, 60, 30)),
        icon(side, ink=(120,) * 3),
    ):
        assert compare(first, query(other)).verdict != "same"


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
