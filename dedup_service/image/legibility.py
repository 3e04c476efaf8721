"""How tall is the text? Decides at which size a changed character could still be seen."""

import cv2
import numpy as np
from numpy.typing import NDArray

# A component is taken for a character by its shape, and only where it stands in a line: with at least this many
# neighbours of like height on the same level and, since blobs in a texture have no baseline, with the same foot.
_NEIGHBOURS = 3
_MAX_COMPONENTS = 2500


def characters(grey: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Boxes of what looks like characters in lines of text, dark on light or light on dark.

    Args:
        grey: (H, W) uint8.

    Returns:
        (N, 4) int32: x, y, width, height in pixels; of the polarity that shows more of them.
    """
    found = [
        _in_lines(cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, kind, 31, offset))
        for kind, offset in ((cv2.THRESH_BINARY_INV, 12), (cv2.THRESH_BINARY, -12))
    ]
    return max(found, key=len)


def text_height(boxes: NDArray[np.int32]) -> float:
    """The lower quartile of the heights of `characters`, pixels; 0 when there are fewer than 8 of them."""
    return float(np.percentile(boxes[:, 3], 25)) if len(boxes) >= 8 else 0.0


def _in_lines(ink: np.ndarray) -> NDArray[np.int32]:
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    boxes = stats[1:]
    _, _, w, h, area = boxes.T
    shaped = (h >= 4) & (h <= 80) & (w <= 2.5 * h) & (area >= 6) & (area >= 0.12 * w * h) & (area <= 0.85 * w * h + 4)
    boxes = boxes[shaped]
    if len(boxes) > _MAX_COMPONENTS:  # evenly spread, so that the answer does not depend on chance
        boxes = boxes[np.linspace(0, len(boxes) - 1, _MAX_COMPONENTS).astype(int)]
    if len(boxes) < 8:
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
