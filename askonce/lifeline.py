"""Ends a process when the one that started it ends, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""


def die_with(parent: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Has the kernel send this process a signal as soon as its parent is gone. Ends at once if it is gone already.

    Linux sends the signal when the *thread* ends that started the process, so start it from one that stays. Returns
    False on systems that offer nothing of the kind.
    """
    if not sys.platform.startswith("linux"):
        return False
    done: int = ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it ended between our start and the line above
        os._exit(1)
    return done == 0
