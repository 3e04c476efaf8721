"""Orders to the model: how many are caught, and how many honest questions are refused.

    python -m benchmarks.screening [SET.jsonl ...]

A line of a set is ``{"text": ..., "attack": bool, "lang": "en" or "zh"}``. Without arguments the development set is
measured; the rules were written against it, so that figures on another author's closed set belong beside it.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dedup_service.policy.risk import clopper_pearson
from gateway.guardrails import fold
from gateway.injection import gives_orders

DEVELOPMENT = Path(__file__).parent / "data/equal/screening.jsonl"


def measure(path: Path, *, shown: bool) -> Table:
    """Both errors of the rules on one set, by language; prints the texts that went wrong when `shown`."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    table = Table(
        "language", "orders", "caught", "95 % interval", "honest", "refused", "95 % interval", title=str(path)
    )
    for lang in ("en", "zh", "all"):
        counts: dict[bool, list[bool]] = {True: [], False: []}
        for row in rows:
            if lang in (row["lang"], "all"):
                found = gives_orders(fold(row["text"]))
                counts[bool(row["attack"])].append(found)
                if shown and lang == "all" and found != row["attack"]:
                    print("missed:" if row["attack"] else "refused:", row["text"])
        cells: list[str] = [lang]
        for attack in (True, False):
            total, found_count = len(counts[attack]), sum(counts[attack])
            interval = clopper_pearson(found_count, total)
            cells += [str(total), f"{interval.mid:.1%}", f"{interval.low:.1%} to {interval.high:.1%}"]
        table.add_row(*cells)
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", type=Path, default=[DEVELOPMENT], metavar="SET.jsonl")
    parser.add_argument("--show", action="store_true", help="print the texts that went wrong")
    arguments = parser.parse_args()
    for path in arguments.sets:
        Console().print(measure(path, shown=arguments.show))


if __name__ == "__main__":
    main()
