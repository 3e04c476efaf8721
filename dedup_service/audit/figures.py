"""The report's figures as SVG: text stays text, so that the browser's fonts draw Chinese; colours are CSS variables, so
that the page's light, dark and print styles apply. Every figure has a bounded number of points."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dedup_service.audit.curves import LOGIT_EDGES, Scores
from dedup_service.audit.report import Report

COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--rule)",
    "#040404": "var(--blue)",
    "#050505": "var(--orange)",
    "#060606": "var(--green)",
    "#070707": "var(--red)",
}
"""Stand-ins that matplotlib draws with, and the page's variables. Hues after M. Okabe and K. Ito, "Color universal
design", 2008; lines differ in their dashes too."""
INK, MUTED, RULE, BLUE, ORANGE, GREEN, RED = COLOURS
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "none",
}
TICKS = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
"""Probabilities that the log-odds axes name."""


def figures(report: Report) -> dict[str, str]:
    """Every figure that the report has data for, by name, as SVG to be put into a page."""
    drawn: dict[str, Callable[[Figure], bool]] = {
        "hits": lambda figure: draw_hits(figure, report),
        "latency": lambda figure: draw_latency(figure, report),
        "image_scores": lambda figure: draw_scores(figure, report.scores.get("image"), "Probability: same image"),
        "question_scores": lambda figure: draw_scores(
            figure, report.scores.get("question"), "Probability: same question"
        ),
        "sweep": lambda figure: draw_sweep(figure, report),
        "calibration": lambda figure: draw_calibration(figure, report),
    }
    found = {}
    for name, draw in drawn.items():
        style: Any = {**STYLE, "svg.hashsalt": name}
        with mpl.rc_context(style):
            figure = Figure(figsize=(5.4, 3.3), layout="constrained")
            if draw(figure):
                found[name] = svg_of(figure, name)
    return found


def svg_of(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose ids are its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in COLOURS.items():
        text = text.replace(stand_in, variable)
    text = text.replace('id="', f'id="{name}-').replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    head, _, rest = text.partition(">")
    view = head[head.index("viewBox=") :].split('"')[1]
    return f'<svg viewBox="{view}" role="img" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{rest}'


def percent(places: int = 0) -> FuncFormatter:
    """Formats a share as per cent."""
    return FuncFormatter(lambda value, _: f"{value:.{places}%}")


def share_axis(axes: Any, top: float) -> None:
    """A vertical axis of shares from 0 to `top`."""
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(percent(0 if top > 0.2 else 1 if top > 0.02 else 2))


def moments(axes: Any, starts: Sequence[float], width: int) -> None:
    """Names moments of a time axis in seconds, UTC."""
    span = starts[-1] - starts[0]
    pattern = "%b %d" if span > 2 * 86_400 else "%H:%M"
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: datetime.datetime.fromtimestamp(value, datetime.UTC).strftime(pattern))
    )
    axes.set_xlim(starts[0], starts[-1] + width)


def draw_hits(figure: Figure, report: Report) -> bool:
    """Share of requests answered from memory, by what the hit rests on."""
    if len(report.slots) < 2:
        return False
    axes = figure.subplots()
    starts = [slot.start for slot in report.slots]
    edges = [*starts, starts[-1] + report.slot_seconds]
    total = np.maximum(1, [slot.requests for slot in report.slots])
    base = np.zeros(len(starts))
    for name, label, colour, hatch in (
        ("exact", "exact repeat", BLUE, ""),
        ("copies", "copy of the image", ORANGE, "//"),
        ("rephrased", "other words", GREEN, ".."),
    ):
        share = np.array([getattr(slot, name) for slot in report.slots]) / total
        axes.stairs(base + share, edges, baseline=base, fill=True, color=colour, alpha=0.55, hatch=hatch, label=label)
        axes.stairs(base + share, edges, baseline=None, color=colour, linewidth=1.2)
        base = base + share
    share_axis(axes, min(1.0, max(0.05, float(base.max()) * 1.25)))
    axes.set_ylabel("share of requests")
    moments(axes, starts, report.slot_seconds)
    figure.legend(loc="outside upper left", ncols=3)
    return True


def draw_latency(figure: Figure, report: Report) -> bool:
    """Look-up times."""
    slots = [slot for slot in report.slots if slot.p50_ms is not None]
    if len(slots) < 2:
        return False
    axes = figure.subplots()
    starts = [slot.start for slot in slots]
    axes.plot(starts, [slot.p95_ms or 0 for slot in slots], color=ORANGE, linestyle="--", label="95 % are faster")
    axes.plot(starts, [slot.p50_ms or 0 for slot in slots], color=BLUE, label="half are faster")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("look-up, milliseconds")
    moments(axes, starts, report.slot_seconds)
    figure.legend(loc="outside upper left", ncols=2)
    return True


def draw_scores(figure: Figure, scores: Scores | None, label: str) -> bool:
    """One score for labelled same, labelled different and unlabelled, each as a share of its own."""
    if scores is None or not any(map(sum, (scores.same, scores.different, scores.unlabelled))):
        return False
    axes = figure.subplots()
    for counts, name, colour, dash in (
        (scores.unlabelled, "not labelled", MUTED, ":"),
        (scores.same, "same", BLUE, "-"),
        (scores.different, "different", RED, "--"),
    ):
        total = sum(counts)
        if total:
            axes.stairs(
                np.array(counts) / total,
                LOGIT_EDGES,
                color=colour,
                linestyle=dash,
                linewidth=1.6,
                label=f"{name} ({total:,})",
            )
    axes.set_xticks([float(np.log(p / (1 - p))) for p in TICKS], [f"{p:g}" for p in TICKS])
    axes.set_xlim(LOGIT_EDGES[0], LOGIT_EDGES[-1])
    axes.yaxis.set_major_formatter(percent())
    axes.set_ylabel("share of the pairs")
    axes.set_xlabel(label)
    figure.legend(loc="outside upper left", ncols=2)
    return True


def draw_sweep(figure: Figure, report: Report) -> bool:
    """Hit rate against wrong-answer rate over the question threshold."""
    points = sorted(report.sweep, key=lambda point: point.hit_rate)
    if not points or report.hits == 0:
        return False
    axes = figure.subplots()
    rates = [point.hit_rate for point in points]
    axes.fill_between(
        rates, [p.wrong.low for p in points], [p.wrong.high for p in points], color=BLUE, alpha=0.18, linewidth=0,
        label=f"{report.accuracy.confidence:.0%} interval",
    )  # fmt: skip
    axes.plot(rates, [p.wrong.mid for p in points], color=BLUE, linewidth=1.6, label="estimate")
    axes.axhline(report.budget, color=RED, linestyle="--", linewidth=1.2, label=f"budget {report.budget:.2%}")
    top = max(report.budget * 2.5, *(p.wrong.mid for p in points))
    for threshold, marker, colour, name in marks(report):
        point = min(points, key=lambda p: abs(p.question_threshold - threshold))
        axes.plot(
            [point.hit_rate], [point.wrong.mid], marker, color=colour, markersize=9, label=f"{name} ({threshold:g})"
        )
    share_axis(axes, min(1.0, max(top * 1.2, 0.004)))
    axes.xaxis.set_major_formatter(percent())
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("hit rate")
    axes.set_ylabel("wrong answers among hits")
    figure.legend(loc="outside upper left", ncols=2)
    return True


def marks(report: Report) -> list[tuple[float, str, str, str]]:
    """The points to mark in the sweep: threshold, marker, colour and name."""
    found = [(report.current_threshold, "o", INK, "current")]
    found += [
        (suggested.question_threshold, "*", GREEN, "suggested")
        for suggested in report.suggested
        if suggested.tenant == report.sweep_policy and suggested.reason == "SUGGESTED"
    ]
    return found


def draw_calibration(figure: Figure, report: Report) -> bool:
    """Estimated risk against the share that was really wrong, both on logarithmic axes."""
    bins = [each for each in report.calibration if each.labelled >= 5]
    if len(bins) < 2:
        return False
    axes = figure.subplots()
    floor = 3e-4
    x = np.maximum(floor, [each.mean_risk for each in bins])
    mid = np.maximum(floor, [each.observed.mid for each in bins])
    low = np.maximum(floor, [each.observed.low for each in bins])
    high = np.maximum(floor, [each.observed.high for each in bins])
    axes.plot([floor, 1], [floor, 1], color=MUTED, linestyle=":", label="perfectly calibrated")
    axes.vlines(x, low, high, color=BLUE, linewidth=1.4)
    axes.plot(x, mid, "o", color=BLUE, markersize=6, label=f"observed, {report.accuracy.confidence:.0%} interval")
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = (0.001, 0.01, 0.1, 1.0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick:.1%}" if tick < 0.01 else f"{tick:.0%}" for tick in ticks])
        axis.set_ticks([], minor=True)
    axes.set_xlim(floor * 0.8, 1.2)
    axes.set_ylim(floor * 0.8, 1.2)
    axes.set_xlabel("estimated risk")
    axes.set_ylabel("really wrong")
    figure.legend(loc="outside upper left", ncols=1)
    return True
