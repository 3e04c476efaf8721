"""Errors of the operating system come with what to do."""

from __future__ import annotations

import errno
import os

import pytest

from askonce.os_errors import advice, listening


@pytest.mark.parametrize(("number", "said"), [
    (errno.ENOSPC, "the disk is full"),
    (errno.EACCES, "permission denied"),
    (errno.ENOTDIR, "a folder is needed"),
    (errno.EISDIR, "a file is needed"),
    (errno.EADDRINUSE, "the port is taken"),
    (errno.EIO, "Input/output error"),
])  # fmt: skip
def test_advice_says_what_is_wrong(number: int, said: str) -> None:
    """The usual ones in our words, the others in the system's."""
    assert said in advice(OSError(number, os.strerror(number)))


def test_a_port_has_its_own_rights() -> None:
    """The address comes first; a port below 1024 needs rights that a folder does not."""
    assert listening("127.0.0.1:80", PermissionError(errno.EACCES, "no")).startswith(
        "can't listen on 127.0.0.1:80: this"
    )
    assert "above 1023" in listening("127.0.0.1:80", PermissionError(errno.EACCES, "no"))
