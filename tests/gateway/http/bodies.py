"""Bodies for the HTTP edge."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from tests.gateway.doubles import Running
from tests.gateway.pictures import picture

PNG = base64.b64encode(picture()).decode()
DATA = f"data:image/png;base64,{PNG}"
JSON = {"content-type": "application/json"}
Web = tuple[Running, httpx.AsyncClient]


def body(text: str = "What is the total?", **fields: Any) -> dict[str, Any]:
    """A chat completion request about one picture."""
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": DATA}}]
    return {"model": "counting-1", "messages": [{"role": "user", "content": parts}], **fields}
