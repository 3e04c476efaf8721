"""An answer says where it came from, why, and what took how long."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from askonce.v1 import content_pb2, dedup_pb2
from gateway.provenance import LookupResult, Outcome, coalesced, set_duration
from tests.gateway.doubles import IMAGE, Running


async def test_provenance_of_a_miss_tells_the_time_of_each_stage(system: Running) -> None:
    """Timings cover resolve, look-up, generation, first piece, total, and the engine's own account."""
    timings = (await system.ask(IMAGE)).provenance.timings
    spent = {name: getattr(timings, name).ToNanoseconds() for name in ("resolve", "lookup", "generate", "total")}
    assert all(value > 0 for value in spent.values())
    assert spent["lookup"] + spent["generate"] <= spent["total"]
    assert timings.engine.decode.nanos == 5_000_000


def test_dedup_that_is_down_is_a_miss_with_that_reason() -> None:
    """Without dedup there is neither a hit nor a ticket."""
    down = LookupResult(None, 0.1)
    assert (down.hit, down.miss.reason, down.miss.ticket) == (None, "DEDUP_UNAVAILABLE", b"")


def test_a_judgement_that_was_not_had_leaves_its_miss() -> None:
    """What dedup would have had judged goes on with the miss behind it."""
    response = dedup_pb2.LookupResponse()
    response.judgement_wanted.miss.reason = "QUESTION_UNSURE"
    assert LookupResult(response, 0.0).miss.reason == "QUESTION_UNSURE"


def test_a_shared_answer_keeps_the_times_of_the_generation() -> None:
    """Who waited for another's generation is told so, with its own decision and the generation's times."""
    other = Outcome(content_pb2.Answer(text="x"), content_pb2.Provenance(source=content_pb2.SOURCE_MODEL))
    other.provenance.timings.generate.nanos = 7
    mine = coalesced(LookupResult(dedup_pb2.LookupResponse(decision="d"), 0.5), other, "COALESCED")
    assert (mine.coalesced, mine.reason, mine.decision) == (True, "COALESCED", "d")
    assert (mine.timings.generate.nanos, mine.timings.lookup.nanos) == (7, 500_000_000)


def test_durations_are_never_negative() -> None:
    """A clock that stepped back gives zero, not a broken message."""
    target = Duration()
    set_duration(target, -1.0)
    assert target.ToNanoseconds() == 0
    set_duration(target, 1.25)
    assert (target.seconds, target.nanos) == (1, 250_000_000)
