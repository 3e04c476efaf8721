"""The crowd of one form is what it says: siblings that differ, and copies of them that are found."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks.crowd import COPIES, pages_of, run, write_stream


@pytest.mark.parametrize("kind", ["invoice", "receipt", "rows"])
def test_siblings_differ_in_a_few_places(kind: str) -> None:
    """Pages of one template have the same width, and no two are equal; rows shift only where they should."""
    pages = list(islice(pages_of(kind), 12))
    assert len({page.width for page in pages}) == 1
    assert (len({page.height for page in pages}) > 1) == (kind == "rows")
    assert len({np.asarray(page).tobytes() for page in pages}) == len(pages)


def test_absent_photographs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the data is not there, the reason is given."""
    monkeypatch.delenv("ASKONCE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="ASKONCE_DATA"):
        pages_of("vat")


def test_a_stream_tells_which_page_is_copied(tmp_path: Path) -> None:
    """Copies come after the pages, and carry the answer of theirs."""
    write_stream(tmp_path, "receipt", 3, 7)
    lines = [json.loads(line) for line in (tmp_path / "stream.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines[:3]] == [f"images/page_{number}.jpg" for number in range(3)]
    assert {line["answer"] for line in lines[3:]} <= {line["answer"] for line in lines[:3]}
    assert all((tmp_path / line["image"]).stat().st_size > 1_000 for line in lines)


@pytest.mark.slow
def test_originals_are_found_in_a_small_crowd() -> None:
    """Among drawn siblings and those put together of them."""
    alone, drawn, many = run("receipt", [1, 8, 20], 8, len(COPIES))
    assert alone.forms == 0
    assert drawn.forms == many.forms == 1
    assert [one.hits for one in (alone, drawn, many)] == [len(COPIES)] * 3
    assert max(one.checked for one in (alone, drawn, many)) <= 3
