"""Stubs for other languages generate from the repository, and a TypeScript client of theirs type-checks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "typescript"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_typescript_generates_and_type_checks(tmp_path: Path) -> None:
    """`make stubs` with the template for TypeScript gives code with which the example compiles under `strict`."""
    for name in ("package.json", "tsconfig.json", "client.ts"):
        shutil.copy(EXAMPLE / name, tmp_path)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=tmp_path, capture_output=True, text=True
    )
    if installed.returncode:
        pytest.skip(f"npm can't install the plugin here: {installed.stderr.strip().splitlines()[-1:]}")
    path = f"{tmp_path / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path}
    command = [str(ROOT / ".ci" / "protos"), "generate", "buf.gen.ts.yaml", str(tmp_path / "gen")]
    made = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    checked = subprocess.run(["npx", "tsc", "--noEmit"], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_every_proto_has_a_go_package() -> None:
    """Go needs to know where the generated package lives."""
    for path in (ROOT / "protos").rglob("*.proto"):
        assert 'option go_package = "' in path.read_text(encoding="utf-8"), path
