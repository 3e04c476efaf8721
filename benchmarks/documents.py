"""Documents drawn by the project itself: receipts, invoices in English and Chinese, charts and screens.

Each is drawn from a value, so that a look-alike is the same value with exactly one thing changed. Needs the Debian
packages fonts-dejavu-core, fonts-liberation, fonts-noto-cjk and fonts-wqy-zenhei, and matplotlib for the charts.

    python -m benchmarks.documents OUT [--each 3]      draws a few of each kind into OUT
"""

import argparse
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

KINDS = ("receipt", "invoice", "invoice_zh", "table", "chart", "ui")

_LATIN = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf",
    "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationSerif-Regular.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationMono-Regular.ttf",
)
_CHINESE = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
)
_GOODS = (
    "Milk 1L",
    "Bread",
    "Apples kg",
    "Coffee",
    "Rice 5kg",
    "Soap",
    "Tea box",
    "Eggs 12",
    "Juice",
    "Noodles",
    "Salt",
)
_GOODS_ZH = (
    "办公用纸",
    "打印墨盒",
    "咨询服务费",
    "笔记本电脑",
    "餐饮服务",
    "住宿费",
    "运输服务",
    "软件许可",
    "会议费",
    "图书",
)
_SHOPS = ("GREEN MART SDN BHD", "CITY BAKERY", "HARBOUR STORE", "NORTH STATION SHOP", "DAILY FRESH CO", "OLD TOWN CAFE")
_FIRMS_ZH = ("上海晨光贸易有限公司", "北京远方科技有限公司", "杭州西溪餐饮管理有限公司", "深圳前海物流有限公司")
_WORDS = ("North", "South", "East", "West", "Alpha", "Beta", "Gamma", "Delta", "Q1", "Q2", "Q3", "Q4", "2021", "2022")
_SETTINGS = (
    "Wi-Fi",
    "Bluetooth",
    "Location",
    "Dark mode",
    "Auto update",
    "Sounds",
    "Backup",
    "Sync",
    "通知",
    "自动播放",
    "省电模式",
)


@dataclass(frozen=True, slots=True)
class Document:
    """What one drawing shows.

    Attributes:
        kind: one of KINDS.
        style: fonts, sizes and colours, drawn from the seed.
        values: what can be read from it, by name.
    """

    kind: str
    style: dict[str, Any]
    values: dict[str, Any]


def make_document(kind: str, seed: int) -> Document:
    """The document of this kind and seed; equal arguments give equal documents."""
    rng = random.Random(f"{kind}-{seed}")
    style = {
        "font": rng.choice(_CHINESE if kind in ("invoice_zh", "ui") else _LATIN),
        "size": rng.choice((16, 18, 20, 22, 26)),
        "ink": (rng.choice((0, 20, 60, 90, 130, 165)),) * 3,  # up to faint thermal print
        "paper": rng.choice(((255, 255, 255), (250, 248, 240), (244, 246, 250))),
        "accent": rng.choice(((30, 90, 200), (200, 60, 40), (20, 140, 90), (120, 60, 160))),
        "form": rng.choice(("bar", "line", "pie", "barh")),
        "dark": rng.random() < 0.3,
    }
    goods = _GOODS_ZH if kind == "invoice_zh" else _GOODS
    values: dict[str, Any] = {
        "shop": rng.choice(_FIRMS_ZH if kind == "invoice_zh" else _SHOPS),
        "number": f"{rng.randrange(10**7, 10**8)}",
        "date": f"{rng.randrange(2018, 2026)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
    }
    for i in range(rng.randrange(4, 9)):
        values[f"item {i}"] = (rng.choice(goods), rng.randrange(1, 10), rng.randrange(100, 99999))
    if kind == "table":
        values = {f"cell {r} {c}": rng.randrange(0, 100000) for r in range(rng.randrange(8, 16)) for c in range(5)}
    if kind == "chart":
        count = rng.randrange(4, 8)
        values = {f"bar {i}": rng.randrange(15, 100) for i in range(count)}
        values |= {f"label {i}": word for i, word in enumerate(rng.sample(_WORDS, count))}
        values["title"] = rng.choice(
            ("Sales by region", "Average delay (min)", "Output per plant", "Visitors per month")
        )
    if kind == "ui":
        names = rng.sample(_SETTINGS, rng.randrange(6, 10))
        values = {f"toggle {i}": (name, rng.random() < 0.5) for i, name in enumerate(names)}
        values["clock"] = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
        values["badge"] = rng.randrange(1, 99)
    return Document(kind, style, values)


def alter(document: Document, rng: random.Random) -> tuple[Document, str]:
    """The document with one value changed, and what that was: field, digit, item, cell, bar, label or toggle."""
    values = dict(document.values)
    name = rng.choice(sorted(values))
    old = values[name]
    what = name.split()[0] if name.split()[0] in ("item", "cell", "bar", "label", "toggle") else "field"
    if what == "toggle":
        values[name] = (old[0], not old[1])
    elif what == "item":
        values[name] = (old[0], old[1], int(_one_digit(str(old[2]), rng)))
    elif what == "bar":
        values[name] = max(8, min(100, old + rng.choice((-1, 1)) * rng.randrange(6, 25)))
        if values[name] == old:
            values[name] = old - 7 if old > 50 else old + 7
    elif what == "label":
        values[name] = rng.choice([word for word in _WORDS if word not in values.values()])
    elif name in ("shop", "title"):
        choices = {"title": ("Sales by branch", "Average delay (h)")}.get(name, _FIRMS_ZH + _SHOPS)
        values[name] = rng.choice([c for c in choices if c != old and (c in _FIRMS_ZH) == (old in _FIRMS_ZH)])
    else:
        changed = _one_digit(str(old), rng)
        values[name] = changed if isinstance(old, str) else int(changed)
        what = "cell" if what == "cell" else "digit"
    return replace(document, values=values), what


def draw(document: Document) -> Image.Image:
    """The document as an RGB image of 0.4 to 2 megapixels."""
    painters: dict[str, Callable[[Document], Image.Image]] = {
        "receipt": _receipt,
        "invoice": _invoice,
        "invoice_zh": _invoice,
        "table": _table,
        "chart": _chart,
        "ui": _ui,
    }
    return painters[document.kind](document)


def _one_digit(text: str, rng: random.Random) -> str:
    places = [i for i, c in enumerate(text) if c.isdigit() and not (i == 0 and len(text) > 1)] or [0]
    at = rng.choice(places)
    return text[:at] + rng.choice([d for d in "0123456789" if d != text[at]]) + text[at + 1 :]


@cache
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"


def _receipt(document: Document) -> Image.Image:
    style, values = document.style, document.values
    size = style["size"]
    items = [value for name, value in values.items() if name.startswith("item")]
    width, line = size * 24, round(size * 1.5)
    image = Image.new("RGB", (width, line * (len(items) + 12)), style["paper"])
    pen = ImageDraw.Draw(image)
    font = _font(style["font"], size)
    y = line
    for text in (values["shop"], "No. 12, Station Road", f"Receipt {values['number']}", f"Date {values['date']}"):
        pen.text((width / 2, y), text, style["ink"], font, anchor="ma")
        y += line
    pen.line((size, y + 6, width - size, y + 6), style["ink"], 1)
    y += line
    for name, count, cents in items:
        pen.text((size, y), f"{count} x {name}", style["ink"], font)
        pen.text((width - size, y), _money(cents), style["ink"], font, anchor="ra")
        y += line
    pen.line((size, y + 6, width - size, y + 6), style["ink"], 1)
    y += line
    pen.text((size, y), "TOTAL", style["ink"], font)
    pen.text(
        (width - size, y), _money(sum(i[2] for i in items)), style["ink"], _font(style["font"], round(size * 1.3)), "ra"
    )
    pen.text((width / 2, y + 2 * line), "Thank you", style["ink"], font, anchor="ma")
    return image


def _invoice(document: Document) -> Image.Image:
    style, values = document.style, document.values
    chinese = document.kind == "invoice_zh"
    size = style["size"]
    items = [value for name, value in values.items() if name.startswith("item")]
    width, line = size * 52, round(size * 2.1)
    image = Image.new("RGB", (width, line * (len(items) + 9)), style["paper"])
    pen = ImageDraw.Draw(image)
    font, accent = _font(style["font"], size), style["accent"]
    head = (
        ("增值税电子普通发票", "发票号码", "开票日期", "销售方", "价税合计")
        if chinese
        else ("INVOICE", "Invoice no.", "Date", "Seller", "Total due")
    )
    pen.text((width / 2, line), head[0], accent, _font(style["font"], round(size * 1.7)), anchor="ma")
    for i, (label, value) in enumerate(((head[1], values["number"]), (head[2], values["date"]))):
        pen.text((width - size * 18, line * (1.2 + i * 0.8)), f"{label}: {value}", style["ink"], font)
    pen.text((size * 2, line * 2.2), f"{head[3]}: {values['shop']}", style["ink"], font)
    top = round(line * 3.4)
    columns = (size * 2, size * 24, size * 32, size * 42, width - size * 2)
    for row in range(len(items) + 2):
        pen.line((columns[0], top + row * line, columns[-1], top + row * line), accent, 2)
    for x in columns:
        pen.line((x, top, x, top + (len(items) + 1) * line), accent, 2)
    titles = ("项目名称", "数量", "单价", "金额") if chinese else ("Description", "Qty", "Price", "Amount")
    rows = [titles] + [(name, str(count), _money(cents // count), _money(cents)) for name, count, cents in items]
    for r, row in enumerate(rows):
        for c, text in enumerate(row):
            pen.text(
                (columns[c] + size / 2, top + r * line + size * 0.4), text, accent if r == 0 else style["ink"], font
            )
    total = sum(i[2] for i in items)
    pen.text(
        (columns[2], top + line * (len(items) + 1.6)),
        f"{head[4]}  {'¥' if chinese else '$'}{_money(total)}",
        style["ink"],
        _font(style["font"], round(size * 1.2)),
    )
    return image


def _table(document: Document) -> Image.Image:
    style, values = document.style, document.values
    size = style["size"]
    rows = 1 + max(int(name.split()[1]) for name in values)
    width, line = size * 40, round(size * 1.9)
    image = Image.new("RGB", (width, line * (rows + 3)), style["paper"])
    pen = ImageDraw.Draw(image)
    font = _font(style["font"], size)
    for c in range(5):
        pen.text((width * (c + 0.9) / 5, line), "ABCDE"[c], style["accent"], font, anchor="ra")
    for name, value in values.items():
        _, row, column = name.split()
        pen.text(
            (width * (int(column) + 0.9) / 5, line * (int(row) + 2)), f"{value:,}", style["ink"], font, anchor="ra"
        )
    for r in range(0, rows, 2):
        pen.line((size, line * (r + 2) - 4, width - size, line * (r + 2) - 4), (200, 200, 200), 1)
    return image


def _chart(document: Document) -> Image.Image:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style, values = document.style, document.values
    count = sum(name.startswith("bar") for name in values)
    heights = [values[f"bar {i}"] for i in range(count)]
    labels = [values[f"label {i}"] for i in range(count)]
    with mpl.rc_context({"font.size": style["size"] * 0.55}):
        figure = Figure(figsize=(7.2, 4.8), dpi=130)
        axes = figure.add_subplot()
        colour = tuple(v / 255 for v in style["accent"])
        if style["form"] == "line":
            axes.plot(range(count), heights, marker="o", color=colour)
            axes.set_xticks(range(count), labels)
        elif style["form"] == "pie":
            axes.pie(heights, labels=labels, autopct="%1.0f%%")
        elif style["form"] == "barh":
            axes.barh(labels, heights, color=colour)
        else:
            axes.bar(labels, heights, color=colour)
            axes.grid(axis="y", alpha=0.4)
        if style["form"] != "pie":
            (axes.set_xlim if style["form"] == "barh" else axes.set_ylim)(0, 110)
        axes.set_title(values["title"])
        out = io.BytesIO()
        figure.savefig(out, format="png")
    return Image.open(out).convert("RGB")


def _ui(document: Document) -> Image.Image:
    style, values = document.style, document.values
    size = round(style["size"] * 1.3)
    dark = style["dark"]
    paper, ink = ((24, 26, 30), (230, 230, 235)) if dark else ((246, 247, 249), (30, 32, 36))
    toggles = [value for name, value in values.items() if name.startswith("toggle")]
    width, line = size * 24, round(size * 2.6)
    image = Image.new("RGB", (width, line * (len(toggles) + 3)), paper)
    pen = ImageDraw.Draw(image)
    font = _font(style["font"], size)
    pen.rectangle((0, 0, width, line * 1.2), style["accent"])
    pen.text((size, line * 0.3), "Settings 设置", (255, 255, 255), font)
    pen.text((width - size, line * 0.3), values["clock"], (255, 255, 255), font, anchor="ra")
    for i, (name, on) in enumerate(toggles):
        y = round(line * (1.6 + i))
        pen.text((size, y + size * 0.3), name, ink, font)
        box = (width - size * 4, y + size * 0.3, width - size * 1.4, y + size * 1.7)
        pen.rounded_rectangle(box, size * 0.7, style["accent"] if on else ((90, 92, 98) if dark else (190, 192, 198)))
        knob = width - size * (2.1 if on else 3.3)
        pen.ellipse((knob - size * 0.55, y + size * 0.45, knob + size * 0.55, y + size * 1.55), (255, 255, 255))
        pen.line((size, y + line - 6, width - size, y + line - 6), (70, 72, 78) if dark else (222, 224, 228), 1)
    y = round(line * (1.8 + len(toggles)))
    pen.rounded_rectangle((size, y, size * 9, y + size * 2), 8, style["accent"])
    pen.text((size * 5, y + size * 0.4), f"Inbox ({values['badge']})", (255, 255, 255), font, anchor="ma")
    return image


def main() -> None:
    """Draw a few of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--each", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        for seed in range(options.each):
            draw(make_document(kind, seed)).save(options.out / f"{kind}_{seed}.png")


if __name__ == "__main__":
    main()
