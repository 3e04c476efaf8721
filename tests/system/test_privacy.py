"""What is purged or forgotten leaves every file that the services write: stores, logs of stores, ledger, jobs, logs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from askonce.v1 import (
    answer_pb2,
    content_pb2,
    dedup_pb2,
    dedup_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    store_pb2,
    store_pb2_grpc,
)
from benchmarks.ready_model import right_answer
from benchmarks.soak import picture
from tests.system.conftest import READY, Client, started

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


def written(path: Path) -> Iterator[bytes]:
    """What a file holds, without its holes: stores keep files of many megabytes with little in them."""
    with path.open("rb", buffering=0) as file:
        at = 0
        while True:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                return
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            yield os.pread(file.fileno(), end - at, at)
            at = end


@dataclass
class Planted:
    """A tenant that asked about a word that stands nowhere else."""

    system: Client
    home: Path
    tenant: str
    image: bytes
    decision: str = ""
    entry: str = ""

    @property
    def parent(self) -> str:
        """The tenant's name."""
        return f"tenants/{self.tenant}"

    @property
    def digest(self) -> bytes:
        """The image's."""
        return hashlib.sha256(self.image).digest()

    @property
    def word(self) -> str:
        """Stands in its questions, and so in the answers, which quote them."""
        return f"heron{hashlib.sha256(self.tenant.encode()).hexdigest()[:9]}"

    @property
    def question(self) -> str:
        """What it asks."""
        return f"What does the {self.word} owe?"

    @property
    def answer(self) -> str:
        """Words of the answer alone."""
        return right_answer(self.digest, self.question)[:12]

    def where(self, words: str) -> set[str]:
        """The services' files that hold the words."""
        found = set()
        for folder, _, names in os.walk(self.home):  # unlike a glob it bears folders that vanish meanwhile
            for path in (Path(folder) / name for name in names):
                with suppress(FileNotFoundError):
                    if any(words.encode() in part for part in written(path)):
                        found.add(str(path.relative_to(self.home)))
        return found

    async def gone(self, words: str, within: float = 60.0) -> set[str]:
        """Where the words are still, once they are nowhere or the time is over."""
        until = time.monotonic() + within
        while (found := await asyncio.to_thread(self.where, words)) and time.monotonic() < until:
            await asyncio.sleep(0.2)
        return found

    async def ask(self, question: str) -> None:
        """Asks until the answer comes from memory."""
        for _ in range(100):
            answer = await self.system.ask(self.image, question, parent=self.parent, tags=["audit"])
            if answer.provenance.source == content_pb2.SOURCE_CACHE:
                self.decision, self.entry = answer.provenance.decision, answer.provenance.entry
                return
        raise AssertionError("the answer was never stored")

    async def job(self) -> None:
        """Has the same answered as a job."""
        stub: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(self.system.channel)
        request = answer_pb2.AnswerRequest(
            image=content_pb2.Image(content=self.image), question=content_pb2.Question(text=self.question)
        )
        made = await stub.CreateJob(job_pb2.CreateJobRequest(parent=self.parent, request=request), timeout=30)
        while not made.job.HasField("end_time"):
            made.job.CopyFrom(await stub.GetJob(job_pb2.GetJobRequest(name=made.job.name), timeout=30))
            await asyncio.sleep(0.05)
        assert self.answer in made.job.response.answer.text


@dataclass
class Stubs:
    """Dedup, as an operator reaches it."""

    channel: grpc.aio.Channel
    shows: tuple[tuple[str, str], ...]

    async def purge(self, **conditions: object) -> None:
        """Purges."""
        stub: store_pb2_grpc.StoreServiceAsyncStub = store_pb2_grpc.StoreServiceStub(self.channel)
        await stub.Purge(store_pb2.PurgeRequest(**conditions), timeout=60, metadata=self.shows)  # type: ignore[arg-type]

    async def forget(self, **target: object) -> None:
        """Forgets, and has the files made anew at once."""
        stub: dedup_pb2_grpc.DedupServiceAsyncStub = dedup_pb2_grpc.DedupServiceStub(self.channel)
        await stub.Forget(dedup_pb2.ForgetRequest(**target), timeout=60, metadata=self.shows)  # type: ignore[arg-type]
        await self.purge(parent="tenants/nobody", all=True)

    async def keep_no_text(self, parent: str) -> None:
        """A policy of the tenant that keeps no texts."""
        stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(self.channel)
        request = policy_pb2.UpdatePolicyRequest()
        request.policy.name = f"{parent}/policy"
        request.policy.keep_question_text = False
        request.update_mask.paths.append("keep_question_text")
        await stub.UpdatePolicy(request, timeout=60, metadata=self.shows)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Client, Stubs, Path]]:
    """A system that keeps jobs."""
    home = tmp_path_factory.mktemp("privacy")
    async with (
        started(home, {"ASKONCE_GATEWAY_JOBS_FOLDER": str(home / "jobs")}, modules=READY) as client,
        grpc.aio.insecure_channel(client.system.addresses["dedup"]) as channel,
    ):
        yield client, Stubs(channel, client.system.shows), home


Removing = Callable[[Stubs, Planted], Awaitable[None]]
EVERYTHING: dict[str, Removing] = {
    "all": lambda dedup, it: dedup.purge(parent=it.parent, all=True),
    "image": lambda dedup, it: dedup.purge(parent=it.parent, image_digest=it.digest),
    "tag": lambda dedup, it: dedup.purge(parent=it.parent, tag="audit"),
    "age": lambda dedup, it: dedup.purge(parent=it.parent, min_age={"seconds": 0}),
    "model": lambda dedup, it: dedup.purge(parent=it.parent, model="ready"),
    "forget image": lambda dedup, it: dedup.forget(parent=it.parent, image_digest=it.digest),
    "forget entry": lambda dedup, it: dedup.forget(parent=it.parent, entry=it.entry),
}


CASES = [*((name, True) for name in EVERYTHING), ("all", False), ("tag", False)]
"""Each with a policy that keeps texts, two also with one that does not."""


async def test_nothing_stays(running: tuple[Client, Stubs, Path]) -> None:
    """After every kind of purge and of forgetting, no file holds a word of the questions and answers concerned; with
    `keep_question_text=false` none but the store, and jobs, did before."""
    client, dedup, home = running
    everyone = {case: Planted(client, home, f"t{at}", picture(9_000 + at)) for at, case in enumerate(CASES)}
    for (name, keeps_text), planted in everyone.items():
        if not keeps_text:
            await dedup.keep_no_text(planted.parent)
        if name != "forget entry":
            await planted.ask(f"How much money will the {planted.word} have to pay?")
        await planted.ask(planted.question)
        await planted.job()
        before = await asyncio.to_thread(planted.where, planted.word)
        assert any(path.startswith("dedup/edge/entries-") for path in before)
        assert any(path.startswith("jobs/") for path in before)
        if keeps_text:
            assert await ledger_has(planted)
        else:
            assert {path for path in before if not path.startswith(("dedup/edge/entries-", "jobs/"))} == set()
    for (name, _), planted in everyone.items():
        await EVERYTHING[name](dedup, planted)
    left = {case: await planted.gone(planted.word) for case, planted in everyone.items()}
    assert left == {case: set() for case in CASES}


async def ledger_has(planted: Planted) -> bool:
    """Whether the ledger comes to hold the word: its records are written in batches."""
    for _ in range(200):
        if any(path.startswith("dedup/ledger") for path in await asyncio.to_thread(planted.where, planted.word)):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_wrong_answer_leaves_every_file(running: tuple[Client, Stubs, Path]) -> None:
    """After "wrong" no file holds the answer; its question stays in the ledger where the policy keeps it."""
    client, dedup, home = running
    planted = Planted(client, home, "wronged", picture(9_900))
    await planted.ask(planted.question)
    assert await asyncio.to_thread(planted.where, planted.answer)
    request = answer_pb2.SubmitFeedbackRequest(decision=planted.decision, verdict=answer_pb2.VERDICT_WRONG)
    assert (await client.stub.SubmitFeedback(request, timeout=30)).removed_count == 1
    await dedup.purge(parent="tenants/nobody", all=True)  # makes the store's files anew now, not within the hour
    assert await planted.gone(planted.answer) == set()
    assert {path.split("/")[1].split(".")[0] for path in await asyncio.to_thread(planted.where, planted.word)} == {
        "ledger"
    }
