"""The judge asks each pair once, whoever comes with it, and a judge that fails changes nothing."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from askonce.faults import Unreachable
from askonce.v1 import answer_pb2, content_pb2, dedup_pb2
from gateway.judge import Judge
from tests.gateway.doubles import IMAGE, Running, until
from tests.gateway.pictures import picture


def pair(left: str, right: str) -> dedup_pb2.QuestionPairRef:
    """A pair as a miss carries it."""
    return dedup_pb2.QuestionPairRef(left=left, right=right)


async def test_second_tenant_is_told_without_asking_again(system: Running) -> None:
    """A verdict holds for every tenant: the model is asked once, each tenant's memory is told."""
    judge = system.gateway.judge
    assert judge.offer("tenants/a", pair("x", "y"))
    await until(lambda: len(system.memory.learned) == 1)
    assert judge.offer("tenants/b", pair("y", "x"))
    await until(lambda: len(system.memory.learned) == 2)
    assert [each.parent for each in system.memory.learned] == ["tenants/a", "tenants/b"]
    assert system.model.compared == [("x", "y")]


async def test_a_pair_is_queued_once(system: Running) -> None:
    """Neither the same pair nor its mirror image is taken twice for a tenant."""
    judge = system.gateway.judge
    assert judge.offer("tenants/a", pair("x", "y"))
    assert not judge.offer("tenants/a", pair("x", "y"))
    assert not judge.offer("tenants/a", pair("y", "x"))


async def test_queue_is_bounded(system: Running) -> None:
    """A full queue drops pairs; a dropped one may come again."""
    judge = Judge(system.gateway.answering.inference, system.gateway.answering.dedup, system.gateway.hosted, 2, 1.0)
    assert [judge.offer("tenants/a", pair("x", str(number))) for number in range(3)] == [True, True, False]
    judge.queue.get_nowait()
    assert judge.offer("tenants/a", pair("x", "2"))


async def test_failed_judgement_may_be_asked_again(system: Running) -> None:
    """A judge that is down loses the pair and nothing else; the next near-miss brings it again."""
    judge = system.gateway.judge
    system.model.fault = Unreachable("MODEL_DOWN", "down")
    assert judge.offer("tenants/a", pair("x", "y"))
    await until(lambda: ("tenants/a", "x", "y") not in judge.reported)
    system.model.fault = None
    assert judge.offer("tenants/a", pair("x", "y"))
    await until(lambda: len(system.memory.learned) == 1)


async def test_unsure_is_reported_without_a_probability(system: Running) -> None:
    """A judge that can't tell says so, and dedup learns that it was asked."""
    system.model.probability = None
    system.gateway.judge.offer("tenants/a", pair("x", "y"))
    await until(lambda: len(system.memory.learned) == 1)
    assert not system.memory.learned[0].judged.HasField("same_probability")


async def test_model_that_cannot_judge_is_not_asked(system: Running) -> None:
    """An engine without judgement gets no pairs, and look-ups are told so."""
    system.model.can_judge = False
    await system.gateway.hosted.refresh()
    assert not system.gateway.judge.available
    assert not system.gateway.judge.offer("tenants/a", pair("x", "y"))
    assert await system.gateway.judge.decide(pair("x", "y"), 1.0) is None


async def test_inline_verdict_is_kept(system: Running) -> None:
    """A pair judged inline is not judged again."""
    judge = system.gateway.judge
    for _ in range(2):
        verdict = await judge.decide(pair("x", "y"), 1.0)
        assert verdict is not None
        assert verdict.same_probability == pytest.approx(0.97)
    assert system.model.compared == [("x", "y")]


async def test_inline_judgement_turns_a_miss_into_a_hit(system: Running) -> None:
    """When dedup wants a verdict and there is time, the judge is asked and the look-up repeated with it."""
    system.memory.wanted_pair = ("total?", "sum?")
    answer = await system.ask(IMAGE)
    assert (answer.provenance.reason, answer.answer.text) == ("JUDGED", "as judged")
    assert system.model.compared == [("total?", "sum?")]
    assert system.model.requests == []


async def test_no_inline_judgement_when_time_is_short(system: Running) -> None:
    """A close deadline goes on with the miss; the pair is judged in the background."""
    system.memory.wanted_pair = ("total?", "sum?")
    answer = await system.ask(IMAGE, timeout=2.0)
    assert answer.provenance.source == content_pb2.SOURCE_MODEL
    await until(lambda: len(system.memory.learned) == 1)
    assert system.memory.learned[0].judged.same_probability == pytest.approx(0.97)


async def test_near_miss_is_judged_in_the_background_once(system: Running) -> None:
    """A near-miss has its pair judged behind the client's back, never twice, and dedup gets the verdict."""
    system.memory.near_pair = ("total?", "sum?")
    await system.ask(picture(1))
    await until(lambda: len(system.memory.learned) == 1)
    system.memory.near_pair = ("sum?", "total?")
    await system.ask(picture(2))
    await system.settled()
    await asyncio.sleep(0.05)
    assert system.model.compared == [("total?", "sum?")]
    assert system.memory.learned[0].parent == "tenants/default"
    assert system.memory.learned[0].judged.model == "counting-1"


async def test_all_pairs_of_a_near_miss_are_judged(system: Running) -> None:
    """A miss may name further stored questions; each pair gets its verdict."""
    system.memory.near_pair = ("total?", "sum?")
    system.memory.further = [("total?", "tax?"), ("total?", "tip?")]
    await system.ask(picture(1))
    await until(lambda: len(system.memory.learned) == 3)
    assert {(each.judged.left, each.judged.right) for each in system.memory.learned} == {
        ("total?", "sum?"),
        ("total?", "tax?"),
        ("total?", "tip?"),
    }


async def test_a_verdict_on_an_image_stays_with_that_image(system: Running) -> None:
    """The judge is shown the image within the policy's pixels; asked again only for another one; nobody else learns."""
    system.memory.wanted_pair, system.memory.on_image = ("total?", "sum?"), True
    system.memory.max_pixels = 500_000
    other = picture(7)
    for image in (IMAGE, IMAGE, other):
        answer = await system.ask(image, cache_mode=answer_pb2.CACHE_MODE_NO_STORE)
        assert answer.provenance.reason == "JUDGED"
    assert [request.image.content for request in system.model.comparisons] == [IMAGE, other]
    assert {request.max_pixels for request in system.model.comparisons} == {500_000}
    told = [request.judged for request in system.memory.lookups if request.HasField("judged")]
    assert [each.image_digest for each in told] == [hashlib.sha256(each).digest() for each in (IMAGE, IMAGE, other)]
    assert system.memory.learned == []


async def test_several_images_are_judged_without(system: Running) -> None:
    """They are no one page: the verdict is one for all images."""
    system.memory.wanted_pair, system.memory.on_image = ("total?", "sum?"), True
    images = [content_pb2.Image(content=IMAGE), content_pb2.Image(content=picture(7))]
    request = answer_pb2.AnswerRequest(images=images, question=content_pb2.Question(text="How much?"))
    answer = await system.stub.Answer(request, timeout=10)
    assert answer.provenance.reason == "JUDGED"
    (asked,) = system.model.comparisons
    assert not asked.HasField("image")
    (told,) = [request.judged for request in system.memory.lookups if request.HasField("judged")]
    assert told.image_digest == b""
