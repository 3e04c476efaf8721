"""The benchmark of the GLM engine runs as it is and measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the glm extra")
pytest.importorskip("transformers", reason="needs the glm extra")

from benchmarks.generate import main, parse, quantiles
from tests.inference_service.tiny_glm import write_tiny_glm


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other libraries' deprecations
def test_every_row_does_the_same_work(tmp_path: Path) -> None:
    """All rows generate every token asked for, and decoding has its bandwidth limit beside it."""
    words = ["--device", "cpu", "--width", "168", "--height", "112", "--concurrency", "1", "4", "--requests", "8"]
    words += ["--naive-requests", "2", "--tokens", "5", "--follow-ups", "2", "--kv-tokens", "8192", "--threads", "1"]
    found = main([*words, "--model", str(write_tiny_glm(tmp_path))])
    names = [row["name"] for row in found["rows"]]
    assert names == ["naive loop", "engine, concurrency 1", "engine, concurrency 4", "engine, follow-ups, 16"]
    assert all(row["tokens"] == 5 * row["requests"] for row in found["rows"])
    assert all(0 < row["first_p50"] <= row["first_p95"] <= row["seconds"] for row in found["rows"])
    assert [each["rows"] for each in found["decoding"]] == [1, 4]
    assert found["standstill"]["longest_ms"] >= found["standstill"]["step_ms"] > 0
    assert all(0 < each["share"] < 1 for each in found["decoding"])


def test_the_command_line_names_a_model() -> None:
    """A model or random weights, not both and not neither."""
    for words in ([], ["--model", "x", "--random-full"]):
        with pytest.raises(SystemExit):
            parse(words)
    assert parse(["--random-full", "--device", "cuda"]).dtype == "bfloat16"


def test_quantiles_are_of_the_values() -> None:
    """The 95th percentile of twenty values is the nineteenth."""
    assert quantiles([float(each) for each in range(1, 21)]) == (10.5, 19.0)
