"""Ask twice, pay once: the whole path with the embedded default, on receipts drawn for the purpose."""

from __future__ import annotations

import stat

import grpc
import pytest

from askonce import faults
from askonce.v1 import answer_pb2, content_pb2, job_pb2, job_pb2_grpc
from tests.system.conftest import Client, encode, receipt

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

RECEIPT = encode(receipt())
MODEL, CACHE = content_pb2.SOURCE_MODEL, content_pb2.SOURCE_CACHE


async def settled(client: Client, image: bytes, text: str, parent: str = "") -> answer_pb2.AnswerResponse:
    """Asks, and asks again until the answer is on record."""
    first = await client.ask(image, text, parent=parent)
    for _ in range(50):
        again = await client.ask(image, text, parent=parent)
        if again.provenance.source == CACHE:
            return first
    raise AssertionError("the answer was never stored")


async def test_first_ask_is_answered_by_the_model(reader: Client) -> None:
    """The model reads the total from the receipt; the same again is an exact hit with the same answer."""
    first = await settled(reader, RECEIPT, "What is the total?")
    assert "138.90" in first.answer.text
    again = await reader.ask(RECEIPT, "What is the total?")
    assert (again.provenance.source, again.answer.text) == (CACHE, first.answer.text)
    assert again.provenance.evidence.image_tier == content_pb2.IMAGE_TIER_BYTES


async def test_reencoded_and_resized_file_is_the_same_image(reader: Client) -> None:
    """A copy of the picture, as a JPEG of another size, is recognised."""
    await settled(reader, RECEIPT, "What is the total?")
    smaller = receipt().resize((544, 731))
    copy = await reader.ask(encode(smaller, "JPEG", quality=88), "What is the total?")
    assert copy.provenance.source == CACHE
    assert copy.provenance.evidence.image_tier in (content_pb2.IMAGE_TIER_PERCEPTUAL, content_pb2.IMAGE_TIER_NEIGHBOUR)
    assert "138.90" in copy.answer.text


@pytest.mark.parametrize("text", ["what is the TOTAL", "What is  the total ?", "Ｗｈａｔ ｉｓ ｔｈｅ ｔｏｔａｌ？"])
async def test_spelling_width_and_case_are_the_same_question(reader: Client, text: str) -> None:
    """A question that differs in case, width, spaces and punctuation only is the same question."""
    await settled(reader, RECEIPT, "What is the total?")
    assert (await reader.ask(RECEIPT, text)).provenance.source == CACHE


async def test_lookalike_goes_to_the_model(reader: Client) -> None:
    """The same receipt with another amount is another image, and gets its own answer."""
    await settled(reader, RECEIPT, "What is the total?")
    other = await reader.ask(encode(receipt(total="133.90")), "What is the total?")
    assert other.provenance.source == MODEL
    assert "133.90" in other.answer.text


async def test_different_question_goes_to_the_model(reader: Client) -> None:
    """Another question about the same image is answered afresh."""
    await settled(reader, RECEIPT, "What is the total?")
    other = await reader.ask(RECEIPT, "What is the date?")
    assert other.provenance.source == MODEL
    assert "12/03/2024" in other.answer.text


async def test_second_tenant_goes_to_the_model(reader: Client) -> None:
    """What one tenant asked is nothing to another."""
    await settled(reader, RECEIPT, "What is the total?")
    assert (await reader.ask(RECEIPT, "What is the total?", parent="tenants/second")).provenance.source == MODEL


async def test_wrong_feedback_removes_the_answer_at_once(reader: Client) -> None:
    """After "wrong" the next request is a miss."""
    parent = "tenants/feedback"
    await settled(reader, RECEIPT, "What is the invoice number?", parent)
    hit = await reader.ask(RECEIPT, "What is the invoice number?", parent=parent)
    request = answer_pb2.SubmitFeedbackRequest(decision=hit.provenance.decision, verdict=answer_pb2.VERDICT_WRONG)
    assert (await reader.stub.SubmitFeedback(request, timeout=10)).removed_count == 1
    assert (await reader.ask(RECEIPT, "What is the invoice number?", parent=parent)).provenance.source == MODEL


async def test_question_that_cannot_be_answered_is_not_stored(reader: Client) -> None:
    """The reader says that it can't answer, and such an answer never becomes a hit."""
    for _ in range(2):
        answer = await reader.ask(RECEIPT, "Which of the two cats in the tree is older?")
        assert answer.provenance.source == MODEL
        assert answer.answer.finish_reason == content_pb2.FINISH_REASON_UNANSWERABLE


async def test_looser_limits_are_refused(reader: Client) -> None:
    """A caller may tighten the policy's thresholds and never loosen them; a tightened one is honoured."""
    await settled(reader, RECEIPT, "What is the total?")
    loose = answer_pb2.ReuseLimits(min_question_score=0.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reader.ask(RECEIPT, "What is the total?", limits=loose)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert faults.reason_of(caught.value) not in ("", "INVALID_ARGUMENT")
    none = answer_pb2.ReuseLimits(max_age_seconds=0)
    assert (await reader.ask(RECEIPT, "What is the total?", limits=none)).provenance.source == MODEL


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "IMAGE_EMPTY"),
        (RECEIPT[:-900], "IMAGE_TRUNCATED"),
        (b"%PDF-1.4", "PDF_UNREADABLE"),
        (b"GIF89a" + bytes(64), "IMAGE_TYPE_UNSUPPORTED"),
        (RECEIPT + bytes(5 * 2**20), "IMAGE_TOO_LARGE"),
    ],
    ids=["empty", "truncated", "pdf", "type", "large"],
)
async def test_bad_image_leaves_everything_alive(reader: Client, content: bytes, reason: str) -> None:
    """A bad image is refused with its reason, and the system goes on."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reader.ask(content, "What is the total?")
    assert faults.reason_of(caught.value) == reason
    assert (await reader.ask(RECEIPT, "What is the total?")).answer.text


async def test_stream_of_the_model_and_of_memory(reader: Client) -> None:
    """Pieces joined are the answer, whether the model gives it or memory."""
    for _ in range(2):
        request = answer_pb2.AnswerRequest(
            parent="tenants/stream",
            image=content_pb2.Image(content=RECEIPT),
            question=content_pb2.Question(text="What is the phone number?"),
        )
        call = reader.stub.StreamAnswer(answer_pb2.StreamAnswerRequest(request=request), timeout=60)
        events = [event async for event in call]
        assert "".join(event.text for event in events) == events[-1].summary.answer.text
        assert events[-1].summary.answer.text


async def test_nobody_else_can_read_what_customers_sent(reader: Client) -> None:
    """Every file and folder that a running system makes is its owner's alone: stores, ledger, jobs, keys and logs."""
    await settled(reader, RECEIPT, "What is the total?")
    jobs: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(reader.channel)
    asked = answer_pb2.AnswerRequest(
        image=content_pb2.Image(content=RECEIPT), question=content_pb2.Question(text="What is the date?")
    )
    await jobs.CreateJob(job_pb2.CreateJobRequest(request=asked), timeout=20)
    found = {path.relative_to(reader.system.home).as_posix(): path.stat() for path in reader.system.home.rglob("*")}
    for part in (
        "dedup/ledger.sqlite",
        "dedup/ticket.key",
        "service.key",
        "logs/dedup.log",
        "jobs/default",
        "dedup/edge",
    ):
        assert part in found
    open_to_others = [name for name, each in found.items() if each.st_mode & 0o077 and not stat.S_ISSOCK(each.st_mode)]
    assert open_to_others == []
    assert reader.system.home.stat().st_mode & 0o077 == 0
