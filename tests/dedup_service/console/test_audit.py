"""`askonce audit` on the command line: exit codes, messages, copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.ledgers import Made, make_ledger
from dedup_service.console.__main__ import askonce

pytestmark = pytest.mark.slow
END = 1_790_000_000.0


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A ledger whose hits are wrong three times in a hundred."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    return make_ledger(path, decisions=3_000, wrong_rate=0.03, exploration_rate=0.4, seed=2)


def audit(ledger: Made | str, *arguments: str) -> Result:
    """Runs `askonce audit` over the made fortnight."""
    url = ledger if isinstance(ledger, str) else ledger.url
    return CliRunner().invoke(
        askonce, ["audit", "--ledger", url, "--since", "14d", "--until", str(END), *arguments], catch_exceptions=False
    )


@pytest.mark.parametrize(("max_wrong", "code", "verdict"), [("10%", 0, "BOUND_HOLDS"), ("0.5%", 1, "BOUND_BROKEN")])
def test_the_gates_exit_codes(ledger: Made, max_wrong: str, code: int, verdict: str) -> None:
    """0 when the bound holds, 1 when it is broken."""
    result = audit(ledger, "--max-wrong", max_wrong, "--confidence", "95%")
    assert result.exit_code == code
    assert result.stdout.startswith(verdict)


def test_too_few_labels_have_a_code_of_their_own(ledger: Made) -> None:
    """3 when nothing can be told, so that a script does not take it for a broken bound."""
    result = CliRunner().invoke(
        askonce, ["audit", "--ledger", ledger.url, "--since", "1h", "--until", str(END), "--max-wrong", "1%", "--json"]
    )
    assert result.exit_code == 3
    assert json.loads(result.stdout)["verdict"] == "TOO_FEW_LABELS"


def test_a_report_and_the_gate_in_one(ledger: Made, tmp_path: Path) -> None:
    """With both, the report is written and the exit code is the gate's."""
    result = audit(ledger, "--out", str(tmp_path / "report"), "--max-wrong", "0.5%", "--pairs", "none", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["verdict"] == "BOUND_BROKEN"
    assert summary["requests"] == 3_000
    assert (tmp_path / "report" / "report.html").exists()


def test_errors_exit_with_two_and_leave_nothing(ledger: Made, tmp_path: Path) -> None:
    """A missing ledger, a service that does not answer, a half export: a reason, code 2, no report."""
    out = str(tmp_path / "report")
    missing = audit(f"sqlite:///{tmp_path / 'none.sqlite'}", "--out", out)
    assert (missing.exit_code, "LEDGER_ABSENT" in missing.stderr) == (2, True)
    arguments = ["--out", out, "--tenant", "acme", "--from-service", "--target", "127.0.0.1:1", "--timeout", "2"]
    unreachable = audit(ledger, *arguments)
    assert (unreachable.exit_code, "UNAVAILABLE" in unreachable.stderr) == (2, True)
    (tmp_path / "export").mkdir()
    half = audit(ledger, "--out", out, "--store", str(tmp_path / "export"))
    assert (half.exit_code, "EXPORT_INCOMPLETE" in half.stderr) == (2, True)
    assert not Path(out).exists()
    assert audit(ledger).exit_code == 2


def test_a_copy_is_audited_elsewhere(ledger: Made, tmp_path: Path) -> None:
    """A copy made beside the running service gives the same verdict."""
    copy = tmp_path / "copy.sqlite"
    result = CliRunner().invoke(askonce, ["audit", "copy", str(copy), "--ledger", ledger.url])
    assert result.exit_code == 0, result.output
    here = audit(ledger, "--max-wrong", "10%", "--json")
    there = audit(f"sqlite:///{copy}", "--max-wrong", "10%", "--json")
    assert json.loads(here.stdout) == json.loads(there.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.sqlite"]


def test_labels_from_the_terminal(ledger: Made, tmp_path: Path) -> None:
    """A verdict a line; q ends; what was said is recorded."""
    copy = tmp_path / "copy.sqlite"
    CliRunner().invoke(askonce, ["audit", "copy", str(copy), "--ledger", ledger.url])
    url = f"sqlite:///{copy}"
    before = json.loads(audit(url, "--max-wrong", "10%", "--json").stdout)
    result = CliRunner().invoke(
        askonce,
        ["audit", "label", "--ledger", url, "--since", "14d", "--until", str(END), "--terminal", "--count", "5"],
        input="s\nd\nc\nq\n",
    )
    assert result.exit_code == 0, result.output
    assert "3 labels recorded" in result.output
    after = json.loads(audit(url, "--max-wrong", "10%", "--json").stdout)
    assert after["by_person"] == 3
    assert after["verified"] >= before["verified"] + 2


def test_help_names_every_command() -> None:
    """The whole command line is there."""
    text = CliRunner().invoke(askonce, ["--help"]).output
    assert all(name in text for name in ("audit", "doctor", "feedback", "policy", "purge", "export", "import"))
