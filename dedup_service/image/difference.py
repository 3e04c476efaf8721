"""Where do two aligned images differ by more than a codec would make them?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]  # float32: OpenCV does not say which
Mask = NDArray[np.bool_]

# Without text, the windows are those of text of this height.
_PLAIN_HEIGHT = 11.0
# Strokes are compared in windows no larger than this, pixels.
_LARGEST = 9
# What a change of tone may be: gamma, gain, and offset in grey levels. Copies are asked for up to 15 %, and a contrast
# change about the mean shifts by 0.15 x 128.
_GAMMAS = (0.82, 0.91, 1.0, 1.1, 1.22)
_GAINS = (0.75, 1.33)
_OFFSETS = (-45.0, 45.0)
# A change of tone is believed where it leaves at most this share of the squared difference: blur looks like a loss of
# contrast, and a curve that undoes it would whiten faint lines.
_TONE_GAIN = 0.6
# The same for colour, about its grey: saturation, and no cast to speak of.
_SATURATIONS = (0.8, 1.25)
_MAX_CAST = 6.0
_BLURS = (0.5, 0.7, 0.9, 1.2, 1.6, 2.1)
_PATCH = 320
# A thin stroke is so many pixels wide; print differs from its ground by more than so many levels; grey levels that are
# added to the contrast, so that noise on a blank ground is no stroke.
STROKE = 2
_PRINT = 40
_CONTRAST_FLOOR = 50.0
# To the contrast is added so many times the usual difference near by, so that grain is no stroke either.
_STROKE_NOISE = 8.0
# Windows of the ground of a page at half size, pixels; levels squared that an even one varies by; a ground takes this
# share of the page.
_EVEN = 7
_EVEN_SPREAD = 16.0
_GROUND_LEAST = 0.05
# Levels squared by which faint print varies at least to be compared, and that it is forgiven.
_FAINTEST = 6.0
_FAINT_FLOOR = 8.0
# Light varies over this share of the longer side of a photo.
_SLOW = 10
# A place that differs is looked at once more: it may lie this much off, pixels, and be this much sharper or softer
# (a share of the Laplacian) than its surroundings, as after a resampling at an odd angle. Levels squared by which such
# a fit is held back; no more places than this, none broader than so many text heights.
_OFF = 0.5
_SOFTER = 0.35
_RIDGE = 4.0
_PLACES = 40
_BROADEST = 8


@dataclass(frozen=True, slots=True)
class Peak:
    """The strongest value of a map of differences.

    Attributes:
        value: the strength; the unit is that of the map.
        place: x, y of the centre of its window, pixels of the frame.
        window: side of its window, pixels.
    """

    value: float
    place: tuple[int, int]
    window: int


def mean(plane: Plane, side: int) -> Plane:
    """Local mean over a square window."""
    return np.asarray(cv2.boxFilter(plane, cv2.CV_32F, (side, side), borderType=cv2.BORDER_REFLECT))


def energy(plane: Plane, side: int) -> Plane:
    """Local mean of squares over a square window."""
    return np.asarray(cv2.sqrBoxFilter(plane, cv2.CV_32F, (side, side), borderType=cv2.BORDER_REFLECT))


def variance(plane: Plane, side: int) -> tuple[Plane, Plane]:
    """Local variance and mean over a square window."""
    average = mean(plane, side)
    return np.asarray(
        cv2.threshold(cv2.subtract(energy(plane, side), cv2.multiply(average, average)), 0, 0, cv2.THRESH_TOZERO)[1]
    ), average


def match_tone(a: NDArray[np.uint8], b: NDArray[np.uint8], inside: Mask) -> tuple[Plane, Plane]:
    """Undo a global change of brightness, contrast or gamma.

    One image is mapped through the curve that gives the other's usual level for each of its own; of the two directions
    the one that leaves less is taken, because clipping can be imitated but not undone.

    Args:
        a, b: (H, W) uint8 grey levels, aligned.
        inside: (H, W) bool: where both have content.

    Returns:
        The two as float32.
    """
    step = max(1, int(np.sqrt(a.size / 40_000)))
    few = inside[::step, ::step]
    x, y = a[::step, ::step][few], b[::step, ::step][few]
    if len(x) < 400:
        return a.astype(np.float32), b.astype(np.float32)
    forward, backward = _curve(x, y), _curve(y, x)
    onto_b, onto_a = float(((forward[x] - y) ** 2).mean()), float(((backward[y] - x) ** 2).mean())
    if min(onto_b, onto_a) > _TONE_GAIN * float(((x.astype(np.float32) - y) ** 2).mean()):
        return a.astype(np.float32), b.astype(np.float32)
    if onto_b <= onto_a:
        return np.asarray(cv2.LUT(a, forward)), b.astype(np.float32)
    return a.astype(np.float32), np.asarray(cv2.LUT(b, backward))


def _curve(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> Plane:
    """(256,) float32: what a change of brightness, contrast and gamma makes of each level of x.

    Fitted to the median of y in each of 32 ranges of x (medians leave out edges), by least absolute deviations, so that
    one area in another shade does not bend the curve; bounded, so that it can't.
    """
    order = np.argsort(x, kind="stable")
    ordered_x, ordered_y = x[order], y[order].astype(np.float64)
    edges = np.searchsorted(ordered_x, np.arange(0, 257, 8))
    ranges = [(i, j) for i, j in pairwise(edges) if j - i >= max(30, len(x) // 5000)]
    levels = np.array([np.median(ordered_y[i:j]) for i, j in ranges])
    points = np.array([np.median(ordered_x[i:j]) for i, j in ranges]) / 255
    weights = np.sqrt([j - i for i, j in ranges])
    usable = (levels > 3) & (levels < 252)  # clipped levels say nothing about the curve
    if usable.sum() < 2:
        usable[:] = True
    points, levels, weights = points[usable], levels[usable], weights[usable]
    ramp = np.arange(256) / 255
    best, curve = np.inf, 255 * ramp
    for gamma in _GAMMAS:
        bent = points**gamma * 255
        near = weights
        for _ in range(4):
            middle, target = np.average(bent, weights=near), np.average(levels, weights=near)
            spread = np.average((bent - middle) ** 2, weights=near)
            gain = np.average((bent - middle) * (levels - target), weights=near) / spread if spread > 100 else 1.0
            gain = float(np.clip(gain, *_GAINS))
            offset = float(np.clip(target - gain * middle, *_OFFSETS))
            left = np.abs(gain * bent + offset - levels)
            near = weights / np.maximum(1.0, left)
        total = float((weights * left).sum()) + 1e-3 * abs(np.log(gamma)) * float(weights.sum())
        if total < best:
            best, curve = total, gain * 255 * ramp**gamma + offset
    return np.clip(curve, 0, 255).astype(np.float32)


def match_light(a: NDArray[np.uint8], b: NDArray[np.uint8], most: float) -> NDArray[np.uint8]:
    """`a` in the light of `b`: what changes slowly over a photo of a page, by a factor of at most `most`."""
    there, here = (np.maximum(slow(plane), 8.0) for plane in (b, a))
    ratio = np.clip(there / here, 1 / most, most).astype(np.float32)
    light = cv2.resize(ratio, (a.shape[1], a.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.multiply(a, light, dtype=cv2.CV_8U), dtype=np.uint8)


def slow(plane: Plane) -> Plane:
    """What changes slowly over a plane, at a sixteenth of its size."""
    size = (max(2, plane.shape[1] // 16), max(2, plane.shape[0] // 16))
    few = cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(few, (0, 0), max(1.0, max(size) / _SLOW), borderType=cv2.BORDER_REFLECT))


def residual(a: Plane, b: Plane, side: int) -> Plane:
    """What of `b` is left after the best local gain and offset on `a` in windows of `side` pixels."""
    spread_a, mean_a = variance(a, side)
    mean_b = mean(b, side)
    gain = cv2.divide(mean(cv2.multiply(a, b), side) - cv2.multiply(mean_a, mean_b), spread_a + 4.0)
    gain = np.clip(gain, 0.3, 3.0, out=gain)
    fitted = cv2.add(mean_b, cv2.multiply(gain, cv2.subtract(a, mean_a)))
    return np.asarray(cv2.subtract(b, fitted))


def match_blur(a: Plane, b: Plane, inside: Mask, height: float) -> tuple[Plane, Plane, float]:
    """Blur the sharper of the two until they agree best; the blur (sigma, pixels) is judged on the busiest patch."""
    side = 4 * window(height, 1.0, 7) + 1
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


def window(height: float, share: float, least: int) -> int:
    """Odd side of a window of `share` text heights, `least` to 17 pixels: headlines stand beside small print."""
    return int(np.clip(round(share * (height if height > 0 else _PLAIN_HEIGHT)), least, 17)) | 1


def left_over(a: Plane, b: Plane, inside: Mask, height: float) -> Plane:
    """What of `b` neither tone nor a local gain explains by `a`; 0 where not `inside`."""
    return np.asarray(cv2.copyTo(residual(a, b, 4 * window(height, 1.0, 7) + 1), inside.view(np.uint8)))


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """A map of one kind of difference.

    Attributes:
        found: (H, W) float32: how strong it is.
        allowed: (H, W) float32: what print and noise near by amount to, in the same unit.
        window: side of the windows it is summed over, pixels.
        squared: whether squares are summed, or the difference with its sign.
        limit: share of `allowed` that a copy may reach.
    """

    found: Plane
    allowed: Plane
    window: int
    squared: bool
    limit: float

    def sum(self, rest: Plane) -> Plane:
        """The strength of what is left over, anywhere."""
        if self.squared:
            return energy(rest, self.window)
        size = (self.window, self.window)
        return np.abs(cv2.boxFilter(rest, cv2.CV_32F, size, borderType=cv2.BORDER_REFLECT))

    def peak(self, inside: Mask) -> Peak:
        """Where it is strongest against what is allowed."""
        return _peak(np.asarray(cv2.divide(self.found, self.allowed)), inside, self.window)


def stroke_differences(
    a: Plane, b: Plane, rest: Plane, inside: Mask, height: float, limit: float
) -> tuple[Differences, float]:
    """One small stroke that one has and the other has not: the tail of a comma, a dot, the end of a bar.

    The difference is summed over the width of a thin stroke, with its sign, so that the two edges of a glyph that lies
    a fraction of a pixel off cancel, and held against the contrast of the print around. Ink near by does not hide it
    (as it does in `shape_differences`); what does is the pair's own noise, which is measured on all its print.

    Args:
        a, b, rest, inside, height: as for `shape_differences`.
        limit: share of the contrast that a copy may reach.

    Returns:
        The map, whose peak is a share of the contrast (0..1), and by how much noise and floor make print count for
        less: the mean over print, 1 or more.
    """
    reach = 2 * window(height, 0.5, 5) + 1
    near = np.ones((reach, reach), np.uint8)
    darkest, lightest = (cv2.convertScaleAbs(pick(a, b)) for pick in (cv2.min, cv2.max))
    levels = cv2.subtract(cv2.dilate(lightest, near), cv2.erode(darkest, near))
    contrast = levels.astype(np.float32)
    summed = np.abs(cv2.boxFilter(rest, cv2.CV_32F, (STROKE, STROKE), borderType=cv2.BORDER_REFLECT))
    usual = np.sqrt(np.maximum(energy(summed, 8 * window(height, 1.0, 7) + 1), 0))
    allowed = np.asarray(cv2.scaleAdd(usual, _STROKE_NOISE, contrast) + np.float32(_CONTRAST_FLOOR))
    print_there = (inside & (np.asarray(levels) > _PRINT)).view(np.uint8)
    weakened = cv2.mean(cv2.divide(allowed, np.maximum(contrast, np.float32(1))), print_there)[0]
    return Differences(summed, allowed, STROKE, False, limit), max(1.0, weakened)


def shape_differences(
    a: Plane, b: Plane, rest: Plane, height: float, floors: tuple[float, ...], limits: tuple[float, ...]
) -> list[Differences]:
    """Strokes that one has and the other has not.

    The energy of the residual in windows of half a text height, over the strongest contrast near by: codec ringing
    beside a glyph is weak against the glyph, a changed glyph is not. 0 is no difference, about 1 one as strong
    as the print. To the contrast is added three times the residual energy of the wider surroundings (codec noise is
    alike over a texture, a change stands out) and a floor.

    Args:
        a, b: (H, W) float32 grey levels 0..255, aligned and matched in tone and blur.
        rest: (H, W) float32: what `left_over` makes of the two.
        height: text height in pixels, 0 when there is no text.
        floors: grey levels squared: what paper and sensor noise may differ by; one map is returned for each.
        limits: the highest value that a copy may reach, one for each.
    """
    wide = window(height, 1.0, 7)
    side = min(window(height, 0.5, 5), _LARGEST)
    contrast = cv2.max(variance(a, side)[0], variance(b, side)[0])
    near = cv2.dilate(contrast, np.ones((2 * side + 1, 2 * side + 1), np.uint8))
    allowed = cv2.scaleAdd(energy(rest, 8 * wide + 1), 3.0, near)
    found = energy(rest, side)
    return [
        Differences(found, np.asarray(allowed + np.float32(floor)), side, True, limit)
        for floor, limit in zip(floors, limits, strict=True)
    ]


def look_again(a: Plane, b: Plane, rest: Plane, inside: Mask, height: float, maps: Sequence[Differences]) -> None:
    """Examine the few places where more differs than is allowed, and take back what a resampling explains.

    A lone line or a speck has nothing by which the registration could place it. Here each such place, with a margin of
    a text height, is shifted by a fraction of a pixel and sharpened or softened a little as a whole; if all that then
    differs there is less, that is what differs. A stroke too many is not explained by that.

    Args:
        a, b, rest, inside, height: as for `shape_differences`.
        maps: what was found; changed in place.
    """
    doubtful = np.zeros(inside.shape, bool)
    for one in maps:
        doubtful |= one.found > one.limit * one.allowed
    doubtful &= inside
    if not doubtful.any():
        return
    text = window(height, 1.0, 7)
    reach = np.ones((2 * text + 1, 2 * text + 1), np.uint8)
    count, _, places, _ = cv2.connectedComponentsWithStats(cv2.dilate(doubtful.view(np.uint8), reach))
    if count - 1 > _PLACES:
        return
    around = 2 * text + 1
    for left, top, width, high, _ in places[1:].tolist():
        if max(width, high) > 2 * text + _BROADEST * text:
            continue
        area = _padded(left, top, width, high, around, inside.shape)
        inner = (
            slice(top - area[0].start, top - area[0].start + high),
            slice(left - area[1].start, left - area[1].start + width),
        )
        again = _explained(a[area], b[area], rest[area], inner, 4 * text + 1)
        again = np.where(inside[area], again, 0).astype(np.float32)
        place = (slice(top, top + high), slice(left, left + width))
        better = [np.where(inside[place], one.sum(again)[inner], 0) for one in maps]
        if _worst(better, maps, place) < _worst([one.found[place] for one in maps], maps, place):
            for one, found in zip(maps, better, strict=True):
                one.found[place] = found


def _worst(found: Sequence[Plane], maps: Sequence[Differences], place: tuple[slice, slice]) -> float:
    return max(float((one / (each.limit * each.allowed[place])).max()) for one, each in zip(found, maps, strict=True))


def _padded(left: int, top: int, width: int, height: int, by: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    return (
        slice(max(0, top - by), min(shape[0], top + height + by)),
        slice(max(0, left - by), min(shape[1], left + width + by)),
    )


def _explained(a: Plane, b: Plane, rest: Plane, inner: tuple[slice, slice], side: int) -> Plane:
    """What of `b` is left when `a` is moved and sharpened as fits best where `inner` says."""
    shift = np.zeros(2)
    moved, left = a, rest
    for _ in range(2):
        gradients = [
            cv2.Sobel(moved, cv2.CV_32F, 1 - axis, axis, ksize=3, scale=1 / 8)[inner].ravel() for axis in (0, 1)
        ]
        bends = cv2.Laplacian(moved, cv2.CV_32F)[inner].ravel()
        known = np.stack([*gradients, bends], axis=1).astype(np.float64)
        wanted = left[inner].ravel().astype(np.float64)
        step = np.linalg.solve(known.T @ known + _RIDGE * len(wanted) * np.eye(3), known.T @ wanted)
        shift = np.clip(shift + step[:2], -_OFF, _OFF)
        softer = float(np.clip(step[2], -_SOFTER, _SOFTER))
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        moved = cv2.warpAffine(
            a,
            matrix,
            (a.shape[1], a.shape[0]),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        moved = cv2.scaleAdd(cv2.Laplacian(moved, cv2.CV_32F), softer, moved)
        left = residual(moved, b, side)
    return left


def level_difference(a: Plane, b: Plane, inside: Mask, height: float) -> Peak:
    """Areas brighter in one than in the other: the mean difference in windows of 1.5 text heights, grey levels.

    This is what the local gain in `shape_differences` forgives: a flat thing in another shade.
    """
    side = window(height, 1.5, 9)
    return _peak(np.abs(mean(cv2.subtract(a, b), side)), inside, side)


def ground_difference(a: Plane, b: Plane, inside: Mask) -> Peak:
    """Something pale on the ground of a page that one has and the other has not: a watermark, a shade.

    Where both are even, one of them shows the level that is the page's commonest, and the other another one. Judged at
    half size; the place is in the pixels of `a`.

    Returns:
        The strongest difference of level, grey levels, less what such places differ by usually.
    """
    size = (a.shape[1] // 2, a.shape[0] // 2)
    here, there = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in (a, b))
    clear = cv2.erode(
        cv2.resize(inside.view(np.uint8), size, interpolation=cv2.INTER_NEAREST), np.ones((3, 3), np.uint8)
    )
    spread_a, mean_a = variance(here, _EVEN)
    spread_b, mean_b = variance(there, _EVEN)
    even = (cv2.max(spread_a, spread_b) < _EVEN_SPREAD) & (clear > 0)
    if even.sum() < _GROUND_LEAST * even.size:
        return Peak(0.0, (0, 0), 1)
    levels_a, levels_b = mean_a[even], mean_b[even]
    ground_a, ground_b = (float(np.argmax(np.bincount(one.astype(np.uint8).ravel()))) for one in (levels_a, levels_b))
    off = cv2.subtract(mean_a, mean_b)
    ground = even & ((np.abs(mean_a - ground_a) < 4) | (np.abs(mean_b - ground_b) < 4))
    usual = off[ground]
    if not usual.size:
        return Peak(0.0, (0, 0), 1)
    middle = float(np.median(usual))
    noise = float(np.percentile(np.abs(usual - middle), 90))
    strength = np.maximum(np.abs(off - middle) - 2 * noise, 0)
    strength[~ground] = 0
    # So much must be of the other level: a corner of a codec's block is not.
    strength = cv2.erode(strength, np.ones((3, 3), np.uint8))
    peak = _peak(np.asarray(strength), ground, _EVEN)
    return Peak(peak.value, (2 * peak.place[0], 2 * peak.place[1]), 2 * peak.window)


def faint_difference(a: Plane, b: Plane, rest: Plane, boxes: Sequence[NDArray[np.int32]], height: float) -> Peak:
    """`shape_differences` on faint print only, where little is forgiven; infinite where it can't be told.

    Args:
        a, b, rest, height: as there.
        boxes: (N, 4) each: x, y, width, height of the characters.
    """
    there = np.zeros(a.shape, np.uint8)
    for x, y, width, high in np.concatenate(boxes).tolist():
        there[max(0, y - 3) : y + high + 3, max(0, x - 3) : x + width + 3] = 1
    if not there.any():
        return Peak(np.inf, (0, 0), 1)
    contrast = cv2.max(*(variance(plane, window(height, 0.5, 5))[0] for plane in (a, b)))
    if float(np.median(contrast[there > 0])) < _FAINTEST:
        return Peak(np.inf, (0, 0), 1)
    return shape_differences(a, b, rest, height, (_FAINT_FLOOR,), (1.0,))[0].peak(there > 0)


def colour_difference(a: Plane, b: Plane, inside: Mask, height: float) -> Peak:
    """Areas in another colour.

    Args:
        a, b: (H, W, 2) float32 Cr and Cb, aligned. A global change of saturation is undone first.
        inside: (H, W) bool.
        height: text height in pixels of this frame.

    Returns:
        The larger of the mean differences of Cr and Cb in windows of one text height, levels of 255.
    """
    side = window(height, 1.0, 5)
    step = max(1, int(np.sqrt(inside.size / 50_000)))
    few = inside[::step, ::step]
    worst: Plane = np.zeros(inside.shape, np.float32)
    both = inside.view(np.uint8)
    for channel in range(2):
        x, y = np.ascontiguousarray(a[:, :, channel]), np.ascontiguousarray(b[:, :, channel])
        gain, offset = _line(x[::step, ::step][few], y[::step, ::step][few])
        difference = cv2.addWeighted(x, gain, y, -1.0, offset)
        difference = cv2.copyTo(difference, both)
        worst = cv2.max(worst, np.abs(mean(difference, side)))
    return _peak(np.asarray(worst), inside, side)


def _line(x: Plane, y: Plane) -> tuple[float, float]:
    """Gain and offset of y on x about the neutral 128 by least squares, the second time without the worst tenth."""
    gain, cast = 1.0, 0.0
    kept = np.ones(len(x), bool)
    for _ in range(2):
        u, v = x[kept] - 128, y[kept] - 128
        if len(u) < 100:
            break
        spread = float(u.var())
        gain = float(np.clip(((u - u.mean()) * (v - v.mean())).mean() / spread, *_SATURATIONS)) if spread > 4 else 1.0
        cast = float(np.clip(v.mean() - gain * u.mean(), -_MAX_CAST, _MAX_CAST))
        left = np.abs(gain * (x - 128) + cast - (y - 128))
        kept = left <= np.percentile(left, 90)
    return gain, 128 * (1 - gain) + cast


def _peak(strength: Plane, inside: Mask, side: int) -> Peak:
    _, most, _, place = cv2.minMaxLoc(strength, inside.view(np.uint8))
    return Peak(float(most), (int(place[0]), int(place[1])), side)


def _blur(plane: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma))


def _busiest(plane: Plane) -> tuple[int, int]:
    height, width = plane.shape
    if height <= _PATCH and width <= _PATCH:
        return 0, 0
    detail = np.abs(cv2.Laplacian(plane, cv2.CV_32F))
    size = (max(1, width // 32), max(1, height // 32))
    detail = cv2.boxFilter(cv2.resize(detail, size, interpolation=cv2.INTER_AREA), -1, (10, 10))
    _, _, _, (x, y) = cv2.minMaxLoc(detail)
    half = _PATCH // 2
    return int(np.clip(y * 32 - half, 0, max(0, height - _PATCH))), int(
        np.clip(x * 32 - half, 0, max(0, width - _PATCH))
    )
