"""Lays one image over another, to a fraction of a pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.picture import fit_within

Grey = NDArray[np.uint8]
Matrix = NDArray[np.floating[Any]]
Matches = tuple[NDArray[np.float32], NDArray[np.float32]] | None

# Features are looked for at this size: enough to register, half the time of the full rendering.
_FEATURE_SIDE = 800
# SIFT takes thirty times as long as ORB and is asked only where that found nothing: a smaller image does.
_SIFT_SIDE = 560
# What a copy may have been through: scaled by 1/8 to 8, unequally by a quarter, turned by a multiple of 90 degrees and
# a few degrees more. Never mirrored.
_SCALES = (0.12, 8.0)
_MAX_ANISOTROPY = 1.25
_MAX_TILT = 6.0
# A page in a photo: so many keypoints and cells agree on its perspective, it fills at most this share of the photo, and
# a side of it is at most so many times longer than the opposite one.
_AGREED = 24
_FILLS = 0.98
_MAX_TAPER = 1.35


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """The two images in one frame, that of the smaller (coarser) one.

    Attributes:
        matrix: 3 x 3, stored pixel coordinates (centres at integers) to the query's.
        stored_is_reference: whether the frame is the stored image's own.
        reference: (H, W) uint8, the image whose frame it is.
        moved: (H, W) uint8, the other one, warped.
        valid: (H, W) uint8, 255 where `moved` has content.
        to_reference: 3 x 3, coordinates of the moved image to the frame's.
        rms: root mean square distance of the fitted cells from the fit, pixels of the frame.
        cells: (N, 5) float32: x, y, dx, dy in the frame, correlation: where textured cells of `moved` are found in
            `reference` after the last fit.
    """

    matrix: Matrix
    stored_is_reference: bool
    reference: Grey
    moved: Grey
    valid: Grey
    to_reference: Matrix
    rms: float
    cells: NDArray[np.float32]


class Features:
    """Keypoints of one image, computed when first asked for."""

    def __init__(self, grey: Grey) -> None:
        self.grey = grey
        self._matched: dict[tuple[Features, str], Matches] = {}
        self._found: dict[str, tuple[NDArray[np.float32], np.ndarray | None]] = {}

    def orb(self) -> tuple[NDArray[np.float32], np.ndarray | None]:
        """(N, 2) positions in the full image and their binary descriptors."""
        if "orb" not in self._found:
            self._found["orb"] = self._detect(cv2.ORB.create(nfeatures=1200, fastThreshold=8), _FEATURE_SIDE)
        return self._found["orb"]

    def sift(self) -> tuple[NDArray[np.float32], np.ndarray | None]:
        """(N, 2) positions in the full image and their float descriptors."""
        if "sift" not in self._found:
            self._found["sift"] = self._detect(cv2.SIFT.create(nfeatures=1200, contrastThreshold=0.01), _SIFT_SIDE)
        return self._found["sift"]

    def matched(self, other: "Features", kind: str) -> Matches:
        """Positions of keypoints alike, (N, 2) in the other image and in this one; None where there are too few."""
        if (other, kind) not in self._matched:
            binary = kind == "orb"
            theirs, ours = (one.orb() if binary else one.sift() for one in (other, self))
            self._matched[other, kind] = _matches(theirs, ours, binary=binary)
        return self._matched[other, kind]

    def _detect(self, detector: cv2.Feature2D, side: int) -> tuple[NDArray[np.float32], np.ndarray | None]:
        small = fit_within(self.grey, side=side)
        points, described = detector.detectAndCompute(small, None)
        if not points:
            return np.zeros((0, 2), np.float32), None
        larger = np.array([self.grey.shape[1] / small.shape[1], self.grey.shape[0] / small.shape[0]])
        at = np.array([point.pt for point in points])
        return ((at + 0.5) * larger - 0.5).astype(np.float32), described


KEYPOINTS = ("orb", "sift")


def align(
    stored: Features, query: Features, guess: Matrix | None = None, points: Sequence[str] = KEYPOINTS
) -> Alignment | None:
    """The best alignment found, or None: first a guess, then the whole frames at four turns, then by keypoints.

    Args:
        stored, query: the two images.
        guess: 3 x 3, stored pixel coordinates to the query's, where a map is known from elsewhere.
    """
    best: Alignment | None = None
    if guess is not None and _plausible(guess):
        best = _refine(stored.grey, query.grey, guess)
        if trusted(best):
            return best
    for matrix in _whole_frames(stored.grey, query.grey):
        best = better(best, _refine(stored.grey, query.grey, matrix))
        if trusted(best):
            return best
    for kind in points:
        best = better(best, by_keypoints(stored, query, kind))
        if trusted(best):
            return best
    return best


def by_keypoints(stored: Features, query: Features, kind: str) -> Alignment | None:
    """The alignment on which keypoints of a `kind` agree."""
    matrix = _by_features(query.matched(stored, kind))
    return None if matrix is None else _refine(stored.grey, query.grey, matrix)


def trusted(alignment: Alignment | None) -> bool:
    """Whether most textured cells lie where the map says."""
    if alignment is None or len(alignment.cells) < 12 or alignment.rms > 0.4:
        return False
    return bool((np.hypot(alignment.cells[:, 2], alignment.cells[:, 3]) < 0.6).mean() > 0.7)


def better(a: Alignment | None, b: Alignment | None) -> Alignment | None:
    """The one on which more cells agree."""
    if a is None or b is None:
        return a or b

    def held(alignment: Alignment) -> float:
        return float((np.hypot(alignment.cells[:, 2], alignment.cells[:, 3]) < 0.6).sum())

    return a if held(a) >= held(b) else b


def _whole_frames(stored: Grey, query: Grey) -> list[Matrix]:
    """Maps of the whole stored frame onto the whole query, turned as needed, where shapes and thumbnails agree."""
    found: list[tuple[float, Matrix]] = []
    height, width = query.shape
    target = _thumbnail(fit_within(query, side=192))
    small = fit_within(stored, side=192)
    for turn in range(4):
        h, w = stored.shape if turn % 2 == 0 else stored.shape[::-1]
        if abs(np.log((w / h) / (width / height))) > 0.02:
            continue
        likeness = float((_thumbnail(np.rot90(small, turn)) * target).mean())
        if likeness > 0.8:
            found.append((likeness, _centred(width / w, height / h) @ _turned(stored.shape, turn)))
    found.sort(key=lambda pair: -pair[0])
    return [matrix for _, matrix in found[:1]]


def _thumbnail(grey: np.ndarray) -> NDArray[np.float32]:
    small = cv2.resize(np.ascontiguousarray(grey), (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray((small - small.mean()) / (small.std() + 1e-3), dtype=np.float32)


def _turned(shape: tuple[int, ...], turn: int) -> Matrix:
    """Pixel coordinates before to those after `np.rot90(image, turn)`."""
    height, width = shape
    return np.array(
        {
            0: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            1: [[0, 1, 0], [-1, 0, width - 1], [0, 0, 1]],
            2: [[-1, 0, width - 1], [0, -1, height - 1], [0, 0, 1]],
            3: [[0, -1, height - 1], [1, 0, 0], [0, 0, 1]],
        }[turn],
        dtype=np.float64,
    )


def _centred(sx: float, sy: float) -> Matrix:
    """Scaling in the convention that pixel centres lie at integers."""
    return np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]], dtype=np.float64)


def scale_of(matrix: Matrix) -> float:
    """Mean linear scale of the map."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def _plausible(matrix: Matrix | None) -> bool:
    if matrix is None or not np.isfinite(matrix).all() or np.linalg.det(matrix[:2, :2]) <= 0:
        return False
    stretch = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    tilt = abs((np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])) + 45) % 90 - 45)
    low, high = _SCALES
    return bool(low <= scale_of(matrix) <= high and stretch[0] / stretch[1] <= _MAX_ANISOTROPY and tilt <= _MAX_TILT)


def _by_features(matches: Matches) -> Matrix | None:
    if matches is None:
        return None
    source, target = matches
    found, inliers = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=4.0, maxIters=4000, confidence=0.999
    )
    if found is None or int(inliers.sum()) < 8:
        return None
    agreed = inliers.ravel() > 0
    matrix = _square(found)
    if agreed.sum() >= 30:
        freer, _ = cv2.estimateAffine2D(source[agreed], target[agreed], method=cv2.RANSAC, ransacReprojThreshold=3.0)
        if freer is not None and _plausible(_square(freer)):
            matrix = _square(freer)
    return matrix if _plausible(matrix) else None


def _matches(
    stored: tuple[NDArray[np.float32], np.ndarray | None],
    query: tuple[NDArray[np.float32], np.ndarray | None],
    *,
    binary: bool,
) -> Matches:
    """Positions of keypoints that are described alike, (N, 2) in each image; None for fewer than 8."""
    (at, described), (query_at, query_described) = stored, query
    if described is None or query_described is None or min(len(at), len(query_at)) < 12:
        return None
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING if binary else cv2.NORM_L2)
    # Text repeats its letters, so the ratio test is lenient and RANSAC decides.
    kept = [
        pair[0]
        for pair in matcher.knnMatch(described, query_described, k=2)
        if len(pair) == 2
        and pair[0].distance < (0.85 if binary else 0.9) * pair[1].distance
        and not (binary and pair[0].distance > 72)
    ]
    if len(kept) < 8:
        return None
    return at[[match.queryIdx for match in kept]], query_at[[match.trainIdx for match in kept]]


def perspective(stored: Features, query: Features, points: Sequence[str] = KEYPOINTS) -> Matrix | None:
    """The map of a page onto a photo of it, where all of the page is shown; None where there is none.

    Found by keypoints, then fitted to where small textured cells are found, as an affine map is.

    Returns:
        3 x 3, homogeneous pixel coordinates of `stored` to those of `query`.
    """
    for kind in points:
        matches = query.matched(stored, kind)
        if matches is None or len(matches[0]) < _AGREED:
            continue
        found, inliers = cv2.findHomography(*matches, cv2.RANSAC, 5.0, maxIters=4000, confidence=0.999)
        if found is None or int(inliers.sum()) < _AGREED:
            continue
        matrix = np.asarray(found, dtype=np.float64)
        if not _photographed(matrix, stored.grey, query.grey):
            continue
        for cell, search, tolerance in ((48, 10, 2.0), (40, 4, 1.0), (40, 3, 0.7)):
            shape, shrink = rectified_frame(matrix, stored.grey.shape)
            reference = np.asarray(cv2.resize(stored.grey, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
            moved = np.asarray(rectified(query.grey, matrix, stored.grey.shape), dtype=np.uint8)
            side = min(cell, max(16, min(shape) // 6))
            spots = detailed(moved, np.full(shape, 255, np.uint8), side, search)
            cells = displacements(moved, reference, spots, side, search)
            if len(cells) < _AGREED:
                break
            source = np.ascontiguousarray(cells[:, :2])
            step, agreed = cv2.findHomography(source + cells[:, 2:4], source, cv2.RANSAC, tolerance)
            if step is None or int(agreed.sum()) < _AGREED:
                break
            matrix = np.asarray(matrix @ np.linalg.inv(shrink) @ step @ shrink, dtype=np.float64)
            if not _photographed(matrix, stored.grey, query.grey):
                break
        else:
            return matrix
    return None


def rectified_frame(matrix: Matrix, shape: tuple[int, ...]) -> tuple[tuple[int, int], Matrix]:
    """Height and width of the frame into which a photo of a page of `shape` is laid, as coarse as the coarser of the
    two; and the map from the page to it."""
    height, width = shape[:2]
    middle = np.array([width / 2, height / 2, 1.0])
    near = matrix @ middle
    jacobian = (matrix[:2, :2] - np.outer(near[:2] / near[2], matrix[2, :2])) / near[2]
    scale = min(1.0, float(np.sqrt(abs(np.linalg.det(jacobian)))))
    size = (max(8, round(height * scale)), max(8, round(width * scale)))
    return size, _centred(size[1] / width, size[0] / height)


def rectified(photo: np.ndarray, matrix: Matrix, shape: tuple[int, ...]) -> np.ndarray:
    """The page cut out of a photo and laid flat in its `rectified_frame`; `shape` is that of the page."""
    size, shrink = rectified_frame(matrix, shape)
    finer = scale_of(matrix) * shape[1] / size[1]
    if finer > 1.05:
        height, width = photo.shape[:2]
        smaller = (round(width / finer), round(height / finer))
        photo = cv2.resize(photo, smaller, interpolation=cv2.INTER_AREA)
        matrix = _centred(smaller[0] / width, smaller[1] / height) @ matrix
    return np.asarray(
        cv2.warpPerspective(
            photo,
            matrix @ np.linalg.inv(shrink),
            size[::-1],
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


def _photographed(matrix: Matrix, stored: Grey, query: Grey) -> bool:
    """Whether the corners of the page lie in the photo as those of a page that is seen from about above."""
    if not np.isfinite(matrix).all():
        return False
    height, width = stored.shape
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [width - 1, height - 1, 1], [0, height - 1, 1]], np.float64)
    at = corners @ matrix.T
    if (at[:, 2] <= 0).any():
        return False
    at = at[:, :2] / at[:, 2:]
    if (at < -2).any() or (at > np.array([query.shape[1], query.shape[0]]) + 1).any():
        return False
    sides = np.hypot(*(np.roll(at, -1, axis=0) - at).T)
    outline = at.astype(np.float32).reshape(-1, 1, 2)
    area = cv2.contourArea(outline, oriented=True)  # negative: mirrored
    if not cv2.isContourConvex(outline) or not 0 < area < _FILLS * query.size:
        return False
    taper = max(sides[0] / sides[2], sides[2] / sides[0], sides[1] / sides[3], sides[3] / sides[1])
    stretch = (sides[0] + sides[2]) / (sides[1] + sides[3]) * height / width
    across = at[1] - at[0] + at[2] - at[3]
    tilt = abs((np.degrees(np.arctan2(across[1], across[0])) + 45) % 90 - 45)
    wide = 1 / _MAX_ANISOTROPY <= stretch <= _MAX_ANISOTROPY
    return bool(taper <= _MAX_TAPER and tilt <= 2 * _MAX_TILT and wide)


def _square(affine: np.ndarray) -> Matrix:
    return np.vstack([np.asarray(affine, dtype=np.float64), [0.0, 0.0, 1.0]])


def warp(image: np.ndarray, matrix: Matrix, shape: tuple[int, int], *, fast: bool = False) -> np.ndarray:
    """`image` moved by `matrix` into a frame of `shape` (H, W), averaged where it shrinks; `fast` softens a little."""
    scale = scale_of(matrix)
    if scale < 0.95:
        height, width = image.shape[:2]
        size = (max(4, round(width * scale)), max(4, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.linalg.inv(_centred(size[0] / width, size[1] / height))
    return np.asarray(
        cv2.warpAffine(
            image,
            matrix[:2],
            (shape[1], shape[0]),
            flags=cv2.INTER_LINEAR if fast else cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


def covered(shape: tuple[int, ...], matrix: Matrix, frame: tuple[int, int]) -> Grey:
    """(H, W) uint8 of `frame`: 255 where an image of `shape`, moved by `matrix`, has content."""
    full = np.full(shape[:2], 255, np.uint8)
    return np.asarray(
        cv2.warpAffine(full, matrix[:2], (frame[1], frame[0]), flags=cv2.INTER_NEAREST, borderValue=0), dtype=np.uint8
    )


def _refine(stored: Grey, query: Grey, matrix: Matrix) -> Alignment | None:
    """Fit an affine map to where small textured cells of one image are found in the other; three rounds at most."""
    stored_is_reference = scale_of(matrix) > 1
    reference, other = (stored, query) if stored_is_reference else (query, stored)
    to_reference = np.linalg.inv(matrix) if stored_is_reference else matrix
    shape = (reference.shape[0], reference.shape[1])
    rms = np.inf
    cells = np.zeros((0, 5), np.float32)
    spots: NDArray[np.int32] | None = None
    for cell, search, tolerance in ((48, 10, 1.0), (40, 4, 0.5), (40, 3, 0.5)):
        side = min(cell, max(16, min(shape) // 6))
        moved = np.asarray(warp(other, to_reference, shape, fast=True), dtype=np.uint8)
        if spots is None:
            spots = detailed(moved, covered(other.shape, to_reference, shape), side, search)
        cells = displacements(moved, reference, spots, side, search)
        if len(cells) < 6:
            return None
        source = np.ascontiguousarray(cells[:, :2])
        target = np.ascontiguousarray(source + cells[:, 2:4])
        found, inliers = cv2.estimateAffine2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=tolerance, maxIters=2000
        )
        if found is None or inliers.sum() < 6:
            return None
        step = _square(found)
        agreed = inliers.ravel() > 0
        left = target - (source @ step[:2, :2].T + step[:2, 2])
        rms = float(np.sqrt((left[agreed] ** 2).sum(axis=1).mean()))
        to_reference = step @ to_reference
        if not _plausible(to_reference):
            return None
        cells = cells.copy()
        cells[:, 2:4] = left
        if np.abs(target - source)[agreed].max() < 0.35:
            break
    return Alignment(
        matrix=np.linalg.inv(to_reference) if stored_is_reference else to_reference,
        stored_is_reference=stored_is_reference,
        reference=reference,
        moved=np.asarray(warp(other, to_reference, shape), dtype=np.uint8),
        valid=covered(other.shape, to_reference, shape),
        to_reference=to_reference,
        rms=rms,
        cells=cells,
    )


def detailed(grey: Grey, valid: Grey, cell: int, search: int, most: int = 110) -> NDArray[np.int32]:
    """Corners of about `most` square cells of `grey` by which it can be placed.

    At most one per tile of an even grid. A cell needs detail in both directions (the smaller eigenvalue of its
    structure tensor): along a lone straight line any shift would do. Judged at half size.

    Returns:
        (N, 2) int32: left, top; each with room for `search` on all sides.
    """
    height, width = grey.shape
    pad = search + 2
    if min(height, width) < cell + 2 * pad + 2:
        return np.zeros((0, 2), np.int32)
    half = (width // 2, height // 2)
    strength = cv2.cornerMinEigenVal(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), 3)
    side = (cell // 2, cell // 2)
    detail = cv2.boxFilter(strength, cv2.CV_32F, side, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    reach = (cell + 2 * pad) // 2
    whole = cv2.erode(
        cv2.resize(valid, half, interpolation=cv2.INTER_NEAREST),
        np.ones((reach, reach), np.uint8),
        anchor=(pad // 2, pad // 2),
    )
    detail[whole == 0] = 0
    low, high_x, high_y = pad // 2 + 1, (width - cell - pad) // 2, (height - cell - pad) // 2
    tile = max(cell // 4, int(np.sqrt(height * width / most) / 2))
    found = []
    for top in range(low, high_y, tile):
        for left in range(low, high_x, tile):
            patch = detail[top : min(top + tile, high_y), left : min(left + tile, high_x)]
            _, best, _, (dx, dy) = cv2.minMaxLoc(patch)
            if best > 2e-6:
                found.append((2 * (left + dx), 2 * (top + dy)))
    return np.array(found, np.int32).reshape(-1, 2)


def displacements(
    moved: Grey, reference: Grey, spots: NDArray[np.int32], cell: int, search: int
) -> NDArray[np.float32]:
    """Where the cells of `moved` at `spots` lie in `reference`, at most `search` pixels away.

    Returns:
        (N, 5) float32: centre x, y, shift dx, dy (a fraction of a pixel, by a parabola through the peak), correlation;
        only of cells that are found.
    """
    found = []
    for x, y in spots.tolist():
        where = reference[y - search : y + cell + search, x - search : x + cell + search]
        match = cv2.matchTemplate(where, moved[y : y + cell, x : x + cell], cv2.TM_CCOEFF_NORMED)
        _, likeness, _, (mx, my) = cv2.minMaxLoc(match)
        if likeness < 0.6 or mx in (0, 2 * search) or my in (0, 2 * search):
            continue
        sx = mx - search + _peak(match[my, mx - 1], match[my, mx], match[my, mx + 1])
        sy = my - search + _peak(match[my - 1, mx], match[my, mx], match[my + 1, mx])
        found.append((x + cell / 2, y + cell / 2, sx, sy, likeness))
    return np.array(found, np.float32).reshape(-1, 5)


def _peak(before: float, at: float, after: float) -> float:
    bend = before - 2 * at + after
    return 0.0 if abs(bend) < 1e-6 else float(np.clip(0.5 * (before - after) / bend, -0.6, 0.6))
