"""The plain way to ask the model, one request at a time through transformers' own `generate`: what ours must equal."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from inference_service.engine import Ask


class Naive:
    """A checkpoint with its processor, used the way the model's documentation shows."""

    def __init__(self, directory: Path) -> None:
        import torch
        from transformers import AutoProcessor, Glm4vForConditionalGeneration

        library: Any = AutoProcessor
        self.model: Any = Glm4vForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
        self.processor = library.from_pretrained(directory)

    def chances(self, ask: Ask) -> Any:
        """The natural logarithms of what may come next after the prompt, (vocabulary,)."""
        import torch

        with torch.inference_mode():
            return self.model(**self.inputs(ask)).logits[0, -1].float().log_softmax(-1)

    def inputs(self, ask: Ask) -> Any:
        """The prompt as the processor makes it."""
        messages: list[dict[str, Any]] = [
            {"role": turn.role.value, "content": [{"type": "text", "text": turn.text}]} for turn in ask.history
        ]
        messages.append({"role": "user", "content": [{"type": "text", "text": ask.question}]})
        counts = [turn.image_count for turn in ask.history]
        if not any(counts):
            first = next(number for number, message in enumerate(messages) if message["role"] == "user")
            counts = [len(ask.images) if number == first else 0 for number in range(len(messages) - 1)]
        counts.append(len(ask.images) - sum(counts))
        pictures = iter(
            ImageOps.exif_transpose(Image.open(io.BytesIO(each.content))).convert("RGB") for each in ask.images
        )
        for message, count in zip(messages, counts, strict=True):
            message["content"][:0] = [{"type": "image", "image": next(pictures)} for _ in range(count)]
        extra = {}
        if ask.sampling.max_pixels is not None:
            extra = {"images_kwargs": {"size": {"shortest_edge": 12_544, "longest_edge": 2 * ask.sampling.max_pixels}}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the processor's own use of NumPy
            return self.processor.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                enable_thinking=ask.sampling.thinking,
                processor_kwargs=extra,
            )

    def answer(self, ask: Ask) -> tuple[str, int]:
        """The greedy answer without its thinking, and the number of tokens generated, the end token not counted."""
        inputs = self.inputs(ask)
        made = self.model.generate(
            **inputs, max_new_tokens=ask.sampling.max_tokens, do_sample=False, temperature=None, top_p=None, top_k=None
        )
        tokens = made[0, inputs["input_ids"].shape[1] :].tolist()
        ends = self.model.generation_config.eos_token_id or []
        if tokens and tokens[-1] in ends:
            tokens = tokens[:-1]
        text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return without_thinking(text).strip(), len(tokens)


def without_thinking(text: str) -> str:
    """The text outside thoughts, boxes unwrapped."""
    kept = []
    thinking = False
    for part in re.split(r"(</?think>)", text):
        if part in ("<think>", "</think>"):
            thinking = part == "<think>"
        elif not thinking:
            kept.append(part)
    return re.sub(r"<\|(?:begin|end)_of_box\|>", "", "".join(kept))
