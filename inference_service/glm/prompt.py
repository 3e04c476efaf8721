"""From a request to prompt tokens: sanitised, rendered by the checkpoint's own chat template, images expanded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from inference_service.engine import Ask, BadAskError, Role, Sampling
from inference_service.glm.detokenizer import Marks, Spelling
from inference_service.glm.settings import GlmSettings
from inference_service.picture_work import PictureWork
from inference_service.pictures import upright
from inference_service.sanitising import LANGUAGES, sanitised

Grid = tuple[int, int, int]

SMALLEST_PIXELS = 112 * 112
"""The image processor's lower bound; smaller images are enlarged to it."""


@dataclass(frozen=True, slots=True)
class ImageKey:
    """What caches are kept under: a prompt's images with all that stands before the last of them, and the budget of
    pixels that each is looked at with."""

    digest: bytes
    """The image's own digest where it stands alone at the beginning, as nearly always."""
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the model takes it."""

    ids: list[int]
    positions: np.ndarray
    """Rotary positions, shape (3, tokens), int64."""
    images: tuple[tuple[int, int], ...]
    """Where each image's tokens begin and end, in order."""
    prefix: int
    """Tokens up to and with the last end-of-image mark: the part that every question about the images shares."""
    key: ImageKey
    grids: tuple[Grid, ...]
    """The grid of each image."""
    pixels: tuple[Any, ...] | None
    """Patches of each image (tensors), or None where the features are expected to be known already."""
    open_thought: bool
    """Whether the prompt ends inside a thought."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens that matter, by id; -1 for one that the checkpoint lacks."""

    image: int
    image_end: int
    ends: frozenset[int]
    marks: Marks
    spelling: Spelling
    guarded: tuple[str, ...]
    """Every string that would become a control token in user text, longest first."""


def vocabulary_of(tokenizer: Any, config: Any, generation_config: Any) -> Vocabulary:
    """Reads the ids from the checkpoint; none is assumed."""
    added: dict[str, int] = dict(tokenizer.get_added_vocab())
    ends: set[int] = set()
    for source in (generation_config, config.text_config):
        eos = getattr(source, "eos_token_id", None)
        ends.update([eos] if isinstance(eos, int) else eos or [])
    special = {token for token, each in tokenizer.added_tokens_decoder.items() if each.special}
    boxes = {added[name] for name in ("<|begin_of_box|>", "<|end_of_box|>") if name in added}
    image_end = getattr(config, "image_end_token_id", None)
    return Vocabulary(
        image=config.image_token_id,
        image_end=added.get("<|end_of_image|>", -1) if image_end is None else image_end,
        ends=frozenset(ends),
        marks=Marks(added.get("<think>", -1), added.get("</think>", -1), frozenset(special | boxes)),
        spelling=Spelling(tokenizer.convert_ids_to_tokens, frozenset(added.values())),
        guarded=tuple(sorted({*added, "/nothink"}, key=lambda text: (-len(text), text))),
    )


def check(sampling: Sampling, settings: GlmSettings) -> None:
    """Raises BadAskError for settings that can't be served."""
    if not 1 <= sampling.max_tokens <= settings.max_tokens_limit:
        raise BadAskError("MAX_TOKENS_OUT_OF_RANGE", f"max_tokens must be 1 to {settings.max_tokens_limit}")
    if not 0 <= sampling.temperature <= 2:  # false for NaN, too
        raise BadAskError("TEMPERATURE_OUT_OF_RANGE", "temperature must be 0 to 2")
    if not 0 < sampling.top_p <= 1:
        raise BadAskError("TOP_P_OUT_OF_RANGE", "top_p must be above 0 and at most 1")
    if len(sampling.stop) > 16 or any(not 0 < len(stop) <= 256 for stop in sampling.stop):
        raise BadAskError("STOP_OUT_OF_RANGE", "at most 16 stop strings of 1 to 256 characters")
    if sampling.max_pixels is not None and sampling.max_pixels < 1:
        raise BadAskError("MAX_PIXELS_OUT_OF_RANGE", "max_pixels must be at least 1")


class Prompter:
    """Builds prompts. Safe to use from several threads."""

    def __init__(
        self,
        processor: Any,
        vocabulary: Vocabulary,
        settings: GlmSettings,
        rope: Callable[[Sequence[int], Sequence[tuple[int, int]], Sequence[Grid]], np.ndarray],
        grids_of: Callable[[ImageKey], tuple[Grid, ...] | None],
        work: PictureWork,
    ) -> None:
        self.processor, self.vocabulary, self.settings = processor, vocabulary, settings
        self.rope, self.grids_of, self.work = rope, grids_of, work
        self.lock = Lock()  # a fast tokenizer must not be used by two threads at once

    def prompt(self, ask: Ask) -> Prompt:
        """The prompt of a request. Raises BadAskError."""
        check(ask.sampling, self.settings)
        pieces, rendered = self.render(ask)
        key = ImageKey(shared_digest(ask, pieces), self.budget(ask.sampling.max_pixels))
        grids, pixels = self.grids_of(key), None
        if grids is None:
            made = [self.patches(image.content, key.max_pixels) for image in ask.images]
            pixels, grids = tuple(patches for patches, _ in made), tuple(grid for _, grid in made)
        with self.lock:
            parts = [self.tokens(piece) for piece in pieces]
        merge = self.processor.image_processor.merge_size**2
        ids, images = list(parts[0]), []
        for grid, part in zip(grids, parts[1:], strict=True):
            if part[0] != self.vocabulary.image_end:
                raise BadAskError("CHAT_TEMPLATE_UNSUPPORTED", "the chat template does not close the image")
            size = grid[0] * grid[1] * grid[2] // merge
            images.append((len(ids), len(ids) + size))
            ids += [*[self.vocabulary.image] * size, *part]
        open_thought = rendered.rfind("<think>") > rendered.rfind("</think>")
        positions = self.rope(ids, images, grids)
        return Prompt(ids, positions, tuple(images), images[-1][1] + 1, key, grids, pixels, open_thought)

    def budget(self, max_pixels: int | None) -> int:
        """The pixels to look at: what the request wants, within the engine's limit and the model's lower bound."""
        wanted = self.settings.max_pixels_limit if max_pixels is None else max_pixels
        return max(SMALLEST_PIXELS, min(wanted, self.settings.max_pixels_limit))

    def patches(self, content: bytes, max_pixels: int) -> tuple[Any, Grid]:
        """The image's patches and its grid (time, height, width) in patches."""
        picture = self.work.run(upright, content, self.settings.max_source_pixels)
        try:
            made = self.processor.image_processor(images=[picture], size=self.edges(max_pixels), return_tensors="pt")
        except ValueError as error:
            raise BadAskError("IMAGE_UNSUPPORTED", "the image can't be brought to the model's size") from error
        time, height, width = made["image_grid_thw"][0].tolist()
        return made["pixel_values"], (time, height, width)

    def edges(self, max_pixels: int) -> dict[str, int]:
        """The processor's size for a budget; it counts a still image as `temporal_patch_size` frames."""
        frames = self.processor.image_processor.temporal_patch_size
        return {"shortest_edge": SMALLEST_PIXELS, "longest_edge": frames * max_pixels}

    def image_tokens(self, width: int, height: int) -> int:
        """Image tokens of a picture under the engine's whole budget. Raises BadAskError for a strip."""
        sizes = {"size": self.edges(self.settings.max_pixels_limit)}
        try:
            patches: int = self.processor.image_processor.get_number_of_image_patches(height, width, sizes)
        except (ValueError, ZeroDivisionError) as error:
            raise BadAskError("IMAGE_ASPECT_UNSUPPORTED", "the model can't look at an image of this shape") from error
        return patches // int(self.processor.image_processor.merge_size) ** 2

    def render(self, ask: Ask) -> tuple[list[str], str]:
        """The conversation as text, in pieces between the images' placeholders, and whole."""
        guard = self.vocabulary.guarded
        turns = [(turn.role, sanitised(turn.text, guard)) for turn in ask.history]
        question = sanitised(ask.question, guard)
        if ask.language:
            code = ask.language.split("-")[0].lower()
            wish = LANGUAGES.get(code, f"Answer in the language with the code {sanitised(ask.language, guard)}.")
            question = f"{question}\n{wish}"
        turns.append((Role.USER, question))
        messages: list[dict[str, Any]] = []
        for (role, text), images in zip(turns, ask.images_by_turn(), strict=True):
            content: list[dict[str, str]] = [{"type": "image"} for _ in images]
            messages.append({"role": role.value, "content": [*content, {"type": "text", "text": text}]})
        rendered = self.rendered(messages, ask.sampling.thinking)
        pieces = rendered.split(self.processor.image_token)
        if len(pieces) != len(ask.images) + 1:
            raise BadAskError("PROMPT_UNSUPPORTED", "the prompt does not hold exactly the images of the request")
        return pieces, rendered

    def rendered(self, messages: list[dict[str, Any]], thinking: bool) -> str:
        """A conversation in the words of the checkpoint's chat template."""
        text: str = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        return text

    def tokens(self, text: str) -> list[int]:
        """Token ids of rendered text."""
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def shared_digest(ask: Ask, pieces: Sequence[str]) -> bytes:
    """What tells the beginning of a prompt, up to its last image, from any other's; 32 bytes.

    An image alone at the beginning of a conversation goes by its own digest. Otherwise what is said before the last
    image counts as well: what the model makes of an image depends on all that stands before it.
    """
    first = ask.images_by_turn()[0]
    if len(ask.images) == 1 and first:
        return ask.image_digest
    mix = hashlib.sha256()
    for image, piece in zip(ask.images, pieces[:-1], strict=True):
        text = piece.encode()
        mix.update(image.digest + len(text).to_bytes(8, "little") + text)
    return mix.digest()
