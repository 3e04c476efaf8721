"""Text is measured on whatever a picture holds, noise included."""

import cv2
import numpy as np
import pytest

from dedup_service.image import legibility
from dedup_service.image.legibility import measure_text


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5])
def test_pieces_are_the_same_however_many_there_are(share: float) -> None:
    """Labels of few bits are only used where they suffice: on noise there are more pieces than they can name."""
    ink = (np.random.default_rng(1).random((900, 1100)) < share).astype(np.uint8) * 255
    _, _, expected, _ = cv2.connectedComponentsWithStats(ink, connectivity=8, ltype=cv2.CV_32S)
    assert np.array_equal(legibility._pieces(ink), expected[1:])


@pytest.mark.parametrize(("pale", "faint"), [(30, False), (236, True)])
def test_faint_print_is_told_from_print(pale: int, faint: bool) -> None:
    """Lines of letters that hardly differ from their paper are faint; black ones on the same paper are not."""
    paper = np.full((300, 500), 250, np.uint8)
    for line in range(6):
        cv2.putText(paper, "thirty grey levels", (20, 50 + 40 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (pale,), 1)
    assert measure_text(paper).faint is faint
