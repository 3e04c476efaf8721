"""How tall is the text, and is there print that can hardly be seen? Decides what may be claimed about a page."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# A component is taken for a character by its shape, and only where it stands in a line: with at least this many
# neighbours of like height on the same level and, since blobs in a texture have no baseline, with the same foot.
_NEIGHBOURS = 3
_MAX_COMPONENTS = 2500
# A page is measured in so many rows and columns of cells: small print under a headline has cells of its own.
_CELLS = (8, 4)
_IN_CELL = 8
# The pixels before one in reading order that touch it; so many labels are safe in 16 bits.
_BEFORE = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], np.uint8)
_LABELS = 65_000
# Pieces of print up to this height are too small to be made out; so many in lines, each with so many others beside it,
# are text and not dust.
_TINY = 4
_TINY_NEIGHBOURS = 5
_TINY_PIECES = 14
# With fewer characters than this an image is looked at on its side as well.
_READABLE = 20
# Print of less contrast than this is faint; so many characters of it are print and not noise.
_FAINT = 30
_FAINT_CHARACTERS = 10

Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Text:
    """The text of one image.

    Attributes:
        height: pixels of its small characters; 0 when there is none, or none that can be made out.
        characters: how many were made out.
        unread: whether there are lines of print too small to be made out.
        faint: whether there is print that hardly differs from its ground.
    """

    height: float = 0.0
    characters: int = 0
    unread: bool = False
    faint: bool = False


NO_TEXT = Text()


def characters(grey: Grey) -> NDArray[np.int32]:
    """Boxes of what looks like characters in lines of text, dark on light or light on dark.

    Args:
        grey: (H, W) uint8.

    Returns:
        (N, 4) int32: x, y, width, height in pixels; of the polarity that shows more of them.
    """
    return max((_in_lines(_pieces(ink)) for ink in _inks(grey)), key=len)


def measure_text(grey: Grey) -> Text:
    """The text of an image: characters of one piece, and those of several (Chinese), which are closed first.

    A page that lies on its side is measured turned.
    """
    boxes, unread = _read(grey)
    shape = grey.shape
    if len(boxes) < _READABLE:
        lying = np.ascontiguousarray(np.rot90(grey))
        turned = _read(lying)
        if len(turned[0]) > len(boxes):
            (boxes, unread), shape = turned, lying.shape
    return Text(smallest(boxes, shape), len(boxes), unread, len(faint_characters(grey)) > 0)


def _read(grey: Grey) -> tuple[NDArray[np.int32], bool]:
    """Characters, and whether there is print too small to be made out."""
    inks = [(_in_lines(pieces), pieces, ink) for ink in _inks(grey) for pieces in (_pieces(ink),)]
    boxes, _, ink = max(inks, key=lambda one: len(one[0]))
    for side in (3, 5):
        closed = _in_lines(_pieces(cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))))
        if _area(closed) > 1.2 * _area(boxes):
            boxes = closed
    return boxes, max(_tiny(one) for _, one, _ in inks) >= _TINY_PIECES


def _tiny(pieces: NDArray[np.int32]) -> int:
    """How many small pieces stand in lines of their like."""
    _, _, w, h, area = pieces.T
    boxes = pieces[(h >= 2) & (h <= _TINY) & (w <= 3 * _TINY) & (area >= 3)]
    if len(boxes) < _TINY_PIECES or len(boxes) > _MAX_COMPONENTS:
        return 0
    boxes = boxes[np.argsort(boxes[:, 0] + boxes[:, 2] / 2)]
    x, y, w, h, _ = boxes.T.astype(np.float32)
    count = np.zeros(len(boxes), int)
    for step in range(1, min(60, len(boxes))):
        beside = (x + w / 2)[step:] - (x + w / 2)[:-step] < 4 * _TINY
        if not beside.any():
            break
        near = beside & (np.abs((y + h)[step:] - (y + h)[:-step]) <= 1)
        count[:-step] += near
        count[step:] += near
    return int((count >= _TINY_NEIGHBOURS).sum())


def smallest(boxes: NDArray[np.int32], shape: tuple[int, ...]) -> float:
    """The lower quartile of the heights of characters where they are smallest, pixels; 0 for fewer than 8."""
    if len(boxes) < 8:
        return 0.0
    least = float(np.percentile(boxes[:, 3], 25))
    row = boxes[:, 1] * _CELLS[0] // shape[0]
    column = boxes[:, 0] * _CELLS[1] // shape[1]
    cell = row * _CELLS[1] + column
    for one in np.unique(cell):
        heights = boxes[cell == one, 3]
        if len(heights) >= _IN_CELL:
            least = min(least, float(np.percentile(heights, 25)))
    return least


def _inks(grey: Grey) -> list[Grey]:
    kinds = ((cv2.THRESH_BINARY_INV, 12), (cv2.THRESH_BINARY, -12))
    return [
        np.asarray(cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, kind, 31, offset), dtype=np.uint8)
        for kind, offset in kinds
    ]


def _pieces(ink: np.ndarray) -> NDArray[np.int32]:
    # Labels of 16 bits take a third of the time. A label is taken where a piece begins in reading order.
    begun = cv2.countNonZero(cv2.subtract(ink, cv2.dilate(ink, _BEFORE, borderType=cv2.BORDER_CONSTANT, borderValue=0)))
    kind = cv2.CV_16U if begun < _LABELS else cv2.CV_32S
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8, ltype=kind)
    return np.asarray(stats[1:], dtype=np.int32)


def _area(boxes: NDArray[np.int32]) -> int:
    return int((boxes[:, 2] * boxes[:, 3]).sum())


def faint_characters(grey: Grey) -> NDArray[np.int32]:
    """Boxes (N, 4), as `characters` gives them, of print that stands out by more than the noise and by less than print
    does; empty for fewer than makes a line."""
    nothing = np.zeros((0, 4), np.int32)
    calm = np.asarray(cv2.GaussianBlur(grey, (3, 3), 0), dtype=np.uint8)
    near = np.ones((17, 17), np.uint8)
    span = np.asarray(cv2.subtract(cv2.dilate(grey, near), cv2.erode(grey, near)))
    weak = (span < _FAINT).view(np.uint8)
    if cv2.countNonZero(weak) < 0.01 * grey.size:
        return nothing
    noise = float(np.median(np.abs(cv2.Laplacian(grey, cv2.CV_16S)[::3, ::3][weak[::3, ::3] > 0])))
    offset = max(1.0, 1.5 * noise)
    for kind, sign in ((cv2.THRESH_BINARY_INV, 1), (cv2.THRESH_BINARY, -1)):
        ink = cv2.adaptiveThreshold(calm, 255, cv2.ADAPTIVE_THRESH_MEAN_C, kind, 31, sign * offset)
        pale = cv2.multiply(ink, weak)
        if cv2.countNonZero(pale) < 6 * _FAINT_CHARACTERS:
            continue
        boxes = _in_lines(_pieces(pale))
        if len(boxes) >= _FAINT_CHARACTERS:
            return boxes
    return nothing


def _in_lines(pieces: NDArray[np.int32]) -> NDArray[np.int32]:
    boxes = pieces
    _, _, w, h, area = boxes.T
    shaped = (h >= 4) & (h <= 80) & (w <= 2.5 * h) & (area >= 6) & (area >= 0.12 * w * h) & (area <= 0.85 * w * h + 4)
    boxes = boxes[shaped]
    if len(boxes) > _MAX_COMPONENTS:  # evenly spread, so that the answer does not depend on chance
        boxes = boxes[np.linspace(0, len(boxes) - 1, _MAX_COMPONENTS).astype(int)]
    if len(boxes) < 4:
        return np.zeros((0, 4), np.int32)
    boxes = boxes[np.argsort(boxes[:, 0] + boxes[:, 2] / 2)]
    x, y, w, h, _ = boxes.T.astype(np.float32)
    centre_x, centre_y = x + w / 2, y + h / 2
    bottom = y + h
    count = np.zeros(len(boxes), int)
    for step in range(1, min(40, len(boxes))):
        taller = np.maximum(h[step:], h[:-step])
        beside = centre_x[step:] - centre_x[:-step] < 3.2 * taller
        if not beside.any():
            break
        level = (np.abs(centre_y[step:] - centre_y[:-step]) < 0.45 * taller) & (
            np.abs(bottom[step:] - bottom[:-step]) < 0.15 * taller + 0.8
        )
        alike = np.minimum(h[step:], h[:-step]) > 0.62 * taller
        near = beside & level & alike
        count[:-step] += near
        count[step:] += near
    return np.asarray(boxes[count >= _NEIGHBOURS][:, :4], dtype=np.int32)
