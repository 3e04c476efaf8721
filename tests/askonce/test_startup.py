"""Every server's command explains itself, checks and shows its settings, and fails in one line."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from askonce import settings, startup
from askonce.settings import SettingsError, StartError
from dedup_service.__main__ import main as dedup
from gateway.__main__ import main as gateway
from inference_service.__main__ import main as inference

ROOT = Path(__file__).parents[2]
SERVERS = {"gateway": "askonce-gateway", "dedup_service": "askonce-dedup", "inference_service": "askonce-inference"}


def run(module: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASKONCE_")}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], env={**clean, **environ}, cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


def said(module: str, argument: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command prints, run in this process: its imports take seconds."""
    monkeypatch.setattr(sys, "argv", [module, argument])
    with suppress(SystemExit):
        import_module(f"{module}.__main__").main()
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("module", SERVERS)
def test_help_version_and_settings(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No setting is needed to learn what a command is, which version, and what it would do."""
    assert "usage" in run(module, "--help").stdout
    for name in [name for name in os.environ if name.startswith("ASKONCE_")]:
        monkeypatch.delenv(name)
    assert said(module, "--version", capsys, monkeypatch).startswith(SERVERS[module])
    assert "fine" in said(module, "--check-config", capsys, monkeypatch)
    prefix = {"gateway": "GATEWAY", "dedup_service": "DEDUP", "inference_service": "INFERENCE"}[module]
    monkeypatch.setenv(f"ASKONCE_{prefix}_SERVING_GRACE", "3")
    shown = said(module, "--show-config", capsys, monkeypatch)
    assert f"ASKONCE_{prefix}_SERVING_GRACE = 3.0    # environment" in shown
    assert f"ASKONCE_{prefix}_SERVING_DRAIN_DELAY = 0.0    # default" in shown


@pytest.mark.slow
@pytest.mark.parametrize("module", SERVERS)
def test_a_taken_port_is_one_line(module: str, tmp_path: Path) -> None:
    """Who can't listen says where, in one line, with status 2 and no traceback."""
    prefix = {"gateway": "GATEWAY", "dedup_service": "DEDUP", "inference_service": "INFERENCE"}[module]
    key = "SERVICE_KEY" if module == "gateway" else "ACCESS_SERVICE_KEY"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environ = {f"ASKONCE_{prefix}_SERVING_LISTEN": address, f"ASKONCE_{prefix}_{key}": str(tmp_path / "key"),
                   "ASKONCE_DEDUP_DATA": str(tmp_path / "data")}  # fmt: skip
        if module != "dedup_service":
            del environ["ASKONCE_DEDUP_DATA"]
        done = run(module, **environ)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == 2
    assert len(lines) == 1, done.stderr
    assert address in lines[0]


@pytest.mark.parametrize(("main", "environ", "said"), [
    (gateway, {"ASKONCE_GATEWAY_AUTH_API_KEYS": "/nope/keys.toml"}, "/nope/keys.toml"),
    (gateway, {"ASKONCE_GATEWAY_SERVING_LISTEN": "0.0.0.0:50051"}, "nobody needs a key"),
    (gateway, {"ASKONCE_GATEWAY_SCREENING_TERMS": "/nope/terms"}, "/nope/terms"),
    (gateway, {"ASKONCE_GATEWAY_JOBS_SHARED": "true"}, "ASKONCE_GATEWAY_REDIS"),
    (gateway, {"ASKONCE_CONFIG": "/nope.toml"}, "/nope.toml"),
    (dedup, {"ASKONCE_DEDUP_DEFAULT_POLICY": "/nope.json"}, "/nope.json"),
    (dedup, {"ASKONCE_DEDUP_ON_DAMAGE": "pray"}, "pray"),
    (dedup, {"ASKONCE_DEDUP_METRICS_TENANTS": "No such"}, "No such"),
    (inference, {"ASKONCE_INFERENCE_ENGINE": "vllm"}, "vllm"),
    (inference, {"ASKONCE_READER_THREDS": "2"}, "did you mean ASKONCE_READER_THREADS"),
    (inference, {"ASKONCE_INFERENCE_ENGINE": "openai:http://x/v1", "ASKONCE_OPENAI_CONNECT_TIMEOUT_S": "soon"},
     "ASKONCE_OPENAI_CONNECT_TIMEOUT_S: 'soon' is not a number"),
])  # fmt: skip
def test_a_check_finds_what_a_start_would(
    main: Callable[[list[str]], None], environ: dict[str, str], said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`--check-config` reads the files that settings name and looks at what goes together, the engine's settings too;
    it starts and writes nothing."""
    for name in [name for name in os.environ if name.startswith("ASKONCE_")]:
        monkeypatch.delenv(name)
    main(["--check-config"])
    assert "the settings are fine" in capsys.readouterr().out
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["--check-config"])
    shown = capsys.readouterr().err
    assert (ended.value.code, shown.count("\n"), said in shown) == (2, 1, True), shown


def test_an_engines_settings_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The inference service shows its engine's section behind its own."""
    monkeypatch.setenv("ASKONCE_INFERENCE_ENGINE", "openai:http://vllm:8000/v1")
    monkeypatch.setenv("ASKONCE_OPENAI_API_KEY", "sesame")
    inference(["--show-config"])
    shown = capsys.readouterr().out
    assert "ASKONCE_INFERENCE_ENGINE = openai:http://vllm:8000/v1    # environment" in shown
    assert "ASKONCE_OPENAI_BASE_URL = http://vllm:8000/v1" in shown
    assert "ASKONCE_OPENAI_API_KEY = (hidden)    # environment" in shown
    assert "sesame" not in shown


@pytest.mark.parametrize("error", [
    (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: the disk is full"),
    (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: permission denied"),
    (FileNotFoundError(errno.ENOENT, "No such file", "/models/glm"), "/models/glm: there is no such file"),
    (StartError("can't listen on 1.2.3.4:5"), "can't listen on 1.2.3.4:5"),
    (SettingsError("keys: write\none table"), "keys: write one table"),
    (ExceptionGroup("both", [StartError("the first")]), "the first"),
])  # fmt: skip
def test_errors_say_what_to_do(error: tuple[BaseException, str]) -> None:
    """An error of the start is one line with the place and the next step."""
    said = startup.explain(error[0])
    assert said.startswith(error[1])
    assert "\n" not in said


def test_a_misspelt_setting_is_named_with_the_right_one() -> None:
    """A variable that names no setting is refused with the nearest ones."""
    from gateway.settings import Settings

    with pytest.raises(SettingsError, match=r"did you mean .*ASKONCE_GATEWAY_SERVING_LISTEN"):
        settings.load(Settings, "gateway", {"ASKONCE_GATEWAY_LISTEN": "127.0.0.1:1"})


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Where a setting holds a secret, its value is left out; so is a password in an address."""
    from dedup_service.settings import Settings

    environ = {"ASKONCE_DEDUP_TICKET_KEY": "s" * 20, "ASKONCE_DEDUP_LEDGER": "postgresql://me:hunter2@db/askonce"}
    rows = {name: (value, source) for name, value, source in settings.describe(Settings, "dedup", environ)}
    assert rows["ASKONCE_DEDUP_TICKET_KEY"] == ("(hidden)", "environment")
    assert rows["ASKONCE_DEDUP_LEDGER"] == ("postgresql://me:(hidden)@db/askonce", "environment")
    assert rows["ASKONCE_DEDUP_STORE"] == ("edge", "default")
