"""No document names what does not exist: commands, flags, variables, metrics, reasons, fields, files.

`python -m tests.test_documents` prints how many names of each kind are looked up.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from askonce.settings import describe
from dedup_service.console.__main__ import askonce
from dedup_service.settings import Settings as DedupSettings
from gateway.settings import Settings as GatewaySettings
from inference_service.glm.settings import GlmSettings
from inference_service.openai.settings import OpenAISettings
from inference_service.reader.engine import ReaderSettings
from inference_service.settings import Settings as InferenceSettings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("benchmarks/**/*.md")]
)
PROGRAMS = {"askonce-gateway", "askonce-dedup", "askonce-inference"}
FOREIGN = frozenset(
    re.findall(
        r"\S+",
        """
        --plaintext --host --port --model-path --revision --reasoning-parser --limit-mm-per-prompt --quantization
        --enable-prefix-caching --served-model-name --max-model-len --build --profile --wait --appendonly --save
        --maxmemory-policy --appendfsync
        """,
    )
)
"""Flags of other people's programs that documents show: vLLM, SGLang, Docker Compose, Redis."""


@dataclass(frozen=True)
class Name:
    """Something that a document names."""

    kind: str
    text: str
    line: int


@cache
def sources() -> str:
    """The text of every tracked file that is no document, no test and no data."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    paths = [Path(name) for name in listed.split("\0") if name]
    if not paths:  # not a checkout: an unpacked archive
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    kinds = {".py", ".proto", ".toml", ".yaml", ".yml", ".html", ".j2", ".json", ".example", ".txt", ""}
    return "\n".join(
        (ROOT / path).read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.suffix in kinds and (ROOT / path).is_file()
        and not str(path).startswith(("tests/", ".ci/locked/", "benchmarks/data/"))
    )  # fmt: skip


@cache
def words() -> frozenset[str]:
    """Every word in the sources."""
    return frozenset(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", sources()))


@cache
def flags() -> frozenset[str]:
    """Every flag in the sources."""
    return frozenset(re.findall(r"--[a-z][a-z0-9-]*", sources()))


@cache
def variables() -> frozenset[str]:
    """The variables of every setting, and those that the code and the Compose files read by name."""
    chosen = {
        "ASKONCE_GATEWAY_DEDUP_TARGET": "x:1",
        "ASKONCE_GATEWAY_INFERENCE_TARGET": "x:1",
        "ASKONCE_TRANSFORMERS_MODEL": "m",
        "ASKONCE_OPENAI_BASE_URL": "http://x",
        "ASKONCE_OPENAI_MODEL": "m",
    }
    sections: list[tuple[type, str]] = [
        (GatewaySettings, "gateway"), (DedupSettings, "dedup"), (InferenceSettings, "inference"),
        (ReaderSettings, "reader"), (GlmSettings, "transformers"), (OpenAISettings, "openai"),
    ]  # fmt: skip
    found = set(re.findall(r"[\"'${(\[ ](ASKONCE_[A-Z0-9_]*[A-Z0-9])", sources())) | {
        "ASKONCE_TEST_QDRANT",
        "ASKONCE_COMPLETE",  # of the library that reads the command line
    }
    for kind, section in sections:
        needed = {name: value for name, value in chosen.items() if name.startswith(f"ASKONCE_{section.upper()}_")}
        found |= {row[0] for row in describe(kind, section, needed)}
    return frozenset(found)


@cache
def metrics() -> frozenset[str]:
    """The names of the project's metrics, with the suffixes under which they are scraped."""
    made = set(re.findall(r"\"(askonce_[a-z0-9_]+)\"", sources()))
    return frozenset(name + suffix for name in made for suffix in ("", "_total", "_bucket", "_sum", "_count", "_info"))


def commands_of(text: str) -> Iterator[tuple[int, str]]:
    """The lines of code blocks, continued lines joined, and inline code, each with its line number."""
    fenced = False
    waiting = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        if fenced or line.startswith("    "):
            body = waiting + line.strip()
            waiting = body.removesuffix("\\") if body.endswith("\\") else ""
            if not waiting:
                yield number, body.removeprefix("$ ")
        else:
            for inline in re.findall(r"`([^`]+)`", line):
                yield number, inline


def names_in(text: str) -> Iterator[Name]:
    """Everything in a document that can be looked up."""
    for number, code in commands_of(text):
        plain = re.split(r"\s#\s|\s{2,}#", code)[0]
        first = plain.split(" ", 1)[0]
        if first in ("askonce", "python", "make", ".venv/bin/askonce") or first in PROGRAMS:
            yield Name("command", plain.removeprefix(".venv/bin/"), number)
    for number, line in enumerate(text.splitlines(), 1):
        for found in re.findall(r"ASKONCE_[A-Z0-9_]+", line):
            yield Name("variable", found, number)
        for found in re.findall(r"\baskonce_[a-z0-9_]+", line):
            if found.endswith("_"):
                continue
            yield Name("metric", found, number)
        for inline in re.findall(r"`([^`]+)`", line):
            if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", inline) and not inline.startswith("ASKONCE"):
                yield Name("reason or constant", inline, number)
            elif re.fullmatch(r"--[a-z][a-z0-9-]*", inline):
                yield Name("flag", inline, number)
            elif re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", inline) and not inline.startswith("askonce_"):
                yield Name("field", inline, number)
            elif re.fullmatch(r"[A-Z][a-z0-9]+([A-Z][a-z0-9]+)+", inline):
                yield Name("class or message", inline, number)
            elif re.fullmatch(r"\.?[a-z_]+(/[A-Za-z0-9_.-]+)+/?", inline):
                yield Name("path", inline, number)


def is_command(line: str) -> bool:
    """Whether a command line names a program, sub-command, target, module and flags that exist."""
    try:
        parts = shlex.split(line.split("|")[0].split(";")[0].split("&&")[0])
    except ValueError:
        return True  # an example cut short, no command to type
    program, rest = parts[0], parts[1:]
    if program == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        return all("=" in word or word in targets for word in rest)
    if program == "askonce":
        return is_click(rest)
    if program == "python":
        if rest[:1] != ["-m"]:
            return not rest or rest[0].startswith("<") or (ROOT / rest[0]).exists()
        module = rest[1]
        if module.split(".")[0] not in (
            "benchmarks",
            "compose",
            "askonce",
            "gateway",
            "dedup_service",
            "inference_service",
            "tests",
        ):
            return True  # another project's
        path = ROOT / Path(*module.split("."))
        return (path.with_suffix(".py").exists() or (path / "__main__.py").exists()) and has_flags(rest[2:])
    return has_flags(rest)


def is_click(rest: list[str]) -> bool:
    """Whether words resolve to a command of the command line with these options."""
    command: click.Command = askonce
    context = click.Context(askonce, info_name="askonce")
    position = 0
    while isinstance(command, click.Group) and position < len(rest) and not rest[position].startswith("-"):
        found = command.get_command(context, rest[position])
        if found is None:
            return rest[position].startswith(("<", "…"))
        command, position = found, position + 1
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {
        "--help",
        "--version",
    }
    return all(word.split("=")[0] in known for word in rest[position:] if re.match(r"--?[a-z]", word))


def has_flags(rest: list[str]) -> bool:
    """Whether all flags among these words are some program's of ours, or of a known other."""
    return all(word.split("=")[0] in flags() | FOREIGN for word in rest if word.startswith("--"))


def is_path(text: str) -> bool:
    """Whether a path leads to something, or is the name of something that users make."""
    if text.split("/")[0] not in {each.name for each in ROOT.iterdir()}:
        return True  # on the user's machine, or a name such as image/png
    return (ROOT / text).exists() or text in sources()


CHECKS: dict[str, Callable[[str], bool]] = {
    "command": is_command,
    "variable": lambda text: (
        text in variables() or (text.endswith("_") and any(v.startswith(text) for v in variables()))
    ),
    "metric": lambda text: text in metrics() or text in words(),
    "reason or constant": lambda text: text.removeprefix("VETO_") in words() | {"HTTP_PROXY"},
    "flag": lambda text: text in flags() | FOREIGN,
    "field": lambda text: text in words() | {"zsh_source"},
    "class or message": lambda text: text in words(),
    "path": is_path,
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_exists(document: Path) -> None:
    """What a reader may type or look for is there."""
    false = [
        f"{document.relative_to(ROOT)}:{name.line}: {name.kind} {name.text}"
        for name in names_in(document.read_text(encoding="utf-8"))
        if not CHECKS[name.kind](name.text)
    ]
    assert not false, "\n".join(false)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("command", "askonce policy destroy --tenant acme"),
        ("command", "askonce policy set --tenent acme mode=OFF"),
        ("command", "make everything"),
        ("command", "python -m benchmarks.absent"),
        ("command", "python -m benchmarks.latency --never-heard-of"),
        ("variable", "ASKONCE_GATEWAY_LISTEN"),
        ("metric", "askonce_fail_" + "open_total"),
        ("reason or constant", "NO_SUCH_" + "REASON"),
        ("flag", "--never-heard-of"),
        ("field", "no_such_" + "field"),
        ("path", "docs/absent.md"),
    ],
)
def test_a_false_name_is_found(kind: str, text: str) -> None:
    """Each check can fail: a name that does not exist does not pass."""
    assert not CHECKS[kind](text)


def main() -> None:
    """Prints the number of names by kind and document."""
    counts: dict[str, set[str]] = {kind: set() for kind in CHECKS}
    for document in DOCUMENTS:
        for name in names_in(document.read_text(encoding="utf-8")):
            counts[name.kind].add(name.text)
    for kind, found in counts.items():
        sys.stdout.write(f"{len(found):5} {kind}\n")
    sys.stdout.write(f"{sum(map(len, counts.values())):5} names in {len(DOCUMENTS)} documents\n")


if __name__ == "__main__":
    main()
