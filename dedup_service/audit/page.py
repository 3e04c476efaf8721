"""Renders a report as one page that needs nothing from anywhere."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from askonce.reasons import OUTCOMES
from dedup_service.audit.figures import figures
from dedup_service.audit.report import Report
from dedup_service.audit.suspicion import MEANING
from dedup_service.policy.risk import Interval

WORDS = {
    "LABELLED_RIGHT": "its stored answer was found right",
    **{reason: meaning.english.rstrip(".") for reason, meaning in OUTCOMES.items()},
    **MEANING,
}
"""Signs and reasons in words."""


def render(report: Report, thumbnails: Mapping[tuple[str, str], bytes] | None = None) -> str:
    """The page as HTML. `thumbnails` are WebP by tenant and image."""
    environment = Environment(
        loader=PackageLoader("dedup_service.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        moment=moment, percent=percent, interval=interval, number=number, duration=duration, probability=probability
    )
    pictures = {
        key: f"data:image/webp;base64,{base64.b64encode(webp).decode()}" for key, webp in (thumbnails or {}).items()
    }
    page = environment.get_template("report.html.j2")
    return page.render(
        report=report,
        figures={name: Markup(svg) for name, svg in figures(report).items()},
        picture=lambda tenant, key: pictures.get((tenant, key), ""),
        words=WORDS,
        verdict=report.verdict,
    )


def moment(seconds: float) -> str:
    """A moment in UTC, to the minute."""
    if not 0 <= seconds < 2e11:
        return "the beginning" if seconds <= 0 else "now"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def percent(share: float, places: int | None = None) -> str:
    """A share as per cent, with as many places as a small one needs."""
    if places is None:
        places = 1 if share >= 0.1 or share == 0 else 2 if share >= 0.001 else 3
    return f"{100 * share:.{places}f} %"


def interval(found: Interval) -> str:
    """An interval of shares."""
    places = 1 if found.high >= 0.1 else 2
    return f"{percent(found.low, places)} to {percent(found.high, places)}"


def probability(value: float | None) -> str:
    """A probability with as many places as its distance from 0 and 1 needs."""
    if value is None:
        return "—"
    for places in (2, 3, 4, 5):
        if 0 < float(f"{value:.{places}f}") < 1 or value in (0.0, 1.0):
            return f"{value:.{places}f}".rstrip("0").rstrip(".") if value in (0.0, 1.0) else f"{value:.{places}f}"
    return f"{value:.6f}"


def number(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("days", 172_800.0), ("hours", 7_200.0), ("minutes", 120.0)):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'hours': 3_600, 'minutes': 60}[unit]:,.1f} {unit}"
    return f"{seconds:,.1f} seconds" if seconds < 10 else f"{seconds:,.0f} seconds"
