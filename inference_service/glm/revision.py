"""Names what answers: the revision that stored answers are kept under."""

from __future__ import annotations

import hashlib
from pathlib import Path

from inference_service.glm.settings import GlmSettings, Quantisation

WHOLE = 64 << 20
"""Files up to this many bytes are read whole."""

SAMPLES, SAMPLE = 64, 64 << 10
"""Of a larger file so many pieces of so many bytes are read, evenly spread, the first and the last among them."""


def revision_of(settings: GlmSettings, commit: str) -> str:
    """The commit of the hub or a digest of the local directory, and all else that answers depend on.

    Parts are separated by ";": the weights, a number format other than bfloat16, a quantisation, a LoRA adapter. Reads
    files; raises OSError for one that can't be read.
    """
    directory = Path(settings.model)
    parts = [commit or (f"files={digest_of(directory)}" if directory.is_dir() else "")]
    if settings.dtype != "bfloat16":
        parts.append(f"dtype={settings.dtype}")
    if settings.quantisation is not Quantisation.NONE:
        parts.append(f"quantisation={settings.quantisation.value}")
    if settings.adapter:
        parts.append(f"adapter={digest_of(Path(settings.adapter))}")
    return ";".join(filter(None, parts))


def digest_of(directory: Path) -> str:
    """16 hexadecimal digits that change with the files in a directory: their names, sizes and content.

    Weights of many gigabytes are sampled, which tells any two trained checkpoints apart in well under a second.
    """
    mix = hashlib.sha256()
    for path in sorted(each for each in directory.rglob("*") if each.is_file()):
        inside = path.relative_to(directory)
        if any(part.startswith(".") for part in inside.parts):
            continue
        size = path.stat().st_size
        mix.update(f"{inside.as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= WHOLE:
                mix.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for number in range(SAMPLES):
                file.seek(number * (size - SAMPLE) // (SAMPLES - 1))
                mix.update(file.read(SAMPLE))
    return mix.hexdigest()[:16]
