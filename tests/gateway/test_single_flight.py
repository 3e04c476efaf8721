"""What is asked at the same time is worked on once, and who waits gets all of it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from askonce.faults import Exhausted, TooLate
from askonce.v1 import answer_pb2, content_pb2
from gateway.answering import Event, merged
from gateway.deadlines import Deadline
from gateway.settings import Settings, Timeouts
from gateway.single_flight import Flight
from tests.gateway.doubles import IMAGE, Running, failure, request_for, running, until


async def test_equal_misses_run_once(system: Running) -> None:
    """A hundred equal requests at once cost one generation and one look-up with content."""
    system.model.gate.clear()
    calls = [asyncio.create_task(system.ask(IMAGE)) for _ in range(100)]
    await until(lambda: len(system.memory.lookups) == 101)
    system.model.gate.set()
    answers = await asyncio.gather(*calls)
    assert len(system.model.requests) == 1
    assert {each.answer.text for each in answers} == {"answer 1 to: What is the total?"}
    assert sum(each.provenance.coalesced for each in answers) == 99
    assert len({each.request_id for each in answers}) == 100
    assert sum(bool(each.image_content) for each in system.memory.lookups) == 1
    await system.settled()
    answering = system.gateway.answering
    assert (answering.requests.flights, answering.generations.flights) == ({}, {})


async def test_failure_reaches_every_waiter(system: Running) -> None:
    """When the one generation fails, all who wait get its failure, and the next request asks anew."""
    system.model.fault = Exhausted("QUEUE_FULL", "busy", retry_after=2.0)
    system.memory.delay = 0.05
    found = await asyncio.gather(*(failure(system.ask(IMAGE)) for _ in range(10)))
    assert {fault.reason for fault in found} == {"QUEUE_FULL"}
    assert {fault.retry_after for fault in found} == {2.0}
    assert len(system.model.requests) == 1
    system.model.fault = None
    assert (await system.ask(IMAGE)).answer.text


async def test_cancelled_first_caller_does_not_kill_the_others(system: Running) -> None:
    """The first caller goes away; whoever waits with it still gets the answer of the one generation."""
    system.model.gate.clear()
    first = asyncio.create_task(system.ask(IMAGE))
    await until(lambda: system.model.running == 1)
    second = asyncio.create_task(system.ask(IMAGE))
    await until(lambda: len(system.memory.lookups) == 3)
    first.cancel()
    await asyncio.sleep(0.05)
    system.model.gate.set()
    assert (await second).provenance.coalesced
    assert (len(system.model.requests), system.model.cancelled) == (1, 0)


async def test_late_joiner_of_a_stream_gets_the_pieces_so_far(system: Running) -> None:
    """A request that joins a stream in the middle gets its beginning first, then the rest."""
    system.model.gate.clear()
    first = asyncio.create_task(system.stream(IMAGE))
    await until(lambda: system.model.running == 1)
    call = system.stub.StreamAnswer(
        answer_pb2.StreamAnswerRequest(request=request_for(IMAGE, "What is the total?")), timeout=10
    )
    events = aiter(call)
    assert (await anext(events)).text == "answer 1 to: "
    system.model.gate.set()
    rest = [event async for event in events]
    assert rest[-1].summary.provenance.coalesced
    assert rest[-1].summary.answer.text == (await first)[-1].summary.answer.text
    assert len(system.model.requests) == 1


async def test_work_that_nobody_waits_for_ends() -> None:
    """Once its last waiter has left, a generation is cancelled after the linger."""
    async with running(Settings(timeouts=Timeouts(linger=0.05))) as system:
        system.model.gate.clear()
        call = asyncio.create_task(system.ask(IMAGE))
        await until(lambda: system.model.running == 1)
        call.cancel()
        await until(lambda: system.model.cancelled == 1)
        await system.settled()
        assert system.memory.remembered == []


async def test_retry_within_the_linger_rides_the_same_generation(system: Running) -> None:
    """A client whose deadline passed and who asks again at once does not make the model begin again."""
    system.model.gate.clear()
    fault = await failure(system.ask(IMAGE, timeout=0.3))
    assert fault.code is grpc.StatusCode.DEADLINE_EXCEEDED
    again = asyncio.create_task(system.ask(IMAGE))
    await until(lambda: len(system.memory.lookups) >= 3)
    system.model.gate.set()
    assert (await again).answer.text == "answer 1 to: What is the total?"
    assert len(system.model.requests) == 1


async def test_answer_on_its_way_into_memory_is_joined(system: Running) -> None:
    """Between the answer and its acknowledged storage an equal request neither waits nor asks the model."""
    system.memory.remember_gate.clear()
    first = await system.ask(IMAGE)
    second = await system.ask(IMAGE)
    assert second.answer == first.answer
    assert second.provenance.coalesced
    assert len(system.model.requests) == 1
    system.memory.remember_gate.set()


async def test_requests_of_one_meaning_wait_for_one_generation(system: Running) -> None:
    """A reworded question waits for the answer under way that it would have hit."""
    system.memory.meaning = lambda text: "total"
    system.model.gate.clear()
    first = asyncio.create_task(system.ask(IMAGE, "What is the total?"))
    await until(lambda: system.model.running == 1)
    second = asyncio.create_task(system.ask(IMAGE, "How much is it in all?"))
    await until(lambda: len(system.memory.lookups) == 3)
    system.model.gate.set()
    joined = await second
    assert joined.answer.text == (await first).answer.text
    assert (joined.provenance.coalesced, joined.provenance.reason) == (True, "COALESCED")
    assert len(system.model.requests) == 1


async def test_unfit_answer_of_another_wording_is_not_borrowed(system: Running) -> None:
    """An answer that could not have been stored is no answer to a reworded question: that one asks for itself."""
    system.memory.meaning = lambda text: "total"
    system.model.finish = content_pb2.FINISH_REASON_LENGTH
    system.model.gate.clear()
    first = asyncio.create_task(system.ask(IMAGE, "What is the total?"))
    await until(lambda: system.model.running == 1)
    second = asyncio.create_task(system.ask(IMAGE, "How much is it in all?"))
    await until(lambda: len(system.memory.lookups) == 3)
    system.model.gate.set()
    assert (await second).answer.text == "answer 2 to: How much is it in all?"
    await first


async def test_waiting_for_another_generation_is_bounded() -> None:
    """A request waits for somebody else's generation only so long, then asks for itself."""
    async with running(Settings(timeouts=Timeouts(join=0.1))) as system:
        system.memory.meaning = lambda text: "total"
        system.model.gate.clear()
        first = asyncio.create_task(system.ask(IMAGE, "What is the total?"))
        await until(lambda: system.model.running == 1)
        second = asyncio.create_task(system.ask(IMAGE, "How much is it in all?"))
        await until(lambda: system.model.running == 2)
        system.model.gate.set()
        assert (await second).answer.text == "answer 2 to: How much is it in all?"
        await first


async def test_sampled_answers_are_not_shared(system: Running) -> None:
    """Requests for a random answer each get one of their own."""
    params = content_pb2.GenerationParams(temperature=0.8)
    await asyncio.gather(*(system.ask(IMAGE, params=params) for _ in range(3)))
    assert len(system.model.requests) == 3


async def test_events_that_waited_together_are_one() -> None:
    """Whoever reads more slowly than the model writes gets what came meanwhile as one event, and all of it in order."""
    flight: Flight[Event, int] = Flight(0.0, merged)
    for event in (
        Event(thinking_text="h"),
        Event(thinking_text="m"),
        Event(text="RM "),
        Event(text="5"),
        Event(text="!"),
    ):
        flight.publish(event)
    following = flight.follow(Deadline.after(5))
    assert [await anext(following), await anext(following)] == [Event(thinking_text="hm"), Event(text="RM 5!")]
    flight.publish(Event(text=" paid"))
    assert await anext(following) == Event(text=" paid")
    flight.settle(1)
    assert [event async for event in following] == []


async def test_a_relay_passes_on_what_came_and_what_comes() -> None:
    """A flight that another one relays to has the same events, though it joined in the middle; each ends by itself."""
    one: Flight[int, str] = Flight(0.0)
    other: Flight[int, str] = Flight(0.0)
    one.publish(1)
    one.relay(other)
    one.publish(2)
    one.settle("done")
    assert (other.events, other.done) == ([1, 2], False)


async def test_waiting_ends_at_the_deadline() -> None:
    """Followers, and those who wait for the beginning or the end, are told TooLate and are counted out."""
    flight: Flight[int, str] = Flight(0.0)
    flight.publish(1)
    following = flight.follow(Deadline.after(0.01))
    assert await anext(following) == 1
    for call in (anext(following), flight.outcome(Deadline.after(0.01)), flight.outcome(Deadline.after(-1))):
        with pytest.raises(TooLate):
            await call
    assert (flight.waiters, flight.followers, flight.attendants) == (0, set(), set())


async def test_who_waits_for_the_end_is_not_woken_by_events() -> None:
    """An event costs those nothing who don't read events."""
    flight: Flight[int, str] = Flight(0.0)
    waiting = asyncio.create_task(flight.outcome(Deadline.after(5)))
    await asyncio.sleep(0)
    (attendant,) = flight.attendants
    flight.publish(1)
    assert attendant.future is not None
    assert not attendant.future.done()
    flight.settle("done")
    assert await waiting == "done"
