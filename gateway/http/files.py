"""Files in a JSON body: data URIs as clients really write them, bare base64, and addresses."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote

from askonce.faults import InvalidInput
from askonce.v1 import content_pb2

ADDRESS = re.compile(r"https?://", re.IGNORECASE)
SPACE = str.maketrans("", "", " \t\r\n\f\v")
URL_SAFE = str.maketrans("-_", "+/")


def read_file(url: str, field: str) -> content_pb2.Image:
    """An image or PDF file from a data URI, bare base64, or an https address. Raises InvalidInput."""
    text = url.strip()
    if found := ADDRESS.match(text):
        # The scheme has no case (RFC 3986); the rest of an address does.
        return content_pb2.Image(uri=found.group().lower() + text[found.end() :])
    if text[:5].lower() == "data:":
        head, comma, encoded = text.partition(",")
        if not comma or not head.lower().rstrip().endswith(";base64"):
            raise InvalidInput("IMAGE_ENCODING", f'{field}: write "data:image/…;base64,…".', field=field)
        if "%" in encoded:
            encoded = unquote(encoded)
    else:
        encoded = text
    return content_pb2.Image(content=decode(encoded, field))


def decode(encoded: str, field: str) -> bytes:
    """Base64 of either alphabet, with line breaks or without, padded or not. Raises InvalidInput for anything else."""
    plain = encoded.translate(SPACE)
    if "-" in plain or "_" in plain:
        plain = plain.translate(URL_SAFE)
    plain = plain.rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("IMAGE_ENCODING", f"{field}: this is neither an address nor base64.", field=field) from error
