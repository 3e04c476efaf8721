"""Checkpoints load with adapters and quantised weights, and still answer."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from inference_service.glm.engine import GlmEngine, Quantisation
from inference_service.glm.loading import load, versions
from tests.inference_service.glm.conftest import Opening, asking, complete, settings_for

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # other libraries' deprecations


@pytest.mark.slow
async def test_an_adapter_changes_the_answers(checkpoint: Path, opening: Opening, tmp_path: Path) -> None:
    """A LoRA adapter is merged when loading; the model stays the same class."""
    peft: Any = pytest.importorskip("peft")
    from transformers import Glm4vForConditionalGeneration

    def write() -> None:
        torch.manual_seed(3)
        model = Glm4vForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=r".*language_model.*q_proj"))
        with torch.no_grad():
            for name, weight in wrapped.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.5)
        wrapped.save_pretrained(tmp_path)

    await asyncio.to_thread(write)
    async with opening() as engine:
        plain = await complete(engine, asking())
    async with opening(adapter=str(tmp_path)) as engine:
        adapted = await complete(engine, asking())
        assert type(engine.network.model) is Glm4vForConditionalGeneration
    assert adapted.text != plain.text


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "package"), [(Quantisation.INT8, "torchao"), (Quantisation.INT4, "bitsandbytes")])
async def test_quantised_weights_answer(checkpoint: Path, kind: Quantisation, package: str) -> None:
    """Quantised text layers load and run; the output layer and the vision tower keep their format."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    engine = GlmEngine(settings_for(checkpoint, quantisation=kind))
    await engine.start()
    try:
        assert (await complete(engine, asking())).usage.output_tokens > 0
        assert engine.info().dtype == f"float32+{kind.value}"
        layer = engine.network.text.layers[0].self_attn.q_proj.weight
        assert type(layer) is not torch.nn.Parameter or layer.dtype is torch.uint8
        assert engine.network.model.lm_head.weight.dtype is torch.float32
        assert engine.network.core.visual.blocks[0].attn.qkv.weight.dtype is torch.float32
    finally:
        await engine.stop()


def test_bfloat16_loads_as_such(checkpoint: Path) -> None:
    """The settings' number format is that of the weights."""
    loaded = load(settings_for(checkpoint, dtype="bfloat16"))
    assert loaded.model.dtype is torch.bfloat16
    assert any(each.startswith("transformers ") for each in versions())
