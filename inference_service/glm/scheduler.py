"""The one thread that owns the model: says what runs next, ends answers, hands results to the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
import torch

from inference_service.answer_text import Shown
from inference_service.engine import EngineError, EngineUnavailableError, Finish
from inference_service.glm.judge import VerdictTokens
from inference_service.glm.model_runner import ModelRunner
from inference_service.glm.network import Network
from inference_service.glm.prompt import Grid
from inference_service.glm.sequence import JudgeBatch, SequenceState
from inference_service.glm.settings import GlmSettings
from inference_service.judge_prompt import Reading
from inference_service.metrics import BATCH_ROWS, KV_USED

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
        told = (self.take, self.tell, self.fail, self.flush, self.pause)
        self.runner = ModelRunner(network, settings, verdicts, patches, *told)
        self.waiting: deque[SequenceState] = deque()
        self.background: deque[SequenceState] = deque()
        self.judge_batches: deque[JudgeBatch] = deque()
        self.wake = threading.Condition()
        self.outbox: list[tuple[asyncio.Queue[Any], Any]] = []
        self.stopping = False
        self.dead = False
        self.ending = ("ENGINE_STOPPED", "the engine has stopped")
        BATCH_ROWS.set_function(lambda: len(self.runner.rows))
        KV_USED.set_function(self.runner.kv_used)
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
                self.runner.prefill()
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
        """Lets waiting answers join the batch as far as there is room, first come, first served."""
        runner = self.runner
        chosen: list[SequenceState] = []
        needed = max((row.places for row in runner.rows), default=1)
        coming = {row.prompt.key for row in runner.rows if row.features is not None and runner.keeps(row)}
        with self.wake:
            busy = self.waiting or any(not row.ask.background for row in runner.rows)
            queue = self.waiting if busy else self.background
            for row in list(queue):
                count = len(runner.rows) + len(chosen) + 1
                if count > self.settings.max_batch_rows or runner.places_for(count, max(needed, row.places)) is None:
                    break
                key = row.prompt.key
                if key in coming and runner.prefixes.peek(key) is None:
                    continue  # another one is reading the same image: its prefix will be there in a moment
                if runner.prefixes.peek(key) is None and runner.keeps(row):
                    coming.add(key)
                needed = max(needed, row.places)
                queue.remove(row)
                chosen.append(row)
        if not chosen:
            return
        if not runner.make_room(len(runner.rows) + len(chosen), needed):
            with self.wake:
                queue.extendleft(reversed(chosen))
            return
        now = time.monotonic()
        for row in chosen:
            row.admitted = row.admitted or now
        runner.admit(sorted(chosen, key=lambda row: row.total))
        runner.compact()

    def pause(self, row: SequenceState) -> None:
        """Puts an answer that has to leave for want of room at the head of the queue."""
        with self.wake:
            (self.background if row.ask.background else self.waiting).appendleft(row)

    # Decoding

    def take(self, row: SequenceState, token: int) -> None:
        """Adds a token to an answer and ends the answer where it ends."""
        row.token = token
        if token in self.ends:
            self.end(row, Finish.STOP)
            return
        row.output += 1
        row.generated.append(token)
        shown = row.detokenizer.feed(token)
        row.held = Shown(row.held.thinking + shown.thinking, row.held.text + shown.text)
        now = time.monotonic()
        if now - row.shown_at >= self.settings.emit_interval_s:
            self.show(row, now)
        if row.detokenizer.answer.stopped:
            self.end(row, Finish.STOP)
        elif row.guard.feed(shown.thinking + shown.text):
            self.end(row, Finish.REPETITION)
        elif row.output >= row.ask.sampling.max_tokens:
            self.end(row, Finish.LENGTH)

    def show(self, row: SequenceState, now: float) -> None:
        """Sends what is held of an answer, in one event."""
        items, row.held = row.pieces(row.held), Shown()
        if items:
            row.shown_at = now
            self.send(row, *items)

    def end(self, row: SequenceState, finish: Finish) -> None:
        """Completes an answer."""
        rest = row.detokenizer.finish()
        row.held = Shown(row.held.thinking + rest.thinking, row.held.text + rest.text)
        self.show(row, time.monotonic())
        finish = Finish.STOP if row.detokenizer.answer.stopped else finish
        row.done = True
        self.send(row, row.completed(finish))

    def send(self, row: SequenceState, *items: Any) -> None:
        self.outbox.extend((row.mailbox, item) for item in items)

    def tell(self, row: SequenceState, reading: Reading) -> None:
        """Ends a row that was judged."""
        row.done = True
        self.send(row, reading)

    def fail(self, row: SequenceState, error: EngineError) -> None:
        """Ends an answer with an error."""
        row.done = True
        self.send(row, error)

    # Judging

    def judge_next(self) -> None:
        """Judges as much of the next batch as fits behind the running rows; the answers lose one pass.

        Without room the batch waits for rows to come free.
        """
        with self.wake:
            if not self.judge_batches or self.waiting:
                return
            batch = self.judge_batches[0]
        try:
            batch.readings += self.runner.judge(batch.prompts[len(batch.readings) :])
            if len(batch.readings) < len(batch.prompts):
                return
            result: Any = batch.readings
        except EngineError as error:
            result = error
        with self.wake:
            self.judge_batches.popleft()
        self.outbox.append((batch.mailbox, result))
        self.flush()


def deliver(items: list[tuple[asyncio.Queue[Any], Any]]) -> None:
    """Puts items into their mailboxes; runs on the event loop."""
    for mailbox, item in items:
        mailbox.put_nowait(item)
