"""The dedup service with clocks in it; see `benchmarks.exact_path`."""

from __future__ import annotations

from askonce.access import Guard
from benchmarks.clocks import Clocks
from dedup_service import __main__ as dedup
from dedup_service.api import messages
from dedup_service.ledger.ledger import Ledger
from dedup_service.store.exact_cache import InProcessExactCache
from dedup_service.usecases.lookup import Lookup

if __name__ == "__main__":
    clocks = Clocks("dedup")
    clocks.add("keys and roles", Guard, "identify", "allow", "allow_tenant")
    clocks.add("message to query", messages, "from_lookup")
    clocks.add("decision", Lookup, "look_up")
    clocks.add("  of which decision record", Lookup, "record")
    clocks.add("  of which hot tier", InProcessExactCache, "get", "put")
    clocks.add("outcome to message", messages, "to_response")
    clocks.log()
    clocks.add("ledger's thread", Ledger, "rows", "write")
    dedup.main()
