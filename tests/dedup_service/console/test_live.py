"""The command line against a real dedup service in a process of its own."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from askonce.access import shows
from askonce.dialing import Dialing, dial
from askonce.secret_file import SecretFile
from askonce.v1 import dedup_pb2_grpc
from dedup_service.console.__main__ import askonce
from dedup_service.console.doctor import OWN_TENANT, Probe, receipt

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running service."""
    folder = tmp_path_factory.mktemp("service")
    port_file = folder / "port"
    environ = {
        **os.environ,
        "ASKONCE_DEDUP_DATA": str(folder / "data"),
        "ASKONCE_DEDUP_ACCESS_SERVICE_KEY": str(folder / "service.key"),
        "ASKONCE_DEDUP_SERVING_LISTEN": "127.0.0.1:0",
        "ASKONCE_DEDUP_SERVING_PORT_FILE": str(port_file),
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "dedup_service"], env=environ, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            if port_file.exists():
                break
            assert process.poll() is None
            time.sleep(0.1)
        patch = pytest.MonkeyPatch()
        patch.setenv("ASKONCE_KEY_FILE", str(folder / "service.key"))
        yield port_file.read_text()
        patch.undo()
    finally:
        process.terminate()
        process.wait(30)


def run(target: str, *arguments: str, code: int = 0) -> str:
    """Runs a command; its standard output."""
    result = CliRunner().invoke(askonce, [*arguments, "--target", target])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def read(target: str, *arguments: str) -> Any:
    """Runs a command for its JSON."""
    return json.loads(run(target, *arguments, "--json"))


def test_the_doctor_finds_a_fresh_service_sound(target: str) -> None:
    """It hits what it must, refuses what it must, and leaves no probe behind."""
    found = read(target, "doctor")
    assert found["sound"]
    verdicts = {check["name"]: check for check in found["checks"]}
    assert verdicts["the same file, the same question"]["reason"] == "EXACT"
    assert verdicts["a look-alike: another total"]["got"] == "miss"
    assert all(check["reason"] or check["name"] == "its answer is stored" for check in found["checks"])
    assert found["image_encoder"]
    assert read(target, "doctor")["entry_count"] == 0
    assert "Sound" in run(target, "doctor")


def test_the_doctor_explains_a_policy_that_never_hits(target: str) -> None:
    """A tenant in mode OFF can't hit, and the doctor says why."""
    run(target, "policy", "set", "mode=OFF", "--tenant", "silent")
    notes = read(target, "doctor", "--tenant", "silent")["notes"]
    assert any("mode OFF" in note for note in notes)


def test_a_policy_from_set_to_rollback(target: str) -> None:
    """Values go in and come out; the history names what changed; a rollback brings the old ones back."""
    assert read(target, "policy", "get", "--tenant", "acme")["revision"] == "0"
    run(target, "policy", "set", "error_budget=0.5%", "hot_ttl=1h", "--tenant", "acme", "--note", "stricter")
    assert "0.005" in run(target, "policy", "get", "--tenant", "acme")
    only_checked = read(target, "policy", "set", "error_budget=5%", "--tenant", "acme", "--validate-only")
    assert only_checked["error_budget"] == 0.05
    history = read(target, "policy", "revisions", "--tenant", "acme")["policies"]
    assert [each["revision"] for each in history] == ["1"]
    assert "stricter" in run(target, "policy", "revisions", "--tenant", "acme")
    assert read(target, "policy", "rollback", "0", "--tenant", "acme")["error_budget"] == 0.01
    assert "error_budget" in run(target, "policy", "set", "error_budget=60%", "--tenant", "acme", code=2)
    stale = run(target, "policy", "set", "mode=OFF", "--tenant", "acme", "--etag", "0" * 32, code=2)
    assert "POLICY_CHANGED" in stale


def test_policies_from_a_file(target: str, tmp_path: Path) -> None:
    """A file brings tenants to what it says, once; `diff` says what would change, and between which revisions what did;
    the history names who did it."""
    path = tmp_path / "policies.yaml"
    path.write_text(
        "tenants:\n  file-a: {error_budget: 0.5%, hot_ttl: 1h, protected_terms: [税前, 税后]}\n"
        "  file-b:\n    mode: SHADOW\n    shared_intents:\n"
    )
    assert "error_budget" in run(target, "policy", "diff", "-f", str(path), code=1)
    assert "2 of 2 policies would be changed" in run(target, "policy", "apply", "-f", str(path), "--dry-run")
    assert read(target, "policy", "get", "--tenant", "file-a")["revision"] == "0"
    assert "2 of 2 policies changed" in run(target, "policy", "apply", "-f", str(path), "--note", "from the file")
    assert "0 of 2 policies changed" in run(target, "policy", "apply", "-f", str(path))
    assert "Nothing differs" in run(target, "policy", "diff", "-f", str(path))
    found = read(target, "policy", "get", "--tenant", "file-a")
    assert (found["revision"], found["error_budget"], found["protected_terms"]) == ("1", 0.005, ["税前", "税后"])
    assert found["author"] == f"service ({getpass.getuser()})"
    path.write_text(json.dumps({"tenants": {"file-a": {"hot_ttl": "1h"}}}))
    assert "0 of 1" in run(target, "policy", "apply", "-f", str(path))
    assert "1 of 1" in run(target, "policy", "apply", "-f", str(path), "--reset")
    changed = run(target, "policy", "diff", "--tenant", "file-a", "1", "2", code=1)
    assert "error_budget" in changed
    assert "hot_ttl" not in changed
    assert "no revision 9" in run(target, "policy", "diff", "--tenant", "file-a", "9", code=2)
    assert "POLICY" in run(target, "policy", "diff", "-f", str(tmp_path / "absent"), code=2).upper()


def test_previews_and_suggestions_without_traffic(target: str) -> None:
    """Nothing on record is said plainly."""
    assert read(target, "policy", "preview", "mode=STATIC", "--tenant", "quiet")["decision_count"] == "0"
    assert read(target, "policy", "suggest", "--tenant", "quiet")["reason"] == "TOO_FEW_LABELS"
    assert "TOO_FEW_LABELS" in run(target, "policy", "suggest", "--tenant", "quiet")
    assert "hit rate" in run(target, "policy", "preview", "mode=STATIC", "--tenant", "quiet")


def test_export_import_purge_and_feedback(target: str, tmp_path: Path) -> None:
    """What is stored can be copied out, brought in for another tenant, counted, removed; and an answer called wrong
    is gone at once."""

    async def store() -> None:
        channel = dial(Dialing(target=target), shows=shows(SecretFile(Path(os.environ["ASKONCE_KEY_FILE"]))))
        probe = Probe(dedup_pb2_grpc.DedupServiceStub(channel), 20.0)
        number = str(secrets.randbelow(900_000))
        await probe.run(receipt(number, "10.00"), receipt(number, "99.00"))
        await channel.close()

    asyncio.run(store())
    out = tmp_path / "export"
    assert read(target, "export", "--tenant", OWN_TENANT, "--out", str(out))["entries"] == 1
    assert read(target, "import", str(out), "--tenant", "copy-shop")["entry_count"] == "1"
    assert read(target, "import", str(out), "--tenant", "copy-shop")["skipped_count"] == "1"
    assert read(target, "purge", "--tenant", "copy-shop", "--all", "--dry-run")["entry_count"] == "1"
    assert "CONDITION" in run(target, "purge", "--tenant", "copy-shop", "--yes", code=2)
    assert read(target, "purge", "--tenant", "copy-shop", "--all", "--yes")["entry_count"] == "1"
    assert read(target, "purge", "--tenant", "copy-shop", "--all", "--dry-run")["entry_count"] == "0"
    assert read(target, "purge", "--tenant", OWN_TENANT, "--stale-encoders", "--dry-run")["entry_count"] == "0"
    run(target, "purge", "--tenant", OWN_TENANT, "--all", "--yes")
    unknown = run(target, "feedback", f"tenants/acme/decisions/{'0' * 32}", "wrong", code=2)
    assert "DECISION_UNKNOWN" in unknown
    assert "NAME_INVALID" in run(target, "feedback", "nonsense", "wrong", code=2)


def test_nobody_at_the_address() -> None:
    """A service that does not answer is named, with what to do."""
    text = run("127.0.0.1:1", "policy", "get", "--tenant", "acme", "--timeout", "3", code=2)
    assert "UNAVAILABLE" in text or "DEADLINE" in text
    assert "--t" in text
