"""The gateway with clocks in it; see `benchmarks.exact_path`."""

from __future__ import annotations

from benchmarks.clocks import Clocks
from gateway import __main__ as gateway
from gateway import answering, images
from gateway.admission import Admission
from gateway.answering import Answering

if __name__ == "__main__":
    clocks = Clocks("gateway")
    clocks.add("who asks, how often", Admission, "knows", "let_in")
    clocks.add("all before the look-up", Answering, "accept")
    clocks.add("  of which image digest", images, "digest")
    clocks.add("  of which checks of fields and text", answering, "check_request")
    clocks.add("  of which checks of fields and text", Answering, "pass_screen")
    clocks.add("the answer", Answering, "serve", "respond")
    clocks.log()
    gateway.main()
