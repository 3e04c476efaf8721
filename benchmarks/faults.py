"""What attacks and faults do to running services: one line a kind, with tries and faults.

    python -m benchmarks.faults [--root CHECKOUT] [--only KIND...] [--before OLD.json] [--json OUT]

The services of a checkout, this one unless `--root` names an older one, are started as a user starts them and are seen
from outside only: over gRPC and HTTP, by their processes and by their files. So the same command measures before and
after; `--before` prints the table of both. A try counts as a fault when what the kind's function says happens. A kind
whose means are missing (a `redis-server`, the right to mount a small disk) is left out with the reason.
"""

# ruff: noqa: ASYNC220, ASYNC221 - nothing else runs on this loop while a process is started

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from PIL import Image, ImageDraw, ImageFont

from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2, store_pb2
from benchmarks import hostile_files
from benchmarks.hostile_texts import growing
from benchmarks.soak import ASPECTS, picture

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = """
import asyncio, json, pathlib, signal, sys
from compose.local import System
async def main():
    home, environ, modules = json.loads(sys.argv[1])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with System(pathlib.Path(home), environ, modules=modules):
        print("up", flush=True)
        await stop.wait()
asyncio.run(main())
"""
"""Runs a checkout's services with the model that answers at once."""
READY = {"inference": "benchmarks.ready_model"}
START_SECONDS = 120.0
SLOW_SECONDS = 10.0
"""A call that takes longer is a fault: its client has given up."""
PARENT = "tenants/faults"
WORKER = "dedup_service.store.edge.worker"
CODES = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


class MissingError(Exception):
    """What a kind needs is not there; the message says what."""


@dataclass
class Row:
    """A kind's outcome."""

    kind: str
    tries: int = 0
    faults: int = 0
    what: list[str] = field(default_factory=list)
    """What the faults were, each text once."""

    def note(self, fault: str) -> None:
        """Counts one try, and a fault where `fault` says something."""
        self.tries += 1
        if fault:
            self.faults += 1
            if fault not in self.what:
                self.what.append(fault)


@dataclass
class Services:
    """A checkout's services, and how they are reached."""

    process: subprocess.Popen[str]
    home: Path
    edge: str

    def address(self, name: str) -> str:
        """Where a service listens."""
        return (self.home / "run" / f"{name}.port").read_text(encoding="utf-8").strip()

    @property
    def channel(self) -> Any:
        """A channel to the gateway."""
        return grpc.aio.insecure_channel(self.address("gateway"), OPTIONS)

    def pid(self, module: str) -> int:
        """The process of a service or of one of its children, 0 when it is gone."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = child.cmdline()
                if module in (line[-1:] + line[2:3]) and child.status() != psutil.STATUS_ZOMBIE:
                    return child.pid
        return 0


OPTIONS = [("grpc.max_send_message_length", 64 << 20), ("grpc.max_receive_message_length", 64 << 20)]


@dataclass(frozen=True)
class Stage:
    """Where a study runs."""

    root: Path
    folder: Path

    @asynccontextmanager
    async def services(
        self, name: str, environ: dict[str, str] | None = None, *, user: bool = False, home: Path | None = None
    ) -> AsyncIterator[Services]:
        """Running services; with `user` by `compose.local`, as a user has them, else with a model that answers at
        once. Raises RuntimeError, with what they said, when they don't start."""
        home = home or self.folder / name
        edge = f"127.0.0.1:{free_port()}"
        variables = {"ASKONCE_GATEWAY_EDGE_LISTEN": edge, "OMP_NUM_THREADS": "1", **(environ or {})}
        command = [sys.executable, "-c", LAUNCH, json.dumps((str(home), variables, READY))]
        if user:
            command = [sys.executable, "-m", "compose.local", "--home", str(home), "--gateway", local(free_port())]
        protos = self.root / "protos"
        everything = {**os.environ, "PYTHONPATH": f"{self.root}{os.pathsep}{protos}", **variables}
        process = subprocess.Popen(
            command, cwd=self.root, env=everything, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        running = Services(process, home, edge)
        said: list[str] = []
        try:
            await asyncio.to_thread(wait_up, process, said)
            yield running
        finally:
            below: list[psutil.Process] = []
            with contextlib.suppress(psutil.Error):
                below = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 30)
            except subprocess.TimeoutExpired:
                process.kill()
            for child in below:
                with contextlib.suppress(psutil.Error):
                    child.kill()
            await asyncio.to_thread(process.communicate)


def wait_up(process: subprocess.Popen[str], said: list[str]) -> None:
    """Waits until the services serve. Raises RuntimeError with their last words when they end instead."""
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.strip())
        if line.startswith(("up", "AskOnce serves")):
            return
    raise RuntimeError(next((each for each in reversed(said) if each), "said nothing"))


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def local(port: int) -> str:
    return f"127.0.0.1:{port}"


async def ask(
    services: Services, image: bytes, text: str, *, timeout: float = SLOW_SECONDS, channel: Any = None, **fields: Any
) -> answer_pb2.AnswerResponse:
    """One answer over gRPC."""
    own = channel or services.channel
    request = answer_pb2.AnswerRequest(
        image=content_pb2.Image(content=image),
        question=content_pb2.Question(text=text),
        **{"parent": PARENT, **fields},
    )
    try:
        answer: answer_pb2.AnswerResponse = await answer_pb2_grpc.AnswerServiceStub(own).Answer(
            request, timeout=timeout
        )
        return answer
    finally:
        if channel is None:
            await own.close()


async def outcome(call: Awaitable[Any]) -> str:
    """The status of a call, "OK" for a fine one."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def stored(services: Services, count: int) -> list[tuple[bytes, str]]:
    """Asks until so many answers are hits; returns their images and questions."""
    pairs = [(picture(number // 4), ASPECTS[number % 4]) for number in range(count)]
    for image, text in pairs:
        for _ in range(40):
            answer = await ask(services, image, text, timeout=30)
            if answer.provenance.source == content_pb2.SOURCE_CACHE:
                break
            await asyncio.sleep(0.1)
        else:
            raise RuntimeError("answers are not stored")
    return pairs


async def hits(services: Services, pairs: list[tuple[bytes, str]]) -> int:
    """How many of the stored answers are served from memory."""
    count = 0
    for image, text in pairs:
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await ask(services, image, text)
            count += answer.provenance.source == content_pb2.SOURCE_CACHE
    return count


async def texts(stage: Stage) -> list[Row]:
    """Questions of code points that grow when they are normalised, while the C library checks its heap. A fault: the
    dedup service died, or the call ended INTERNAL or UNKNOWN."""
    row = Row("1 questions that break native code")
    chance = random.Random(3)
    questions = [sign * 20 for sign in growing()[:8]]
    questions += ["What is " + "".join(chance.choices(growing()[:60], k=count)) + "?" for count in (7, 40, 200, 900)]
    questions += ["e" + "\u0301" * 1_500, "\u3000" * 500 + "?", "\u0f77\u0fb2" * 300, "\ufdfa\ufdfb\u3316" * 60]
    waiting = list(questions)
    while waiting:
        async with stage.services(f"texts{len(waiting)}", heap_checks()) as services:
            await stored(services, 1)
            before = services.pid("dedup_service")
            while waiting:
                text = waiting.pop(0)
                code = await outcome(ask(services, picture(0), text))
                await asyncio.sleep(0.3)
                died = services.pid("dedup_service") != before
                row.note("dedup died" if died else code if code in ("INTERNAL", "UNKNOWN") else "")
                if died:
                    break
    return [row]


def heap_checks() -> dict[str, str]:
    """Variables that make the C library check its heap; empty where that can't be had."""
    library = Path("/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")
    return {"GLIBC_TUNABLES": "glibc.malloc.check=3", "LD_PRELOAD": str(library)} if library.exists() else {}


def empty_scans(count: int) -> bytes:
    """A progressive JPEG of twelve megapixels whose last scan, of some 70 bytes, comes again and again."""
    whole = hostile_files.encode(Image.new("RGB", (4_000, 3_000), "white"), "JPEG", quality=80, progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * count + whole[-2:]


async def files(stage: Stage) -> list[Row]:
    """Small files that hold much work, two at once, and an honest new image beside them. A fault: the file took longer
    than its client waits, or the honest image was not answered in time."""
    row = Row("2 files that cost more than they weigh")
    bombs = {"6,000 scans": empty_scans(6_000), **hostile_files.bombs()}
    async with stage.services("files") as services:
        await stored(services, 1)
        for number, (name, bomb) in enumerate(bombs.items()):
            for part in range(2):
                attacks = [
                    asyncio.create_task(outcome(ask(services, bomb + bytes([n]), f"What is {n}?"))) for n in range(2)
                ]
                await asyncio.sleep(0.2)
                honest = await outcome(ask(services, picture(900 + 2 * number + part), ASPECTS[0]))
                codes = await asyncio.gather(*attacks)
                row.note(f"{name}: held an honest image up" if honest != "OK" else "")
                row.note(f"{name}: {codes[0]}" if set(codes) & {"DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"} else "")
    return [row]


async def strangers(stage: Stage) -> list[Row]:
    """What callers without a key can make grow. A fault: the gateway grew by more than 100 MiB, its metrics by more
    than 20 kB, or it answered nobody else."""
    row = Row("3 growth before authentication")
    keys = stage.folder / "keys.toml"
    keys.write_text(f'[[keys]]\nsha256 = "{"0" * 64}"\ntenant = "acme"\n', encoding="utf-8")
    async with stage.services("strangers", {"ASKONCE_GATEWAY_AUTH_API_KEYS": str(keys)}) as services:
        process = psutil.Process(services.pid("gateway"))
        begun = process.memory_info().rss
        message = answer_pb2.AnswerRequest(image=content_pb2.Image(content=bytes(7 << 20))).SerializeToString()
        channel = services.channel
        peak = begun

        async def send() -> None:
            nonlocal peak
            await outcome(channel.stream_unary("/askonce.v1.AnswerService/Answer")(dripped(message), timeout=20))
            peak = max(peak, process.memory_info().rss)

        async def dripped(whole: bytes) -> AsyncIterator[bytes]:
            yield whole

        for _ in range(3):
            calls = [asyncio.create_task(send()) for _ in range(40)]
            while any(not call.done() for call in calls):
                peak = max(peak, process.memory_info().rss)
                await asyncio.sleep(0.05)
        grown = (peak - begun) >> 20
        row.note(f"120 messages took {grown} MiB" if grown > 100 else "")
        for number in range(2_000):
            await outcome(channel.unary_unary(f"/askonce.v1.AnswerService/No{number}")(b"", timeout=5))
        size = len(fetch(services.edge, "/metrics")[1])
        for number in range(200):
            raw(services.edge, f"V{number:04} /v1/models/{number} HTTP/1.1\r\nHost: {services.edge}\r\n\r\n".encode())
        larger = len(fetch(services.edge, "/metrics")[1]) - size
        row.note(f"/metrics grew by {larger // 1_000} kB" if larger > 20_000 else "")
        held = []
        for _ in range(300):
            half = socket.create_connection(tuple_of(services.edge))
            half.sendall(b"GET / HTTP/1.1\r\nHost: " + services.edge.encode())
            held.append(half)
        status, _ = await asyncio.to_thread(fetch, services.edge, "/healthz")
        row.note(f"half-sent headers: {status} for others" if status != 200 else "")
        for half in held:
            half.close()
        await channel.close()
    return [row]


async def damage(stage: Stage) -> list[Row]:
    """Stores that were damaged while nothing ran. A fault: the services started, said nothing, and lost answers."""
    row = Row("4 damaged stores")
    origin = stage.folder / "damage"
    async with stage.services("damage") as services:
        pairs = await stored(services, 40)
        await asyncio.sleep(3)

    def each(pattern: str) -> list[Path]:
        return [path for path in (home / "dedup").rglob(pattern) if path.is_file() and path.stat().st_size]

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        chance = random.Random(5)
        for _ in range(400):
            content[chance.randrange(len(content))] ^= 0xFF
        path.write_bytes(content)

    def halve(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    kinds: dict[str, tuple[str, Callable[[Path], object]]] = {
        "no manifest": ("current.json", Path.unlink),
        "a manifest of another generation": (
            "current.json", lambda path: path.write_text('{"generation": 99, "built": 0}', encoding="utf-8")
        ),
        "flipped bits in the log": ("open-*", flip),
        "a halved id tracker": ("*id_tracker*", halve),
        "no fingerprints": ("edge/*.sqlite*", Path.unlink),
        "flipped bits in payloads": ("page_*.dat", flip),
    }  # fmt: skip
    for name, (pattern, spoil) in kinds.items():
        home = stage.folder / f"damage-{len(row.what)}-{row.tries}"
        shutil.copytree(origin, home, ignore=shutil.ignore_patterns("*.lock"))
        for path in each(pattern):
            spoil(path)
        try:
            async with stage.services("", home=home) as services:
                left = await hits(services, pairs)
                row.note(f"{name}: {len(pairs) - left} of {len(pairs)} lost in silence" if left < len(pairs) else "")
        except RuntimeError as refusal:
            row.note("" if "STORE_DAMAGED" in str(refusal) else f"{name}: {refusal}"[:160])
    return [row]


async def full_disk(stage: Stage) -> list[Row]:
    """Stores, ledger and logs on a disk of 600 MiB that is filled to the last byte. A fault: a stored answer is not
    served, for its file or a copy, a new question not answered, the store's process died, or nothing is stored again
    when there is room."""
    row = Row("5 a full disk: store, ledger and logs")
    disk = stage.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise MissingError("the right to mount a small disk")
    try:
        async with stage.services("", home=disk / "home") as services:
            pairs = await stored(services, 40)
            filler = disk / "filler"
            worker = services.pid(WORKER)
            for _ in range(3):
                fill(filler)
                await asyncio.sleep(2)
            for image, text in [*pairs, *((as_png(image), text) for image, text in pairs)]:
                fault = "a stored answer was not served"
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await ask(services, image, text)
                    fault = "" if answer.provenance.source == content_pb2.SOURCE_CACHE else fault
                row.note(fault)
            for number in range(150):
                row.note(await failed(ask(services, picture(500 + number), ASPECTS[0])))
                fill(filler)
            left = await hits(services, pairs)
            row.note("stored answers were not served afterwards" if left < len(pairs) else "")
            row.note("the store's process died" if services.pid(WORKER) != worker else "")
            filler.unlink()
            await asyncio.sleep(8)
            row.note("" if await again(services) else "nothing was stored when there was room again")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
    return [row]


def as_png(content: bytes) -> bytes:
    """A copy of equal pixels."""
    return hostile_files.encode(Image.open(io.BytesIO(content)).convert("RGB"), "PNG")


async def again(services: Services) -> bool:
    """Whether answers are stored."""
    for _ in range(40):
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await ask(services, picture(700), ASPECTS[1])
            if answer.provenance.source == content_pb2.SOURCE_CACHE:
                return True
        await asyncio.sleep(0.25)
    return False


async def failed(call: Awaitable[Any]) -> str:
    """The status of a call where it is no success."""
    code = await outcome(call)
    return "" if code == "OK" else code


def fill(path: Path) -> None:
    """Fills a disk to the last byte."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 4_096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


async def restored_redis(stage: Stage) -> list[Row]:
    """A Redis that is set back to before removals. A fault: an answer that was called wrong is served again."""
    row = Row("6 a hot tier restored from before a removal")
    if (server := shutil.which("redis-server")) is None:
        raise MissingError("redis-server")
    folder, port = stage.folder / "redis", free_port()
    folder.mkdir()
    command = [server, "--port", str(port), "--dir", str(folder), "--save", "", "--bind", "127.0.0.1"]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        await asyncio.sleep(1)
        environ = {"ASKONCE_DEDUP_HOT": f"redis://127.0.0.1:{port}/0"}
        async with stage.services("redis-home", environ) as services:
            pairs = await stored(services, 8)
            said = [await ask(services, image, text) for image, text in pairs]
            subprocess.run(["redis-cli", "-p", str(port), "save"], check=True, stdout=subprocess.DEVNULL)
            channel = services.channel
            stub = answer_pb2_grpc.AnswerServiceStub(channel)
            for answer in said:
                verdict = answer_pb2.SubmitFeedbackRequest(
                    decision=answer.provenance.decision, verdict=answer_pb2.VERDICT_WRONG
                )
                await stub.SubmitFeedback(verdict, timeout=20)
            await channel.close()
            redis.kill()
            redis.wait()
            redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            await asyncio.sleep(3)
            for image, text in pairs:
                code = await outcome(ask(services, image, text, cache_mode=answer_pb2.CACHE_MODE_ONLY_IF_CACHED))
                row.note("served again" if code == "OK" else "")
    finally:
        redis.kill()
        redis.wait()
    return [row]


def receipt(seed: int) -> bytes:
    """A page that the reader can read."""
    chance = random.Random(seed)
    image = Image.new("RGB", (700, 900), "white")
    pen = ImageDraw.Draw(image)
    for line in range(12):
        words = f"ITEM {chance.randrange(10_000):05} RM {chance.randrange(900)}.{chance.randrange(100):02}"
        pen.text((40, 40 + 60 * line), words, fill="black", font=ImageFont.load_default(size=28))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def timing(stage: Stage) -> list[Row]:
    """Tenant B asks about a page that A has asked about, and about one that nobody has. A fault: B can tell, the first
    taking less than two thirds of the second; what chance alone brings is half of the threshold's kind of trial."""
    row = Row("7 pages that B can tell A has asked about")
    ratios = []
    async with stage.services("timing", user=True) as services:
        await ask(services, receipt(99), "What is the total?", timeout=60, parent="tenants/w")
        for trial in range(8):
            known, fresh = receipt(2 * trial), receipt(2 * trial + 1)
            await ask(services, known, "What is the total?", timeout=60, parent="tenants/a")
            took = []
            order = [known, fresh] if trial % 2 else [fresh, known]
            for page in order:
                begun = time.perf_counter()
                await ask(services, page, "Who is the cashier?", timeout=60, parent=f"tenants/b{trial}")
                took.append(time.perf_counter() - begun)
            first, other = (took[order.index(known)], took[order.index(fresh)])
            ratios.append(first / other)
            row.note("told apart by time" if first < other * 2 / 3 else "")
    row.kind += f" (median ratio of times {statistics.median(ratios):.2f})"
    return [row]


async def admin(stage: Stage) -> list[Row]:
    """Calls to dedup and inference without a credential. A fault: anything but a refusal."""
    row = Row("8 administrative and internal calls without a credential")
    methods = {
        "dedup": ("StoreService/Purge", "StoreService/ExportEntries", "PolicyService/UpdatePolicy",
                  "PolicyService/RollbackPolicy", "PolicyService/GetPolicy", "AuditService/CreateAuditReport",
                  "AuditService/ListAuditReports", "DedupService/Lookup", "DedupService/Forget",
                  "DedupService/GetDedupInfo"),
        "inference": ("InferenceService/Generate", "InferenceService/GetInferenceInfo"),
    }  # fmt: skip
    request = store_pb2.PurgeRequest(parent=PARENT, dry_run=True).SerializeToString()
    async with stage.services("admin") as services:
        for name, listed in methods.items():
            bare: Any = grpc.aio.insecure_channel(services.address(name))
            async with bare as channel:
                for method in listed:
                    code = await outcome(channel.unary_unary(f"/askonce.v1.{method}")(request, timeout=5))
                    row.note("" if code in ("UNAUTHENTICATED", "PERMISSION_DENIED") else f"{method}: {code}")
    return [row]


async def browsers(stage: Stage) -> list[Row]:
    """Posts as a foreign page makes them, and by a foreign name. A fault: one is answered."""
    row = Row("9 posts from foreign pages")
    body = json.dumps({"image": "", "prompt": "x"}).encode()
    async with stage.services("browsers") as services:
        for path in ("/v1/chat/completions", "/v1/vision/completion", "/infer", "/v1/feedback"):
            for headers in (
                {"Content-Type": "text/plain", "Origin": "http://evil.example"},
                {"Content-Type": "application/json", "Origin": "http://evil.example"},
                {"Content-Type": "application/json", "Host": "evil.example"},
                {"Content-Type": "application/x-www-form-urlencoded"},
                {"Content-Type": "application/json", "Origin": "null"},
            ):
                status, answer = await asyncio.to_thread(fetch, services.edge, path, body, headers)
                reason = json.loads(answer).get("error", {}).get("code") if answer.startswith(b"{") else ""
                looked = reason in ("ORIGIN_FORBIDDEN", "HOST_FORBIDDEN", "CONTENT_TYPE_UNSUPPORTED")
                row.note("" if status in (403, 415, 421) or looked else f"{path}: {status} {reason}")
    return [row]


async def rubbish(stage: Stage) -> list[Row]:
    """Bytes that are no message, and JSON that no client sends. A fault: INTERNAL, UNKNOWN or 5xx."""
    row = Row("10 input that is none")
    chance = random.Random(11)
    bodies: list[Any] = [
        {"model": "glm", "messages": [{"role": "user", "content": "\ud800 lone"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a..example.com"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "\udfff"}}]}]},
        {"messages": [{"role": "user", "content": "x"}], "stop": ["\ud800"]},
        {"messages": [{"role": "user", "content": "x"}], "askonce": {"tags": ["\udc00"]}},
        {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10**30},
        {"messages": [{"role": "user", "content": "x"}], "temperature": "NaN"},
        {"messages": {"role": "user"}}, {"messages": [[]]}, [], 7, None, "x", {"messages": [None]},
    ]  # fmt: skip
    async with stage.services("rubbish") as services:
        channel = services.channel
        valid = answer_pb2.AnswerRequest(
            image=content_pb2.Image(content=picture(1)), question=content_pb2.Question(text="x")
        ).SerializeToString()
        for number in range(300):
            spoilt = bytearray(valid) if number % 2 else bytearray(chance.randbytes(chance.randrange(200)))
            for _ in range(number % 5):
                if spoilt:
                    spoilt[chance.randrange(min(len(spoilt), 64))] = chance.randrange(256)
            method = chance.choice(("Answer", "SubmitFeedback"))
            code = await outcome(
                channel.unary_unary(f"/askonce.v1.AnswerService/{method}")(bytes(spoilt), timeout=SLOW_SECONDS)
            )
            row.note(code if code in ("INTERNAL", "UNKNOWN") else "")
        for body in bodies:
            data = json.dumps(body).encode()
            for path in ("/v1/chat/completions", "/v1/vision/completion", "/v1/feedback"):
                status, _ = await asyncio.to_thread(
                    fetch, services.edge, path, data, {"Content-Type": "application/json"}
                )
                row.note(f"{path}: {status}" if status >= 500 and status != 503 else "")
        await channel.close()
    return [row]


async def supervision(stage: Stage) -> list[Row]:
    """Services as a user runs them: a service killed, a second start on the same folder, the runner itself killed. A
    fault: no service after a minute, the first start harmed, processes left behind."""
    row = Row("11 killed services, second starts, killed runners")
    async with stage.services("supervised", user=True) as services:
        image = picture(3)
        await ask(services, image, ASPECTS[0], timeout=60)
        for name in ("dedup_service", "inference_service", "gateway"):
            try:
                pid = services.pid(name)
            except psutil.Error:
                pid = 0
            if not pid:
                row.note(f"{name} was gone already")
                continue
            os.kill(pid, signal.SIGKILL)
            row.note("" if await back(services, name, pid) else f"{name} did not come back")
        second = [sys.executable, "-m", "compose.local", "--home", str(services.home), "--gateway", local(free_port())]
        environ = {**os.environ, "PYTHONPATH": f"{stage.root}{os.pathsep}{stage.root / 'protos'}"}
        try:
            await asyncio.to_thread(
                subprocess.run, second, cwd=stage.root, env=environ, timeout=40, capture_output=True, check=False
            )
        except subprocess.TimeoutExpired:
            row.note("a second start took the folder")
        try:
            row.note(await failed(ask(services, image, ASPECTS[0], timeout=20)))
        except OSError:
            row.note("a second start removed the port files")
        below: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            below = psutil.Process(services.process.pid).children(recursive=True)
        services.process.kill()
        gone, alive = await asyncio.to_thread(psutil.wait_procs, below, 15)
        for child in alive:
            child.kill()
        row.note(f"{len(alive)} of {len(gone) + len(alive)} processes left behind" if alive else "")
    return [row]


async def back(services: Services, name: str, pid: int) -> bool:
    """Whether a killed service runs again and questions are answered, within a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        await asyncio.sleep(0.5)
        try:
            if services.pid(name) not in (0, pid):
                await ask(services, picture(3), ASPECTS[0], timeout=10)
                return True
        except (psutil.Error, OSError, grpc.aio.AioRpcError):
            continue
    return False


def tuple_of(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def raw(address: str, content: bytes) -> bytes:
    """What a server says first to these bytes."""
    with socket.create_connection(tuple_of(address), timeout=10) as connection:
        connection.sendall(content)
        with contextlib.suppress(OSError):
            return connection.recv(4_096)
    return b""


def fetch(
    address: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of an HTTP request; 0 for none within ten seconds."""
    request = urllib.request.Request(f"http://{address}{path}", body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


KINDS: dict[str, Callable[[Stage], Awaitable[list[Row]]]] = {
    "texts": texts, "files": files, "strangers": strangers, "damage": damage, "full_disk": full_disk,
    "restored_redis": restored_redis, "timing": timing, "admin": admin, "browsers": browsers, "rubbish": rubbish,
    "supervision": supervision,
}  # fmt: skip


async def study(root: Path, only: list[str]) -> list[Row]:
    """Runs the kinds one after the other."""
    rows = []
    for name in only or KINDS:
        with tempfile.TemporaryDirectory(prefix=f"faults-{name}-", ignore_cleanup_errors=True) as folder:
            try:
                found = await KINDS[name](Stage(root, Path(folder)))
            except MissingError as error:
                print(f"{name}: left out, needs {error}", flush=True)
                continue
        for row in found:
            print(f"{row.kind}: {row.faults} of {row.tries} {'; '.join(row.what)}", flush=True)
        rows += found
    return rows


def table(rows: list[Row], before: dict[str, Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| kind | tries | faults before | faults after |", "|---|---|---|---|"]
    for row in rows:
        old = before.get(row.kind.split()[0])
        lines.append(f"| {row.kind} | {row.tries} | {f'{old.faults} of {old.tries}' if old else '-'} | {row.faults} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose services are started")
    parser.add_argument("--only", nargs="*", default=[], choices=list(KINDS))
    parser.add_argument("--before", type=Path, help="what this command wrote for an older checkout")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = asyncio.run(study(chosen.root.resolve(), chosen.only))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    old = [Row(**each) for each in json.loads(chosen.before.read_text(encoding="utf-8"))] if chosen.before else []
    print(table(rows, {row.kind.split()[0]: row for row in old}))


if __name__ == "__main__":
    main()
