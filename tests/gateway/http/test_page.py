"""The web page asks nobody but its own gateway."""

from __future__ import annotations

import re

from gateway.http.page import PAGE, PAGE_HEADERS


def test_nothing_is_loaded_from_elsewhere() -> None:
    """The page is one file; its policy lets it talk to its own host only."""
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", PAGE) == []
    policy = PAGE_HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
