"""The small web page at "/": one file, no scripts from elsewhere."""

from __future__ import annotations

import json
from importlib import resources

from askonce.reasons import OUTCOMES, STORING, errors

REASONS = {
    reason: [meaning.english, meaning.chinese] for reason, meaning in {**STORING, **OUTCOMES, **errors()}.items()
}
PAGE = (
    resources.files("gateway.http")
    .joinpath("page.html")
    .read_text(encoding="utf-8")
    .replace('"REASONS"', json.dumps(REASONS, ensure_ascii=False).replace("<", "\\u003c"))
)
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
