"""What does each image show that the other does not?"""

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.legibility import characters

# Uncovered strips up to this share of the side, or this many pixels, are rounding at the edges.
_EDGE = 0.004
_EDGE_PIXELS = 2
# A crop may take this share of the width or height from one side; more is a part of the image, not a copy.
_CROP = 0.065
# A strip has a plain ground when this share of it is within `_GROUND` grey levels of its median colour.
_PLAIN_SHARE = 0.55
# A ground with more grain (median distance from its colour) is a texture.
_GRAIN = 8.0
# A narrow strip with so much ground is paper or a bar, where every mark counts; with less it may be the edge of a
# photo, where so many marks of like height on one level are letters.
_PAPER_SHARE = 0.85
_WORD = 3
# Letters stand closer than this, in their heights; buttons do not.
_LETTER_GAP = 0.5
_GROUND = 16.0
# A device's status bar takes at most this share of the height and shows so many signs beside its clock.
_STATUS = 0.08
_SIGNS = 10
# Pixels next to the seam of a strip that a codec smears, in a broad one and in a narrow one.
_SMEAR = (8, 3)
# A mark is furniture when its outline fills this share of its convex hull and it is at least so many pixels large: a
# button, a dot, a bar. Letters are hollow or have bays.
_CONVEX = 0.87
_BUTTON = 7
# What may be lost with a strip on the left or right of at most this share of the width: dust, the ends of rules. Lines
# of text lie above or below.
_SLIVER = 0.025
_DUST = 5
# Beside the page in a photo at most this share may be edges, where levels differ by so many within so few pixels; not
# counted are so many pixels next to the page, where its shadow lies.
_RESTLESS = 0.0003
_STANDS_OUT = 80
_AROUND = np.ones((5, 5), np.uint8)
_SHADOW = 12
# A turn of this many degrees beyond quarter turns leaves empty corners.
_TILT = 0.15


@dataclass(frozen=True, slots=True)
class Strips:
    """What one image shows outside the area that both show.

    Attributes:
        share: the broadest strip, as a share of the image's height or width, 0..1.
        plain: whether every strip has a plain ground.
        marks: what stands on the plain grounds and is no furniture: letters, digits, signs.
        characters: characters in lines on the grounds that are not plain.
        dust: marks on slivers to the left and right.
    """

    share: float = 0.0
    plain: bool = True
    marks: int = 0
    characters: int = 0
    dust: int = 0

    @property
    def written(self) -> int:
        """Text-like structures."""
        return self.marks + self.characters


NOTHING = Strips()


@dataclass(frozen=True, slots=True)
class Margins:
    """What lies outside the area that both images show.

    Attributes:
        of_stored: share of the stored image that the query shows, 0..1.
        of_query: share of the query that the stored image shows, 0..1.
        stored: what the stored image shows and the query does not.
        query: what the query shows and the stored image does not.
        tilted: whether the one was turned by a small angle, which leaves corners to be filled.
        photo: whether the query is a photo of the page, with what it lies on.
    """

    of_stored: float = 1.0
    of_query: float = 1.0
    stored: Strips = NOTHING
    query: Strips = NOTHING
    tilted: bool = False
    photo: bool = False

    @property
    def content_lost(self) -> bool:
        """Whether something that may bear on an answer is shown by one image only.

        Nothing that looks like writing is forgiven, whatever frames it. Texture is the trimmed edge of a photo where
        it is narrow and on one side only; two views of one thing have it on both.
        """
        if self.query.written or self.stored.written or max(self.query.dust, self.stored.dust) > _DUST:
            return True
        if self.photo:
            return not self.query.plain
        broad = any(strips.share > _CROP and not strips.plain for strips in (self.stored, self.query))
        textured = (not self.stored.plain) + (not self.query.plain)
        both = self.stored.share > 0 and self.query.share > 0
        return broad or (both and textured > (1 if self.tilted else 0))


def margins(
    matrix: NDArray[np.floating[Any]],
    stored: NDArray[np.uint8],
    query: NDArray[np.uint8],
    colours: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> Margins:
    """Measure the margins.

    Args:
        matrix: 3 x 3, stored pixel coordinates to the query's.
        stored, query: (H, W) uint8 grey.
        colours: (H, W, 3) uint8 of the two.
    """
    if not _anything(stored.shape, query.shape, matrix):
        return Margins()
    shown = _covered(query.shape, np.linalg.inv(matrix), stored.shape)
    known = _covered(stored.shape, matrix, query.shape)
    of_stored, of_query = float(shown.mean()), float(known.mean())
    if not shown.any() or not known.any():
        nothing = Strips(1.0, False)
        return Margins(of_stored, of_query, nothing, nothing)
    tilt = abs((np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])) + 45) % 90 - 45)
    return Margins(
        of_stored, of_query, strips(colours[0], stored, shown), strips(colours[1], query, known), bool(tilt > _TILT)
    )


def strips(rgb: NDArray[np.uint8], grey: NDArray[np.uint8], covered: NDArray[np.bool_]) -> Strips:
    """What an image shows outside what is `covered`: the strips on its four sides, and the corners a tilt leaves."""
    height, width = covered.shape
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    everything, middle = slice(0, None), slice(top, bottom)
    found = [
        (top, height, False, (slice(0, top), everything)),
        (height - bottom, height, False, (slice(bottom, None), everything)),
        (left, width, True, (middle, slice(0, left))),
        (width - right, width, True, (middle, slice(right, None))),
    ]
    share, plain, marks, letters, dust = 0.0, True, 0, 0, 0
    boxes: NDArray[np.int32] | None = None
    for thickness, side, beside, area in found:
        if thickness <= max(_EDGE_PIXELS, _EDGE * side):
            continue
        share = max(share, thickness / side)
        smear = _SMEAR[0] if thickness > 4 * _SMEAR[0] else _SMEAR[1]
        clear = _away_from(covered, smear)[area]
        status = area[0].start == 0 and not beside and thickness <= _STATUS * side
        on_ground = _marks(rgb[area], clear, narrow=thickness <= _CROP * side, status=status)
        if on_ground is None:
            plain = False
            boxes = characters(grey) if boxes is None else boxes
            letters += _inside(boxes, area, covered.shape)
        elif beside and thickness <= _SLIVER * side:
            dust += on_ground
        else:
            marks += on_ground
    inner = covered[top:bottom, left:right]
    if (~inner).mean() > 2 * _EDGE:  # a tilt's corners
        area = (slice(top, bottom), slice(left, right))
        on_ground = _marks(rgb[area], _away_from(covered, _SMEAR[1])[area])
        share = max(share, _EDGE)
        plain = plain and on_ground is not None
        marks += on_ground or 0
    return Strips(share, plain, marks, letters, dust)


def beside(grey: NDArray[np.uint8], page: NDArray[np.bool_]) -> Strips:
    """What a photo shows beside the page in it: a desk is calm, and nothing lies or is written on it.

    Args:
        grey: (H, W) uint8.
        page: (H, W) bool: where the page lies.
    """
    clear = _away_from(page, _SHADOW)
    if clear.mean() < 2 * _EDGE:
        return NOTHING
    boxes = characters(grey)
    letters = 0
    if len(boxes):
        letters = int(clear[boxes[:, 1] + boxes[:, 3] // 2, boxes[:, 0] + boxes[:, 2] // 2].sum())
    calm = cv2.GaussianBlur(grey, (3, 3), 0)
    edges = cv2.subtract(cv2.dilate(calm, _AROUND), cv2.erode(calm, _AROUND)) > _STANDS_OUT
    return Strips(float(1 - page.mean()), float(edges[clear].mean()) < _RESTLESS, 0, letters)


def _away_from(covered: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    reach = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    far: NDArray[np.bool_] = np.asarray(cv2.dilate(covered.astype(np.uint8), reach)) == 0
    return far


def _marks(
    rgb: NDArray[np.uint8], clear: NDArray[np.bool_], *, narrow: bool = False, status: bool = False
) -> int | None:
    """How many marks that are no furniture stand on the plain ground of a strip; None when its ground is not plain.

    A strip at the top that may be a device's `status` bar shows a clock, signs and no words.
    """
    if clear.sum() < 20:
        return 0
    values = rgb[clear].astype(np.int16)
    ground = np.median(values, axis=0)
    off = np.abs(values - ground).max(axis=1)
    grain = float(np.median(off))
    limit = max(_GROUND, 5 * grain)
    plain = float((off <= limit).mean())
    if grain > _GRAIN or plain < _PLAIN_SHARE:
        return None
    far = np.zeros(clear.shape, np.uint8)
    far[clear] = np.where(off > limit, 255, 0)
    outlines, _ = cv2.findContours(far, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if status and _status_bar([cv2.boundingRect(outline) for outline in outlines], clear.shape[-1]):
        return 0
    solid = [outline for outline in outlines if not _speck(outline)]
    word = _in_a_row([cv2.boundingRect(outline) for outline in solid])
    if narrow and plain < _PAPER_SHARE:
        return word
    return max(word, sum(_written_in(one, rgb) if _button(one) else _letters(one) for one in solid))


def _status_bar(boxes: list[Any], width: int) -> bool:
    """Whether marks on a strip are a clock, which is one or two digits, a colon and two digits that stand alone, and
    besides it a few signs to the left or right that are no words."""
    for one, other in combinations(sorted(boxes, key=lambda box: box[1]), 2):
        clock = _clock(one, other, boxes)
        if clock is None:
            continue
        rest = [box for box in boxes if box not in clock]
        tallest = max(box[3] for box in clock)
        aside = all(x + w < 0.35 * width or x > 0.6 * width for x, _, w, _ in rest)
        signs = [box for box in rest if max(box[2:]) >= 4]
        return (
            aside
            and len(signs) <= _SIGNS
            and all(box[3] <= 1.7 * tallest and box[2] <= 4 * tallest for box in rest)
            and _in_a_row(signs) <= _WORD
        )
    return False


def _clock(high: Any, low: Any, boxes: list[Any]) -> list[Any] | None:
    """The marks of a clock whose colon is made of two dots; None where these are none."""
    (x, y, w, h), (_, bottom, _, _) = high, low
    gap = bottom - y
    dots = max(w, h, *low[2:]) <= max(3, 0.75 * gap) and abs(2 * x + w - 2 * low[0] - low[2]) <= max(2, w)
    if not dots or gap < 3:
        return None
    digits = sorted(
        box
        for box in boxes
        if 1.3 * gap <= box[3] <= 4.5 * gap and box[2] <= box[3] and box[1] <= y + 1 and box[1] + box[3] >= bottom
    )
    tall = max((box[3] for box in digits), default=0)
    left = _close_by([box for box in reversed(digits) if box[0] + box[2] <= x + 1], x, tall, reverse=True)
    right = _close_by([box for box in digits if box[0] >= x + w - 1], x + w, tall, reverse=False)
    return [high, low, *left, *right] if len(left) in (1, 2) and len(right) == 2 else None


def _close_by(digits: list[Any], edge: int, tall: int, *, reverse: bool) -> list[Any]:
    """The digits that follow one another from an edge on, nearest first."""
    found = []
    for box in digits:
        if (edge - box[0] - box[2] if reverse else box[0] - edge) > _LETTER_GAP * tall:
            break
        found.append(box)
        edge = box[0] if reverse else box[0] + box[2]
    return found


def _letters(outline: NDArray[Any]) -> int:
    """How many characters a mark may be: those of a small word run together."""
    _, _, width, height = cv2.boundingRect(outline)
    return max(1, round(max(width, height) / min(width, height)))


def _in_a_row(boxes: list[Any]) -> int:
    """The most marks of like height that stand close together on one level; 0 when they are too few for a word."""
    most = 0
    for _, y, _, h in boxes:
        alike = sorted(
            (x, x + width)
            for x, top, width, height in boxes
            if h <= height <= 1.4 * h and abs(y + h - top - height) <= 0.2 * h + 1
        )
        run = 1
        for (_, end), (start, _) in pairwise(alike):
            run = run + 1 if start - end <= _LETTER_GAP * h else 1
            most = max(most, run)
    return most if most >= _WORD else 0


def _written_in(outline: NDArray[Any], rgb: NDArray[np.uint8]) -> int:
    """How many marks stand on a piece of furniture: the text of a bubble or a button."""
    left, top, width, height = cv2.boundingRect(outline)
    if min(width, height) < 2 * _BUTTON:
        return 0
    filled = np.zeros((height, width), np.uint8)
    cv2.drawContours(filled, [outline], -1, 255, cv2.FILLED, offset=(-left, -top))
    inner = np.asarray(cv2.erode(filled, np.ones((7, 7), np.uint8), borderValue=0)) > 0
    marks = _marks(rgb[top : top + height, left : left + width], inner)
    return 1 if marks is None else marks


def _speck(outline: NDArray[Any]) -> bool:
    """Whether a shape is dust or a line."""
    _, _, width, height = cv2.boundingRect(outline)
    least, most = min(width, height), max(width, height)
    return bool(most < 4 or least <= 2 or most > 9 * least)


def _button(outline: NDArray[Any]) -> bool:
    """Whether a shape is large and convex."""
    _, _, width, height = cv2.boundingRect(outline)
    # The outline runs through the centres of its pixels: half a pixel is added on each side.
    area = float(cv2.contourArea(outline)) + 0.5 * float(cv2.arcLength(outline, True)) + 1
    hull = cv2.convexHull(outline)
    whole = float(cv2.contourArea(hull)) + 0.5 * float(cv2.arcLength(hull, True)) + 1
    return min(width, height) >= _BUTTON and area >= _CONVEX * whole


def _inside(boxes: NDArray[np.int32], area: tuple[slice, slice], shape: tuple[int, ...]) -> int:
    if len(boxes) == 0:
        return 0
    there = np.zeros(shape, bool)
    there[area] = True
    return int(there[boxes[:, 1] + boxes[:, 3] // 2, boxes[:, 0] + boxes[:, 2] // 2].sum())


def _anything(stored: tuple[int, ...], query: tuple[int, ...], matrix: NDArray[np.floating[Any]]) -> bool:
    """Whether the corners of the two differ by more than rounding."""
    height, width = stored[:2]
    corners = np.array(
        [[-0.5, -0.5, 1], [width - 0.5, -0.5, 1], [-0.5, height - 0.5, 1], [width - 0.5, height - 0.5, 1]]
    )
    at = (corners @ matrix.T)[:, :2] + 0.5
    size = np.array([query[1], query[0]])
    off = np.minimum(np.abs(at), np.abs(at - size))
    return bool((off > np.maximum(_EDGE * size, _EDGE_PIXELS)).any())


def _covered(shape: tuple[int, ...], matrix: NDArray[np.floating[Any]], frame: tuple[int, ...]) -> NDArray[np.bool_]:
    full = np.full(shape[:2], 255, np.uint8)
    size = (frame[1], frame[0])
    return np.asarray(cv2.warpAffine(full, matrix[:2], size, flags=cv2.INTER_LINEAR, borderValue=0)) > 127
