"""From an engine's name to the engine."""

from __future__ import annotations

import sys

import pytest

from askonce.settings import SettingsError
from inference_service.registry import build


def test_the_reader_takes_its_own_section() -> None:
    """Settings of an engine come from the section that is named after it."""
    engine = build("reader", {"ASKONCE_READER_CAPACITY": "3"})
    assert (engine.info().engine, engine.capacity) == ("reader", 3)


@pytest.mark.parametrize(
    "spec", ["", "Reader", "reader:x", "transformers", "transformers:", "openai:", "vllm:http://x"]
)
def test_other_names_are_refused(spec: str) -> None:
    """A misspelt engine is an error with the names that exist, not a default."""
    with pytest.raises(SettingsError, match="transformers:<path or hub id>"):
        build(spec, {})


def test_an_engine_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing vendor is told as the extra that brings it."""
    monkeypatch.setitem(sys.modules, "inference_service.openai.engine", None)
    with pytest.raises(SettingsError, match=r"askonce\[openai\]"):
        build("openai:http://127.0.0.1:8000/v1", {})
