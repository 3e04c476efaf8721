"""The dedup service, with parts that `benchmarks.exact_path` takes out and puts back."""

from __future__ import annotations

from benchmarks import switches
from dedup_service import __main__ as dedup
from dedup_service.ledger.ledger import Ledger
from dedup_service.store.exact_cache import InProcessExactCache


async def kept(*_: object) -> None:
    """Keeps nothing: the entry is there already."""


if __name__ == "__main__":
    switches.follow(
        {
            "log line": switches.log_line(),
            "metrics": switches.metrics,
            "keys and roles": switches.keys_and_roles,
            "decision record": lambda: [(Ledger, "record_decision", lambda *_, **__: True)],
            "hot tier kept warm": lambda: [(InProcessExactCache, "put", kept)],
        }
    )
    dedup.main()
