"""The PolicyService over a real gRPC server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from askonce.faults import from_error
from askonce.serving import Registration, Server, Serving
from askonce.v1 import policy_pb2, policy_pb2_grpc
from dedup_service.api.policy_messages import from_policy, to_policy
from dedup_service.api.policy_service import PolicyService
from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader
from dedup_service.ledger.records import Label, Source
from dedup_service.ledger.revisions import RevisionRows
from dedup_service.policy.policy import FIELDS, IntentSharing, JudgeMode, Mode, Policy
from dedup_service.policy.revisions import PolicyBook, Revision
from tests.dedup_service.ledger.test_ledger import decision

NAME = "tenants/acme/policy"


class Peer:
    """A client of a running service, with the ledger behind it."""

    def __init__(self, stub: policy_pb2_grpc.PolicyServiceAsyncStub, ledger: Ledger, book: PolicyBook) -> None:
        self.stub = stub
        self.ledger = ledger
        self.book = book

    async def update(
        self, *mask: str, etag: str = "", validate_only: bool = False, **values: object
    ) -> policy_pb2.Policy:
        """Updates the policy of acme."""
        policy = policy_pb2.Policy(name=NAME, etag=etag, **values)  # type: ignore[arg-type]
        request = policy_pb2.UpdatePolicyRequest(
            policy=policy, update_mask=FieldMask(paths=mask), validate_only=validate_only, note="a test"
        )
        return await self.stub.UpdatePolicy(request, timeout=10)


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    """A PolicyService on a port of its own, over an empty ledger."""
    engine = await asyncio.to_thread(open_database, f"sqlite:///{tmp_path}/ledger.db")
    ledger, book = Ledger(engine, interval=0.02), PolicyBook(RevisionRows(engine))
    service = PolicyService(book, Reader(engine))
    add = Registration(
        "askonce.v1.PolicyService",
        lambda server: policy_pb2_grpc.add_PolicyServiceServicer_to_server(service, server),
    )
    server = Server("dedup", Serving(), [add])
    address = await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield Peer(policy_pb2_grpc.PolicyServiceStub(channel), ledger, book)
    await server.stop()
    await asyncio.to_thread(ledger.close)
    await asyncio.to_thread(engine.dispose)


def test_every_field_travels() -> None:
    """A policy survives the wire in every field, also where its values are zero."""
    unusual = Policy(
        mode=Mode.STATIC,
        image_threshold=0.0,
        question_threshold=0.5,
        image_floor=0.1,
        question_floor=0.2,
        phash_distance=0,
        error_budget=0.0,
        confidence=0.9,
        exploration_rate=0.0,
        judge=JudgeMode.OFF,
        protected_terms=("税", "total"),
        cross_language=True,
        max_pixels=12_544,
        hot_ttl=0.0,
        archive_ttl=0.5,
        ttl_jitter=0.0,
        sliding_ttl=True,
        answers_per_image=1,
        shared_intents=IntentSharing.SHARE,
        keep_question_text=False,
        keep_thumbnails=True,
        record_ttl=3_600.0,
    )
    for policy in (Policy(), unusual):
        message = to_policy(Revision("acme", 3, policy, 12.5, "ana", "why"))
        again, mask = from_policy(policy_pb2.Policy.FromString(message.SerializeToString()), [])
        assert again == policy
        assert set(mask) == set(FIELDS) - ({"protected_terms"} if not policy.protected_terms else set())


async def test_the_default_is_revision_zero(peer: Peer) -> None:
    """A tenant without a policy of its own gets the default with every field set, as revision 0."""
    policy = await peer.stub.GetPolicy(policy_pb2.GetPolicyRequest(name=NAME), timeout=10)
    assert (policy.revision, policy.error_budget, policy.mode) == (0, 0.01, policy_pb2.REUSE_MODE_VERIFIED)
    assert policy.HasField("image_floor")
    assert not policy.HasField("create_time")
    assert policy.hot_ttl.ToSeconds() == 7_200


async def test_update_changes_what_the_mask_names(peer: Peer) -> None:
    """Only named fields change, zero is zero, and a named field that is not set goes back to its default."""
    first = await peer.update("error_budget", "phash_distance", error_budget=0.05, phash_distance=0, confidence=0.5)
    assert (first.revision, first.error_budget, first.phash_distance, first.confidence) == (1, 0.05, 0, 0.95)
    second = await peer.update("error_budget")
    assert (second.error_budget, second.phash_distance, second.note) == (0.01, 0, "a test")
    third = await peer.update(error_budget=0.0)
    assert (third.error_budget, third.phash_distance) == (0.0, 0)


async def test_stale_etags_are_aborted(peer: Peer) -> None:
    """Of two operators who read the same revision, the second is told that it changed."""
    read = await peer.stub.GetPolicy(policy_pb2.GetPolicyRequest(name=NAME), timeout=10)
    await peer.update("error_budget", etag=read.etag, error_budget=0.02)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peer.update("error_budget", etag=read.etag, error_budget=0.03)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert from_error(caught.value).reason == "POLICY_CHANGED"


async def test_validate_only_changes_nothing(peer: Peer) -> None:
    """A dry run answers with the revision that would be made, or with its faults, and makes none."""
    shown = await peer.update("error_budget", validate_only=True, error_budget=0.02)
    assert (shown.revision, shown.error_budget) == (1, 0.02)
    assert peer.book.current("acme").revision == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peer.update("error_budget", validate_only=True, error_budget=3.0)
    fault = from_error(caught.value)
    assert (fault.reason, fault.field) == ("POLICY_INVALID", "policy.error_budget")


async def test_faults_name_the_field_and_the_active_policy_stays(peer: Peer) -> None:
    """Every way to send a bad policy or request ends in INVALID_ARGUMENT with a reason; the policy in force stays."""
    await peer.update("error_budget", error_budget=0.02)
    update, policy = policy_pb2.UpdatePolicyRequest, policy_pb2.Policy
    window = Duration(seconds=1)
    bad = [
        (peer.stub.UpdatePolicy, update(policy=policy(name="tenants/acme"))),
        (peer.stub.UpdatePolicy, update(policy=policy(name="tenants/ACME/policy", error_budget=0.1))),
        (peer.stub.UpdatePolicy, update(policy=policy(name=NAME))),
        (peer.stub.UpdatePolicy, update(policy=policy(name=NAME), update_mask=FieldMask(paths=["nothing"]))),
        (peer.stub.UpdatePolicy, update(policy=policy(name=NAME, confidence=float("nan")))),
        (peer.stub.UpdatePolicy, update(policy=policy(name=NAME, mode=77))),  # type: ignore[arg-type]
        (peer.stub.UpdatePolicy, update(policy=policy(name=NAME, hot_ttl=Duration(seconds=-5)))),
        (peer.stub.UpdatePolicy, update(policy=policy(name=NAME, error_budget=0.1), note="x" * 1_001)),
        (peer.stub.GetPolicy, policy_pb2.GetPolicyRequest()),
        (peer.stub.ListPolicyRevisions, policy_pb2.ListPolicyRevisionsRequest(name=NAME, page_size=101)),
        (peer.stub.ListPolicyRevisions, policy_pb2.ListPolicyRevisionsRequest(name=NAME, page_size=-1)),
        (peer.stub.ListPolicyRevisions, policy_pb2.ListPolicyRevisionsRequest(name=NAME, page_token="x")),
        (peer.stub.RollbackPolicy, policy_pb2.RollbackPolicyRequest(name=NAME)),
        (peer.stub.RollbackPolicy, policy_pb2.RollbackPolicyRequest(name=NAME, revision=-1)),
        (peer.stub.PreviewPolicy, policy_pb2.PreviewPolicyRequest(policy=policy(name=NAME), window=window)),
        (peer.stub.PreviewPolicy, policy_pb2.PreviewPolicyRequest(policy=policy(name=NAME), example_count=101)),
        (peer.stub.SuggestPolicy, policy_pb2.SuggestPolicyRequest(name=NAME, window=window)),
    ]
    for call, request in bad:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, timeout=10)  # type: ignore[operator]
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, request
        assert from_error(caught.value).reason.isupper()
        assert from_error(caught.value).field
    assert (peer.book.current("acme").revision, peer.book.current("acme").policy.error_budget) == (1, 0.02)


async def test_revisions_come_in_pages_and_can_be_brought_back(peer: Peer) -> None:
    """The history is complete, newest first; a rollback is a new revision that says where it came from."""
    for budget in (0.01, 0.02, 0.03, 0.04):
        await peer.update("error_budget", error_budget=budget)
    seen: list[int] = []
    token = ""
    while True:
        request = policy_pb2.ListPolicyRevisionsRequest(name=NAME, page_size=2, page_token=token)
        page = await peer.stub.ListPolicyRevisions(request, timeout=10)
        seen += [policy.revision for policy in page.policies]
        token = page.next_page_token
        if not token:
            break
    assert seen == [4, 3, 2, 1]
    back = policy_pb2.RollbackPolicyRequest(name=NAME, revision=2, note="too many wrong")
    restored = (await peer.stub.RollbackPolicy(back, timeout=10)).policy
    assert (restored.revision, restored.restored_revision, restored.error_budget) == (5, 2, 0.02)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peer.stub.RollbackPolicy(policy_pb2.RollbackPolicyRequest(name=NAME, revision=99), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert from_error(caught.value).reason == "REVISION_UNKNOWN"


def fill(ledger: Ledger, *, labels: int, keep_text: bool = True) -> None:
    """Near-misses of distinct questions with risk 0.05, all right but every hundredth."""
    now = time.time()
    for number in range(labels):
        made = decision(
            number,
            time=now,
            image_tier="BYTES",
            image_score=1.0,
            question_score=0.95,
            risk=0.05,
            stratum="exact/scored",
            question_text=f"question {number}",
            cross_language=False,
        )
        assert ledger.record_decision(made, keep_text=keep_text)
        same = number % 100 != 7
        assert ledger.record_label(Label(made.id, "acme", Source.NEAR_MISS, same, now), keep_text=keep_text)
    assert ledger.flush(20)


async def test_preview_tells_what_would_flip(peer: Peer) -> None:
    """A looser threshold would have served the recorded near-misses; the response says how many were wrong, which, and
    leaves everything as it is."""
    await asyncio.to_thread(fill, peer.ledger, labels=400)
    proposed = policy_pb2.Policy(name=NAME, mode=policy_pb2.REUSE_MODE_STATIC, question_threshold=0.9)
    request = policy_pb2.PreviewPolicyRequest(policy=proposed, example_count=5)
    found = await peer.stub.PreviewPolicy(request, timeout=30)
    assert (found.decision_count, found.gained_count, found.lost_count) == (400, 400, 0)
    assert (found.hit_rate, found.proposed_hit_rate) == (0.0, 1.0)
    assert found.proposed_wrong_rate.low < 0.01 < found.proposed_wrong_rate.high
    assert found.proposed_wrong_rate.mid == pytest.approx(0.01)
    assert [flip.HasField("right") and not flip.right for flip in found.flips] == [True] * 4 + [False]
    assert found.flips[0].nearest_answer == "RM 138.90"
    assert peer.book.current("acme").revision == 0


async def test_texts_that_are_not_kept_are_not_shown(peer: Peer) -> None:
    """Once the policy keeps no texts, a preview shows none, not even those recorded before."""
    await asyncio.to_thread(fill, peer.ledger, labels=10)
    await peer.update("keep_question_text", keep_question_text=False)
    request = policy_pb2.PreviewPolicyRequest(
        policy=policy_pb2.Policy(name=NAME, mode=policy_pb2.REUSE_MODE_STATIC, question_threshold=0.9)
    )
    found = await peer.stub.PreviewPolicy(request, timeout=30)
    assert found.flips
    assert not any(flip.question or flip.nearest_question or flip.nearest_answer for flip in found.flips)


async def test_suggestions_say_what_is_missing_and_can_be_applied(peer: Peer) -> None:
    """With too few labels the number that is missing is stated; with enough, the suggested policy can be sent back as
    it is, with its etag."""
    await peer.update("error_budget", error_budget=0.05)
    few = await peer.stub.SuggestPolicy(policy_pb2.SuggestPolicyRequest(name=NAME), timeout=30)
    assert (few.reason, few.label_count) == ("TOO_FEW_LABELS", 0)
    assert few.needed_label_count > 50
    await asyncio.to_thread(fill, peer.ledger, labels=900)
    found = await peer.stub.SuggestPolicy(policy_pb2.SuggestPolicyRequest(name=NAME), timeout=60)
    assert found.reason == "SUGGESTED"
    assert found.proposed_hit_rate == 1.0
    assert found.wrong_rate_upper <= 0.05
    assert found.strata[0].rule == policy_pb2.BOUND_RULE_LEARNT
    mask = FieldMask(paths=["image_threshold", "question_threshold"])
    request = policy_pb2.UpdatePolicyRequest(policy=found.policy, update_mask=mask)
    applied = await peer.stub.UpdatePolicy(request, timeout=10)
    assert applied.question_threshold == found.policy.question_threshold <= 0.95
