"""Where do two aligned images differ by more than a codec would make them?"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

# Grey levels squared that are added to the local contrast: what faint paper and sensor noise may differ by.
FLOOR = 150.0
_BLURS = (0.5, 0.7, 0.9, 1.2, 1.6, 2.1)
_PATCH = 448


@dataclass(frozen=True, slots=True)
class Difference:
    """The strongest local difference of two aligned images.

    Attributes:
        fine: residual energy in windows of 0.7 text heights over the strongest contrast near by (0: none, about 1: as
            strong as the print itself).
        coarse: the same in windows of one text height.
        place: x, y of the centre of the strongest difference, pixels of the frame.
        window: side of the fine window, pixels.
    """

    fine: float
    coarse: float
    place: tuple[int, int]
    window: int


def mean(plane: Plane, side: int) -> Plane:
    """Local mean over a square window."""
    return np.asarray(cv2.boxFilter(plane, cv2.CV_32F, (side, side), borderType=cv2.BORDER_REFLECT))


def variance(plane: Plane, side: int) -> tuple[Plane, Plane]:
    """Local variance and mean over a square window."""
    average = mean(plane, side)
    squares = cv2.sqrBoxFilter(plane, cv2.CV_32F, (side, side), borderType=cv2.BORDER_REFLECT)
    return np.maximum(squares - average * average, 0), average


def residual(a: Plane, b: Plane, side: int) -> Plane:
    """What of `b` is left after the best local gain and offset on `a` in windows of `side` pixels."""
    spread_a, mean_a = variance(a, side)
    mean_b = mean(b, side)
    gain = np.clip((mean(a * b, side) - mean_a * mean_b) / (spread_a + 4.0), 0.3, 3.0)
    return np.asarray(b - (mean_b + gain * (a - mean_a)), dtype=np.float32)


def match_blur(a: Plane, b: Plane, inside: NDArray[np.bool_], side: int) -> tuple[Plane, Plane, float]:
    """Blur the sharper of the two until they agree best; the blur (sigma, pixels) is judged on the busiest patch."""
    top, left = _busiest(b)
    area = (slice(top, top + _PATCH), slice(left, left + _PATCH))
    patch_a, patch_b, patch_in = a[area], b[area], inside[area]
    if patch_in.sum() < 400:
        patch_a, patch_b, patch_in = a, b, inside
    spread = max(1e-3, float(patch_b[patch_in].var()))
    least = float((residual(patch_a, patch_b, side)[patch_in] ** 2).mean())
    chosen, first = 0.0, None
    for sigma in _BLURS:
        improved = False
        for of_first in (True, False) if first is None else (first,):
            blurred_a = _blur(patch_a, sigma) if of_first else patch_a
            blurred_b = patch_b if of_first else _blur(patch_b, sigma)
            left_over = float((residual(blurred_a, blurred_b, side)[patch_in] ** 2).mean())
            left_over *= spread / max(1e-3, float(blurred_b[patch_in].var()))
            if left_over < 0.97 * least:
                least, chosen, first, improved = left_over, sigma, of_first, True
        if not improved:
            break
    if first is None:
        return a, b, 0.0
    return (_blur(a, chosen), b, chosen) if first else (a, _blur(b, chosen), chosen)


def find_difference(a: Plane, b: Plane, inside: NDArray[np.bool_], height: float) -> Difference:
    """The strongest local difference.

    Args:
        a, b: (H, W) float32 grey levels 0..255, aligned and blur-matched; equal where not `inside`.
        inside: (H, W) bool: where both have content.
        height: text height in pixels, 0 when there is no text.
    """
    coarse_side = _odd(height if height > 0 else 11, 7, 25)
    fine_side = _odd(0.7 * height if height > 0 else 7.7, 5, 25)
    rest = residual(a, b, 4 * coarse_side + 1)
    rest[~inside] = 0
    core = cv2.erode(
        inside.astype(np.uint8), np.ones((coarse_side, coarse_side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    if core.sum() < 200:
        core = inside.astype(np.uint8)
    fine = _strength(rest, a, b, fine_side)
    coarse = _strength(rest, a, b, coarse_side)
    _, most, _, place = cv2.minMaxLoc(fine, core)
    return Difference(float(most), float(cv2.minMaxLoc(coarse, core)[1]), (int(place[0]), int(place[1])), fine_side)


def _strength(rest: Plane, a: Plane, b: Plane, side: int) -> Plane:
    energy = cv2.sqrBoxFilter(rest, cv2.CV_32F, (side, side), borderType=cv2.BORDER_REFLECT)
    contrast = cv2.max(variance(a, side)[0], variance(b, side)[0])
    near = cv2.dilate(contrast, np.ones((2 * side + 1, 2 * side + 1), np.uint8))
    return np.asarray(energy / (near + FLOOR))


def _odd(value: float, low: int, high: int) -> int:
    return int(np.clip(round(value), low, high)) | 1


def _blur(plane: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma))


def _busiest(plane: Plane) -> tuple[int, int]:
    height, width = plane.shape
    if height <= _PATCH and width <= _PATCH:
        return 0, 0
    detail = np.abs(cv2.Laplacian(plane, cv2.CV_32F))
    size = (max(1, width // 32), max(1, height // 32))
    detail = cv2.boxFilter(cv2.resize(detail, size, interpolation=cv2.INTER_AREA), -1, (14, 14))
    _, _, _, (x, y) = cv2.minMaxLoc(detail)
    half = _PATCH // 2
    return int(np.clip(y * 32 - half, 0, max(0, height - _PATCH))), int(np.clip(x * 32 - half, 0, max(0, width - _PATCH)))
