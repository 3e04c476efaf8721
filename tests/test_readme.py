"""The README's client snippet runs as it stands."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from tests.gateway.conftest import system
from tests.gateway.doubles import Running

__all__ = ["system"]

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


async def test_the_snippet_runs(system: Running) -> None:
    """Pasted into Python, with nothing changed but the address, the snippet prints an answer and where it came from."""
    source = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    source = source.replace("127.0.0.1:50051", system.gateway.server.address).replace("examples/", f"{ROOT}/examples/")
    said: list[tuple[object, ...]] = []

    def run() -> None:
        space: dict[str, Any] = {"print": lambda *words: said.append(words)}
        exec(compile(source, "README.md", "exec"), space)

    await asyncio.to_thread(run)
    assert said == [("answer 1 to: What is the total?", "model", "QUESTION_UNKNOWN")]
