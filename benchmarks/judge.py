"""How well a model judges whether two questions ask the same: recall at 1 % wrong, and the temperature that fits.

    python -m benchmarks.judge PAIRS.jsonl (--endpoint URL [--model NAME] | --checkpoint PATH) [--limit N] [--write OUT]

PAIRS holds one `{"a": ..., "b": ..., "same": true}` a line; with `"image": "FILE"`, beside PAIRS, the pair is judged
on that image, as the policy's `judge=INLINE_ON_IMAGE` has it. Judge pairs with images and without in runs of their own:
they need thresholds of their own. Each pair is put to the model as the service puts it: both orders, and turned round.
Half of the pairs, drawn by their text, fit the temperature (likelihood) and the threshold (highest recall with at most
1 % wrong); the other half shows what they are worth. Pairs to which the model does not say yes or no count as not
served. Intervals are Clopper-Pearson, 95 %. `--write` writes the settings as JSON.

No figure of GLM-4.6V-Flash is known yet: its weights could not be had where this was written.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from benchmarks.reader import share
from inference_service.engine import ImageFile, JudgedOn
from inference_service.judge_prompt import LEAST_MASS, Put, Reading, Script, bias_of, empty_puts, puts
from inference_service.openai.engine import OpenAIEngine
from inference_service.openai.settings import OpenAISettings

WRONG = 0.01
"""The share of pairs served that may be wrong."""

Read = Callable[[Sequence[Put], JudgedOn | None], Awaitable[list[Reading | None]]]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of some pairs."""

    odds: NDArray[np.float64]
    """Log-odds of "same" of the most doubtful put, (pairs,); -inf where the model said something else."""
    same: NDArray[np.bool_]
    """Labels, (pairs,)."""

    def part(self, which: NDArray[np.bool_]) -> Judged:
        """The chosen pairs."""
        return Judged(self.odds[which], self.same[which])


def fit_temperature(judged: Judged) -> float:
    """The temperature with the highest likelihood; 1 where nothing can be learnt."""
    known = np.isfinite(judged.odds)
    odds, same = judged.odds[known], judged.same[known]
    if not len(odds):
        return 1.0

    def loss(log_heat: float) -> float:
        signed = np.where(same, odds, -odds) / np.exp(log_heat)
        return float(np.logaddexp(0.0, -signed).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x))


def fit_threshold(judged: Judged, wrong: float = WRONG) -> float:
    """The least log-odds from which on at most this share of pairs is wrong; infinite where there is none."""
    order = np.argsort(-judged.odds, kind="stable")
    odds, same = judged.odds[order], judged.same[order]
    mistakes = np.cumsum(~same) / np.arange(1, len(same) + 1)
    last = np.append(odds[1:] < odds[:-1], True)  # equal odds stand or fall together
    good = np.flatnonzero((mistakes <= wrong) & np.isfinite(odds) & last)
    return float(odds[good[-1]]) if len(good) else float("inf")


def drawn(pair: Pair) -> bool:
    """Whether a pair fits the settings; the other half shows what they are worth."""
    return hashlib.sha256(f"{pair.left}\0{pair.right}".encode()).digest()[0] % 2 == 0


def shown(name: str, judged: Judged, threshold: float) -> str:
    """Recall and wrong share at a threshold, with intervals."""
    served = judged.odds >= threshold
    right, wrong = int((served & judged.same).sum()), int((served & ~judged.same).sum())
    recall = share(right, max(1, int(judged.same.sum())))
    mistakes = share(wrong, max(1, right + wrong))
    return f"{name:6} recall {recall} of {judged.same.sum()}, wrong {mistakes} of {right + wrong}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and the image on which they are judged where there is one."""

    left: str
    right: str
    on: JudgedOn | None = None


def read_pair(row: dict[str, Any], folder: Path) -> Pair:
    """A pair of the file."""
    on = None
    if row.get("image"):
        content = (folder / row["image"]).read_bytes()
        on = JudgedOn(ImageFile(content, hashlib.sha256(content).digest()))
    return Pair(row["a"], row["b"], on)


async def judge_all(pairs: Sequence[Pair], read: Read) -> NDArray[np.float64]:
    """The log-odds of each pair's most doubtful put, less the model's bias."""
    bias: dict[Script, float] = {}
    found = []
    for on, some in itertools.groupby(pairs, lambda pair: pair.on):
        batch = [puts(pair.left, pair.right, on is not None) for pair in some]
        if empty := empty_puts({put.script: None for each in batch for put in each if put.script not in bias}):
            bias |= bias_of(empty, await read(empty, on))
        readings: list[Reading | None] = []
        for start in range(0, len(batch), 16):
            readings += await read([put for each in batch[start : start + 16] for put in each], on)
        told = iter(readings)
        for each in batch:
            odds = []
            for put in each:
                reading = next(told)
                known = reading is not None and reading.mass >= LEAST_MASS
                odds.append(
                    reading.odds(put.script) - max(0.0, bias.get(put.script, 0.0)) if known and reading else -np.inf
                )
            found.append(min(odds))
    return np.array(found)


async def judge_by(options: argparse.Namespace, pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Judges all pairs by the model that the command line names."""
    if options.checkpoint:
        from inference_service.glm.engine import GlmEngine
        from inference_service.glm.settings import GlmSettings

        local = GlmEngine(GlmSettings(model=options.checkpoint, offline=True, warm_up=False))
        await local.start()
        try:

            async def read_locally(asked: Sequence[Put], on: JudgedOn | None) -> list[Reading | None]:
                return list(await (local.read(asked) if on is None else local.read_on(asked, on)))

            return await judge_all(pairs, read_locally)
        finally:
            await local.stop()
    remote = OpenAIEngine(OpenAISettings(base_url=options.endpoint, model=options.model))
    await remote.start()
    try:

        async def read(asked: Sequence[Put], on: JudgedOn | None) -> list[Reading | None]:
            deadline = time.monotonic() + 120
            picture = None if on is None else await remote.picture(on, deadline)
            return list(await asyncio.gather(*(remote.read(put, deadline, on, picture) for put in asked)))

        return await judge_all(pairs, read)
    finally:
        await remote.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__.split("\n")[0])
    parser.add_argument("pairs", type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--endpoint", default="", help="an OpenAI-compatible server, up to and with /v1")
    where.add_argument("--checkpoint", default="", help="a directory with GLM-4.6V weights")
    parser.add_argument("--model", default="", help="the model's name at the endpoint")
    parser.add_argument("--limit", type=int, default=0, help="judge only so many pairs, evenly spread")
    parser.add_argument("--write", type=Path, help="write the fitted settings to this file")
    options = parser.parse_args(arguments)
    rows = [json.loads(line) for line in options.pairs.read_text(encoding="utf-8").splitlines() if line.strip()]
    if options.limit:
        rows = rows[:: max(1, len(rows) // options.limit)][: options.limit]
    rows.sort(key=lambda row: str(row.get("image", "")))
    pairs = [read_pair(row, options.pairs.parent) for row in rows]
    odds = asyncio.run(judge_by(options, pairs))
    judged = Judged(odds, np.array([bool(row["same"]) for row in rows]))
    fitting = np.array([drawn(pair) for pair in pairs])
    temperature, threshold = fit_temperature(judged.part(fitting)), fit_threshold(judged.part(fitting))
    print(f"{len(pairs)} pairs, {int((~np.isfinite(odds)).sum())} without a verdict, temperature {temperature:.3f}")
    print(shown("fitted", judged.part(fitting), threshold))
    print(shown("held", judged.part(~fitting), threshold))
    if options.write:
        same_at = float(1 / (1 + np.exp(-min(threshold, 500.0) / temperature)))
        settings = {"judge_temperature": temperature, "judge_same_at": min(same_at, 0.999_999)}
        options.write.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
