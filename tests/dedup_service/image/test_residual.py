"""Residual vectors tell images of one form apart, whatever was done to a copy."""

import numpy as np
import pytest

from dedup_service.image.keypoints import find_keypoints, register
from dedup_service.image.residual import DIMENSION, MOST_CELLS, Cells, Frame, cells_of, frame_of, learn
from dedup_service.image.running_statistics import RunningStatistics
from tests.dedup_service.image.forms import WAYS, copied, grey, sheet

SIBLINGS = 12


@pytest.fixture(scope="module")
def first() -> tuple[Frame, np.ndarray]:
    return frame_of(900, 700)


def in_frame(rgb: np.ndarray, frame: Frame, matrix: np.ndarray) -> Cells:
    """An image registered to the first sheet."""
    image = grey(rgb)
    (found,) = register(find_keypoints(image), find_keypoints(grey(sheet(0))))
    return cells_of(image, matrix @ found.matrix, frame)


@pytest.fixture(scope="module")
def known(first: tuple[Frame, np.ndarray]) -> list[Cells]:
    return [in_frame(sheet(number), *first) for number in range(SIBLINGS)]


@pytest.mark.parametrize("learnt", [0, SIBLINGS])
@pytest.mark.parametrize("way", WAYS)
def test_the_original_is_nearest(way: str, learnt: int, first: tuple[Frame, np.ndarray], known: list[Cells]) -> None:
    """The original of a copy comes first among its siblings, before and after a projection was learnt."""
    statistics = RunningStatistics.empty(first[0].cells)
    for cells in known[:learnt]:
        statistics = statistics.merge(RunningStatistics.of(cells.ink, cells.seen))
    projection = learn(statistics, "one")
    vectors = np.stack([projection.apply(cells) for cells in known])
    for number in (3, 8):
        likeness = vectors @ projection.apply(in_frame(copied(sheet(number), way), *first))
        assert int(likeness.argmax()) == number


def test_learning_sets_siblings_apart(first: tuple[Frame, np.ndarray], known: list[Cells]) -> None:
    """What all of a form share is what they have most of; once it is learnt, siblings are no longer alike."""
    statistics = RunningStatistics.empty(first[0].cells)
    for cells in known:
        statistics = statistics.merge(RunningStatistics.of(cells.ink, cells.seen))
    before, after = (
        np.stack([projection.apply(cells) for cells in known[:2]])
        for projection in (learn(RunningStatistics.empty(first[0].cells), "0"), learn(statistics, "1"))
    )
    assert before[0] @ before[1] > 0.5
    assert after[0] @ after[1] < 0.3


@pytest.mark.parametrize(("width", "height"), [(16, 3200), (1000, 1000), (2048, 600), (40, 40)])
def test_a_frame_is_bounded(width: int, height: int) -> None:
    """Images of any shape get a frame of at most `MOST_CELLS` cells, which the map fills."""
    frame, matrix = frame_of(width, height)
    assert 1 <= frame.cells <= MOST_CELLS
    right, bottom = (matrix @ [width - 0.5, height - 0.5, 1])[:2]
    assert (right, bottom) == pytest.approx((frame.width - 0.5, frame.height - 0.5))


def test_what_a_copy_does_not_show_does_not_count(first: tuple[Frame, np.ndarray], known: list[Cells]) -> None:
    """Cells outside of a cropped copy are neither ink nor paper."""
    cells = in_frame(sheet(3)[:400], *first)
    assert 0.4 < cells.seen.mean() < 0.6
    assert not cells.ink[~cells.seen].any()


def test_stored_cells_come_back(known: list[Cells]) -> None:
    """To a 48th of the ink's strength, in a few kB; anything else is refused."""
    back = Cells.from_bytes(known[0].to_bytes())
    assert (back.seen == known[0].seen).all()
    assert np.abs(back.ink - known[0].ink).max() <= 1 / 48 + 1e-6
    assert len(known[0].to_bytes()) < 6_000
    with pytest.raises(ValueError, match="cells"):
        Cells.from_bytes(b"no cells")


def test_a_blank_page_has_a_vector(first: tuple[Frame, np.ndarray]) -> None:
    """Of length one, without dividing by nothing."""
    frame, matrix = first
    cells = cells_of(np.full((700, 900), 200, np.uint8), matrix, frame)
    vector = learn(RunningStatistics.empty(frame.cells), "0").apply(cells)
    assert vector.shape == (DIMENSION,)
    assert float(vector @ vector) == pytest.approx(1.0)
