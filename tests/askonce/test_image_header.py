"""Headers: honest files pass with their size, costly ones are refused before any decoder sees them."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from askonce.image_header import HeaderError, read_header
from benchmarks.hostile_files import bombs, damaged, encode, honest, many_scans, page


@pytest.mark.parametrize("name", honest())
def test_honest_files_pass_with_their_size(name: str) -> None:
    """The header's format and size are what the decoder finds."""
    content = honest()[name]
    header = read_header(content)
    with Image.open(io.BytesIO(content)) as image:
        assert (header.kind, header.width, header.height) == (image.format, *image.size)


@pytest.mark.parametrize("name", bombs())
def test_costly_files_are_refused(name: str) -> None:
    """Each kind of costly file is named, with the count and the limit."""
    with pytest.raises(HeaderError) as refused:
        read_header(bombs()[name])
    assert refused.value.reason == "IMAGE_TOO_COMPLEX"
    assert refused.value.actual > refused.value.limit > 0
    assert refused.value.what in str(refused.value)


def test_ordinary_progressive_files_stay_below_the_limit() -> None:
    """Ten scans are what encoders make, and pass; so does a file with several times as many."""
    assert read_header(encode(page(), "JPEG", progressive=True)).passes <= 12
    assert read_header(many_scans(40)).passes > 40


@pytest.mark.parametrize("name", [name for name in honest() if name != "trailing bytes"])
@pytest.mark.parametrize("cut", [2, 40])
def test_cut_files_are_truncated(name: str, cut: int) -> None:
    """A file whose end is missing says so, even where a thumbnail inside has an end of its own."""
    content = honest()[name]
    if name.startswith("png") or name in ("palette", "alpha", "apng"):
        cut += 8  # a reader of PNG needs no checksum of the last chunk
    with pytest.raises(HeaderError) as refused:
        read_header(content[:-cut])
    assert refused.value.reason == "IMAGE_TRUNCATED"


def test_bytes_after_the_end_are_no_harm() -> None:
    """Phones append a film to a picture."""
    assert read_header(honest()["trailing bytes"]).width == 320


def test_damaged_files_raise_nothing_else() -> None:
    """Whatever is wrong with a file, reading its header ends in a header or in one of the named errors."""
    outcomes = set()
    for content in damaged(3_000):
        try:
            outcomes.add(read_header(content).kind)
        except HeaderError as error:
            outcomes.add(error.reason)
        except ValueError as error:
            outcomes.add(str(error))
    assert outcomes <= {"JPEG", "PNG", "WEBP", "IMAGE_TOO_COMPLEX", "IMAGE_TRUNCATED", "neither JPEG, PNG nor WebP"}
