"""Runs a module as a service of `compose.local`, and ends it, in order, when that is gone.

python -m compose.child PARENT_PID MODULE
"""

from __future__ import annotations

import runpy
import signal
import sys

from askonce.lifeline import die_with

if __name__ == "__main__":
    parent, module = sys.argv[1:]
    die_with(int(parent), signal.SIGTERM)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
