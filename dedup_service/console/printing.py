"""What the command line prints: tables for people, JSON for scripts."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from rich import box
from rich.console import Console
from rich.table import Table

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON instead of tables.")


def print_json(value: Any) -> None:
    """A value, or a message, as JSON."""
    if hasattr(value, "DESCRIPTOR"):
        value = MessageToDict(value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table; columns whose name ends in "#" hold numbers."""
    table = Table(title=title or None, title_justify="left", header_style="bold", box=box.SIMPLE)
    for name in columns:
        table.add_column(name.removesuffix("#"), justify="right" if name.endswith("#") else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console().print(table)


def say(text: str) -> None:
    """A line for people."""
    console().print(text, soft_wrap=True, markup=False)


def console() -> Console:
    """Standard output; as wide as a table needs where it is no terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def moment(seconds: float) -> str:
    """A moment in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""
