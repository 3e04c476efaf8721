"""Files as clients really write them: data URIs in every spelling, bare base64, addresses."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from askonce.faults import InvalidInput
from gateway.http.files import read_file
from tests.gateway.pictures import picture

CONTENT = picture() + b"\xfb\xff\xfe?>~" * 2
CONTENT += b"~" * (4 - len(CONTENT) % 3)
"""Its base64 has characters in which the two alphabets differ, and padding."""
B64 = base64.b64encode(CONTENT).decode()
LINES = "\n".join(B64[place : place + 76] for place in range(0, len(B64), 76))


def test_the_sample_shows_what_is_to_be_shown() -> None:
    """The base64 below has both special characters and padding."""
    assert "+" in B64
    assert "/" in B64
    assert B64.endswith("=")


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{B64}",
        f"data:image/png;base64,{LINES}",
        f"data:image/png;base64,{LINES.replace(chr(10), chr(13) + chr(10))}",
        f"data:image/png;base64,{B64}\r\n",
        f"data:image/png;base64, {B64}",
        f" data:image/png;base64,{B64}",
        f"DATA:image/png;BASE64,{B64}",
        f"data:image/png;charset=utf-8;base64,{B64}",
        f"data:;base64,{B64}",
        f"data:image/jpeg;base64,{B64}",
        f"data:application/pdf;base64,{B64}",
        f"data:image/png;base64,{B64.rstrip('=')}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(CONTENT).decode()}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(CONTENT).decode().rstrip('=')}",
        f"data:image/png;base64,{quote(B64, safe='')}",
        B64,
        f"\n{B64}\n",
        B64.rstrip("="),
    ],
)
def test_every_spelling_is_the_same_file(url: str) -> None:
    """Line breaks, padding, alphabet, case of the scheme and the announced type make no difference."""
    assert read_file(url, "f").content == CONTENT


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("https://example.com/A.png?x=1", "https://example.com/A.png?x=1"),
        ("HTTPS://example.com/A.png", "https://example.com/A.png"),
        (" https://example.com/a.png\n", "https://example.com/a.png"),
        ("http://example.com/a.png", "http://example.com/a.png"),
    ],
)
def test_addresses(url: str, uri: str) -> None:
    """The scheme has no case, the rest of an address has."""
    assert read_file(url, "f").uri == uri


@pytest.mark.parametrize(
    "url",
    ["data:image/png;base64", "data:image/png,plain", "data:image/png;base64,@@@", "data:image/png;base64,AAAAA",
     "file:///etc/passwd", "ftp://example.com/a.png", "多", "data:image/png;base64,A=A="],
)  # fmt: skip
def test_what_is_neither_is_refused(url: str) -> None:
    """Text that is no base64 is not guessed at."""
    with pytest.raises(InvalidInput) as caught:
        read_file(url, "f")
    assert (caught.value.reason, caught.value.field) == ("IMAGE_ENCODING", "f")
