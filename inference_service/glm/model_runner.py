"""Runs the model for the scheduler: vision, prefill, steps, the judge; owns the running batch and the caches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
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
from inference_service.metrics import OUT_OF_MEMORY

log = structlog.get_logger("model_runner")

T = TypeVar("T")

SMALLEST_PLACES = 256
"""Rows of the KV cache are at least this long."""

IDLE_PREFILL = 4
"""How many times the budget of a prefill is allowed while no answer is being decoded that it would hold up."""


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
    `take` is told each token that was chosen, `tell` what the model said to a row that is judged, `fail` each sequence
    that can't go on, `pause` each that leaves for want of room and has to come back, `flush` when there is news.
    """

    def __init__(
        self,
        network: Network,
        settings: GlmSettings,
        verdicts: VerdictTokens,
        patches: Callable[[bytes, int], tuple[Any, Grid]],
        take: Callable[[SequenceState, int], None],
        tell: Callable[[SequenceState, Reading], None],
        fail: Callable[[SequenceState, EngineError], None],
        flush: Callable[[], None],
        pause: Callable[[SequenceState], None],
    ) -> None:
        self.network, self.settings, self.verdicts, self.patches = network, settings, verdicts, patches
        self.take, self.tell, self.fail, self.flush, self.pause = take, tell, fail, flush, pause
        self.features: ByteLRU[Features] = ByteLRU("features", settings.feature_cache_bytes, lambda each: each.bytes)
        self.prefixes: ByteLRU[Prefix] = ByteLRU("prefixes", settings.prefix_cache_bytes, lambda each: each.bytes)
        self.scripts: dict[Script, list[torch.Tensor]] = {}
        self.rows: list[SequenceState] = []
        self.ready = 0
        """How many of the rows, the first ones, have their whole prompt in the KV cache and decode."""
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

    def kv_used(self) -> float:
        """The share of the KV cache that holds tokens, 0 to 1. Safe from any thread."""
        return sum(row.filled for row in list(self.rows)) / max(1, self.network.kv_cache.tokens)

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
        lengths = [row.filled for row in self.rows]
        for attempt_ in range(2):
            try:
                kv_cache.reshape(places, lengths, self.settings.max_batch_rows)
                return True
            except torch.OutOfMemoryError:  # nothing was moved yet
                OUT_OF_MEMORY.inc()
                if attempt_:
                    return False
                self.free()
        return False

    def admit(self, rows: Sequence[SequenceState]) -> None:
        """Lets sequences join the batch: what is kept of their images is put in place, else the vision tower looks."""
        fresh = []
        for row in rows:
            prefix = self.prefixes.get(row.prompt.key) if self.settings.prefix_cache_bytes else None
            row.filled, row.ready, row.paused = 0, False, False
            if prefix is None:
                fresh.append(row)
                continue
            self.network.kv_cache.restore(len(self.rows), prefix.saved)
            row.filled, row.pixels = row.prompt.prefix, None
            row.cached = row.cached if row.generated else row.prompt.prefix
            self.rows.append(row)
        self.look(fresh)
        self.rows.extend(row for row in fresh if not row.done)

    def look(self, rows: Sequence[SequenceState]) -> None:
        """Gives the sequences what the model sees in their images, from the cache or from the tower; or they fail."""
        missing: dict[ImageKey, list[SequenceState]] = {}
        for row in rows:
            kept = self.features.get(row.prompt.key) if row.prompt.key not in missing else None
            if kept is None:
                missing.setdefault(row.prompt.key, []).append(row)
            else:
                row.features, row.pixels = kept, None

        def see(some: Sequence[list[SequenceState]]) -> None:
            begin = time.monotonic()
            leaders = [each[0] for each in some]
            images = [each for row in leaders for each in zip(self.pixels_of(row), row.prompt.grids, strict=True)]
            tensors = iter(self.calling(self.network.see, images))
            took = time.monotonic() - begin
            for same in some:
                grids = same[0].prompt.grids
                features = Features(grids, torch.cat([next(tensors) for _ in grids]))
                self.features.put(same[0].prompt.key, features)
                for row in same:
                    row.features, row.pixels = features, None  # the patches are not needed any more
                same[0].vision = took

        def fail(same: list[SequenceState], error: EngineError) -> None:
            for row in same:
                self.fail(row, error)

        most = self.settings.max_prefill_tokens * IDLE_PREFILL
        for group in grouped(list(missing.values()), lambda same: len(same[0].prompt.ids), most):
            self.shrinking(see, group, fail)

    def pixels_of(self, row: SequenceState) -> tuple[Any, ...]:
        """The patches of a row's images."""
        if row.pixels is not None:
            return tuple(row.pixels)
        return tuple(self.patches(image.content, row.prompt.key.max_pixels)[0] for image in row.ask.images)

    def prefill(self) -> None:
        """Takes the next tokens of sequences that are not ready into the KV cache, at most the budget in all."""
        budget = self.settings.max_prefill_tokens * (1 if self.ready else IDLE_PREFILL)
        sizes: dict[SequenceState, int] = {}
        for row in self.rows[self.ready :]:
            if not row.done and budget > 0:
                sizes[row] = min(row.total - row.filled, budget)
                budget -= sizes[row]
        groups: list[list[SequenceState]] = []
        for row, size in sizes.items():  # neighbours of similar size, so that padding wastes less than half
            last = groups[-1] if groups else []
            near = [sizes[each] for each in last] + [size]
            if last and max(near) <= 2 * min(near) and self.rows.index(row) == self.rows.index(last[-1]) + 1:
                last.append(row)
            else:
                groups.append([row])

        def run(some: Sequence[SequenceState]) -> None:
            begin = time.monotonic()
            ends = [row.filled + sizes[row] for row in some]
            chunks = [self.chunk(row, end) for row, end in zip(some, ends, strict=True)]
            logits = self.calling(self.network.prefill, self.rows.index(some[0]), chunks)
            ended = [place for place, (row, end) in enumerate(zip(some, ends, strict=True)) if end == row.total]
            whole = [place for place in ended if not some[place].judged]
            if judged := [place for place in ended if some[place].judged]:
                for place, reading in zip(judged, self.readings(logits[judged]), strict=True):
                    some[place].reading = reading
            tokens = iter(self.calling(self.sample, logits[whole], [some[place] for place in whole]) if whole else [])
            now = time.monotonic()
            for place, (row, end) in enumerate(zip(some, ends, strict=True)):
                row.filled, row.prefill = end, row.prefill + now - begin
                if row.features is not None and end >= row.prompt.prefix:
                    self.keep_prefix(row)
                    row.features = None
                if place in whole:
                    row.prefilled = row.prefilled or now
                    row.position = int(row.positions(row.total - 1, row.total)[0, 0]) + 1
                    self.make_ready(row)
                    self.take(row, next(tokens))
                elif row.reading is not None:
                    self.tell(row, row.reading)
            self.flush()

        for group in groups:
            self.shrinking(run, [row for row in group if not row.done], self.fail)
        self.compact()

    def chunk(self, row: SequenceState, end: int) -> Chunk:
        """A sequence's tokens from where it is filled up to `end`."""
        begin = row.filled
        embeds = self.network.embed(row.tokens(begin, end))
        at = 0
        for left, right in row.prompt.images:
            low, high = max(left, begin), min(right, end)
            if low < high:
                embeds[low - begin : high - begin] = row.features.tensor[at + low - left : at + high - left]
            at += right - left
        return Chunk(embeds, torch.from_numpy(np.ascontiguousarray(row.positions(begin, end))), begin)

    def make_ready(self, row: SequenceState) -> None:
        """Moves a sequence whose prompt is in the KV cache to the rows that decode, which come first."""
        place, other = self.rows.index(row), self.rows[self.ready]
        if place != self.ready:
            self.network.kv_cache.swap(self.ready, place, (other.filled, row.filled))
            self.rows[self.ready], self.rows[place] = row, other
        self.ready += 1
        row.ready = True

    def sample(self, logits: torch.Tensor, rows: Sequence[SequenceState]) -> list[int]:
        """The next token of each sequence. Waits for the device."""
        before = [(row.prompt.ids, row.generated) for row in rows]
        held = [(place, row.constraint) for place, row in enumerate(rows) if row.constraint is not None]
        if held:
            logits = logits.clone()
            for place, constraint in held:
                allowed = torch.from_numpy(constraint.allowed()).to(logits.device)
                logits[place] = logits[place].masked_fill(~allowed, float("-inf"))
        tokens = choose(logits, [row.ask.sampling for row in rows], [row.dice for row in rows], before)
        for place, constraint in held:
            constraint.take(tokens[place])
        return tokens

    def keep_prefix(self, row: SequenceState) -> None:
        """Copies the image's part of a row to the cache, where there is memory for it."""
        if not self.keeps(row) or self.prefixes.peek(row.prompt.key) is not None:
            return
        try:
            saved = self.network.kv_cache.save(self.rows.index(row), row.prompt.prefix)
            self.prefixes.put(row.prompt.key, Prefix(row.prompt.grids, saved))
        except torch.OutOfMemoryError:
            self.prefixes.clear()

    def keeps(self, row: SequenceState) -> bool:
        """Whether the image's part of a row would fit into the cache of prefixes."""
        return bool(row.prompt.prefix * self.network.kv_bytes <= self.settings.prefix_cache_bytes)

    def step(self) -> None:
        """One token further for every answer that is ready."""
        self.grow()
        rows = self.rows[: self.ready]
        if not rows:
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
            tokens = self.calling(self.sample, logits, some)
            for row, token in zip(some, tokens, strict=True):
                row.filled += 1
                row.position += 1
                self.take(row, token)

        def out_of_memory(count: int) -> None:
            self.step_limit, self.good_steps = max(1, min(self.step_limit, count) // 2), 0

        limit = self.step_limit
        for start in range(0, len(rows), limit):
            self.shrinking(run, rows[start : start + limit], self.fail, out_of_memory)
        self.good_steps += 1
        if self.good_steps >= RECOVERY_STEPS and self.step_limit < self.settings.max_batch_rows:
            self.step_limit, self.good_steps = self.step_limit * 2, 0
        self.compact()

    def grow(self) -> None:
        """Makes room for what the answers have come to need; for want of it the newest ones pause and come back."""
        while self.rows and not self.make_room(len(self.rows), max(row.places for row in self.rows)):
            newest = max(self.rows, key=lambda row: row.admitted)
            newest.paused = True
            self.pause(newest)
            self.compact()

    def compact(self) -> None:
        """Takes finished and paused rows out; those that decode stay first."""
        place = 0
        while place < len(self.rows):
            if not (self.rows[place].done or self.rows[place].paused):
                place += 1
                continue
            if place < self.ready:
                self.ready -= 1
                self.fill(place, self.ready)
                self.fill(self.ready, len(self.rows) - 1)
            else:
                self.fill(place, len(self.rows) - 1)
            self.rows.pop()

    def fill(self, hole: int, source: int) -> None:
        """Moves a row into the place of one that has left."""
        if hole == source:
            return
        row = self.rows[source]
        if not (row.done or row.paused):
            self.network.kv_cache.move(source, hole, row.filled)
        self.rows[hole] = row

    def judge(self, prompts: Sequence[JudgePrompt]) -> list[Reading]:
        """Reads as many of the first prompts as there is room for behind the running rows; none where there is no room.

        Raises EngineError for what can't be judged at all.
        """
        count = min(len(prompts), self.settings.max_batch_rows - len(self.rows))
        needed = max([len(prompt.ids) + 1 for prompt in prompts] + [row.places for row in self.rows])
        while count > 0 and not self.make_room(len(self.rows) + count, needed):
            count //= 2
        if count <= 0:
            if not self.rows:
                raise EngineBusyError("OUT_OF_MEMORY", "the questions need more room than there is", 5.0)
            return []
        readings: dict[int, Reading] = {}

        def run(some: Sequence[int]) -> None:
            readings.update(zip(some, self.read([prompts[each] for each in some]), strict=True))

        def fail(_: int, error: EngineError) -> None:
            raise error

        self.shrinking(run, range(count), fail)
        return [readings[place] for place in range(count)]

    def read(self, prompts: Sequence[JudgePrompt]) -> list[Reading]:
        """What the model says to each prompt, in rows behind the running ones."""
        first, kv_cache = len(self.rows), self.network.kv_cache
        chunks = []
        for offset, prompt in enumerate(prompts):
            past = prompt.prefix
            if past:
                kv_cache.restore(first + offset, self.script(prompt, first + offset))
            embeds = self.network.embed(prompt.ids[past:])
            places = torch.arange(past, len(prompt.ids)).expand(3, -1)
            chunks.append(Chunk(embeds, places, past))
        logits = self.calling(self.network.prefill, first, chunks)
        return self.readings(logits)

    def readings(self, logits: torch.Tensor) -> list[Reading]:
        """What scores after a judge's prompt, (prompts, vocabulary), say about the verdicts. Waits for the device."""
        chances = self.calling(lambda: logits.float().log_softmax(-1).cpu())
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
        self,
        run: Callable[[Sequence[T]], None],
        items: Sequence[T],
        fail: Callable[[T, EngineError], None],
        out_of_memory: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Runs on all items; in trouble on each half, down to one item, which then fails alone.

        Out of memory empties the caches first and is told to `out_of_memory` with the number of items.
        A device that has failed for good ends the worker.
        """
        if not items:
            return
        trouble = attempt(run, items)
        if isinstance(trouble, torch.OutOfMemoryError):
            log.warning("out_of_memory", items=len(items))
            self.free()
            OUT_OF_MEMORY.inc()
            out_of_memory(len(items))
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
            self.shrinking(run, half, fail, out_of_memory)

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


def grouped(rows: list[T], size: Callable[[T], int], most: int) -> Iterable[list[T]]:
    """Rows of similar size together, at most `most` padded tokens a group, so that padding wastes less than half."""
    group: list[T] = []
    for row in sorted(rows, key=size):
        if group and (size(row) > 2 * size(group[0]) or size(row) * (len(group) + 1) > most):
            yield group
            group = []
        group.append(row)
    if group:
        yield group
