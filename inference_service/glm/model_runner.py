"""Runs the model for the scheduler: vision, prefill, steps, the judge; owns the running batch and the caches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import structlog
import torch

from inference_service.engine import CacheState, EngineBusyError, EngineError
from inference_service.glm.byte_lru import ByteLRU
from inference_service.glm.judge import JudgePrompt, VerdictTokens
from inference_service.glm.network import Chunk, Network
from inference_service.glm.prompt import Grid, ImageKey
from inference_service.glm.sampling import choose
from inference_service.glm.sequence import SequenceState
from inference_service.glm.settings import GlmSettings
from inference_service.judge_prompt import Reading, Script

log = structlog.get_logger("model_runner")

T = TypeVar("T")

SMALLEST_PLACES = 256
"""Rows of the KV cache are at least this long."""

RECOVERY_STEPS = 256
"""Steps without trouble after which a batch that was halved for want of memory may double again."""


class Features:
    """What the vision tower saw in a prompt's images, one after another."""

    def __init__(self, grids: tuple[Grid, ...], tensor: torch.Tensor) -> None:
        self.grids, self.tensor = grids, tensor
        self.bytes = tensor.numel() * tensor.element_size()


class Prefix:
    """Keys and values of a prompt's beginning, per layer."""

    def __init__(self, grids: tuple[Grid, ...], saved: list[torch.Tensor]) -> None:
        self.grids, self.saved = grids, saved
        self.bytes = sum(each.numel() * each.element_size() for each in saved)


class ModelRunner:
    """Everything that touches the device. Belongs to the scheduler's thread, except where a method says otherwise.

    `rows` are the sequences of the running batch; a sequence's place in the list is its row in the KV cache. Running
    out of memory empties the caches and halves what was tried; a sequence that fails alone fails with OUT_OF_MEMORY.
    `take` is told each token that was chosen, `fail` each sequence that can't go on, `flush` when there is news.
    """

    def __init__(
        self,
        network: Network,
        settings: GlmSettings,
        verdicts: VerdictTokens,
        patches: Callable[[bytes, int], tuple[Any, Grid]],
        take: Callable[[SequenceState, int], None],
        fail: Callable[[SequenceState, EngineError], None],
        flush: Callable[[], None],
    ) -> None:
        self.network, self.settings, self.verdicts, self.patches = network, settings, verdicts, patches
        self.take, self.fail, self.flush = take, fail, flush
        self.features: ByteLRU[Features] = ByteLRU("features", settings.feature_cache_bytes, lambda each: each.bytes)
        self.prefixes: ByteLRU[Prefix] = ByteLRU("prefixes", settings.prefix_cache_bytes, lambda each: each.bytes)
        self.scripts: dict[Script, list[torch.Tensor]] = {}
        self.rows: list[SequenceState] = []
        self.called: float | None = None
        """When the running call into the model began."""
        self.step_limit = settings.max_batch_rows
        self.good_steps = 0
        network.kv_cache.reshape(
            max(network.kv_cache.tokens // settings.max_batch_rows, SMALLEST_PLACES, 1), [], settings.max_batch_rows
        )

    def grids_of(self, key: ImageKey) -> tuple[Grid, ...] | None:
        """The grids of images that need not be decoded, as what the model saw in them is kept. Safe from any thread."""
        known = self.prefixes.peek(key) or self.features.peek(key)
        return known.grids if known else None

    def caches(self) -> tuple[CacheState, ...]:
        """The figures of the per-image caches. Safe from any thread."""
        return self.prefixes.state(), self.features.state()

    def stuck(self, now: float) -> bool:
        """Whether the running call into the model takes too long. Safe from any thread."""
        called = self.called
        return called is not None and now - called > self.settings.stuck_after_s

    def places_for(self, count: int, needed: int) -> int | None:
        """How long rows are to be for `count` of them to hold `needed` places each; None when they don't fit."""
        rounded = max(SMALLEST_PLACES, 1 << (needed - 1).bit_length())
        return next((places for places in (rounded, needed) if places * count <= self.network.kv_cache.tokens), None)

    def make_room(self, count: int, needed: int) -> bool:
        """Reshapes the KV cache when its rows are too short or too few."""
        kv_cache = self.network.kv_cache
        if needed <= kv_cache.places and count <= kv_cache.rows:
            return True
        places = self.places_for(count, needed)
        if places is None:
            return False
        kv_cache.reshape(places, [row.filled for row in self.rows], self.settings.max_batch_rows)
        return True

    def look(self, rows: Sequence[SequenceState]) -> dict[ImageKey, Features]:
        """Vision features for the images of these rows, from the cache or from the tower. Rows that fail are done."""
        found: dict[ImageKey, Features] = {}
        missing: dict[ImageKey, SequenceState] = {}
        for row in rows:
            key = row.prompt.key
            if key in found or key in missing:
                continue
            kept = self.features.get(key)
            if kept is not None:
                found[key] = kept
            else:
                missing[key] = row

        def see(some: Sequence[SequenceState]) -> None:
            begin = time.monotonic()
            images = [each for row in some for each in zip(self.pixels_of(row), row.prompt.grids, strict=True)]
            tensors = iter(self.calling(self.network.see, images))
            took = time.monotonic() - begin
            for row in some:
                row.vision = took
                features = Features(row.prompt.grids, torch.cat([next(tensors) for _ in row.prompt.grids]))
                found[row.prompt.key] = features
                self.features.put(row.prompt.key, features)

        for group in grouped(list(missing.values()), lambda row: len(row.prompt.ids), self.settings.max_prefill_tokens):
            self.shrinking(see, group, self.fail)
        for row in rows:
            if row.prompt.key not in found and not row.done:
                self.fail(row, EngineError("ENGINE_FAILED", "the image could not be encoded"))
        return found

    def pixels_of(self, row: SequenceState) -> tuple[Any, ...]:
        """The patches of a row's images."""
        if row.prompt.pixels is not None:
            return row.prompt.pixels
        return tuple(self.patches(image.content, row.prompt.key.max_pixels)[0] for image in row.ask.images)

    def prefill(self, rows: Sequence[SequenceState], seen: dict[ImageKey, Features], fresh: bool) -> None:
        """Takes prompts into the KV cache: all of them when `fresh`, else what follows a kept prefix."""

        def run(some: Sequence[SequenceState]) -> None:
            begin = time.monotonic()
            first = len(self.rows)
            chunks = []
            for offset, row in enumerate(some):
                prompt = row.prompt
                past = 0
                if not fresh:
                    prefix = self.prefixes.get(prompt.key)
                    if prefix is None:
                        raise torch.OutOfMemoryError("the prefix was dropped for want of memory")
                    self.network.kv_cache.restore(first + offset, prefix.saved)
                    past = prompt.prefix
                embeds = self.network.embed(prompt.ids[past:])
                if fresh:
                    sizes = [end - begin for begin, end in prompt.images]
                    parts = torch.split(seen[prompt.key].tensor, sizes)
                    for (left, right), part in zip(prompt.images, parts, strict=True):
                        embeds[left:right] = part
                chunks.append(Chunk(embeds, torch.from_numpy(prompt.positions[:, past:]), past))
            logits = self.calling(self.network.prefill, first, chunks)
            tokens = choose(logits, [row.ask.sampling for row in some], [row.dice for row in some])
            now = time.monotonic()
            for offset, (row, token) in enumerate(zip(some, tokens, strict=True)):
                if fresh and self.settings.prefix_cache_bytes:
                    self.keep_prefix(row, first + offset)
                row.filled = len(row.prompt.ids)
                row.position = int(row.prompt.positions[:, -1].max()) + 1
                row.cached = 0 if fresh else row.prompt.prefix
                row.prefill, row.prefilled = now - begin, now
                self.rows.append(row)
                self.take(row, token)
            self.flush()

        def run_or_fall_back(some: Sequence[SequenceState]) -> None:
            if fresh:
                run(some)
                return
            lost = [row for row in some if self.prefixes.peek(row.prompt.key) is None]
            kept = [row for row in some if row not in lost]
            if kept:
                run(kept)
            if lost:  # emptied caches: take the long way
                features = self.look(lost)
                self.prefill([row for row in lost if not row.done], features, fresh=True)

        def new(row: SequenceState) -> int:
            return len(row.prompt.ids) - (0 if fresh else row.prompt.prefix)

        if fresh:
            for row in rows:
                if self.settings.prefix_cache_bytes and self.prefixes.peek(row.prompt.key) is None:
                    self.prefixes.get(row.prompt.key)  # counts the miss
        for group in grouped(list(rows), new, self.settings.max_prefill_tokens):
            self.shrinking(run_or_fall_back, group, self.fail)

    def keep_prefix(self, row: SequenceState, place: int) -> None:
        """Copies the image's part of a prefilled row to the cache, where there is memory for it."""
        if row.prompt.prefix * self.network.kv_bytes > self.settings.prefix_cache_bytes:
            return
        if self.prefixes.peek(row.prompt.key) is not None:
            return
        try:
            saved = self.network.kv_cache.save(place, row.prompt.prefix)
            self.prefixes.put(row.prompt.key, Prefix(row.prompt.grids, saved))
        except torch.OutOfMemoryError:
            self.prefixes.clear()

    def step(self) -> None:
        """One token further for every running answer."""
        if not self.rows:
            return

        def run(some: Sequence[SequenceState]) -> None:
            first = self.rows.index(some[0])
            logits = self.calling(
                self.network.step,
                first,
                [row.token for row in some],
                [row.position for row in some],
                [row.filled for row in some],
            )
            tokens = choose(logits, [row.ask.sampling for row in some], [row.dice for row in some])
            for row, token in zip(some, tokens, strict=True):
                row.filled += 1
                row.position += 1
                self.take(row, token)

        limit = self.step_limit
        for start in range(0, len(self.rows), limit):
            self.shrinking(run, self.rows[start : start + limit], self.fail)
        self.good_steps += 1
        if self.good_steps >= RECOVERY_STEPS and self.step_limit < self.settings.max_batch_rows:
            self.step_limit, self.good_steps = self.step_limit * 2, 0
        self.compact()

    def compact(self) -> None:
        """Takes finished rows out, filling each hole with the last row."""
        place = 0
        while place < len(self.rows):
            if not self.rows[place].done:
                place += 1
                continue
            last = self.rows.pop()
            if place < len(self.rows):
                if not last.done:
                    self.network.kv_cache.move(len(self.rows), place, last.filled)
                self.rows[place] = last

    def read(self, prompts: Sequence[JudgePrompt]) -> list[Reading]:
        """What the model says to each prompt."""
        first, kv_cache = len(self.rows), self.network.kv_cache
        needed = max([len(prompt.ids) + 1 for prompt in prompts] + [row.places for row in self.rows])
        if not self.make_room(first + len(prompts), needed):
            raise torch.OutOfMemoryError("no room in the KV cache")
        chunks = []
        for offset, prompt in enumerate(prompts):
            past = prompt.prefix
            if past:
                kv_cache.restore(first + offset, self.script(prompt, first + offset))
            embeds = self.network.embed(prompt.ids[past:])
            places = torch.arange(past, len(prompt.ids)).expand(3, -1)
            chunks.append(Chunk(embeds, places, past))
        chances = self.calling(self.network.prefill, first, chunks).float().log_softmax(-1).cpu()
        yes, no = (chances[:, list(tokens)].logsumexp(-1).tolist() for tokens in (self.verdicts.yes, self.verdicts.no))
        return [Reading(*each) for each in zip(yes, no, strict=True)]

    def script(self, prompt: JudgePrompt, place: int) -> list[torch.Tensor]:
        """Keys and values of the instruction that opens a judge's prompt, computed once."""
        script = prompt.put.script
        if script not in self.scripts:
            ids = prompt.ids[: prompt.prefix]
            positions = torch.arange(prompt.prefix).expand(3, -1)
            self.calling(self.network.prefill, place, [Chunk(self.network.embed(ids), positions, 0)])
            self.scripts[script] = self.network.kv_cache.save(place, prompt.prefix)
        return self.scripts[script]

    def calling(self, call: Callable[..., T], *arguments: Any) -> T:
        """Calls into the model, leaving word of when."""
        self.called = time.monotonic()
        try:
            return call(*arguments)
        finally:
            self.called = None

    def shrinking(
        self, run: Callable[[Sequence[T]], None], items: Sequence[T], fail: Callable[[T, EngineError], None]
    ) -> None:
        """Runs on all items; in trouble on each half, down to one item, which then fails alone.

        Out of memory empties the caches first. A device that has failed for good ends the worker.
        """
        trouble = attempt(run, items)
        if isinstance(trouble, torch.OutOfMemoryError):
            log.warning("out_of_memory", items=len(items))
            self.free()
            self.step_limit, self.good_steps = max(1, min(self.step_limit, len(items)) // 2), 0
            if len(items) == 1:
                trouble = attempt(run, items)
        if trouble is None:
            return
        if "CUDA error" in str(trouble):
            raise trouble
        if len(items) == 1:
            if isinstance(trouble, torch.OutOfMemoryError):
                self.free()
                fail(items[0], EngineBusyError("OUT_OF_MEMORY", "the request needs more memory than there is", 5.0))
            elif isinstance(trouble, EngineError):
                fail(items[0], trouble)
            else:
                log.error("request_failed", exc_info=trouble)
                fail(items[0], EngineError("ENGINE_FAILED", "the model failed on this request"))
            return
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            self.shrinking(run, half, fail)

    def free(self) -> None:
        """Empties every cache and gives the memory back."""
        self.prefixes.clear()
        self.features.clear()
        self.scripts.clear()
        self.network.release()


def attempt(run: Callable[[Sequence[T]], None], items: Sequence[T]) -> Exception | None:
    """Runs and returns what went wrong, without the traceback's hold on tensors."""
    try:
        run(items)
    except Exception as error:
        log.debug("attempt_failed", exc_info=True)
        return error.with_traceback(None)
    return None


def grouped(
    rows: list[SequenceState], size: Callable[[SequenceState], int], most: int
) -> Iterable[list[SequenceState]]:
    """Rows of similar size together, at most `most` padded tokens a group, so that padding wastes less than half."""
    group: list[SequenceState] = []
    for row in sorted(rows, key=size):
        if group and (size(row) > 2 * size(group[0]) or size(row) * (len(group) + 1) > most):
            yield group
            group = []
        group.append(row)
    if group:
        yield group
