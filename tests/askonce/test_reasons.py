"""Every reason stands in the one catalogue, in both languages, and the documentation shows it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from askonce import reasons

ROOT = Path(__file__).parents[2]
PACKAGES = ("askonce", "gateway", "dedup_service", "inference_service")
WORD = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
RAISES = re.compile(r"(Fault|Error|Unavailable|Input|Down|Exhausted|Absent|Forbidden|Precondition|Conflict|Unreachable"
                    r"|TooLate|Unsupported|Unauthenticated|too_long|fault_of)$")  # fmt: skip
UNLISTED = {"UNKNOWN"}
"""What a client makes of a server's error that carries no reason."""
COMPOSED = ("EMPTY", "TOO_LONG", "CONTROL_CHARACTERS", "INVISIBLE")
"""Ends of reasons that name what is at fault, the question or a turn."""
SILENT = {"SKIPPED", "CONDEMNED", "DOWN"}
"""Reasons that never leave the process: they are caught where they are raised."""


def sources() -> Iterator[tuple[str, ast.AST]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "reasons.py" and "_pb2" not in path.name:
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def words(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from words(node.body)
        yield from words(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
        yield node.value


def raised() -> dict[str, str]:
    """Reasons given to exceptions, with where."""
    found: dict[str, str] = {}
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if RAISES.search(name):
                    for argument in (*node.args, *(word.value for word in node.keywords)):
                        found.update(dict.fromkeys(words(argument), f"{path}:{node.lineno}"))
    return found


def literals() -> set[str]:
    """Every word in capitals that the code spells out."""
    return {
        node.value
        for _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value)
    }


def test_what_is_raised_is_listed() -> None:
    """A reason that an exception is given stands in the catalogue."""
    listed = reasons.errors().keys() | UNLISTED | SILENT
    assert {reason: place for reason, place in raised().items() if reason not in listed} == {}


def test_what_is_listed_is_used() -> None:
    """The catalogue names nothing that the code does not."""
    listed = reasons.errors().keys() | reasons.OUTCOMES.keys() | reasons.STORING.keys()
    composed = {f"{noun}_{what}" for noun in ("QUESTION", "TURN") for what in COMPOSED}
    assert listed - literals() - composed == set()


def test_no_reason_has_two_names() -> None:
    """No two errors differ by a synonym alone (..._INVALID, ..._MALFORMED; UNKNOWN_..., ..._UNKNOWN)."""
    stems: dict[frozenset[str], str] = {}
    for reason in reasons.errors():
        stem = frozenset({"INVALID" if word in ("MALFORMED", "BAD", "ILLEGAL") else word for word in reason.split("_")})
        assert stem not in stems, (reason, stems.get(stem))
        stems[stem] = reason
    statuses = [reason for table in reasons.ERRORS.values() for reason in table]
    assert len(statuses) == len(set(statuses))


@pytest.mark.parametrize("status", list(reasons.ERRORS))
def test_every_status_is_grpcs(status: str) -> None:
    """Errors are listed under the names of gRPC's codes."""
    assert status in grpc.StatusCode.__members__


def test_both_languages() -> None:
    """Every reason is explained in English and in Chinese."""
    for table in (reasons.errors(), reasons.OUTCOMES, reasons.STORING):
        for reason, meaning in table.items():
            assert meaning.english.endswith("."), reason
            assert re.search(r"[\u4e00-\u9fff]", meaning.chinese), reason
    assert reasons.explain("EXACT", "zh-CN") != reasons.explain("EXACT")
    assert reasons.explain("NO_SUCH_REASON") == "NO_SUCH_REASON"


def test_the_documentation_shows_it() -> None:
    """docs/reasons.md is what the catalogue prints: `python -m askonce.reasons > docs/reasons.md`."""
    assert (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8") == reasons.as_markdown()
