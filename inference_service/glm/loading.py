"""Loads the model and its processor, from the hub, a directory or, for benchmarks, at random."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import transformers

from inference_service.engine import EngineError
from inference_service.glm.revision import revision_of
from inference_service.glm.settings import GlmSettings, Quantisation

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

UNTOUCHED = ["lm_head", "model.visual", "visual"]
"""Modules that quantisation leaves alone: they are small and the answer's digits depend on them."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run, with the processor that belongs to it."""

    model: Any
    processor: Any
    revision: str
    """What stored answers are kept under, see `revision_of`."""


def load(settings: GlmSettings) -> Loaded:
    """Loads what the settings name. Raises EngineError(MODEL_UNAVAILABLE) with the reason when it can't be."""
    if not settings.model:
        raise EngineError("MODEL_UNAVAILABLE", "no model is named")
    if Path(settings.model).is_absolute() and not Path(settings.model).exists():
        raise EngineError("MODEL_UNAVAILABLE", f"there is no {settings.model}; name a checkpoint's folder or a hub id")
    library: Any = transformers
    source: dict[str, Any] = {"local_files_only": settings.offline}
    if settings.revision:
        source["revision"] = settings.revision
    extra: dict[str, Any] = {}
    try:
        if settings.quantisation is not Quantisation.NONE:
            extra["quantization_config"] = quantiser(settings)
        model = library.Glm4vForConditionalGeneration.from_pretrained(
            settings.model,
            dtype=DTYPES[settings.dtype],
            device_map=settings.device_map,
            attn_implementation="sdpa",
            **source,
            **extra,
        )
        if settings.adapter:
            model = adapted(model, settings.adapter)
        processor = library.AutoProcessor.from_pretrained(settings.model, **source)
        commit = getattr(model.config, "_commit_hash", None) or settings.revision
        revision = revision_of(settings, commit)
    except Exception as error:
        raise EngineError("MODEL_UNAVAILABLE", f"can't load {settings.model}: {error}") from error
    model.eval()
    return Loaded(model, processor, revision)


def quantiser(settings: GlmSettings) -> Any:
    """The configuration of the library that quantises while loading."""
    library: Any = transformers
    if settings.quantisation is Quantisation.INT4:
        return library.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=DTYPES[settings.dtype],
            llm_int8_skip_modules=UNTOUCHED,
        )
    torchao: Any = import_module("torchao.quantization")
    kind = (
        torchao.Float8DynamicActivationFloat8WeightConfig(granularity=torchao.PerRow())
        if settings.quantisation is Quantisation.FP8
        else torchao.Int8WeightOnlyConfig()
    )
    return library.TorchAoConfig(kind, modules_to_not_convert=UNTOUCHED)


def adapted(model: Any, directory: str) -> Any:
    """The model with a LoRA adapter merged into its weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, directory).merge_and_unload()


def versions() -> tuple[str, ...]:
    """The libraries that answers depend on, with their versions."""
    found = []
    for name in ("torch", "transformers", "peft", "torchao", "bitsandbytes"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return tuple(found)
