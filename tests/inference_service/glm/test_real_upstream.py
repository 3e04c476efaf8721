"""The OpenAI engine against a real server: `transformers serve` on the tiny checkpoint, on the CPU."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_service.engine import BadAskError, Completed, EngineError, EngineUnavailableError, Finish
from inference_service.openai.engine import OpenAIEngine, OpenAISettings
from tests.inference_service.glm.conftest import asking, picture
from tests.inference_service.glm.naive import Naive

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server, up to and with /v1."""
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "openai")):
        pytest.skip("transformers[serving] is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cache = tmp_path_factory.mktemp("hub")
    words = [str(Path(sys.executable).with_name("transformers")), "serve", str(checkpoint)]
    words += ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    log = (cache / "log").open("w")
    process = subprocess.Popen(words, stdout=log, stderr=log, env=environ)
    try:
        until = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    pytest.fail((cache / "log").read_text()[-2_000:])
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


async def complete(engine: OpenAIEngine, **words: object) -> Completed:
    shown = ""
    async for item in engine.generate(asking(**words)):  # type: ignore[arg-type]
        if isinstance(item, Completed):
            assert shown == item.text
            return item
        shown += "" if item.thinking else item.text
    raise AssertionError("the stream ended without a Completed")


async def test_a_real_server_answers_like_the_model(server: str, checkpoint: Path, naive: Naive) -> None:
    """Streaming, image, usage and greedy settings work with a server that is not ours, one by one and together."""
    engine = OpenAIEngine(OpenAISettings(base_url=server, model=str(checkpoint)))
    await engine.start()
    try:
        questions = ("What is it?", "How much?", "一共多少钱？")
        alone = [await complete(engine, question=question, image=picture(3)) for question in questions]
        together = await asyncio.gather(
            *(complete(engine, question=question, image=picture(3)) for question in questions)
        )
        assert engine.healthy()
        with pytest.raises(BadAskError):
            await complete(engine, max_tokens=0)
        with pytest.raises(EngineError) as caught:
            await complete(engine, max_tokens=4_000, deadline=time.monotonic() + 0.02)
        assert caught.value.reason == "DEADLINE_EXCEEDED"
        [judged] = await engine.compare([("a", "b")])
        assert judged.verdict == "unsure"  # this server ignores the wish for log-probabilities
    finally:
        await engine.stop()
    assert [each.text for each in together] == [each.text for each in alone]
    assert all(each.finish in (Finish.STOP, Finish.LENGTH) for each in alone)
    assert all(each.usage.input_tokens > 40 and each.usage.output_tokens > 0 for each in alone)
    expected = [naive.answer(asking(question, picture(3)))[0] for question in questions]
    thinking = [naive.answer(asking(question, picture(3), thinking=True))[0] for question in questions]
    # The server drops a character that is cut at the end, which we show as U+FFFD; and it may not switch thinking.
    plain = [[text.rstrip("\ufffd") for text in texts] for texts in (expected, thinking)]
    assert [each.text.strip().rstrip("\ufffd") for each in alone] in plain


async def test_a_server_that_dies_is_noticed(checkpoint: Path) -> None:
    """A port where nothing listens is an error at the start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EngineUnavailableError):
        await OpenAIEngine(OpenAISettings(base_url=f"http://127.0.0.1:{port}/v1", model=str(checkpoint))).start()
