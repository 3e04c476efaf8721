"""What to do about an error of the operating system, in one line."""

from __future__ import annotations

import errno

ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or name another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or name another folder",
    errno.EACCES: "permission denied; give this user the right to it or name another place",
    errno.EPERM: "permission denied; give this user the right to it or name another place",
    errno.EROFS: "the file system is read-only; name another folder",
    errno.ENOENT: "there is no such file or folder; check the path",
    errno.EEXIST: "this is a file, where a folder is needed; name another one",
    errno.ENOTDIR: "this is a file, where a folder is needed; name another one",
    errno.EISDIR: "this is a folder, where a file is needed; name another one",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.EADDRINUSE: "the port is taken; stop whoever has it or name another one",
    errno.EADDRNOTAVAIL: "the address is not this machine's; name one that is, or 0.0.0.0 for all",
}
PORT_RIGHTS = "this user may not use the port; name one above 1023"


def advice(error: OSError) -> str:
    """What is wrong and what to do, without the place; the system's own words where nothing better is known."""
    return ADVICE.get(error.errno or 0) or error.strerror or str(error)


def listening(address: str, error: OSError) -> str:
    """The same for an address that can't be listened on."""
    known = PORT_RIGHTS if error.errno in (errno.EACCES, errno.EPERM) else advice(error)
    return f"can't listen on {address}: {known}"
