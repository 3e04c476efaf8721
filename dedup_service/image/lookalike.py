"""Is the query a copy of the stored image, or does it only look like it?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.difference import (
    Peak,
    colour_difference,
    faint_difference,
    ground_difference,
    left_over,
    level_difference,
    look_again,
    match_blur,
    match_light,
    match_tone,
    shape_differences,
    slow,
    stroke_differences,
)
from dedup_service.image.fingerprint import Fingerprint
from dedup_service.image.legibility import faint_characters, measure_text
from dedup_service.image.margin import NOTHING, Margins, beside, margins
from dedup_service.image.picture import fit_within
from dedup_service.image.registration import (
    KEYPOINTS,
    Alignment,
    Features,
    Matrix,
    align,
    better,
    by_keypoints,
    perspective,
    rectified,
    scale_of,
    trusted,
    warp,
)

_EDGE = np.ones((5, 5), np.uint8)

# Grey levels squared that `shape_differences` forgives: 14 levels RMS, and 6 for print hardly darker than its paper.
SHAPE_FLOOR = 200.0
FAINT_FLOOR = 40.0
# Where parts seem to have moved, so many times less difference of shape is allowed.
MOVED_FACTOR = 2.0

# Kinds of comparison: a frame leaves out more than this; an icon's longer side is under, small text lower than that
# many pixels in the coarser image.
FRAMED_SHARE = 0.9
ICON_SIDE = 160
SMALL_TEXT = 9.0
# Frames whose sides are in a ratio that differs by more than this, as a logarithm, are not of one icon.
ICON_STRETCH = 0.04

# What a pair with text below CLEAR_TEXT may reach, as a share of the limits on shape and stroke: a fifth less for each
# pixel, and below TINY_TEXT only what clean pairs reach. One digit of 5 pixels differed by 0.52, one of 7 by 0.98.
CLEAR_TEXT = 8.0
TINY_TEXT = 6.0
TINY_LIMIT = 0.4
SMALL_SLOPE = 0.2
# What the smallest stroke, the tail of a comma, is worth for each pixel of text height, as a share of the contrast.
STROKE_OF_TEXT = 0.05
STROKE_MOST = 0.5
# It must be worth so many times the strongest that was seen.
STROKE_MARGIN = 1.25
# A difference of level this many times what is allowed settles the matter.
CLEARLY = 1.6
# A page is grey when its colour is this little, levels; coloured from here; and hardly coloured with this share of it.
GREY = 3.0
COLOURED = 24.0
COLOURED_SHARE = 0.2
# What uneven light may do to a photo of a page: a factor of brightness, levels of colour.
_LIGHT = 2.0
_CAST = 12.0
# Registrations that fit worse than this, pixels, may hide a perspective.
FLAT = 0.15
# A photo softens more than it seems to: text is to be so high, pixels, and this share of the limits is allowed.
PHOTO_TEXT = 7.5
PHOTO_LIMIT = 0.75
# So many characters make a page: they fix what is up, and a turn is believed.
READABLE = 20

Verdict = Literal["same", "different", "unsure"]
Comparison = Literal["PAGE", "SMALL_TEXT", "PICTURE", "ICON", "TURNED", "FRAMED", "PHOTO", "NONE"]
"""What was compared: a page of text, one whose text is near the limit of legibility, a picture without text, a picture
too small to hold detail, a copy that lies otherwise, one within a frame, a photo of a page; or nothing at all. The
rarer word wins: a turned page is TURNED."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a copy may differ by; `benchmarks.images` fits on one half of the source images and scores on the other.

    Attributes:
        shape: highest `shape_differences`.
        stroke: highest `stroke_differences`, share of the contrast.
        faint: highest `shape_differences` with a low floor, which sees faint print.
        level: highest `level_difference`, grey levels.
        colour: highest `colour_difference`, levels.
        ground: highest `ground_difference`, grey levels.
        faint_print: highest `faint_difference`.
        moved: most textured cells that moved together against the rest.
        text: least text height in the smaller image, pixels.
        stored_overlap: least share of the stored image that the query shows.
        query_overlap: least share of the query that the stored image shows.
        rms: worst fit of the registration, pixels.
        blur: most blur of one against the other, sigma in pixels.
    """

    shape: float = 0.25
    stroke: float = 0.2
    faint: float = 0.55
    level: float = 18.0
    colour: float = 16.0
    ground: float = 5.0
    faint_print: float = 0.3
    moved: int = 3
    text: float = 3.8
    stored_overlap: float = 0.80
    query_overlap: float = 0.40
    rms: float = 0.5
    blur: float = 1.3


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured on two registered images, before anything is decided. Sizes in pixels of the coarser image.

    Attributes:
        turn: degrees.
        side: longer side of the coarser image.
        text: height of the smallest text of either image, 0 without text.
        characters: how many were made out, in the image that shows fewer.
        unread: whether either looks like a page and nothing could be made out.
        ground: highest `ground_difference`, grey levels.
        faint_print: highest `faint_difference`, 0 where no print hardly differs from its ground.
        boxes: where shape, faint shape, level, colour, strokes, ground and faint print differ most.
    """

    turn: int
    side: int
    text: float
    characters: int
    unread: bool
    rms: float
    margins: Margins
    blur: float
    shape: float
    faint: float
    level: float
    colour: float
    stroke: float
    ground: float
    faint_print: float
    noise: float
    moved: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """What the look-alike check found.

    Attributes:
        verdict: "same": a copy; "different": a local or global difference was found; "unsure": it can't be told.
        score: strongest evidence of a difference, in multiples of what is allowed: 0 a perfect copy, 1 the limit.
            Infinite when the images could not be compared.
        same_probability: 0..1, falling with the score; 0 for anything but "same".
        reason: COPY, LOCAL_DIFFERENCE, COLOUR_DIFFERENCE, PART_MOVED, NOT_REGISTERED, TEXT_TOO_SMALL,
            FAINT_PRINT, TURN_UNCERTAIN, OVERLAP_TOO_SMALL, CONTENT_OUTSIDE, POORLY_ALIGNED, TOO_BLURRED or
            HIDDEN_CONTENT.
        box: x, y, width, height in 0..1 of the stored image: the place that differs; None where there is none.
        turn: degrees by which the stored image is turned counter-clockwise to lie like the query: 0, 90, 180 or 270.
        ms: wall time of the comparison, milliseconds.
        comparison: what kind of comparison it was: kinds differ in how often the check errs.
        images: how many images were compared, in a sequence.
    """

    verdict: Verdict
    score: float
    same_probability: float
    reason: str
    box: Box | None
    turn: int
    ms: float
    comparison: Comparison = "NONE"
    images: int = 1


def compare(
    stored: Fingerprint, query: Fingerprint, limits: Limits = DEFAULT_LIMITS, guess: Matrix | None = None
) -> ImageVerdict:
    """Decide whether `query` is a copy of `stored`. Deterministic; no more than about 60 MB beside the arguments.

    Args:
        stored, query: the two images.
        limits: what a copy may differ by.
        guess: 3 x 3, pixels of `stored.rgb` to those of `query.rgb`, where a map is known from elsewhere. It saves
            looking for one, and is refined and judged like any other.
    """
    start = time.perf_counter()
    if stored.hidden or query.hidden:
        return ImageVerdict("unsure", np.inf, 0.0, "HIDDEN_CONTENT", None, 0, (time.perf_counter() - start) * 1e3)
    evidence = measure(stored, query, limits, guess)
    verdict, score, reason, box, turn = judge(evidence, limits)
    # docs/tune.md shows both distributions: 95 % of readable copies score under 0.82, look-alikes begin near 1.1.
    probability = float(1 / (1 + np.exp(8 * (score - 1)))) if verdict == "same" else 0.0
    took = (time.perf_counter() - start) * 1e3
    return ImageVerdict(verdict, score, probability, reason, box, turn, took, kind_of(evidence))


def measure(
    stored: Fingerprint, query: Fingerprint, limits: Limits = DEFAULT_LIMITS, guess: Matrix | None = None
) -> Evidence | None:
    """Register the two and measure every kind of difference; None when they can't be registered."""
    icon = _icon(stored, query)
    if icon is not None and icon.level < limits.level and icon.colour < limits.colour:
        return icon
    stored_grey = _grey(stored.rgb)
    query_grey = _grey(query.rgb)
    cv2.setRNGSeed(7)  # RANSAC draws from OpenCV's generator: the same pair must get the same verdict
    sides = Features(stored_grey), Features(query_grey)
    alignment, photo = align(*sides, guess, KEYPOINTS[:1]), None
    readable = stored.text.characters >= READABLE
    for kind in KEYPOINTS:
        if kind != KEYPOINTS[0]:
            alignment = better(alignment, by_keypoints(*sides, kind))
        rms = alignment.rms if alignment is not None and trusted(alignment) else np.inf
        if rms <= FLAT or (readable and (photo := _photo(*sides, query, kind)) is not None) or rms < np.inf:
            break
    if photo is not None:
        query, query_grey, alignment, outside, lies = photo
    if alignment is None:
        return icon
    lies = alignment.matrix if photo is None else lies
    turn = int(round(np.degrees(np.arctan2(-lies[1, 0], lies[0, 0])) / 90) * 90 % 360)
    scale = scale_of(alignment.matrix)
    heights = (stored.text.height * min(1.0, scale), query.text.height * min(1.0, 1 / scale))
    text = min((height for height in heights if height > 0), default=0.0)
    if photo is None:
        outside = margins(alignment.matrix, stored_grey, query_grey, (stored.rgb, query.rgb))
    # The outermost pixels mix what is inside with what is not.
    inside = cv2.erode(cv2.copyMakeBorder(alignment.valid, 1, 1, 1, 1, cv2.BORDER_CONSTANT), _EDGE)[1:-1, 1:-1] > 0
    moved, reference = (query.rgb, stored.rgb) if alignment.stored_is_reference else (stored.rgb, query.rgb)
    letters = min(stored.text.characters, query.text.characters)
    colour = _colour(moved, reference, alignment, inside, text, letters >= READABLE, photo is not None)
    a, b = match_tone(
        match_light(alignment.moved, alignment.reference, _LIGHT) if photo is not None else alignment.moved,
        alignment.reference,
        inside,
    )
    a = np.asarray(cv2.copyTo(b, (~inside).view(np.uint8), a))
    shade = level_difference(a, b, inside, text)
    nothing = Peak(0.0, shade.place, shade.window)
    if shade.value > CLEARLY * limits.level:  # what differs this much needs no closer look
        shapes: tuple[Peak, ...] = (nothing, nothing)
        blur, noise, strokes, ground, pale = 0.0, 1.0, nothing, nothing, nothing
    else:
        a, b, blur = match_blur(a, b, inside, text)
        rest = left_over(a, b, inside, text)
        maps = shape_differences(a, b, rest, text, (SHAPE_FLOOR, FAINT_FLOOR), (limits.shape, limits.faint))
        stroke_map, noise = stroke_differences(a, b, rest, inside, text, limits.stroke)
        maps[1] = replace(maps[1], found=maps[1].found.copy())
        look_again(a, b, rest, inside, text, [*maps, stroke_map])
        shapes, strokes = tuple(one.peak(inside) for one in maps), stroke_map.peak(inside)
        shade = level_difference(a, b, inside, text)
        ground = ground_difference(a, b, inside)
        pale = nothing
        if stored.text.faint or query.text.faint:
            pale = faint_difference(
                a, b, rest, [faint_characters(np.asarray(cv2.convertScaleAbs(one), np.uint8)) for one in (a, b)], text
            )
    peaks = (*shapes, shade, colour, strokes, ground, pale)
    boxes = tuple(_box(alignment, peak, stored_grey.shape) for peak in peaks)
    shape, faint, level, tint, stroke, bare, faintest = (peak.value for peak in peaks)
    return Evidence(
        turn=turn,
        side=max(alignment.reference.shape),
        text=text,
        characters=letters,
        unread=stored.text.unread or query.text.unread,
        rms=alignment.rms,
        margins=outside,
        blur=blur,
        shape=shape,
        faint=faint,
        level=level,
        colour=tint,
        stroke=stroke,
        ground=bare,
        faint_print=faintest,
        noise=noise,
        moved=_moved_together(alignment.cells),
        boxes=boxes,
    )


def judge(evidence: Evidence | None, limits: Limits = DEFAULT_LIMITS) -> tuple[Verdict, float, str, Box | None, int]:
    """Verdict, score, reason, box and turn for what was measured."""
    if evidence is None:
        return "different", np.inf, "NOT_REGISTERED", None, 0
    turn = evidence.turn
    if evidence.unread or 0 < evidence.text < limits.text:
        return "unsure", np.inf, "TEXT_TOO_SMALL", None, turn
    if turn and evidence.characters < READABLE:
        return "unsure", np.inf, "TURN_UNCERTAIN", None, turn
    if evidence.rms > limits.rms:
        return "unsure", np.inf, "POORLY_ALIGNED", None, turn
    shares = evidence.margins
    if shares.of_stored < limits.stored_overlap or shares.of_query < limits.query_overlap:
        return "unsure", np.inf, "OVERLAP_TOO_SMALL", None, turn
    if evidence.blur > limits.blur:
        return "unsure", np.inf, "TOO_BLURRED", None, turn
    shape = evidence.shape / limits.shape
    faint = evidence.faint / limits.faint
    stroke = evidence.stroke / limits.stroke
    level, ground = evidence.level / limits.level, evidence.ground / limits.ground
    scores = (shape, faint, level, evidence.colour / limits.colour, stroke, ground)
    score = max(scores)
    worst = int(np.argmax(scores))
    if score >= 1:
        reason = "COLOUR_DIFFERENCE" if worst == 3 else "LOCAL_DIFFERENCE"
        return "different", score, reason, evidence.boxes[worst], turn
    # Cells of a repetitive page stray too, but then the shapes agree; where something moved, they differ as well.
    if evidence.moved >= limits.moved and MOVED_FACTOR * max(shape, faint) >= 1:
        return "different", MOVED_FACTOR * max(shape, faint), "PART_MOVED", evidence.boxes[0], turn
    if shares.photo and (evidence.text < PHOTO_TEXT or max(shape, faint, stroke) > PHOTO_LIMIT):
        return "unsure", score, "TOO_BLURRED", None, turn
    if evidence.faint_print >= limits.faint_print:
        return "unsure", score, "FAINT_PRINT", evidence.boxes[6], turn
    if shares.content_lost:
        return "unsure", score, "CONTENT_OUTSIDE", None, turn
    # Where text is small, a changed glyph is a small difference: less is allowed, and the smallest stroke of the
    # smallest text would have to stand out.
    cleanest = TINY_LIMIT if evidence.text < TINY_TEXT else 1 - SMALL_SLOPE * (CLEAR_TEXT - evidence.text)
    if evidence.text and max(shape, stroke) > cleanest:
        return "unsure", score, "TEXT_TOO_SMALL", None, turn
    least = min(STROKE_MOST, STROKE_OF_TEXT * evidence.text)
    if evidence.characters >= READABLE and STROKE_MARGIN * evidence.stroke * evidence.noise > least:
        return "unsure", score, "TEXT_TOO_SMALL", None, turn
    return "same", score, "COPY", None, turn


def kind_of(evidence: Evidence | None) -> Comparison:
    """What kind of comparison the evidence comes from."""
    if evidence is None:
        return "NONE"
    if evidence.margins.photo:
        return "PHOTO"
    if evidence.turn:
        return "TURNED"
    if min(evidence.margins.of_stored, evidence.margins.of_query) < FRAMED_SHARE:
        return "FRAMED"
    if evidence.side < ICON_SIDE:
        return "ICON"
    if evidence.text == 0:
        return "PICTURE"
    return "SMALL_TEXT" if evidence.text < SMALL_TEXT else "PAGE"


def thumbnail(fingerprint: Fingerprint, side: int = 256) -> bytes:
    """A small WebP of the fingerprinted image for reports, no side longer than `side` pixels."""
    small = fit_within(fingerprint.rgb, side=side)
    _, packed = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 80])
    return packed.tobytes()


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _colour(
    moved: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    alignment: Alignment,
    inside: NDArray[np.bool_],
    text: float,
    readable: bool,
    photo: bool,
) -> Peak:
    """Colour compared at half the frame's size, which is all that codecs keep of it; place in the frame's pixels.

    A `readable` page that lost all its colour, and had little, is not held against its original.
    """
    there, here = _halved(reference), _halved(moved)
    size = (there.shape[0], there.shape[1])
    double = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]])
    here = warp(here, np.linalg.inv(double) @ alignment.to_reference @ double, size, fast=True)
    converted = [np.asarray(cv2.cvtColor(one, cv2.COLOR_RGB2YCrCb), dtype=np.uint8) for one in (here, there)]
    both = np.ascontiguousarray(inside[: 2 * size[0] : 2, : 2 * size[1] : 2])
    if readable and _greyed(converted, both):
        return Peak(0.0, (0, 0), 1)
    planes = [one[:, :, 1:].astype(np.float32) for one in converted]
    if photo:
        for channel in (0, 1):
            cast = np.clip(slow(planes[1][:, :, channel]) - slow(planes[0][:, :, channel]), -_CAST, _CAST)
            planes[0][:, :, channel] += cv2.resize(cast, size[::-1], interpolation=cv2.INTER_CUBIC)
    peak = colour_difference(planes[0], planes[1], both, text / 2)
    return Peak(peak.value, (2 * peak.place[0], 2 * peak.place[1]), 2 * peak.window)


def _photo(
    stored: Features, query: Features, photo: Fingerprint, kind: str
) -> tuple[Fingerprint, NDArray[np.uint8], Alignment | None, Margins, Matrix] | None:
    """The page in a photo laid flat, its registration, what the photo shows beside it, the map; None without one."""
    matrix = perspective(stored, query, (kind,))
    if matrix is None:
        return None
    page = np.full(stored.grey.shape, 255, np.uint8)
    there = cv2.warpPerspective(page, matrix, (query.grey.shape[1], query.grey.shape[0])) > 127
    flat = np.ascontiguousarray(rectified(photo.rgb, matrix, stored.grey.shape))
    grey = _grey(flat)
    around = Margins(1.0, float(there.mean()), NOTHING, beside(query.grey, there), photo=True)
    return replace(photo, rgb=flat, text=measure_text(grey)), grey, align(stored, Features(grey)), around, matrix


def _icon(stored: Fingerprint, query: Fingerprint) -> Evidence | None:
    """What was measured on two icons, too small to be registered, laid frame on frame; None where these are none.

    Brightness and colour are held against each other in windows of 2 x 2 pixels, in which no detail is lost.
    """
    (height, width), (other_height, other_width) = stored.rgb.shape[:2], query.rgb.shape[:2]
    if max(height, width, other_height, other_width) >= ICON_SIDE:
        return None
    if abs(np.log(height * other_width / (width * other_height))) > ICON_STRETCH:
        return None
    size = (min(width, other_width), min(height, other_height))
    a, b = (
        cv2.cvtColor(cv2.resize(one.rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YCrCb).astype(np.float32)
        for one in (stored, query)
    )
    half = (size[0] // 2, size[1] // 2)
    off = cv2.split(a - b)
    level, *tints = (
        cv2.minMaxLoc(np.abs(cv2.blur(plane, (2, 2), borderType=cv2.BORDER_REPLICATE)))
        for plane in (off[0], *(cv2.resize(tint, half, interpolation=cv2.INTER_AREA) for tint in off[1:]))
    )
    colour = max(tints, key=lambda peak: peak[1])
    text = min(stored.text.height * size[0] / width, query.text.height * size[0] / other_width)
    nothing = (0.0, 0.0, 0.0, 0.0)
    boxes = tuple(
        (at[0] / across[0], at[1] / across[1], 2 / across[0], 2 / across[1])
        for at, across in ((level[3], size), (colour[3], half))
    )
    return Evidence(
        turn=0,
        side=max(size),
        text=text,
        characters=min(stored.text.characters, query.text.characters),
        unread=stored.text.unread or query.text.unread,
        rms=0.0,
        margins=Margins(),
        blur=0.0,
        shape=0.0,
        faint=0.0,
        level=level[1],
        colour=colour[1],
        stroke=0.0,
        ground=0.0,
        faint_print=0.0,
        noise=1.0,
        moved=0,
        boxes=(nothing, nothing, boxes[0], boxes[1], nothing, nothing, nothing),
    )


def _greyed(converted: Sequence[NDArray[np.uint8]], inside: NDArray[np.bool_]) -> bool:
    """Whether one of two YCrCb images is grey throughout and the other hardly coloured."""
    within = inside.view(np.uint8)
    count = cv2.countNonZero(within)
    if count == 0:
        return True
    off, grey = [], np.full(inside.shape, 128, np.uint8)
    for one in converted:
        most = cv2.max(*(cv2.absdiff(cv2.extractChannel(one, channel), grey) for channel in (1, 2)))
        off.append(np.asarray(cv2.copyTo(most, within), dtype=np.uint8))
    least, most = sorted(off, key=lambda one: float(one.mean()))
    coloured = (cv2.countNonZero((least > GREY).view(np.uint8)), cv2.countNonZero((most > COLOURED).view(np.uint8)))
    return bool(coloured[0] < 0.001 * count and coloured[1] < COLOURED_SHARE * count)


def _halved(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    even = rgb[: 2 * height, : 2 * width]
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _moved_together(cells: NDArray[np.float32]) -> int:
    """How many well-matched cells strayed from the fit together with two others near by."""
    sure = cells[cells[:, 4] > 0.8]
    strayed = sure[np.hypot(sure[:, 2], sure[:, 3]) > 0.7]
    if len(strayed) < 3:
        return 0
    span = np.sqrt(np.ptp(cells[:, 0]) * np.ptp(cells[:, 1]) / len(cells)) + 1.0
    far = np.hypot(*(strayed[:, None, :2] - strayed[None, :, :2]).transpose(2, 0, 1))
    unlike = np.hypot(*(strayed[:, None, 2:4] - strayed[None, :, 2:4]).transpose(2, 0, 1))
    together = ((far < 2.5 * span) & (unlike < 0.6)).sum(axis=1) - 1
    return int((together >= 2).sum())


def _box(alignment: Alignment, peak: Peak, shape: tuple[int, ...]) -> Box:
    x, y = peak.place
    reach = 1.5 * peak.window
    corners = np.array([[x + i * reach, y + j * reach, 1] for i in (-1, 1) for j in (-1, 1)])
    back = np.eye(3) if alignment.stored_is_reference else np.linalg.inv(alignment.to_reference)
    at = (corners @ back.T)[:, :2]
    height, width = shape[:2]
    left, top = np.clip(at.min(axis=0) / (width, height), 0, 1)
    right, bottom = np.clip(at.max(axis=0) / (width, height), 0, 1)
    return float(left), float(top), float(right - left), float(bottom - top)
