"""A tiny checkpoint, engines on it, pictures and requests."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from inference_service.engine import Ask, Completed, Sampling, Turn

torch = pytest.importorskip("torch", reason="needs the glm extra")
pytest.importorskip("transformers", reason="needs the glm extra")

from inference_service.glm.engine import GlmEngine, GlmSettings  # noqa: E402 - only with torch
from tests.inference_service.glm.naive import Naive  # noqa: E402
from tests.inference_service.tiny_glm import write_tiny_glm  # noqa: E402

Opening = Callable[..., AbstractAsyncContextManager[GlmEngine]]


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    """A tiny model is fastest on one thread, and the machine is shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny GLM-4.6V checkpoint."""
    return write_tiny_glm(tmp_path_factory.mktemp("tiny-glm"))


@pytest.fixture(scope="session")
def naive(checkpoint: Path) -> Naive:
    """The plain path on the same checkpoint."""
    return Naive(checkpoint)


def settings_for(directory: Path, **changes: Any) -> GlmSettings:
    """Settings that suit the tiny checkpoint on a CPU."""
    chosen: dict[str, Any] = {
        "model": str(directory),
        "offline": True,
        "dtype": "float32",
        "device_map": "cpu",
        "max_batch_rows": 32,
        "max_batch_tokens": 16_384,
        "prefix_cache_bytes": 1 << 24,
        "feature_cache_bytes": 1 << 24,
        "warm_up": False,
        "stuck_after_s": 60.0,
    }
    return GlmSettings(**(chosen | changes))


@pytest.fixture
def opening(checkpoint: Path) -> Opening:
    """Opens an engine on the tiny checkpoint with changed settings."""

    @asynccontextmanager
    async def opened(**changes: Any) -> AsyncIterator[GlmEngine]:
        engine = GlmEngine(settings_for(checkpoint, **changes))
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()

    return opened


def picture(seed: int, width: int = 200, height: int = 150, kind: str = "PNG", **options: Any) -> bytes:
    """The file of a picture with some coloured boxes."""
    chance = random.Random(seed)
    image = Image.new("RGB", (width, height), tuple(chance.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        left, top = chance.randrange(width), chance.randrange(height)
        box = (left, top, left + chance.randrange(8, 80), top + chance.randrange(8, 80))
        draw.rectangle(box, fill=tuple(chance.randrange(256) for _ in range(3)))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def asking(
    question: str = "What is it?",
    image: bytes | None = None,
    history: tuple[Turn, ...] = (),
    deadline: float | None = None,
    background: bool = False,
    language: str = "",
    **sampling: Any,
) -> Ask:
    """A request; keyword arguments that are left over are sampling settings."""
    content = picture(1) if image is None else image
    how = Sampling(**({"max_tokens": 12} | sampling))
    return Ask("test", content, sha256(content).digest(), question, history, language, how, deadline, background)


async def complete(engine: GlmEngine, ask: Ask) -> Completed:
    """Runs a request to its end and checks that the pieces make up the answer."""
    shown = {False: "", True: ""}
    async for item in engine.generate(ask):
        if isinstance(item, Completed):
            if item.unfit:  # random weights may close a thought that was never opened
                return item
            assert shown[False] == item.text
            assert shown[True] == item.thinking_text
            return item
        shown[item.thinking] += item.text
    raise AssertionError("the stream ended without a Completed")
