"""What the documents show is true: their snippets run, their bodies are accepted, their tables name real reasons."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from askonce import reasons
from askonce.v1 import answer_pb2
from gateway.auth import read_keys
from gateway.settings import TextLimits
from gateway.validation import check_request
from tests.gateway.doubles import Running
from tests.gateway.pictures import picture

ROOT = Path(__file__).resolve().parents[2]
INTEGRATE = (ROOT / "docs" / "integrate.md").read_text(encoding="utf-8")
GRPCURL = (ROOT / "examples" / "grpcurl.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


async def test_snippets_run(system: Running) -> None:
    """The Python snippets run one after another against a gateway."""
    source, said = "\n".join(blocks(INTEGRATE, "python")), list[tuple[object, ...]]()

    def run() -> None:
        space: dict[str, Any] = {
            "gateway": system.gateway.server.address,
            "image": picture(),
            "print": lambda *words: said.append(words),
        }
        exec(compile(source, "integrate.md", "exec"), space)
        space["channel"].close()

    await asyncio.to_thread(run)
    assert said == [
        ("answer 1 to: What is the total?",),
        (False, "QUESTION_UNKNOWN"),
        ("INVALID_ARGUMENT", "IMAGE_REQUIRED", "image", {}, None),
    ]
    assert system.memory.learned[0].feedback.correct_text == "RM 138.90"


@pytest.mark.slow
async def test_example_client_asks_twice(system: Running, tmp_path: Path) -> None:
    """The example client gets its second answer from memory and reports it as wrong."""
    image = tmp_path / "receipt.png"
    image.write_bytes(picture())
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "client.py"), str(image), "Total?", "--wrong",
        "--gateway", system.gateway.server.address,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    text = said.decode()
    assert process.returncode == 0, text
    assert "from the model (QUESTION_UNKNOWN)" in text
    assert "from memory (EXACT)" in text
    assert "1 removed" in text


def test_json_request_is_valid() -> None:
    """The full request in examples/grpcurl.md parses and passes every check."""
    for block in blocks(GRPCURL, "json"):
        request = json_format.Parse(block, answer_pb2.AnswerRequest())
        check_request(request, TextLimits())


def test_key_file_is_valid() -> None:
    """The key file in docs/integrate.md can be read."""
    (block,) = blocks(INTEGRATE, "toml")
    ((_, caller),) = read_keys(block).items()
    assert (caller.tenant, caller.rate) == ("tenants/acme", "600/minute")


def test_documented_statuses_are_the_catalogues() -> None:
    """The table of errors names every status that the catalogue has but the ones that no client handles."""
    table = INTEGRATE.split("## Errors")[1].split("## Tenants")[0]
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", table))
    assert named <= reasons.ERRORS.keys()
    assert reasons.ERRORS.keys() - named <= {"FAILED_PRECONDITION", "ABORTED", "UNIMPLEMENTED"}
