"""`askonce audit`: reports, the gate for CI, labelling, and copies of a ledger.

Only what is typed: the work, and with it databases and statistics, is imported when a command runs.
"""

from __future__ import annotations

from pathlib import Path

import click

from dedup_service.console.calling import Peer, with_peer
from dedup_service.console.printing import as_json
from dedup_service.console.values import LENGTH_OPTION, SHARE_OPTION, TENANT_OPTION

ledger_option = click.option(
    "--ledger",
    help="sqlite:///PATH or postgresql://... Default: the dedup service's own, by ASKONCE_DEDUP_LEDGER or _DATA.",
)
since_option = click.option(
    "--since", "window", type=LENGTH_OPTION, default="7d", show_default=True, help="How far back to look."
)
until_option = click.option("--until", type=float, help="The end of the span, seconds since the epoch. Default: now.")


@click.group(invoke_without_command=True)
@ledger_option
@since_option
@until_option
@click.option("--tenant", type=TENANT_OPTION, help="One tenant. Default: all.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder of the report.")
@click.option(
    "--max-wrong",
    type=SHARE_OPTION,
    help="The gate: exit with 1 when more hits are wrong, with 3 when there are too few labels to tell.",
)
@click.option("--confidence", type=SHARE_OPTION, help="How sure the bound must be. Default: the policy's, 95%.")
@click.option("--price", type=click.FloatRange(min=0), help="What a GPU-hour costs.")
@click.option("--currency", default="USD", show_default=True, help="The price's currency.")
@click.option("--pairs", type=click.Choice(["parquet", "csv", "both", "none"]), default="parquet", show_default=True,
              help="Files with every pair that was compared.")  # fmt: skip
@click.option(
    "--store",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An export of the tenant's memory, for entries never hit.",
)
@click.option("--from-service", is_flag=True, help="Read entries never hit from the running service; needs --tenant.")
@as_json
@click.pass_context
@with_peer
def audit(
    context: click.Context,
    peer: Peer,
    ledger: str | None,
    window: float,
    until: float | None,
    tenant: str | None,
    out: Path | None,
    max_wrong: float | None,
    confidence: float | None,
    price: float | None,
    currency: str,
    pairs: str,
    store: Path | None,
    from_service: bool,
    json_: bool,
) -> None:
    """Report whether the memory tells the truth: what was reused and why, how often it was wrong, what to do next.

    With --out, a folder with report.html, report.json and the compared pairs. With --max-wrong, a gate for CI. Both may
    run beside the live service or on a copy of its ledger.
    """
    if context.invoked_subcommand is not None:
        return
    from dedup_service.console import auditing

    auditing.report(
        peer,
        ledger,
        window,
        until,
        tenant,
        out,
        max_wrong,
        confidence,
        price,
        currency,
        pairs,
        store,
        from_service,
        json_,
    )


@audit.command()
@ledger_option
@since_option
@until_option
@click.option("--tenant", type=TENANT_OPTION, help="One tenant. Default: all.")
@click.option("--count", default=50, show_default=True, type=click.IntRange(1, 1_000), help="Pairs to show.")
@click.option(
    "--suspicious",
    is_flag=True,
    help="Show the most suspicious reuses, not a random sample: such labels teach, and stay out of the estimate.",
)
@click.option("--terminal", is_flag=True, help="Ask here instead of serving a page.")
@click.option(
    "--port", default=0, type=click.IntRange(0, 65_535), help="The page's port on 127.0.0.1. Default: a free one."
)
def label(
    ledger: str | None,
    window: float,
    until: float | None,
    tenant: str | None,
    count: int,
    suspicious: bool,
    terminal: bool,
    port: int,
) -> None:
    """Show the pairs whose label is worth most, and record: same, different, or can't tell.

    Pairs are drawn at random inside cells of like risk, more from where they narrow the interval most, and every label
    notes the share of its cell that was drawn: the estimate stays unbiased however early you stop.
    """
    from dedup_service.console import auditing

    auditing.label(ledger, window, until, tenant, count, suspicious, terminal, port)


@audit.command()
@click.argument("out", type=click.Path(path_type=Path))
@ledger_option
def copy(out: Path, ledger: str | None) -> None:
    """Copy the ledger to the SQLite file OUT, whole and consistent, while the service runs; for audits elsewhere."""
    from dedup_service.console import auditing

    auditing.copy(out, ledger)
