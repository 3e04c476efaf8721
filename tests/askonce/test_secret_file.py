"""Secrets of a file are made once, are their owner's alone, and change while everybody goes on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from askonce.access import SERVICE_KEY, shows
from askonce.secret_file import SHOW_SECONDS, SecretFile, read_or_make
from askonce.settings import SettingsError

OLD, NEW, NEWEST = (f"{name}-key-of-enough-length" for name in ("old", "new", "newest"))


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_made_once_for_its_owner(tmp_path: Path) -> None:
    """Services that start together agree on one secret, which only its owner can read; no draft is left."""
    path = tmp_path / "run" / "service.key"
    found: list[tuple[bytes, ...]] = []
    threads = [threading.Thread(target=lambda: found.append(read_or_make(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["service.key"]


def test_a_new_secret_signs_when_all_know_it(tmp_path: Path) -> None:
    """A secret that comes first is accepted at once, and signs some seconds later: others read the file too, each in
    its own time."""
    path, clock = tmp_path / "service.key", Clock()
    path.write_text(f"{OLD}\n", encoding="ascii")
    secret = SecretFile(path, clock)
    assert shows(secret) == ((SERVICE_KEY, OLD),)
    path.write_text(f"{NEW}\n{OLD}\n", encoding="ascii")
    secret.refresh()
    assert secret.accepted == (NEW.encode(), OLD.encode())
    assert secret.first == OLD.encode()
    clock.now += SHOW_SECONDS
    assert secret.first == NEW.encode()
    path.write_text(f"{NEWEST}\n{NEW}\n", encoding="ascii")
    secret.refresh()
    assert secret.first == NEW.encode()
    assert OLD.encode() not in secret.accepted


def test_a_secret_that_was_taken_out_signs_no_more(tmp_path: Path) -> None:
    """Without an overlap the new secret signs at once: nobody would accept the one before."""
    path = tmp_path / "service.key"
    path.write_text(f"{OLD}\n", encoding="ascii")
    secret = SecretFile(path, Clock())
    path.write_text(f"{NEW}\n", encoding="ascii")
    secret.refresh()
    assert (secret.first, secret.accepted) == (NEW.encode(), (NEW.encode(),))


@pytest.mark.parametrize("content", [b"", b"short\n", b"\n \n", f"{OLD}\nshort\n".encode()])
def test_a_file_that_is_not_as_it_must_be_changes_nothing(tmp_path: Path, content: bytes) -> None:
    """Secrets that are missing or could be guessed are refused; a running service keeps those that it has."""
    path = tmp_path / "service.key"
    path.write_text(f"{OLD}\n{NEW}\n", encoding="ascii")
    secret = SecretFile(path)
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="16 characters"):
        secret.refresh()
    assert (secret.first, secret.accepted) == (OLD.encode(), (OLD.encode(), NEW.encode()))
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        secret.refresh()
    path.write_bytes(content)
    with pytest.raises(SettingsError):
        SecretFile(path)


def test_bytes_that_are_no_text_are_one_secret(tmp_path: Path) -> None:
    """A file of random bytes, line breaks among them, is one secret."""
    path = tmp_path / "ticket.key"
    content = bytes(range(32))
    path.write_bytes(content)
    assert read_or_make(path) == (content,)
