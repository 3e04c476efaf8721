"""What does each image show that the other does not?"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.legibility import characters

# Uncovered shares up to this are rounding at the edges.
_EDGE = 0.012
# A crop may take this share of the width or height from one side; more is a part of the image, not a copy.
_CROP = 0.065
# A strip is plain when its grey levels span no more than this (1st to 99th percentile).
_PLAIN = 20.0
# A turn of this many degrees beyond quarter turns leaves empty corners.
_TILT = 0.15
# The frame of a screenshot is known by a step of at least this many grey levels along the image's edge.
_SEAM = 6.0
# Pixels on either side of that edge at which the step is taken: clear of what a codec smears.
_REACH = 4


@dataclass(frozen=True, slots=True)
class Margins:
    """What lies outside the area that both images show.

    Attributes:
        of_stored: share of the stored image that the query shows, 0..1.
        of_query: share of the query that the stored image shows, 0..1.
        stored_characters: characters of the stored image that the query does not show.
        query_characters: characters of the query outside the stored image, those in a frame around it not counted.
        lost_content: something that is not plain lies outside: on both sides (two views of one thing), or in a strip
            too wide for the trimming of an edge (one is a part of the other).
    """

    of_stored: float
    of_query: float
    stored_characters: int
    query_characters: int
    lost_content: bool


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
        return Margins(1.0, 1.0, 0, 0, False)
    shown = _covered(query.shape, np.linalg.inv(matrix), stored.shape)
    known = _covered(stored.shape, matrix, query.shape)
    of_stored, of_query = float(shown.mean()), float(known.mean())
    if not shown.any() or not known.any():
        return Margins(of_stored, of_query, 0, 0, True)
    lost = _outside(characters(stored), shown) if of_stored < 1 - _EDGE / 2 else 0
    framed = of_stored > 1 - _EDGE and _framed(query, known)
    extra = _outside(characters(query), known) if of_query < 1 - _EDGE / 2 and not framed else 0
    stored_plain, query_plain = _plain(colours[0], ~shown), _plain(colours[1], ~known)
    two_views = of_stored < 1 - _EDGE and of_query < 1 - _EDGE and not _spare(stored_plain, query_plain, matrix)
    a_part = _cut(shown) > _CROP and not stored_plain
    part_of = _cut(known) > _CROP and not query_plain and not framed
    return Margins(of_stored, of_query, lost, extra, two_views or a_part or part_of)


def _cut(covered: NDArray[np.bool_]) -> float:
    """The largest share of its height or width that a side of the image lost, 0..1."""
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    height, width = covered.shape
    return float(max(rows[0] / height, 1 - (rows[-1] + 1) / height, columns[0] / width, 1 - (columns[-1] + 1) / width))


def _anything(stored: tuple[int, ...], query: tuple[int, ...], matrix: NDArray[np.floating[Any]]) -> bool:
    """Whether the corners of the two differ by more than rounding."""
    height, width = stored[:2]
    corners = np.array(
        [[-0.5, -0.5, 1], [width - 0.5, -0.5, 1], [-0.5, height - 0.5, 1], [width - 0.5, height - 0.5, 1]]
    )
    at = (corners @ matrix.T)[:, :2] + 0.5
    size = np.array([query[1], query[0]])
    off = np.minimum(np.abs(at), np.abs(at - size)) / size
    return bool(off.max() > _EDGE / 4)


def _covered(shape: tuple[int, ...], matrix: NDArray[np.floating[Any]], frame: tuple[int, ...]) -> NDArray[np.bool_]:
    full = np.full(shape[:2], 255, np.uint8)
    size = (frame[1], frame[0])
    return np.asarray(cv2.warpAffine(full, matrix[:2], size, flags=cv2.INTER_LINEAR, borderValue=0)) > 127


def _outside(boxes: NDArray[np.int32], covered: NDArray[np.bool_]) -> int:
    if len(boxes) == 0:
        return 0
    x = np.clip(boxes[:, 0] + boxes[:, 2] // 2, 0, covered.shape[1] - 1)
    y = np.clip(boxes[:, 1] + boxes[:, 3] // 2, 0, covered.shape[0] - 1)
    return int((~covered[y, x]).sum())


def _spare(stored_plain: bool, query_plain: bool, matrix: NDArray[np.floating[Any]]) -> bool:
    """Whether what either lacks is paper or filling: on both sides, or on one where a tilt explains it."""
    tilt = abs((np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])) + 45) % 90 - 45)
    return (stored_plain or query_plain) if tilt > _TILT else (stored_plain and query_plain)


def _plain(rgb: NDArray[np.uint8], where: NDArray[np.bool_]) -> bool:
    # Pixels at the seam itself mix both sides.
    inner = cv2.erode(where.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0
    values = rgb[inner if inner.sum() > 50 else where]
    if len(values) == 0:
        return True
    low, high = np.percentile(values, (1, 99), axis=0)
    return bool((high - low).max() <= _PLAIN)


def _framed(query: NDArray[np.uint8], known: NDArray[np.bool_]) -> bool:
    """Whether every side of the known area that has something beyond it shows an edge all along.

    The step across the side is held against the step between two lines as far apart inside the image: a photo that just
    goes on has steps everywhere.
    """
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    area = query[:, left:right].astype(np.int16), query[top:bottom].T.astype(np.int16)
    found = False
    for lines, first, last in ((area[0], top, bottom), (area[1], left, right)):
        for seam, inward, room in ((first, 1, first), (last - 1, -1, len(lines) - last)):
            if room <= 2 * _REACH:
                continue
            if last - first < 4 * _REACH:
                return False
            beyond, within, deeper = (lines[seam + inward * step] for step in (-_REACH, _REACH, 3 * _REACH))
            step = float(np.median(np.abs(beyond - within)))
            if step < max(_SEAM, 2 * float(np.median(np.abs(within - deeper)))):
                return False
            found = True
    return found
