"""Lines into rows."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from inference_service.reader.page import Line, arrange
from tests.inference_service.reader.pages import RECEIPT


def test_rows_are_read_from_top_to_bottom_and_left_to_right() -> None:
    """Reading order does not depend on the order in which lines were detected."""
    shuffled = list(RECEIPT.lines)
    random.Random(3).shuffle(shuffled)
    assert arrange(RECEIPT.width, RECEIPT.height, shuffled).texts == RECEIPT.texts
    assert RECEIPT.texts[8] == "Blue pen 2 3.00 6.00"


@given(slope=st.floats(-0.03, 0.03))
def test_a_page_that_is_slightly_turned_keeps_its_rows(slope: float) -> None:
    """A label and its amount stay in one row when the page leans by up to 1.7 degrees."""
    leaning = [
        Line(each.text, each.left, each.top + slope * each.left, each.right, each.bottom + slope * each.left)
        for each in RECEIPT.lines
    ]
    assert "Rounded Total 19.48" in arrange(RECEIPT.width, RECEIPT.height, leaning).texts


def test_an_empty_page_has_no_rows() -> None:
    """A picture without text is a page too."""
    page = arrange(10, 10, [])
    assert (page.rows, page.texts, page.segments) == ((), (), ())
    assert page.size > 0
