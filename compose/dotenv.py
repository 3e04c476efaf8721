"""Writes `compose/.env`, which Docker Compose reads: every variable of `.env.example`, secrets made.

python3 -m compose.dotenv [FILE]

Needs nothing but Python. What the file says already stays; only what is missing is added, and only secrets that are
empty are made. Readable by its owner alone.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).with_name(".env.example")
SECRET = ("_KEY", "_PASSWORD")
"""Ends of the names of secrets."""


def filled(example: str, present: str) -> str:
    """The text of the file: the example's lines with the values that are `present`, new secrets, and what `present` has
    beyond the example."""
    values = assignments(present)
    lines = []
    for line in example.splitlines():
        name, equals, default = line.partition("=")
        if equals and not line.startswith("#"):
            value = values.pop(name, default)
            if not value and name.endswith(SECRET):
                value = secrets.token_hex(32)
            line = f"{name}={value}"
        lines.append(line)
    return "\n".join([*lines, *(f"{name}={value}" for name, value in values.items())]) + "\n"


def assignments(text: str) -> dict[str, str]:
    """The variables of such a file."""
    lines = [line.partition("=") for line in text.splitlines() if not line.lstrip().startswith("#")]
    return {name.strip(): value for name, equals, value in lines if equals}


def write(path: Path) -> None:
    """Writes the file, whole or not at all."""
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    text = filled(EXAMPLE.read_text(encoding="utf-8"), present)
    beside = path.with_name(path.name + ".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    beside.replace(path)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE.with_name(".env")
    write(target)
    print(f"{target} has every variable; its secrets are made.")
