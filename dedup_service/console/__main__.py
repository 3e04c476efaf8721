"""The `askonce` command line."""

from __future__ import annotations

import click

from dedup_service.console.audit import audit
from dedup_service.console.doctor import doctor
from dedup_service.console.feedback import feedback
from dedup_service.console.policy import policy
from dedup_service.console.store import export, import_, purge


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="askonce", prog_name="askonce")
def askonce() -> None:
    """Steers, audits and checks AskOnce."""


for command in (audit, doctor, feedback, policy, purge, export, import_):
    askonce.add_command(command)


def main() -> None:
    """Runs the command line."""
    askonce(prog_name="askonce")


if __name__ == "__main__":
    main()
