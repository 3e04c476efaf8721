"""`askonce doctor`: can this configuration ever hit, and does it refuse what it must?"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import click
import cv2
import grpc
import numpy as np

from askonce import telemetry
from askonce.names import PROBE_TENANT, policy_name, tenant_name
from askonce.reasons import explain
from askonce.v1 import content_pb2, dedup_pb2, dedup_pb2_grpc, policy_pb2, policy_pb2_grpc
from dedup_service.console.calling import Peer, UnreachableError, with_peer
from dedup_service.console.printing import as_json, print_json, print_table, say
from dedup_service.console.values import TENANT_OPTION
from dedup_service.settings import Settings
from dedup_service.store.edge.mending import survey

OWN_TENANT = PROBE_TENANT
"""Where probes are stored: no real tenant's traffic meets them."""
QUESTION = "What is the total amount on this receipt?"
GIB = 2**30
LOW_DISK = 2 * GIB
"""Free bytes under which the doctor warns."""


@dataclass(frozen=True)
class Check:
    """One probe and what became of it."""

    name: str
    expected: str
    """hit, miss, or either."""
    got: str
    verdict: str
    """ok, FAIL, or note: a miss that costs money and does no harm."""
    image_tier: str = ""
    image_score: float | None = None
    question_tier: str = ""
    question_score: float | None = None
    reason: str = ""
    meaning: str = ""


def receipt(number: str, total: str) -> np.ndarray:
    """A made-up receipt as pixels (H, W, 3), uint8, BGR."""
    page = np.full((640, 480, 3), 255, np.uint8)
    lines = (
        "ASKONCE SELF-CHECK",
        f"NO. {number}",
        "1 x NOTEBOOK 12.50",
        "2 x PENCIL 3.20",
        f"TOTAL {total}",
        "THANK YOU",
    )
    for i, line in enumerate(lines):
        cv2.putText(page, line, (40, 80 + i * 90), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (20, 20, 20), 2, cv2.LINE_AA)
    return page


def packed(pixels: np.ndarray, kind: str) -> bytes:
    """An image file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 85] if kind == ".jpg" else []
    _, data = cv2.imencode(kind, pixels, options)
    return data.tobytes()


@click.command()
@click.option("--tenant", type=TENANT_OPTION, help="A tenant whose policy is explained as well.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Settings().data,
    envvar="ASKONCE_DEDUP_DATA",
    show_default=True,
    help="The service's data folder, looked into when nobody answers. Also ASKONCE_DEDUP_DATA.",
)
@as_json
@with_peer
def doctor(peer: Peer, tenant: str | None, data: Path, json_: bool) -> None:
    """Store and look up a probe in a tenant of its own and explain each tier's verdict; then versions, encoders,
    stores, policy, disk. Where no service answers, look for the reason in its data folder. Exit code 1 when no hit is
    possible or a wrong one was given."""
    try:
        info, policy, checks = peer.call(lambda channel: examine(channel, peer.timeout, tenant))
    except UnreachableError as failure:
        notes = [f"{failure.message}.", *causes(data)]
        if json_:
            print_json({"sound": False, "notes": notes, "checks": []})
        else:
            for note in notes:
                say(note)
        sys.exit(1)
    notes = remarks(info, policy, checks)
    sound = all(check.verdict != "FAIL" for check in checks)
    if json_:
        print_json({
            "sound": sound,
            "notes": notes,
            "checks": [asdict(check) for check in checks],
            "image_encoder": info.image_encoder,
            "question_encoder": info.question_encoder,
            "store": info.store,
            "image_count": info.image_count,
            "entry_count": info.entry_count,
            "disk_free_bytes": info.disk_free_bytes,
            "policy_revision": info.policy_revision,
            "problems": list(info.problems),
            "versions": [*info.versions, client_version()],
        })  # fmt: skip
    else:
        show(info, checks, notes, sound)
    sys.exit(0 if sound else 1)


def causes(data: Path) -> list[str]:
    """Why a service on this machine may not run, by its data folder. Changes nothing that was stored."""
    if not data.is_dir():
        return [f"There is no folder {data.resolve()} here: run this where the service keeps its data, or name --data."]
    found = []
    if (free := shutil.disk_usage(data).free) < Settings().least_free_bytes:
        found.append(f"The disk of {data} is full: {free >> 20} MiB are free. Free some space, then start the service.")
    try:
        store = survey(data)
    except TimeoutError:
        return [*found, "A process has the store open: the service is starting, or it hangs. Its log says which."]
    except FileNotFoundError:
        return [*found, f"{data} holds no embedded store, so none is damaged. The service's log says why it ended."]
    for finding in store.findings:
        found += [f"{finding.name}: {problem}." for problem in finding.problems]
    if not store.sound:
        found.append(
            "The store is damaged, and on_damage=refuse keeps the service from starting. `askonce store repair "
            f"--data {data}` mends what can be mended and keeps all as it was beside it; "
            "ASKONCE_DEDUP_ON_DAMAGE=continue starts without what is damaged."
        )
    found += [f"{name} was set aside earlier; delete it once nothing in it is needed." for name in store.aside]
    return found or ["Its store is sound: start the service; its log says why it ended."]


async def examine(
    channel: grpc.aio.Channel, timeout: float, tenant: str | None
) -> tuple[dedup_pb2.GetDedupInfoResponse, policy_pb2.Policy, list[Check]]:
    """Everything that is asked of the service; the probes are removed again."""
    stub: dedup_pb2_grpc.DedupServiceAsyncStub = dedup_pb2_grpc.DedupServiceStub(channel)
    policies: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
    named = tenant or OWN_TENANT
    info = await stub.GetDedupInfo(
        dedup_pb2.GetDedupInfoRequest(parent=tenant_name(named)), timeout=timeout, metadata=telemetry.outgoing()
    )
    policy = await policies.GetPolicy(
        policy_pb2.GetPolicyRequest(name=policy_name(named)), timeout=timeout, metadata=telemetry.outgoing()
    )
    number = str(secrets.randbelow(900_000) + 100_000)
    probe = Probe(stub, timeout)
    original = receipt(number, f"{18.9 + secrets.randbelow(50):.2f}")
    try:
        checks = await probe.run(original, receipt(number, f"{81.4 + secrets.randbelow(50):.2f}"))
    finally:
        await probe.clean()
    return info, policy, checks


class Probe:
    """Stores one answer and looks for it in several ways."""

    def __init__(self, stub: dedup_pb2_grpc.DedupServiceAsyncStub, timeout: float) -> None:
        self.stub = stub
        self.timeout = timeout
        self.digests: set[bytes] = set()
        self.space = dedup_pb2.AnswerSpace(model="askonce-doctor", model_revision=secrets.token_hex(4))

    async def run(self, original: np.ndarray, lookalike: np.ndarray) -> list[Check]:
        """The probes in order, from what must hit to what must not."""
        file = packed(original, ".png")
        first = await self.look_up(file, QUESTION)
        checks = [self.check("a new image misses", "miss", first)]
        if first.WhichOneof("outcome") != "miss" or not first.miss.ticket:
            return checks
        answer = content_pb2.Answer(
            text="RM 18.90", finish_reason=content_pb2.FINISH_REASON_STOP, model="askonce-doctor",
            model_revision=self.space.model_revision,
        )  # fmt: skip
        stored = await self.stub.Remember(
            dedup_pb2.RememberRequest(parent=tenant_name(OWN_TENANT), ticket=first.miss.ticket, answer=answer),
            timeout=self.timeout, metadata=telemetry.outgoing(),
        )  # fmt: skip
        verdict = "ok" if stored.stored else "FAIL"
        checks.append(
            Check("its answer is stored", "stored", "stored" if stored.stored else "not", verdict, reason=stored.reason)
        )
        smaller = cv2.resize(original, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
        for name, expected, content, question in (
            ("the same file, the same question", "hit", file, QUESTION),
            ("the same question, spelt otherwise", "hit", file, "what is the total amount on this receipt"),
            ("a smaller JPEG of the image", "either", packed(smaller, ".jpg"), QUESTION),
            ("the question in other words", "either", file, "How much does this receipt come to in total?"),
            ("another question", "miss", file, "What is the number of this receipt?"),
            ("the same question, negated", "miss", file, "What is not the total amount on this receipt?"),
            ("a look-alike: another total", "miss", packed(lookalike, ".png"), QUESTION),
        ):
            checks.append(self.check(name, expected, await self.look_up(content, question)))
        return checks

    async def look_up(self, content: bytes, question: str) -> dedup_pb2.LookupResponse:
        """One look-up, with the content when it is asked for."""
        digest = hashlib.sha256(content).digest()
        self.digests.add(digest)
        request = dedup_pb2.LookupRequest(
            parent=tenant_name(OWN_TENANT),
            image_digest=digest,
            question=content_pb2.Question(text=question),
            space=self.space,
        )
        response = await self.stub.Lookup(request, timeout=self.timeout, metadata=telemetry.outgoing())
        if response.WhichOneof("outcome") == "content_wanted":
            request.image_content = content
            response = await self.stub.Lookup(request, timeout=self.timeout, metadata=telemetry.outgoing())
        return response

    def check(self, name: str, expected: str, response: dedup_pb2.LookupResponse) -> Check:
        """What a look-up's outcome means."""
        got = "hit" if response.WhichOneof("outcome") == "hit" else "miss"
        reason = response.hit.reason if got == "hit" else response.miss.reason
        evidence = response.evidence
        verdict = "ok" if expected in (got, "either") else "FAIL"
        if expected == "either" and got == "miss":
            verdict = "note"
        return Check(
            name, expected, got, verdict,
            tier_of(content_pb2.ImageTier.Name(evidence.image_tier)),
            evidence.image_score if evidence.HasField("image_score") else None,
            tier_of(content_pb2.QuestionTier.Name(evidence.question_tier)),
            evidence.question_score if evidence.HasField("question_score") else None,
            reason,
            explain(reason) if reason else "",
        )  # fmt: skip

    async def clean(self) -> None:
        """Removes every probe."""
        for digest in self.digests:
            request = dedup_pb2.ForgetRequest(parent=tenant_name(OWN_TENANT), image_digest=digest)
            await self.stub.Forget(request, timeout=self.timeout, metadata=telemetry.outgoing())


def remarks(info: dedup_pb2.GetDedupInfoResponse, policy: policy_pb2.Policy, checks: list[Check]) -> list[str]:
    """What the findings mean for the operator."""
    found = [f"The store: {problem}." for problem in info.problems]
    if policy.mode == policy_pb2.REUSE_MODE_OFF:
        found.append(f"{policy.name} has mode OFF: it can never hit.")
    if policy.mode == policy_pb2.REUSE_MODE_SHADOW:
        found.append(f"{policy.name} has mode SHADOW: hits are recorded, and the model is asked all the same.")
    if policy.archive_ttl.ToNanoseconds() == 0:
        found.append(f"{policy.name} has archive_ttl 0: nothing is stored, so it can never hit.")
    if policy.error_budget == 0:
        found.append(f"{policy.name} has error_budget 0: only exact repeats are served.")
    if policy.exploration_rate == 0:
        found.append(
            f"{policy.name} has exploration_rate 0: its wrong-answer rate can only be known from people's labels."
        )
    if any(check.got == "hit" and check.expected == "miss" for check in checks):
        found.append("A wrong answer was served: do not use this configuration, and report it.")
    elif not any(check.got == "hit" for check in checks):
        found.append("Nothing hit: see the reasons above.")
    if 0 < info.disk_free_bytes < LOW_DISK:
        found.append(f"Only {info.disk_free_bytes / GIB:.1f} GiB are free on the store's disk.")
    return found


def show(info: dedup_pb2.GetDedupInfoResponse, checks: list[Check], notes: list[str], sound: bool) -> None:
    """Prints the findings for people."""
    rows = [
        (
            check.verdict,
            check.name,
            check.expected,
            check.got,
            side(check.image_tier, check.image_score),
            side(check.question_tier, check.question_score),
            f"{check.reason}: {check.meaning}" if check.meaning else check.reason,
        )
        for check in checks
    ]
    print_table(("", "probe", "expected", "got", "image", "question", "why"), rows)
    free = f"{info.disk_free_bytes / GIB:,.1f} GiB" if info.disk_free_bytes else "not local"
    print_table(
        ("", ""),
        [
            ("image encoder", info.image_encoder),
            ("question encoder", info.question_encoder),
            ("store", f"{info.store}: {info.image_count:,} images, {info.entry_count:,} entries"),
            ("disk free", free),
            ("policy", info.policy_revision),
            ("versions", ", ".join([*info.versions, client_version()])),
        ],
    )
    for note in notes:
        say(note)
    say("Sound: it hits what it must and refuses what it must." if sound else "Not sound.")


def side(tier: str, score: float | None) -> str:
    """A tier with its score."""
    return f"{tier} {score:.4f}" if tier and score is not None else tier


def tier_of(name: str) -> str:
    """A tier's own word; empty for none."""
    word = name.partition("_TIER_")[2]
    return "" if word == "UNSPECIFIED" else word


def client_version() -> str:
    """The version of this command line."""
    try:
        return f"askonce {metadata.version('askonce')}"
    except metadata.PackageNotFoundError:
        return "askonce (development)"
