"""The one thread that owns the model: admits, prefills, decodes, judges."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch

from inference_service.engine import EngineBusyError, EngineError, EngineUnavailableError, Finish
from inference_service.glm.byte_lru import ByteLRU
from inference_service.glm.judge import JudgePrompt, VerdictTokens
from inference_service.glm.network import Chunk, Network
from inference_service.glm.prompt import Grid, ImageKey
from inference_service.glm.sampling import choose
from inference_service.glm.sequence import JudgeBatch, SequenceState
from inference_service.glm.settings import GlmSettings
from inference_service.judge_prompt import Script

log = logging.getLogger(__name__)

T = TypeVar("T")

SMALLEST_PLACES = 256
"""Rows of the KV cache are at least this long."""

RECOVERY_STEPS = 256
"""Steps without trouble after which a batch that was halved for want of memory may double again."""


class Features:
    """What the vision tower saw in an image."""

    def __init__(self, grid: Grid, tensor: torch.Tensor) -> None:
        self.grid, self.tensor = grid, tensor
        self.bytes = tensor.numel() * tensor.element_size()


class Prefix:
    """Keys and values of a prompt's beginning, per layer."""

    def __init__(self, grid: Grid, saved: list[torch.Tensor]) -> None:
        self.grid, self.saved = grid, saved
        self.bytes = sum(each.numel() * each.element_size() for each in saved)


class Scheduler:
    """Continuous batching: new answers join between two decoding steps, finished ones leave at once.

    Rows of one batch may have any lengths and any sampling settings. Interactive work comes first; background work
    starts only while no interactive answer waits or runs. Running out of memory empties the caches and halves what was
    tried; a row that fails alone fails with OUT_OF_MEMORY.
    """

    def __init__(
        self,
        network: Network,
        settings: GlmSettings,
        ends: frozenset[int],
        verdicts: dict[Script, VerdictTokens],
        patches: Callable[[bytes, int], tuple[Any, Grid]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.network, self.settings, self.ends, self.verdicts = network, settings, ends, verdicts
        self.patches, self.loop = patches, loop
        self.features: ByteLRU[Features] = ByteLRU("features", settings.feature_cache_bytes, lambda each: each.bytes)
        self.prefixes: ByteLRU[Prefix] = ByteLRU("prefixes", settings.prefix_cache_bytes, lambda each: each.bytes)
        self.scripts: dict[Script, list[torch.Tensor]] = {}
        self.rows: list[SequenceState] = []
        self.waiting: deque[SequenceState] = deque()
        self.background: deque[SequenceState] = deque()
        self.judge_batches: deque[JudgeBatch] = deque()
        self.wake = threading.Condition()
        self.outbox: list[tuple[asyncio.Queue[Any], Any]] = []
        self.stopping = False
        self.dead = False
        self.ending = ("ENGINE_STOPPED", "the engine has stopped")
        self.called: float | None = None
        """When the running call into the model began."""
        self.step_limit = settings.max_batch_rows
        self.good_steps = 0
        self.thread = threading.Thread(target=self.live, name="glm-worker", daemon=True)
        network.kv_cache.reshape(
            max(network.kv_cache.tokens // settings.max_batch_rows, SMALLEST_PLACES, 1), [], settings.max_batch_rows
        )

    # Called from the event loop

    def submit(self, row: SequenceState) -> None:
        """Queues an answer."""
        with self.wake:
            self.refuse_when_over()
            (self.background if row.ask.background else self.waiting).append(row)
            self.wake.notify()

    def judge(self, judge_batch: JudgeBatch) -> None:
        """Queues pairs to judge."""
        with self.wake:
            self.refuse_when_over()
            self.judge_batches.append(judge_batch)
            self.wake.notify()

    def refuse_when_over(self) -> None:
        if self.stopping or self.dead:
            raise EngineUnavailableError(*self.ending)

    def stop(self) -> None:
        """Asks the thread to end; it fails what is left."""
        with self.wake:
            self.stopping = True
            self.wake.notify()

    def healthy(self) -> bool:
        """Whether the thread lives and is not stuck inside the model."""
        called = self.called
        stuck = called is not None and time.monotonic() - called > self.settings.stuck_after_s
        return self.thread.is_alive() and not self.dead and not self.stopping and not stuck

    def grid_of(self, key: ImageKey) -> Grid | None:
        """The grid of an image that need not be decoded, because what the model saw in it is kept."""
        known = self.prefixes.peek(key) or self.features.peek(key)
        return known.grid if known else None

    # The thread

    @torch.inference_mode()
    def live(self) -> None:
        """The thread's life."""
        failure = EngineUnavailableError(*self.ending)
        try:
            while not self.stopping:
                if self.idle():
                    continue
                self.sweep()
                self.admit()
                self.judge_next()
                self.step()
                self.flush()
        except BaseException as error:
            log.exception("the worker died")
            self.ending = ("ENGINE_FAILED", "the model's worker died")
            failure = EngineUnavailableError(*self.ending)
            failure.__cause__ = error
        finally:
            with self.wake:
                self.dead = True
                left: list[Any] = [*self.rows, *self.waiting, *self.background, *self.judge_batches]
                self.rows.clear()
                self.waiting.clear()
                self.background.clear()
                self.judge_batches.clear()
            self.outbox.extend((each.mailbox, failure) for each in left)
            self.flush()
            self.called = None

    def idle(self) -> bool:
        """Waits for work when there is none; returns whether there still is none."""
        with self.wake:
            if self.rows:
                return False
            if not (self.waiting or self.background or self.judge_batches):
                self.wake.wait(0.2)
            elif self.settings.batch_window_s:
                until = time.monotonic() + self.settings.batch_window_s
                while not self.stopping and len(self.waiting) < self.settings.max_batch_rows:
                    if (left := until - time.monotonic()) <= 0:
                        break
                    self.wake.wait(left)
            return not (self.waiting or self.background or self.judge_batches)

    def flush(self) -> None:
        """Hands what was produced to the event loop, in one call."""
        if not self.outbox:
            return
        items, self.outbox = self.outbox, []
        try:
            self.loop.call_soon_threadsafe(deliver, items)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            log.debug("%d items undelivered", len(items))

    def sweep(self) -> None:
        """Drops what nobody waits for."""
        now = time.monotonic()
        gone: list[SequenceState | JudgeBatch] = []
        with self.wake:
            for queue in (self.waiting, self.background):
                late = [row for row in queue if row.late(now)]
                for row in late:
                    queue.remove(row)
                gone.extend(late)
            overdue = [judge_batch for judge_batch in self.judge_batches if judge_batch.late(now)]
            for judge_batch in overdue:
                self.judge_batches.remove(judge_batch)
            gone.extend(overdue)
        for row in self.rows:
            if row.late(now):
                row.done = True
                gone.append(row)
        for each in gone:
            self.outbox.append((each.mailbox, EngineError("DEADLINE_EXCEEDED", "the deadline passed")))
        self.compact()

    # Admission

    def admit(self) -> None:
        """Lets waiting answers join the batch and prefills them."""
        chosen = self.choose_rows()
        if not chosen:
            return
        now = time.monotonic()
        for row in chosen:
            row.admitted = now
        leaders: list[SequenceState] = []
        followers: list[SequenceState] = []
        coming: set[ImageKey] = set()
        for row in sorted(chosen, key=lambda each: len(each.prompt.ids)):
            key = row.prompt.key
            if self.prefixes.peek(key) is not None or (key in coming and self.settings.prefix_cache_bytes):
                followers.append(row)
            else:
                coming.add(key)
                leaders.append(row)
        seen = self.look(leaders)
        self.prefill([row for row in leaders if not row.done], seen, fresh=True)
        orphans = [row for row in followers if self.prefixes.peek(row.prompt.key) is None]
        if orphans:  # the prefix did not fit in the cache, or its leader failed
            seen |= self.look([row for row in orphans if row.prompt.key not in seen])
            self.prefill([row for row in orphans if not row.done], seen, fresh=True)
        self.prefill([row for row in followers if row not in orphans], {}, fresh=False)
        self.compact()

    def choose_rows(self) -> list[SequenceState]:
        """Takes the rows that fit from the queue, first come, first served, and makes room for them."""
        chosen: list[SequenceState] = []
        needed = max((row.places for row in self.rows), default=1)
        tokens = 0
        with self.wake:
            busy = self.waiting or any(not row.ask.background for row in self.rows)
            queue = self.waiting if busy else self.background
            coming: set[ImageKey] = set()
            while queue and len(self.rows) + len(chosen) < self.settings.max_batch_rows:
                row = queue[0]
                key = row.prompt.key
                known = key in coming or self.prefixes.peek(key) is not None
                new = len(row.prompt.ids) - (row.prompt.prefix if known else 0)
                count = len(self.rows) + len(chosen) + 1
                if chosen and tokens + new > self.settings.max_prefill_tokens:
                    break
                if self.places_for(count, max(needed, row.places)) is None:
                    break
                needed, tokens = max(needed, row.places), tokens + new
                coming.add(key)
                chosen.append(queue.popleft())
        if chosen:
            self.make_room(len(self.rows) + len(chosen), needed)
        return chosen

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

    # Prefill

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
            images = [
                (
                    self.patches(row.ask.image, row.prompt.key.max_pixels)[0]
                    if row.prompt.pixels is None
                    else row.prompt.pixels,
                    row.prompt.grid,
                )
                for row in some
            ]
            tensors = self.calling(self.network.see, images)
            took = time.monotonic() - begin
            for row, tensor in zip(some, tensors, strict=True):
                row.vision = took
                features = Features(row.prompt.grid, tensor)
                found[row.prompt.key] = features
                self.features.put(row.prompt.key, features)

        for group in grouped(list(missing.values()), lambda row: len(row.prompt.ids), self.settings.max_prefill_tokens):
            self.shrinking(see, group, self.fail)
        for row in rows:
            if row.prompt.key not in found and not row.done:
                self.fail(row, EngineError("ENGINE_FAILED", "the image could not be encoded"))
        return found

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
                    embeds[prompt.image[0] : prompt.image[1]] = seen[prompt.key].tensor
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
            self.prefixes.put(row.prompt.key, Prefix(row.prompt.grid, saved))
        except torch.OutOfMemoryError:
            self.prefixes.clear()

    # Decoding

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

    def take(self, row: SequenceState, token: int) -> None:
        """Adds a token to an answer and ends the answer where it ends."""
        row.token = token
        if token in self.ends:
            self.end(row, Finish.STOP)
            return
        row.output += 1
        self.send(row, *row.pieces(row.detokenizer.feed(token)))
        if row.detokenizer.stopped:
            self.end(row, Finish.STOP)
        elif row.output >= row.ask.sampling.max_tokens:
            self.end(row, Finish.LENGTH)

    def end(self, row: SequenceState, finish: Finish) -> None:
        """Completes an answer."""
        self.send(row, *row.pieces(row.detokenizer.finish()))
        finish = Finish.STOP if row.detokenizer.stopped else finish
        row.done = True
        self.send(row, row.completed(finish))

    def send(self, row: SequenceState, *items: Any) -> None:
        self.outbox.extend((row.mailbox, item) for item in items)

    def fail(self, row: SequenceState, error: EngineError) -> None:
        """Ends an answer with an error."""
        row.done = True
        self.send(row, error)

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

    # Judging

    def judge_next(self) -> None:
        """Judges the next judge_batch in rows behind the running ones; the answers lose one pass."""
        with self.wake:
            if not self.judge_batches or self.waiting:
                return
            judge_batch = self.judge_batches.popleft()
        try:
            odds: dict[int, float] = {}

            def run(some: Sequence[int]) -> None:
                odds.update(zip(some, self.log_odds([judge_batch.prompts[each] for each in some]), strict=True))

            def fail(_: int, error: EngineError) -> None:
                raise error

            spare = max(1, min(self.settings.max_batch_rows, self.settings.max_batch_rows - len(self.rows)))
            order = list(range(len(judge_batch.prompts)))
            for start in range(0, len(order), spare):
                self.shrinking(run, order[start : start + spare], fail)
            result: Any = [odds[place] for place in order]
        except EngineError as error:
            result = error
        self.outbox.append((judge_batch.mailbox, result))
        self.flush()

    def log_odds(self, prompts: Sequence[JudgePrompt]) -> list[float]:
        """The log-odds of "same" for each prompt."""
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
        logits = self.calling(self.network.prefill, first, chunks).float().cpu()
        odds = []
        for row, prompt in zip(logits, prompts, strict=True):
            verdicts = self.verdicts[prompt.script]
            same, different = (row[list(each)].logsumexp(0) for each in (verdicts.same, verdicts.different))
            odds.append(float(same - different))
        return odds

    def script(self, prompt: JudgePrompt, place: int) -> list[torch.Tensor]:
        """Keys and values of the instruction that opens a judge's prompt, computed once."""
        if prompt.script not in self.scripts:
            ids = prompt.ids[: prompt.prefix]
            positions = torch.arange(prompt.prefix).expand(3, -1)
            self.calling(self.network.prefill, place, [Chunk(self.network.embed(ids), positions, 0)])
            self.scripts[prompt.script] = self.network.kv_cache.save(place, prompt.prefix)
        return self.scripts[prompt.script]

    # Trouble

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
            log.warning("out of memory with %d items: caches emptied", len(items))
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
                log.error("a request failed in the model", exc_info=trouble)
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
        log.debug("attempt failed", exc_info=True)
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


def deliver(items: list[tuple[asyncio.Queue[Any], Any]]) -> None:
    """Puts items into their mailboxes; runs on the event loop."""
    for mailbox, item in items:
        mailbox.put_nowait(item)
