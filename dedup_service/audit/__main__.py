"""Makes one report in a process of its own, so that a service's event loop and memory stay its own.

Reads the job as JSON from standard input, writes progress as JSON lines to standard output. SIGTERM ends it, and
nothing is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from dedup_service.audit.job import Job
from dedup_service.audit.making import Wanted, make_report
from dedup_service.audit.report import NeverHit
from dedup_service.audit.traffic import AuditError, open_ledger
from dedup_service.policy.policy import Policy, from_json

INTERVAL = 0.2
"""Least seconds between two lines of progress."""


def main() -> int:
    """Makes the report. Exit codes: 0 made, 2 refused with a reason, 143 told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.nice(10)
    job = Job(**json.loads(sys.stdin.read()))
    said = 0.0

    def progress(stage: str, share: float) -> None:
        nonlocal said
        if time.monotonic() - said >= INTERVAL or share in (0.0, 1.0):
            said = time.monotonic()
            say({"stage": stage, "share": round(share, 3)})

    try:
        default = from_json(job.default_policy) if job.default_policy else Policy()
        engine = open_ledger(job.ledger)
        try:
            wanted = Wanted(
                job.since,
                job.until,
                job.tenant,
                job.max_wrong,
                job.confidence,
                job.price,
                job.currency,
                never_hit=never_hit(job),
                default=default,
            )
            make_report(engine, wanted, Path(job.out), progress)
        finally:
            engine.dispose()
    except AuditError as error:
        say({"reason": error.reason, "message": str(error)})
        return 2
    return 0


def never_hit(job: Job) -> NeverHit | None:
    """What the service that asks for the report knows of its store."""
    if job.never_hit is None:
        return None
    entries, never, oldest = job.never_hit
    return NeverHit(entries, never, tuple((question, model, stored) for question, model, stored in oldest))


def say(message: dict[str, Any]) -> None:
    """One line for the process that started this one."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
