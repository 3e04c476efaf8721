"""The file that Compose reads."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

from compose.dotenv import EXAMPLE, assignments, filled, write

TEXT = "# Secrets.\nTICKET_KEY=\nDB_PASSWORD=\n\n# Others.\nPORT=1\nHOSTS=\n"


def test_secrets_are_made_and_the_rest_is_the_example() -> None:
    """Every secret is one of its own, long and of letters and digits; comments and defaults stay."""
    made = filled(TEXT, "")
    values = assignments(made)
    assert (values["PORT"], values["HOSTS"]) == ("1", "")
    assert values["TICKET_KEY"] != values["DB_PASSWORD"]
    assert all(len(values[name]) == 64 and values[name].isalnum() for name in ("TICKET_KEY", "DB_PASSWORD"))
    assert made.startswith("# Secrets.\nTICKET_KEY=")


def test_what_is_there_stays() -> None:
    """A second run changes nothing; a variable that is new is added, one that the example does not know is kept."""
    once = filled(TEXT, "PORT=7\nTICKET_KEY=mine=yes\nMINE=1\n")
    values = assignments(once)
    assert (values["PORT"], values["TICKET_KEY"], values["MINE"]) == ("7", "mine=yes", "1")
    assert filled(TEXT, once) == once


def test_the_file_is_for_its_owner(tmp_path: Path) -> None:
    """Others on the machine can't read the secrets, nor could they before if the file was open."""
    path = tmp_path / ".env"
    path.write_text("ASKONCE_PORT=1\n", encoding="utf-8")
    path.chmod(0o644)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert assignments(path.read_text(encoding="utf-8"))["ASKONCE_PORT"] == "1"


def test_the_command_needs_nothing_installed(tmp_path: Path) -> None:
    """It runs on a machine that has Docker and a bare Python."""
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, sys.argv.pop(1)); "
               "import runpy; sys.argv[0] = 'x'; runpy.run_module('compose.dotenv', run_name='__main__')"]  # fmt: skip
    subprocess.run([*command, str(EXAMPLE.parents[1]), str(tmp_path / ".env")], check=True, capture_output=True)
    assert (
        assignments((tmp_path / ".env").read_text(encoding="utf-8")).keys()
        == assignments(EXAMPLE.read_text(encoding="utf-8")).keys()
    )
