"""`askonce store verify` and `askonce store repair`: the embedded store's files, while no service runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from dedup_service.console.printing import as_json, print_json, print_table, say
from dedup_service.store.edge.mending import Survey, survey

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/dedup"),
    show_default=True,
    help="The dedup service's data folder.",
)


@click.group()
def store() -> None:
    """Looks after the embedded store's files. The service must not run."""


@store.command()
@data_option
@as_json
def verify(data: Path, json_: bool) -> None:
    """Read every point, file and fingerprint and say what is damaged or missing. Changes nothing. Exit code 1 when a
    start would refuse it."""
    report(look(data, repair=False), json_)


@store.command()
@data_option
@as_json
def repair(data: Path, json_: bool) -> None:
    """Mend what is damaged: take the generation with most points that can be read, set aside what can't. Nothing is
    ever deleted: all as it was stays beside it under another name."""
    report(look(data, repair=True), json_)


def look(data: Path, *, repair: bool) -> Survey:
    """The survey, or a plain sentence why there is none."""
    try:
        return survey(data, repair=repair)
    except TimeoutError as error:
        raise click.ClickException("STORE_IN_USE: stop the dedup service first.") from error
    except FileNotFoundError as error:
        raise click.ClickException(f"STORE_ABSENT: {error}.") from error


def report(found: Survey, json_: bool) -> None:
    """Prints the findings."""
    if json_:
        print_json(
            {"sound": found.sound, "collections": [asdict(each) for each in found.findings], "aside": found.aside}
        )
    else:
        rows = [
            (each.name, "?" if each.points is None else f"{each.points:,}", "; ".join(each.problems) or "ok", each.done)
            for each in found.findings
        ]
        print_table(("collection", "points", "state", "done"), rows)
        for name in found.aside:
            say(f"{name} was set aside earlier; delete it once nothing in it is needed.")
        say(
            "Sound." if found.sound else "Damaged: a start refuses it. `askonce store repair` mends what can be mended."
        )
    sys.exit(0 if found.sound else 1)
