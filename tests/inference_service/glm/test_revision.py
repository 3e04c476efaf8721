"""Answers of one set of weights are never taken for another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference_service.glm import revision
from inference_service.glm.revision import digest_of, revision_of
from inference_service.glm.settings import GlmSettings, Quantisation


def folder(path: Path, **files: bytes) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def test_everything_that_changes_answers_changes_the_revision(tmp_path: Path) -> None:
    """Weights, adapter, number format and quantisation each make another revision; the same ones the same."""
    model = str(folder(tmp_path / "model", weights=b"w"))
    one, other = (str(folder(tmp_path / name, adapter=name.encode())) for name in ("one", "other"))
    kinds = [
        GlmSettings(model=model),
        GlmSettings(model=model, adapter=one),
        GlmSettings(model=model, adapter=other),
        GlmSettings(model=model, dtype="float16"),
        GlmSettings(model=model, quantisation=Quantisation.FP8),
        GlmSettings(model=model, quantisation=Quantisation.INT8, adapter=one),
    ]
    named = [revision_of(each, "") for each in kinds]
    assert len(set(named)) == len(kinds)
    assert named == [revision_of(each, "") for each in kinds]
    assert revision_of(GlmSettings(model="hub/model"), "abc") == "abc"
    assert revision_of(GlmSettings(model="hub/model", adapter=one), "abc").startswith("abc;adapter=")


def test_a_digest_changes_with_names_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file, another name, another byte; also in a file too large to be read whole."""
    same = [digest_of(folder(tmp_path / str(number), a=b"1", b=b"2")) for number in range(2)]
    assert same[0] == same[1]
    others = [
        digest_of(folder(tmp_path / "x", a=b"1", b=b"3")),
        digest_of(folder(tmp_path / "y", a=b"1", c=b"2")),
        digest_of(folder(tmp_path / "z", a=b"1", b=b"2", c=b"")),
    ]
    assert len({same[0], *others}) == 4
    monkeypatch.setattr(revision, "WHOLE", 10)
    monkeypatch.setattr(revision, "SAMPLE", 4)
    monkeypatch.setattr(revision, "SAMPLES", 4)
    large = [
        digest_of(folder(tmp_path / name, a=content)) for name, content in (("p", b"a" * 40), ("q", b"a" * 39 + b"b"))
    ]
    assert large[0] != large[1]
