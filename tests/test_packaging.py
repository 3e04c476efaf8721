"""What a client installs is small: the wire, the client, and a command that says what is missing."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ROOT / "compose" / "services"
pytestmark = pytest.mark.slow

ONLY_THE_BASE = """
import importlib.abc, sys
ALLOWED = {"askonce", "grpc", "google", "typing_extensions"}
class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Bare())
"""
"""Hides what a bare install lacks."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two wheels, built as a user builds them."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
               "--disable-pip-version-check", "--wheel-dir", str(folder), str(ROOT), str(SERVICES)]  # fmt: skip
    subprocess.run(command, check=True, timeout=110)
    return folder


def names(wheels: Path, pattern: str) -> list[str]:
    (path,) = wheels.glob(pattern)
    with zipfile.ZipFile(path) as file:
        return file.namelist()


def test_each_wheel_holds_its_packages(wheels: Path) -> None:
    """The client's wheel has no server in it, and the servers' has no client; the client is typed."""
    client, services = names(wheels, "askonce-*.whl"), names(wheels, "askonce_services-*.whl")
    tops = {name.partition("/")[0] for name in client if ".dist-info" not in name}
    assert tops == {"askonce"}
    assert {"askonce/py.typed", "askonce/v1/answer_pb2.pyi", "askonce/v1/answer_pb2_grpc.pyi"} <= set(client)
    tops = {name.partition("/")[0] for name in services if ".dist-info" not in name}
    assert tops == {"gateway", "dedup_service", "inference_service", "compose"}
    assert "dedup_service/question/lexicon/fields.toml" in services
    assert not [name for name in services if "__pycache__" in name or name.endswith(".log")]


def run(wheels: Path, tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    (path,) = wheels.glob("askonce-*.whl")
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path)
    return subprocess.run(
        [sys.executable, "-c", ONLY_THE_BASE + code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_client_needs_protobuf_and_grpcio_alone(wheels: Path, tmp_path: Path) -> None:
    """Every name of the client's package can be imported without anything else."""
    code = "import askonce; [getattr(askonce, name) for name in askonce._HOME]; print(askonce.Client.__module__)"
    done = run(wheels, tmp_path, code)
    assert done.stdout.strip() == "askonce.client.blocking", done.stderr


def test_the_command_says_what_is_missing(wheels: Path, tmp_path: Path) -> None:
    """Without the tools, help names the extra, and another command ends with one line and status 2."""
    shown = run(wheels, tmp_path, "from askonce.__main__ import main; sys.exit(main(['--help']))")
    assert (shown.returncode, "pip install 'askonce[dedup]'" in shown.stdout) == (0, True), shown.stderr
    refused = run(wheels, tmp_path, "from askonce.__main__ import main; sys.exit(main(['policy', 'get']))")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr


@pytest.mark.parametrize(("command", "without"), [
    ("policy", "scipy matplotlib alembic sqlalchemy cv2 pyarrow qdrant_client"),
    ("purge", "scipy matplotlib alembic sqlalchemy cv2 qdrant_client"),
    ("doctor", "scipy matplotlib alembic sqlalchemy pyarrow qdrant_client"),
    ("audit", "scipy matplotlib alembic cv2 pyarrow qdrant_client sqlalchemy"),
])  # fmt: skip
def test_a_command_imports_what_it_needs_alone(command: str, without: str) -> None:
    """Nothing large is loaded for a command that does not use it: each starts within half a second of work."""
    code = (
        "import sys; from askonce.__main__ import main\n"
        f"try:\n    main(['{command}', '--help'])\nexcept SystemExit:\n    pass\n"
        f"print(*sorted(set({without.split()!r}) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "", done.stdout


def test_the_command_starts_fast() -> None:
    """`--version` and `--help` import none of what the commands need."""
    for argument in ("--version", "--help"):
        code = (
            "import sys; from askonce.__main__ import main\n"
            f"try:\n    main(['{argument}'])\nexcept SystemExit:\n    pass\n"
            "dear = {'scipy', 'matplotlib', 'alembic', 'numpy', 'cv2', 'grpc', 'sqlalchemy'}\n"
            "print(*sorted(dear & sys.modules.keys()))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.splitlines()[-1] == "", done.stdout
