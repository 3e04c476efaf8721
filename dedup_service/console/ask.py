"""`askonce ask`, which the client's package brings."""

from __future__ import annotations

import sys

import click

from askonce.__main__ import ask as run


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ask(arguments: tuple[str, ...]) -> None:
    """Ask a gateway about an image."""
    sys.exit(run(arguments))
