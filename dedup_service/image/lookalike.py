"""Is the query a copy of the stored image, or does it only look like it?"""

import time
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from dedup_service.image.difference import Difference, find_difference, match_blur
from dedup_service.image.fingerprint import Fingerprint
from dedup_service.image.legibility import characters, text_height
from dedup_service.image.picture import fit_within
from dedup_service.image.registration import Alignment, Features, align, scale_of

# Thresholds; `python -m benchmarks.images` shows what they accept.
MAX_FINE = 0.20
MAX_COARSE = 0.14
MAX_COLOUR = 32.0
MIN_TEXT = 5.0
MIN_STORED_OVERLAP = 0.75
MIN_QUERY_OVERLAP = 0.40
MAX_RMS = 0.5
MAX_BLUR = 1.3


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """What the look-alike check found.

    Attributes:
        verdict: "same": a copy; "different": a local or global difference was found; "unsure": it can't be told.
        score: strongest evidence of a difference, in multiples of what is allowed: 0 a perfect copy, 1 the limit.
            Infinite when the images could not be compared.
        same_probability: 0..1, monotone in the score; under 0.5 for anything but "same".
        reason: COPY, LOCAL_DIFFERENCE, COLOUR_DIFFERENCE, PART_MOVED, NOT_REGISTERED, TEXT_TOO_SMALL,
            OVERLAP_TOO_SMALL, CONTENT_OUTSIDE, POORLY_ALIGNED or TOO_BLURRED.
        box: x, y, width, height in 0..1 of the stored image: the place that differs; None where there is none.
        turn: degrees by which the stored image is turned counter-clockwise to lie like the query: 0, 90, 180 or 270.
        ms: wall time of the comparison, milliseconds.
    """

    verdict: Literal["same", "different", "unsure"]
    score: float
    same_probability: float
    reason: str
    box: tuple[float, float, float, float] | None
    turn: int
    ms: float


def compare(stored: Fingerprint, query: Fingerprint) -> ImageVerdict:
    """Decide whether `query` is a copy of `stored`. Deterministic; about 60 to 120 ms on one core; 40 MB of memory."""
    start = time.perf_counter()
    verdict, score, reason, box, turn = _judge(stored, query)
    probability = 0.0 if verdict != "same" else float(1 / (1 + np.exp(6 * (score - 1))))
    return ImageVerdict(verdict, score, probability, reason, box, turn, (time.perf_counter() - start) * 1e3)


_Finding = tuple[Literal["same", "different", "unsure"], float, str, tuple[float, float, float, float] | None, int]


def _judge(stored: Fingerprint, query: Fingerprint) -> _Finding:
    stored_grey = cv2.cvtColor(stored.rgb, cv2.COLOR_RGB2GRAY)
    query_grey = cv2.cvtColor(query.rgb, cv2.COLOR_RGB2GRAY)
    cv2.setRNGSeed(7)
    alignment = align(Features(stored_grey), Features(query_grey))
    if alignment is None:
        return "different", np.inf, "NOT_REGISTERED", None, 0
    turn = round(np.degrees(np.arctan2(-alignment.matrix[1, 0], alignment.matrix[0, 0])) / 90) * 90 % 360
    scale = scale_of(alignment.matrix)
    boxes = characters(stored_grey)
    height = text_height(boxes) * min(1.0, scale)
    if 0 < height < MIN_TEXT:
        return "unsure", np.inf, "TEXT_TOO_SMALL", None, turn
    if alignment.rms > MAX_RMS:
        return "unsure", np.inf, "POORLY_ALIGNED", None, turn
    in_frame = float((alignment.valid > 0).mean())
    moved_area = query_grey.size if alignment.stored_is_reference else stored_grey.size
    of_moved = float((alignment.valid > 0).sum()) / (moved_area * scale_of(alignment.to_reference) ** 2)
    of_stored, of_query = (in_frame, of_moved) if alignment.stored_is_reference else (of_moved, in_frame)
    if of_stored < MIN_STORED_OVERLAP or of_query < MIN_QUERY_OVERLAP:
        return "unsure", np.inf, "OVERLAP_TOO_SMALL", None, turn
    inside = cv2.erode(alignment.valid, np.ones((7, 7), np.uint8)) > 0
    inside[:3] = inside[-3:] = False
    inside[:, :3] = inside[:, -3:] = False
    a = alignment.moved.astype(np.float32)
    b = alignment.reference.astype(np.float32)
    a[~inside] = b[~inside]
    side = 4 * (int(np.clip(round(height if height > 0 else 11), 7, 25)) | 1) + 1
    a, b, blur = match_blur(a, b, inside, side)
    if blur > MAX_BLUR:
        return "unsure", np.inf, "TOO_BLURRED", None, turn
    difference = find_difference(a, b, inside, height)
    score = max(difference.fine / MAX_FINE, difference.coarse / MAX_COARSE)
    box = _box(alignment, difference, stored_grey.shape)
    if score >= 1:
        return "different", score, "LOCAL_DIFFERENCE", box, turn
    return "same", score, "COPY", None, turn


def _box(alignment: Alignment, difference: Difference, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    x, y = difference.place
    reach = 1.5 * difference.window
    corners = np.array([[x - reach, y - reach, 1], [x + reach, y - reach, 1], [x - reach, y + reach, 1], [x + reach, y + reach, 1]])
    back = np.eye(3) if alignment.stored_is_reference else np.linalg.inv(alignment.to_reference)
    at = (corners @ back.T)[:, :2]
    height, width = shape[:2]
    left, top = np.clip(at.min(axis=0) / (width, height), 0, 1)
    right, bottom = np.clip(at.max(axis=0) / (width, height), 0, 1)
    return float(left), float(top), float(right - left), float(bottom - top)


def thumbnail(fingerprint: Fingerprint, side: int = 256) -> bytes:
    """A small WebP of the fingerprinted image for reports, no side longer than `side` pixels."""
    small = fit_within(fingerprint.rgb, side=side)
    _, packed = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 80])
    return packed.tobytes()
