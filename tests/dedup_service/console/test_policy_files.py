"""Policies in files: what is read from them, and what is said of a file that is none."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from dedup_service.console.policy_files import read_policies, with_defaults
from dedup_service.policy.policy import FIELDS


def test_values_become_words(tmp_path: Path) -> None:
    """Lists, truths, numbers and null read as `policy set` takes them, from several documents."""
    path = tmp_path / "p.yaml"
    path.write_text(
        "tenants:\n  acme: {exploration_rate: 0.02, keep_question_text: false, protected_terms: [a, b], mode: null}\n"
        "---\ntenants: {globex: {hot_ttl: 90, mode: OFF}}\n"
    )
    assert read_policies(path) == {
        "acme": ["exploration_rate=0.02", "keep_question_text=false", "protected_terms=a,b", "mode="],
        "globex": ["hot_ttl=90", "mode=OFF"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no tenant"),
        ("tenants: [acme]", "expected `tenants:`"),
        ("acme: {mode: OFF}", "expected `tenants:`"),
        ("tenants: {acme: {mode: SHADOW}}\nother: 1", "unknown key 'other'"),
        ("tenants: {ACME: {}}", "is no tenant"),
        ("tenants: {acme: 5}", "expected fields and values"),
        ("tenants: {acme: {}}\n---\ntenants: {acme: {}}", "twice"),
        ("tenants: {acme: {mode: ]}}", "line 1"),
        ("tenants: !!python/object:os.system {}", "no YAML"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str, said: str) -> None:
    """One line says what is wrong, and where."""
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(click.BadParameter, match=said):
        read_policies(path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    """A file of another kind is refused."""
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(click.BadParameter, match="no YAML"):
        read_policies(path)


def test_reset_names_every_field() -> None:
    """What the file does not name goes back to its default."""
    words = with_defaults(["error-budget=1%"])
    assert [word.partition("=")[0].replace("-", "_") for word in words] == [
        "error_budget",
        *(name for name in FIELDS if name != "error_budget"),
    ]
