"""The settings of the in-process GLM-4.6V engine. Imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from askonce.limits import MAX_PIXELS, MAX_TOKENS


class Quantisation(Enum):
    """The number format of the text model's linear layers. The vision tower and the output layer keep `dtype`."""

    NONE = "none"
    FP8 = "fp8"
    """8-bit floats for weights and activations (torchao); needs a card of compute capability 8.9 or more."""
    INT8 = "int8"
    """8-bit weights (torchao); runs anywhere."""
    INT4 = "int4"
    """4-bit NF4 weights (bitsandbytes)."""


@dataclass(frozen=True, slots=True)
class GlmSettings:
    """How to load GLM-4.6V-Flash and how much of a machine to give it."""

    model: str = ""
    """A hub id or the directory of a checkpoint. Required; comes from the engine's name in the service's settings."""
    revision: str = ""
    """The commit of the hub repository. Pin it in production; empty takes the newest."""
    offline: bool = False
    """Whether to refuse every download, so that only a directory or a filled cache will do."""
    dtype: str = "bfloat16"
    """bfloat16, float16 or float32."""
    quantisation: Quantisation = Quantisation.NONE
    """The format of the text model's linear layers."""
    device_map: str = "auto"
    """`auto` spreads the model over the visible GPUs (the CPU where there is none); else a device such as `cuda:0`."""
    adapter: str = ""
    """The directory of a LoRA adapter, merged into the weights when loading; empty for none."""
    max_batch_rows: int = 64
    """The most answers decoded together."""
    max_batch_tokens: int = 131_072
    """Token places of the KV cache, allocated at the start: rows x the longest of them stay within it."""
    max_prefill_tokens: int = 2_048
    """The most new prompt tokens between two decoding steps, four times as many while nothing is decoded; bounds how
    long running answers stand still."""
    emit_interval_s: float = 0.04
    """Tokens of one answer that come within this time, in seconds, are sent as one event; 0 sends each by itself."""
    batch_window_s: float = 0.005
    """How long an idle worker waits for company after a first request, in seconds."""
    prefix_cache_bytes: int = 4 << 30
    """The most bytes of per-image KV prefixes kept on the device; 0 keeps none."""
    feature_cache_bytes: int = 1 << 30
    """The most bytes of per-image vision features kept on the device; 0 keeps none."""
    max_tokens_limit: int = MAX_TOKENS[1]
    """The most tokens that one answer may take."""
    max_pixels_limit: int = MAX_PIXELS[1]
    """The most pixels of one image that the model looks at: 6,144 image tokens of 28 x 28 pixels."""
    max_images: int = 8
    """The most images in one request; each takes its own tokens of the context."""
    max_source_pixels: int = 100_000_000
    """An image file that decodes to more pixels is refused before it is decoded."""
    preprocess_threads: int = 2
    """Threads that decode and resize images and render prompts."""
    cuda_graphs: bool = True
    """Whether to record decoding steps as CUDA graphs. Falls back to plain steps where recording fails."""
    stuck_after_s: float = 20.0
    """After this many seconds in one call into the model the engine calls itself unhealthy."""
    warm_up: bool = True
    """Whether `start` runs a request end to end before it returns."""
    judge_temperature: float = 1.0
    """Divides the judge's log-odds: calibrates its probabilities on labelled pairs."""
    judge_same_at: float = 0.9
    """From this probability on, a pair is judged the same."""
    judge_different_at: float = 0.2
    """Up to this probability, a pair is judged different; in between the judge is unsure."""

    def __post_init__(self) -> None:
        if self.dtype not in ("bfloat16", "float16", "float32"):
            raise ValueError(f"dtype: {self.dtype!r} is none of bfloat16, float16, float32")
        for name in (
            "max_batch_rows",
            "max_batch_tokens",
            "max_prefill_tokens",
            "max_tokens_limit",
            "preprocess_threads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1")
        for name in ("batch_window_s", "emit_interval_s", "prefix_cache_bytes", "feature_cache_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative")
        if not 0 <= self.judge_different_at < self.judge_same_at <= 1:
            raise ValueError("judge_different_at must be below judge_same_at, both within 0 to 1")
        if self.max_batch_tokens < 1024:
            raise ValueError("max_batch_tokens: must be at least 1024")
        if self.judge_temperature <= 0 or self.stuck_after_s <= 0:
            raise ValueError("judge_temperature and stuck_after_s must be above 0")
