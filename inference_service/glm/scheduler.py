"""The one thread that owns the model: says what runs next, ends answers, hands results to the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog
import torch

from inference_service.engine import EngineError, EngineUnavailableError, Finish
from inference_service.glm.judge import VerdictTokens
from inference_service.glm.model_runner import ModelRunner
from inference_service.glm.network import Network
from inference_service.glm.prompt import Grid, ImageKey
from inference_service.glm.sequence import JudgeBatch, SequenceState
from inference_service.glm.settings import GlmSettings
from inference_service.judge_prompt import Reading

log = structlog.get_logger("scheduler")

T = TypeVar("T")


class Scheduler:
    """Continuous batching: new answers join between two decoding steps, finished ones leave at once.

    Rows of one batch may have any lengths and any sampling settings. Interactive work comes first; background work
    starts only while no interactive answer waits or runs. What touches the device is the runner's.
    """

    def __init__(
        self,
        network: Network,
        settings: GlmSettings,
        ends: frozenset[int],
        verdicts: VerdictTokens,
        patches: Callable[[bytes, int], tuple[Any, Grid]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.settings, self.ends, self.loop = settings, ends, loop
        self.runner = ModelRunner(network, settings, verdicts, patches, self.take, self.fail, self.flush)
        self.waiting: deque[SequenceState] = deque()
        self.background: deque[SequenceState] = deque()
        self.judge_batches: deque[JudgeBatch] = deque()
        self.wake = threading.Condition()
        self.outbox: list[tuple[asyncio.Queue[Any], Any]] = []
        self.stopping = False
        self.dead = False
        self.ending = ("ENGINE_STOPPED", "the engine has stopped")
        self.thread = threading.Thread(target=self.live, name="glm-scheduler", daemon=True)

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
        stuck = self.runner.stuck(time.monotonic())
        return self.thread.is_alive() and not self.dead and not self.stopping and not stuck

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
                self.runner.step()
                self.flush()
        except BaseException as error:
            log.exception("model_thread_died")
            self.ending = ("ENGINE_FAILED", "the model's worker died")
            failure = EngineUnavailableError(*self.ending)
            failure.__cause__ = error
        finally:
            with self.wake:
                self.dead = True
                left: list[Any] = [*self.runner.rows, *self.waiting, *self.background, *self.judge_batches]
                self.runner.rows.clear()
                self.waiting.clear()
                self.background.clear()
                self.judge_batches.clear()
            self.outbox.extend((each.mailbox, failure) for each in left)
            self.flush()
            self.runner.called = None

    def idle(self) -> bool:
        """Waits for work when there is none; returns whether there still is none."""
        with self.wake:
            if self.runner.rows:
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
            log.debug("items_undelivered", count=len(items))

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
        for row in self.runner.rows:
            if row.late(now):
                row.done = True
                gone.append(row)
        for each in gone:
            self.outbox.append((each.mailbox, EngineError("DEADLINE_EXCEEDED", "the deadline passed")))
        self.runner.compact()

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
            if self.runner.prefixes.peek(key) is not None or (key in coming and self.settings.prefix_cache_bytes):
                followers.append(row)
            else:
                coming.add(key)
                leaders.append(row)
        seen = self.runner.look(leaders)
        self.runner.prefill([row for row in leaders if not row.done], seen, fresh=True)
        orphans = [row for row in followers if self.runner.prefixes.peek(row.prompt.key) is None]
        if orphans:  # the prefix did not fit in the cache, or its leader failed
            seen |= self.runner.look([row for row in orphans if row.prompt.key not in seen])
            self.runner.prefill([row for row in orphans if not row.done], seen, fresh=True)
        self.runner.prefill([row for row in followers if row not in orphans], {}, fresh=False)
        self.runner.compact()

    def choose_rows(self) -> list[SequenceState]:
        """Takes the rows that fit from the queue, first come, first served, and makes room for them."""
        chosen: list[SequenceState] = []
        needed = max((row.places for row in self.runner.rows), default=1)
        tokens = 0
        with self.wake:
            busy = self.waiting or any(not row.ask.background for row in self.runner.rows)
            queue = self.waiting if busy else self.background
            coming: set[ImageKey] = set()
            while queue and len(self.runner.rows) + len(chosen) < self.settings.max_batch_rows:
                row = queue[0]
                key = row.prompt.key
                known = key in coming or self.runner.prefixes.peek(key) is not None
                new = len(row.prompt.ids) - (row.prompt.prefix if known else 0)
                count = len(self.runner.rows) + len(chosen) + 1
                if chosen and tokens + new > self.settings.max_prefill_tokens:
                    break
                if self.runner.places_for(count, max(needed, row.places)) is None:
                    break
                needed, tokens = max(needed, row.places), tokens + new
                coming.add(key)
                chosen.append(queue.popleft())
        if chosen:
            self.runner.make_room(len(self.runner.rows) + len(chosen), needed)
        return chosen

    # Decoding

    def take(self, row: SequenceState, token: int) -> None:
        """Adds a token to an answer and ends the answer where it ends."""
        row.token = token
        if token in self.ends:
            self.end(row, Finish.STOP)
            return
        row.output += 1
        self.send(row, *row.pieces(row.detokenizer.feed(token)))
        if row.detokenizer.answer.stopped:
            self.end(row, Finish.STOP)
        elif row.output >= row.ask.sampling.max_tokens:
            self.end(row, Finish.LENGTH)

    def end(self, row: SequenceState, finish: Finish) -> None:
        """Completes an answer."""
        self.send(row, *row.pieces(row.detokenizer.finish()))
        finish = Finish.STOP if row.detokenizer.answer.stopped else finish
        row.done = True
        self.send(row, row.completed(finish))

    def send(self, row: SequenceState, *items: Any) -> None:
        self.outbox.extend((row.mailbox, item) for item in items)

    def fail(self, row: SequenceState, error: EngineError) -> None:
        """Ends an answer with an error."""
        row.done = True
        self.send(row, error)

    # Judging

    def judge_next(self) -> None:
        """Judges the next judge_batch in rows behind the running ones; the answers lose one pass."""
        with self.wake:
            if not self.judge_batches or self.waiting:
                return
            judge_batch = self.judge_batches.popleft()
        try:
            readings: dict[int, Reading] = {}

            def run(some: Sequence[int]) -> None:
                readings.update(zip(some, self.runner.read([judge_batch.prompts[each] for each in some]), strict=True))

            def fail(_: int, error: EngineError) -> None:
                raise error

            spare = max(1, min(self.settings.max_batch_rows, self.settings.max_batch_rows - len(self.runner.rows)))
            order = list(range(len(judge_batch.prompts)))
            for start in range(0, len(order), spare):
                self.runner.shrinking(run, order[start : start + spare], fail)
            result: Any = [readings[place] for place in order]
        except EngineError as error:
            result = error
        self.outbox.append((judge_batch.mailbox, result))
        self.flush()


def deliver(items: list[tuple[asyncio.Queue[Any], Any]]) -> None:
    """Puts items into their mailboxes; runs on the event loop."""
    for mailbox, item in items:
        mailbox.put_nowait(item)
