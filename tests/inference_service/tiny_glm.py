"""Writes a very small GLM-4.6V checkpoint: the model's own classes and files, random weights, nothing downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONTROL = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip
"""Tokens that decoding drops as special, in the order of GLM's vocabulary."""

VISIBLE = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "/nothink", "<|begin_of_box|>", "<|end_of_box|>", "<|image|>",
    "<|video|>",
)  # fmt: skip
"""Added tokens that GLM does not mark as special, so that they survive decoding."""

SENTENCES = (
    "What is shown in this picture, and how much is it in total?",
    "Is there a dog? yes no Yes No same answer",
    "这张图片里有什么？一共多少钱？是 否 不",
    "0 1 2 3 4 5 6 7 8 9 . , : ; ! ?\n",
)

TEMPLATE = """[gMASK]<sop>
{%- macro parts(content) -%}
{%- if content is string %}{{ content }}{% else -%}
{%- for part in content -%}
{%- if part.type == "image" -%}<|begin_of_image|><|image|><|end_of_image|>{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set quiet = enable_thinking is defined and not enable_thinking -%}
{%- for message in messages -%}
{%- if message.role == "assistant" -%}
<|assistant|>{{ "\\n<think></think>\\n" }}{{ parts(message.content).split("</think>")[-1].strip() }}
{%- else -%}
<|{{ message.role }}|>{{ "\\n" }}{{ parts(message.content) }}
{{- "/nothink" if quiet and message.role == "user" else "" }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|assistant|>{{ "\\n<think></think>\\n" if quiet else "\\n" }}
{%- endif -%}"""
"""Our own wording of what GLM's template does: one image mark, `/nothink` and an empty thought with thinking off."""


def write_tiny_glm(
    directory: Path, hidden: int = 64, layers: int = 2, vision_layers: int = 2, vision_hidden: int = 32, seed: int = 0
) -> Path:
    """Writes the checkpoint, fp32, and returns its directory. `hidden` is a multiple of 32.

    Weights are spread widely (standard deviation 0.3) so that different inputs give different answers; the usual 0.02
    makes a small model repeat one token.
    """
    import torch
    import transformers

    library: Any = transformers
    tokenizer = tiny_tokenizer()
    id_of = tokenizer.convert_tokens_to_ids
    ends = [id_of(token) for token in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    spread = 0.3 if hidden <= 128 else 0.05
    config = library.Glm4vConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden // 16,
            "num_key_value_heads": max(1, hidden // 32),
            "max_position_embeddings": 131_072,
            "pad_token_id": ends[0],
            "eos_token_id": ends,
            "attention_bias": True,
            "initializer_range": spread,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 500_000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1],  # sums to half of the 8 rotated dimensions of a 16-wide head
            },
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": vision_hidden,
            "num_heads": vision_hidden // 16,
            "image_size": 336,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "initializer_range": spread,
        },
        image_token_id=id_of("<|image|>"),
        video_token_id=id_of("<|video|>"),
        image_start_token_id=id_of("<|begin_of_image|>"),
        image_end_token_id=id_of("<|end_of_image|>"),
        video_start_token_id=id_of("<|begin_of_video|>"),
        video_end_token_id=id_of("<|end_of_video|>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = library.Glm4vForConditionalGeneration(config).eval()
    # Like the published one, it samples unless told otherwise.
    model.generation_config = library.GenerationConfig(
        do_sample=True, temperature=0.8, top_k=2, top_p=0.6, eos_token_id=ends, pad_token_id=ends[0]
    )
    model.save_pretrained(directory)
    processor = library.Glm46VProcessor(
        image_processor=library.Glm46VImageProcessor(
            size={"shortest_edge": 112 * 112, "longest_edge": 2 * 28 * 28 * 6144}
        ),
        tokenizer=tokenizer,
        video_processor=library.Glm46VVideoProcessor(
            size={"shortest_edge": 112 * 112, "longest_edge": 28 * 28 * 30_000}
        ),
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(directory)
    return directory


def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer of a few hundred tokens, with GLM's control tokens."""
    import transformers
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 8, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in VISIBLE])
    library: Any = transformers
    return library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=131_072,
    )
