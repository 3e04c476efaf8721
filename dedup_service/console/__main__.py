"""The `askonce` command line, as it is where the servers' tools are installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

COMMANDS = {
    "ask": ("dedup_service.console.ask:ask", "Ask a gateway about an image."),
    "audit": ("dedup_service.console.audit:audit", "Reports on what was reused, and how often it was wrong."),
    "doctor": ("dedup_service.console.doctor:doctor", "Find out why nothing hits, and what else is wrong."),
    "export": ("dedup_service.console.store:export", "Write a tenant's stored answers to a file."),
    "feedback": ("dedup_service.console.feedback:feedback", "Say whether an answer was right."),
    "import": ("dedup_service.console.store:import_", "Read stored answers from a file."),
    "policy": ("dedup_service.console.policy:policy", "Show, change, preview and roll back policies."),
    "purge": ("dedup_service.console.store:purge", "Remove stored answers."),
    "store": ("dedup_service.console.mending:store", "Verify and repair the embedded store's files."),
}
"""Where each command is and what it does; a module is imported when its command is called."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, so that the others cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None for an unknown one."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.command("askonce", cls=LazyGroup, context_settings={
    "help_option_names": ["-h", "--help"], "max_content_width": 110})  # fmt: skip
@click.version_option(package_name="askonce", prog_name="askonce")
def askonce() -> None:
    """Asks, steers, audits and checks AskOnce."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; ends the process with its status."""
    askonce.main(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="askonce")


if __name__ == "__main__":
    main()
