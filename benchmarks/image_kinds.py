"""Builds pairs of images by which a "same image?" check can be judged: the OPEN half of the kinds.

Written by somebody who did not write the check and had not read its rules. The check's limits are not to be chosen on
it as a whole (`benchmarks.image_check` chooses them on half of the kinds and scores the other).

A pair is either two look-alikes whose content differs (same=False) or an image and a copy of it (same=True).
Everything is drawn from a seeded generator, so that the same arguments always give the same bytes.
Third-party images are read from --data (folders sroie, vat, taxi, photos) and --pages; seeds that differ modulo 4
use different files, and drawn pages never repeat between seeds.

    python -m benchmarks.image_kinds --data DIR --pages DIR --out DIR --per-kind N --seed S
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import math
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

Bytes8 = NDArray[np.uint8]
Colour = str
SLICES = 4
INK = "#1a1a1a"

# --------------------------------------------------------------------------------------------------------------------
# Pairs and kinds


@dataclass(frozen=True)
class Pair:
    """Two encoded image files and what is true of them."""

    kind: str
    same: bool
    group: str  # look-alikes: "usual" or "adversarial"; copies: "usual" or "hard"
    source: str
    first: bytes
    second: bytes
    note: str


Made = tuple[str, bytes, bytes, str]  # source, first, second, note


@dataclass(frozen=True)
class Kind:
    """One kind of pair and the function that makes it."""

    name: str
    same: bool
    group: str
    make: Callable[[Context], Made]


Template = Callable[[random.Random, random.Random], "Page"]


@dataclass
class Half:
    """One half of the material: its kinds, page templates and share of the third-party files."""

    name: str
    parity: int
    kinds: dict[str, Kind] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)

    def kind(self, same: bool, group: str) -> Callable[[Callable[[Context], Made]], Callable[[Context], Made]]:
        """Register a generator under its function name."""

        def keep(make: Callable[[Context], Made]) -> Callable[[Context], Made]:
            name: str = make.__name__
            self.kinds[name] = Kind(name, same, group, make)
            return make

        return keep

    def template(self, make: Template) -> Template:
        """Register a page template under its function name."""
        self.templates[make.__name__] = make
        return make


OPEN = Half("open", 0)

# --------------------------------------------------------------------------------------------------------------------
# Drawing: pages are lists of operations in page units, so that one can be edited or be drawn again at another scale

_LATIN = "/usr/share/fonts/truetype/liberation/Liberation"
_DEJAVU = "/usr/share/fonts/truetype/dejavu/DejaVu"
_NOTO = "/usr/share/fonts/opentype/noto/Noto"
_FONTS = {
    "sans": f"{_LATIN}Sans-Regular.ttf",
    "bold": f"{_LATIN}Sans-Bold.ttf",
    "italic": f"{_LATIN}Sans-Italic.ttf",
    "serif": f"{_LATIN}Serif-Regular.ttf",
    "serifbold": f"{_LATIN}Serif-Bold.ttf",
    "serifitalic": f"{_LATIN}Serif-Italic.ttf",
    "mono": f"{_LATIN}Mono-Regular.ttf",
    "monobold": f"{_LATIN}Mono-Bold.ttf",
    "dejavu": f"{_DEJAVU}Sans.ttf",
    "dejavubold": f"{_DEJAVU}Sans-Bold.ttf",
}
_CJK = {
    "sans": f"{_NOTO}SansCJK-Regular.ttc",
    "bold": f"{_NOTO}SansCJK-Bold.ttc",
    "serif": f"{_NOTO}SerifCJK-Regular.ttc",
    "serifbold": f"{_NOTO}SerifCJK-Bold.ttc",
}


def is_cjk(text: str) -> bool:
    """Whether the text has Chinese characters or full-width marks."""
    return any("\u2e80" <= c <= "\u9fff" or "\uff00" <= c <= "\uffef" or "\u3000" <= c <= "\u303f" for c in text)


@lru_cache(maxsize=512)
def _load(path: str, size: float, index: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, index=index)


def font_for(text: str, family: str, size: float) -> ImageFont.FreeTypeFont:
    """The font that can draw this text."""
    size = max(4.0, round(size, 2))
    if is_cjk(text):
        serif, bold = "serif" in family, "bold" in family
        return _load(_CJK[("serif" if serif else "") + ("bold" if bold else "") or "sans"], size, 2)
    return _load(_FONTS[family], size, 0)


@dataclass(frozen=True)
class Op:
    """One drawing operation; xy is in page units and y is the baseline for text."""

    what: str  # text, rect, line, oval, poly, arc, bits
    xy: tuple[float, ...]
    text: str = ""
    size: float = 0
    fill: Colour | None = None
    outline: Colour | None = None
    width: float = 1
    font: str = "sans"
    at: str = "l"
    role: str = ""
    row: int = -1
    angle: float = 0
    alpha: float = 1
    bits: Bytes8 | None = None


@dataclass
class Page:
    """A drawn page: its size in page units and its operations in drawing order."""

    name: str
    width: float
    height: float
    paper: Colour = "#ffffff"
    font: str = "sans"
    ops: list[Op] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        role: str = "",
        *,
        fill: Colour = INK,
        font: str = "",
        at: str = "l",
        row: int = -1,
        angle: float = 0,
        alpha: float = 1,
    ) -> None:
        """Add text with its baseline at y."""
        self.ops.append(
            Op(
                "text",
                (x, y),
                text,
                size,
                fill,
                font=font or self.font,
                at=at,
                role=role,
                row=row,
                angle=angle,
                alpha=alpha,
            )
        )

    def rect(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: float = 1,
        role: str = "",
        row: int = -1,
        alpha: float = 1,
    ) -> None:
        """Add a rectangle."""
        self.ops.append(
            Op("rect", (x0, y0, x1, y1), fill=fill, outline=outline, width=width, role=role, row=row, alpha=alpha)
        )

    def line(
        self, points: Sequence[float], fill: Colour = INK, width: float = 1, role: str = "", row: int = -1
    ) -> None:
        """Add a line through points given as x0, y0, x1, y1, …"""
        self.ops.append(Op("line", tuple(points), fill=fill, width=width, role=role, row=row))

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: float = 1,
        role: str = "",
        row: int = -1,
    ) -> None:
        """Add an ellipse about a centre."""
        self.ops.append(
            Op("oval", (x - rx, y - ry, x + rx, y + ry), fill=fill, outline=outline, width=width, role=role, row=row)
        )

    def poly(self, points: Sequence[float], fill: Colour | None, outline: Colour | None = None, role: str = "") -> None:
        """Add a polygon."""
        self.ops.append(Op("poly", tuple(points), fill=fill, outline=outline, role=role))

    def slice_(self, x: float, y: float, r: float, start: float, end: float, fill: Colour, role: str = "") -> None:
        """Add a slice of a disc; angles in degrees."""
        self.ops.append(Op("arc", (x - r, y - r, x + r, y + r, start, end), fill=fill, outline="#ffffff", role=role))

    def bits(self, x0: float, y0: float, x1: float, y1: float, bits: Bytes8, role: str = "") -> None:
        """Add a picture, stretched to the box; two-dimensional arrays are drawn without smoothing."""
        self.ops.append(Op("bits", (x0, y0, x1, y1), bits=bits, role=role))

    def find(self, *roles: str) -> list[int]:
        """Positions of the operations with one of these roles."""
        return [i for i, op in enumerate(self.ops) if op.role in roles]

    def with_text(self, index: int, text: str) -> Page:
        """A page that differs in one text only."""
        return self.with_op(index, dataclasses.replace(self.ops[index], text=text))

    def with_op(self, index: int, op: Op | None) -> Page:
        """A page in which one operation is replaced or, given None, left out."""
        ops = list(self.ops)
        ops[index : index + 1] = [] if op is None else [op]
        return dataclasses.replace(self, ops=ops)

    def copy(self) -> Page:
        """A page to which more may be added."""
        return dataclasses.replace(self, ops=list(self.ops))

    def render(self, scale: float = 1.0, over: int = 1) -> Image.Image:
        """Draw the page; over > 1 draws larger and averages, which gives other edges than drawing at size."""
        k = scale * over
        image = Image.new("RGB", (round(self.width * k), round(self.height * k)), self.paper)
        for op in self.ops:
            _draw(image, op, k)
        if over > 1:
            size = (round(self.width * scale), round(self.height * scale))
            image = image.resize(size, Image.Resampling.BOX)
        return image


def _draw(image: Image.Image, op: Op, k: float) -> None:
    draw = ImageDraw.Draw(image)
    xy = [v * k for v in op.xy]
    width = max(1, round(op.width * k))
    if op.what == "text":
        font = font_for(op.text, op.font, op.size * k)
        if op.angle or op.alpha < 1:
            box = font.getbbox(op.text)
            side = (int(box[2]) + 8, int(box[3]) + 8)
            mask = Image.new("L", side, 0)
            ImageDraw.Draw(mask).text((4, 4), op.text, font=font, fill=round(255 * op.alpha))
            mask = mask.rotate(op.angle, Image.Resampling.BICUBIC, expand=True)
            image.paste(op.fill or INK, (round(xy[0] - mask.width / 2), round(xy[1] - mask.height / 2)), mask)
        else:
            draw.text((xy[0], xy[1]), op.text, font=font, fill=op.fill, anchor=op.at + "s")
    elif op.what == "rect":
        if op.alpha < 1:
            box4 = (round(xy[0]), round(xy[1]), round(xy[2]), round(xy[3]))
            shade = Image.new("RGB", (max(1, box4[2] - box4[0]), max(1, box4[3] - box4[1])), op.fill or INK)
            under = image.crop((box4[0], box4[1], box4[0] + shade.width, box4[1] + shade.height))
            image.paste(Image.blend(under, shade, op.alpha), box4[:2])
        else:
            draw.rectangle(xy, fill=op.fill, outline=op.outline, width=width)
    elif op.what == "line":
        draw.line(xy, fill=op.fill, width=width, joint="curve")
    elif op.what == "oval":
        draw.ellipse(xy, fill=op.fill, outline=op.outline, width=width)
    elif op.what == "poly":
        draw.polygon(xy, fill=op.fill, outline=op.outline)
    elif op.what == "arc":
        draw.pieslice(xy[:4], op.xy[4], op.xy[5], fill=op.fill, outline=op.outline)
    elif op.what == "bits" and op.bits is not None:
        box4 = (round(xy[0]), round(xy[1]), round(xy[2]), round(xy[3]))
        smooth = Image.Resampling.BICUBIC if op.bits.ndim == 3 else Image.Resampling.NEAREST
        picture = Image.fromarray(op.bits).convert("RGB").resize((box4[2] - box4[0], box4[3] - box4[1]), smooth)
        image.paste(picture, box4[:2])


# --------------------------------------------------------------------------------------------------------------------
# Words and numbers

FIRST = [
    "Anna",
    "Ben",
    "Carla",
    "Daniel",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Karin",
    "Liam",
    "Mona",
    "Nils",
    "Olga",
    "Peter",
    "Rosa",
    "Samir",
    "Tara",
    "Victor",
]
LAST = [
    "Abbott",
    "Barnes",
    "Castillo",
    "Dalton",
    "Eriksen",
    "Fischer",
    "Grant",
    "Hughes",
    "Ibrahim",
    "Jensen",
    "Keller",
    "Larsen",
    "Moreau",
    "Novak",
    "Okafor",
    "Petrov",
    "Quinn",
    "Rossi",
    "Schmidt",
    "Turner",
    "Usman",
    "Vargas",
    "Walsh",
    "Young",
    "Zimmer",
]
SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英文华玉兰建国志海燕晓东春梅"
FIRMS = [
    "Northgate",
    "Bluewater",
    "Harlow",
    "Kestrel",
    "Meridian",
    "Oakfield",
    "Pinnacle",
    "Redwood",
    "Silverline",
    "Thornbury",
    "Vantage",
    "Westbrook",
]
TRADES = [
    "Supplies",
    "Logistics",
    "Electronics",
    "Catering",
    "Printing",
    "Hardware",
    "Interiors",
    "Motors",
    "Textiles",
    "Laboratories",
]
FIRMS_ZH = ["华信", "东方", "恒通", "金鼎", "明达", "瑞丰", "中联", "宏图", "天成", "百川", "新城", "海纳"]
TRADES_ZH = [
    "科技有限公司",
    "贸易有限公司",
    "电子商行",
    "办公用品有限公司",
    "物流有限公司",
    "餐饮管理有限公司",
    "机械设备厂",
]
CITIES = [
    "Leeds",
    "Bristol",
    "Cardiff",
    "Exeter",
    "Derby",
    "Norwich",
    "Lincoln",
    "York",
    "Bath",
    "Oxford",
    "Durham",
    "Chester",
    "Stirling",
    "Dundee",
    "Perth",
    "Truro",
]
CITIES_ZH = [
    "北京",
    "上海",
    "广州",
    "成都",
    "武汉",
    "南京",
    "西安",
    "杭州",
    "长沙",
    "青岛",
    "沈阳",
    "昆明",
    "郑州",
    "厦门",
    "合肥",
    "济南",
]
ITEMS = [
    "Paper A4 ream",
    "Toner cartridge",
    "Desk lamp",
    "Office chair",
    "USB cable 2 m",
    "Label roll",
    "Stapler heavy duty",
    "Whiteboard marker",
    "Monitor arm",
    "Filing box",
    "Extension lead",
    "Packing tape",
    "Safety gloves",
    "Cable ties",
    "Wall clock",
    "Door hinge",
    "Paint 5 L",
    "Drill bit set",
]
FOODS = [
    "Whole milk 1L",
    "Brown bread",
    "Free range eggs",
    "Cheddar 400g",
    "Bananas",
    "Tomatoes",
    "Pasta 500g",
    "Olive oil",
    "Green tea",
    "Orange juice",
    "Chicken breast",
    "Rice 2kg",
    "Yoghurt",
    "Apples",
    "Flat white",
    "Croissant",
    "Salmon fillet",
    "Dark chocolate",
]
ITEMS_ZH = [
    "打印纸",
    "订书机",
    "文件夹",
    "签字笔",
    "台灯",
    "办公椅",
    "鼠标",
    "键盘",
    "硒鼓",
    "白板笔",
    "插线板",
    "胶带",
    "计算器",
    "显示器支架",
    "U盘",
    "笔记本",
]
FOODS_ZH = [
    "纯牛奶",
    "全麦面包",
    "鸡蛋",
    "西红柿",
    "香蕉",
    "大米",
    "花生油",
    "绿茶",
    "酸奶",
    "鸡胸肉",
    "苹果",
    "面条",
    "豆腐",
    "土豆",
    "酱油",
    "矿泉水",
]
BIG_ZH = "零壹贰叁肆伍陆柒捌玖"


def money(d: random.Random, top: float = 2000) -> str:
    """An amount with two decimals."""
    return f"{d.uniform(2, top):,.2f}"


def day(d: random.Random, zh: bool = False) -> str:
    """A date in one of the usual forms."""
    y, m, n = d.randint(2019, 2026), d.randint(1, 12), d.randint(1, 28)
    if zh:
        return f"{y}年{m:02d}月{n:02d}日"
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    return d.choice([f"{n:02d}/{m:02d}/{y}", f"{y}-{m:02d}-{n:02d}", f"{n} {months[m - 1]} {y}"])


def clock_time(d: random.Random) -> str:
    """A time of day."""
    return f"{d.randint(0, 23):02d}:{d.randint(0, 59):02d}"


def person(d: random.Random, zh: bool = False) -> str:
    """A name."""
    if zh:
        return d.choice(SURNAMES) + "".join(d.sample(GIVEN, d.choice([1, 2, 2])))
    return f"{d.choice(FIRST)} {d.choice(LAST)}"


def firm(s: random.Random, zh: bool = False) -> str:
    """The name of a company."""
    if zh:
        return s.choice(CITIES_ZH) + s.choice(FIRMS_ZH) + s.choice(TRADES_ZH)
    return f"{s.choice(FIRMS)} {s.choice(TRADES)} Ltd"


def number(d: random.Random, length: int) -> str:
    """A string of digits."""
    return "".join(d.choice("0123456789") for _ in range(length))


def ref(d: random.Random) -> str:
    """A reference number."""
    return f"{''.join(d.choice('ABCDEFGHKLMNPRSTUVWXYZ') for _ in range(2))}-{number(d, 6)}"


def capital_zh(value: int) -> str:
    """An amount in Chinese banking numerals."""
    digits, places, out = str(value), ["", "拾", "佰", "仟", "万", "拾"], ""
    for i, c in enumerate(digits):
        place = places[len(digits) - 1 - i]
        out += BIG_ZH[int(c)] + place if c != "0" else ("万" if place == "万" else "")
    return out + "元整"


def other_digit(rng: random.Random, text: str) -> str:
    """The text with one digit changed to another; numbers do not get a leading zero by it."""
    spots = [i for i, c in enumerate(text) if c.isdecimal()]
    i = rng.choice(spots)
    first = i + 1 in spots and i - 1 not in spots and text[i] != "0"
    return text[:i] + rng.choice([c for c in "123456789" + "0" * (not first) if c != text[i]]) + text[i + 1 :]


def plausible(text: str) -> bool:
    """Whether a date or time could be one: no year, day, hour or minute out of range."""
    for run in re.findall(r"\d+", text):
        if len(run) == 4 and not 2012 <= int(run) <= 2029:
            return False
        if len(run) < 4 and (int(run) > (59 if ":" in text else 31) or (int(run) == 0 and ":" not in text)):
            return False
    parts = re.findall(r"\d+", text)
    if ":" in text:
        return int(parts[0]) < 24
    return len(parts) < 3 or int(parts[1]) <= 12


def other_date(rng: random.Random, text: str) -> str:
    """The date or time with one digit changed, such that it still could be one."""
    while not plausible(now := other_digit(rng, text)):
        pass
    return now


def other_figure(rng: random.Random, op: Op) -> str:
    """The text of an operation with one digit changed; dates and times stay plausible."""
    return (
        other_date(rng, op.text)
        if op.role in {"date", "time", "bigdate"} and plausible(op.text)
        else other_digit(rng, op.text)
    )


def other_of(rng: random.Random, make: Callable[[], str], was: str) -> str:
    """A value of the same sort that differs."""
    while (text := make()) == was:
        pass
    return text


# --------------------------------------------------------------------------------------------------------------------
# Small drawings used by several pages


def qr_bits(text: str) -> Bytes8:
    """The modules of a QR code."""
    return np.asarray(cv2.QRCodeEncoder.create().encode(text), dtype=np.uint8)


_EAN_A = ["0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011"]
_EAN_PARITY = ["AAAAAA", "AABABB", "AABBAB", "AABBBA", "ABAABB", "ABBAAB", "ABBBAA", "ABABAB", "ABABBA", "ABBABA"]


def ean13(digits12: str) -> tuple[str, str]:
    """The full number and the bars, as a string of 0 and 1, of an EAN-13 code."""
    check = -sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(digits12)) % 10
    full = digits12 + str(check)
    bars = "101"
    for c, p in zip(full[1:7], _EAN_PARITY[int(full[0])], strict=True):
        a = _EAN_A[int(c)]
        bars += a if p == "A" else "".join("10"[int(b)] for b in a)[::-1]
    bars += "01010" + "".join("".join("10"[int(b)] for b in _EAN_A[int(c)]) for c in full[7:]) + "101"
    return full, bars


def put_barcode(page: Page, x: float, y: float, w: float, h: float, digits12: str, caption: bool) -> None:
    """Add an EAN-13 code."""
    full, bars = ean13(digits12)
    unit = w / len(bars)
    for i, b in enumerate(bars):
        if b == "1":
            page.rect(x + i * unit, y, x + (i + 1) * unit - 0.01, y + h, fill="#000000", role="bars")
    if caption:
        page.text(x + w / 2, y + h + 14, full, 12, "barnumber", at="m", font="mono")


def scribble(rng: random.Random, x: float, y: float, w: float, h: float) -> list[float]:
    """A curve like a signature."""
    waves = [(rng.uniform(2, 9), rng.uniform(0, 6.3), rng.uniform(0.3, 1)) for _ in range(3)]
    points: list[float] = []
    for i in range(140):
        t = i / 139
        dy = sum(a * math.sin(f * 6.3 * t + p) for f, p, a in waves) / 3
        loop = 0.07 * math.cos(waves[0][0] * 12 * t + waves[1][1])
        points += [x + w * (t + loop), y + h * (0.5 + 0.55 * dy * (1 - 0.4 * t))]
    return points


def stamp(page: Page, rng: random.Random, text: str, x: float, y: float, colour: str, size: float) -> Page:
    """The page with a rubber stamp on it."""
    out = page.copy()
    angle, alpha = rng.uniform(-25, 25), rng.uniform(0.6, 0.85)
    out.text(x, y, text, size, "stamp", fill=colour, font="bold", angle=angle, alpha=alpha)
    w = font_for(text, "bold", size).getlength(text) / 2 + size * 0.35
    h, a = size * 0.8, math.radians(-angle)
    corners = [(-w, -h), (w, -h), (w, h), (-w, h), (-w, -h)]
    points = [
        v
        for cx, cy in corners
        for v in (x + cx * math.cos(a) - cy * math.sin(a), y + cx * math.sin(a) + cy * math.cos(a))
    ]
    out.line(points, fill=colour, width=size * 0.09, role="stamp")
    return out


# --------------------------------------------------------------------------------------------------------------------
# Page templates of the open half: style decides what two pages of one template share, data what differs


@OPEN.template
def invoice_en(s: random.Random, d: random.Random) -> Page:
    """An English invoice."""
    p = Page("invoice_en", 800, 1040, font=s.choice(["sans", "serif"]))
    tint, bold, cur = (
        s.choice(["#1f4e9d", "#7a1f1f", "#20603a", "#333333"]),
        p.font.replace("sans", "") + "bold",
        s.choice("£$€"),
    )
    p.text(60, 90, firm(s), 27, "firm", fill=tint, font=bold)
    p.text(740, 90, "INVOICE", 30, "title", at="r", font=bold)
    p.text(
        60,
        114,
        f"{s.randint(2, 99)} {s.choice(LAST)} Street, {s.choice(CITIES)}   Tel 0{number(s, 4)} {number(s, 6)}",
        13,
    )
    p.rect(60, 130, 740, 133, fill=tint)
    for i, (label, value, role) in enumerate(
        [("Invoice no.", ref(d), "ref"), ("Invoice date", day(d), "date"), ("Due date", day(d), "date")]
    ):
        p.text(560, 170 + 24 * i, label, 14, fill="#555555", at="r")
        p.text(740, 170 + 24 * i, value, 14, role, at="r")
    p.text(60, 170, "Bill to", 14, fill="#555555")
    p.text(60, 194, person(d), 16, "name", font=bold)
    p.text(60, 216, f"{d.randint(2, 180)} {d.choice(LAST)} Road, {d.choice(CITIES)}", 14, "address")
    y = 290.0
    p.rect(60, y - 20, 740, y + 8, fill=tint)
    for x, label, at in [(70, "Description", "l"), (470, "Qty", "r"), (600, "Unit price", "r"), (730, "Amount", "r")]:
        p.text(x, y, label, 14, fill="#ffffff", at=at, font=bold)
    total = 0.0
    for i, item in enumerate(d.sample(ITEMS, d.randint(4, 8))):
        y += 32
        qty, unit = d.randint(1, 20), round(d.uniform(2, 120), 2)
        total += qty * unit
        p.text(70, y, item, 15, "item", row=i)
        p.text(470, y, str(qty), 15, "qty", at="r", row=i)
        p.text(600, y, f"{unit:,.2f}", 15, "amount", at="r", row=i)
        p.text(730, y, f"{qty * unit:,.2f}", 15, "amount", at="r", row=i)
        p.line((60, y + 10, 740, y + 10), fill="#cccccc")
    for label, figure in [("Subtotal", total), ("VAT 20%", total * 0.2)]:
        y += 34
        p.text(600, y, label, 15, at="r")
        p.text(730, y, f"{figure:,.2f}", 15, "amount", at="r")
    y += 40
    p.text(600, y, "Total", 20, at="r", font=bold)
    p.text(730, y, f"{cur}{total * 1.2:,.2f}", 20, "total", at="r", font=bold)
    p.text(
        60,
        y + 90,
        f"Please pay within {d.choice([7, 14, 21, 30, 60])} days to account {number(d, 8)}, sort code "
        f"{number(d, 2)}-{number(d, 2)}-{number(d, 2)}.",
        13,
        "sentence",
    )
    for i in range(4):
        p.text(
            60,
            950 + 12 * i,
            f"Clause {i + 1}: late payment bears interest at {d.randint(2, 14)}.{d.randint(0, 9)}% a year; "
            f"claims lapse after {d.randint(5, 95)} days; liability is limited to {cur}{d.randint(2, 98) * 100}.",
            7,
            "small",
        )
    return p


@OPEN.template
def invoice_zh(s: random.Random, d: random.Random) -> Page:
    """A Chinese invoice."""
    p = Page("invoice_zh", 1000, 680, paper=s.choice(["#ffffff", "#fffdf5"]))
    tint = s.choice(["#8a4b20", "#a02020", "#1d4f8c"])
    p.text(500, 66, f"{s.choice(CITIES_ZH)}增值税电子普通发票", 28, "title", at="m", fill=tint, font="serifbold")
    p.line((330, 80, 670, 80), fill=tint, width=2)
    for i, (label, value, role) in enumerate(
        [("发票代码", number(d, 12), "ref"), ("发票号码", number(d, 8), "ref"), ("开票日期", day(d, True), "date")]
    ):
        p.text(720, 50 + 24 * i, f"{label}：", 14, fill=tint)
        p.text(800, 50 + 24 * i, value, 14, role)
    p.rect(50, 120, 950, 600, outline=tint, width=2)
    p.text(66, 150, "购买方名称：", 15, fill=tint)
    p.text(166, 150, firm(d, True), 15, "name")
    p.text(66, 176, "纳税人识别号：", 15, fill=tint)
    p.text(180, 176, "91" + number(d, 16), 15, "ref")
    p.line((50, 200, 950, 200), fill=tint)
    for x, label in [(150, "货物名称"), (390, "规格"), (500, "数量"), (620, "单价"), (760, "金额"), (890, "税额")]:
        p.text(x, 224, label, 15, at="m", fill=tint)
    total, y = 0.0, 226.0
    for i, item in enumerate(d.sample(ITEMS_ZH, d.randint(3, 6))):
        y += 32
        qty, unit = d.randint(1, 30), round(d.uniform(5, 300), 2)
        total += qty * unit
        p.text(66, y, f"*办公用品*{item}", 15, "item", row=i)
        p.text(390, y, f"{d.choice('ABCDK')}{d.randint(2, 90)}", 15, "cell", at="m", row=i)
        p.text(500, y, str(qty), 15, "qty", at="m", row=i)
        p.text(650, y, f"{unit:.2f}", 15, "amount", at="r", row=i)
        p.text(800, y, f"{qty * unit:.2f}", 15, "amount", at="r", row=i)
        p.text(930, y, f"{qty * unit * 0.13:.2f}", 15, "amount", at="r", row=i)
    p.line((50, 470, 950, 470), fill=tint)
    p.text(66, 500, "价税合计（大写）", 15, fill=tint)
    p.text(250, 500, capital_zh(round(total * 1.13)), 17, "capital")
    p.text(660, 500, "（小写）", 15, fill=tint)
    p.text(740, 500, f"¥{round(total * 1.13)}.00", 18, "total")
    p.line((50, 516, 950, 516), fill=tint)
    p.text(66, 546, f"销售方：{firm(s, True)}", 15)
    p.text(66, 574, f"开户行及账号：工商银行{s.choice(CITIES_ZH)}分行 {number(s, 15)}", 14)
    for x, label in [(80, "收款人"), (330, "复核"), (560, "开票人")]:
        p.text(x, 634, f"{label}：{person(d, True)}", 15, "namefull")
    return p


@OPEN.template
def receipt(s: random.Random, d: random.Random) -> Page:
    """A till receipt, English or Chinese."""
    zh = s.random() < 0.4
    p = Page("receipt", 420, 640, paper=s.choice(["#ffffff", "#fbfaf5", "#f4f4f2"]), font="sans" if zh else "mono")
    foods = d.sample(FOODS_ZH if zh else FOODS, d.randint(5, 9))
    p.text(
        210,
        52,
        firm(s, zh) if zh else s.choice(FIRMS).upper() + " STORES",
        19 if zh else 22,
        "firm",
        at="m",
        font="bold" if zh else "monobold",
    )
    p.text(210, 76, f"电话 0{number(s, 10)}" if zh else f"Tel 0{number(s, 4)} {number(s, 6)}", 13, at="m")
    p.text(30, 108, ("单号 " if zh else "Receipt ") + number(d, 8), 14, "ref")
    p.text(
        390,
        108,
        day(d) if not zh else f"{d.randint(2020, 2026)}-{d.randint(1, 12):02d}-{d.randint(1, 28):02d}",
        14,
        "date",
        at="r",
    )
    p.text(30, 128, f"收银员 {person(d, True)}" if zh else f"Cashier {d.choice(FIRST)}", 14, "namefull")
    p.text(390, 128, clock_time(d), 14, "time", at="r")
    p.line((30, 140, 390, 140), fill="#777777")
    y, total = 142.0, 0.0
    for i, item in enumerate(foods):
        y += 24
        value = round(d.uniform(1, 60), 2)
        total += value
        p.text(30, y, item, 15, "item", row=i)
        p.text(390, y, f"{value:.2f}", 15, "amount", at="r", row=i)
    y += 14
    p.line((30, y, 390, y), fill="#777777")
    y += 28
    p.text(30, y, "合计" if zh else "TOTAL", 19, font="bold" if zh else "monobold")
    p.text(390, y, ("¥" if zh else "£") + f"{total:.2f}", 19, "total", at="r", font="monobold")
    paid = math.ceil(total / 10) * 10
    for label, value in [("现金" if zh else "Cash", float(paid)), ("找零" if zh else "Change", paid - total)]:
        y += 24
        p.text(30, y, label, 15)
        p.text(390, y, f"{value:.2f}", 15, "amount", at="r")
    put_barcode(p, 95, y + 24, 230, 46, number(d, 12), True)
    p.text(210, y + 116, "谢谢惠顾 欢迎再来" if zh else "Thank you, please call again", 13, at="m")
    p.height = y + 146
    return p


CHAT = [
    ("Hi, did the order arrive?", "你好，订单到了吗？"),
    ("Yes, {n} boxes, one is damaged", "到了，{n}箱，有一箱破损"),
    ("Please send a photo", "请发一张照片"),
    ("The total comes to {m}", "总共是{m}元"),
    ("I can transfer it on {d}", "我{d}转账给你"),
    ("Room {n} at {t}, right?", "{t}在{n}号会议室，对吗？"),
    ("The code for the door is {r}", "门禁密码是{r}"),
    ("Thanks, see you then", "谢谢，到时候见"),
    ("Could you bring {n} chairs?", "能带{n}把椅子来吗？"),
    ("My train gets in at {t}", "我的火车{t}到"),
]


@OPEN.template
def chat(s: random.Random, d: random.Random) -> Page:
    """A screen of a messaging application."""
    zh = s.random() < 0.5
    p = Page("chat", 480, 860, paper=s.choice(["#ededed", "#e5ddd5", "#ffffff"]))
    p.rect(0, 0, 480, 64, fill=s.choice(["#075e54", "#f7f7f7", "#3b5998"]))
    p.text(
        240, 42, person(d, zh), 19, "name", at="m", fill="#ffffff" if p.ops[0].fill != "#f7f7f7" else INK, font="bold"
    )
    y, mine = 92.0, s.choice(["#95ec69", "#dcf8c6", "#3a8bff"])
    for i, both in enumerate(d.sample(CHAT, d.randint(5, 7))):
        text = both[zh].format(n=d.randint(2, 30), m=money(d, 900), d=day(d, zh), t=clock_time(d), r=number(d, 4))
        w = font_for(text, "sans", 16).getlength(text) + 28
        x = 446 - w if i % 2 else 34.0
        has = any(c.isdigit() for c in text)
        p.rect(x, y, x + w, y + 42, fill=mine if i % 2 else "#ffffff" if p.paper != "#ffffff" else "#eeeeee")
        p.oval(462 if i % 2 else 17, y + 18, 13, 13, fill="#c09060" if i % 2 else "#6080b0")
        p.text(x + 14, y + 27, text, 16, "amount" if has else "sentence", row=i)
        y += 62
    p.height = max(620.0, y + 160)
    p.rect(0, p.height - 60, 480, p.height, fill="#f7f7f7")
    p.rect(60, p.height - 48, 380, p.height - 12, fill="#ffffff", outline="#cccccc")
    return p


@OPEN.template
def bar_chart(s: random.Random, d: random.Random) -> Page:
    """A bar chart with values on the axis only."""
    p = Page("bar_chart", 760, 480)
    zh, tint = s.random() < 0.4, s.choice(["#2f6fb7", "#3a9a5b", "#c8642d", "#7d4fa3"])
    p.text(
        40, 44, "各地区季度销售额（万元）" if zh else f"{s.choice(TRADES)} sales by region", 21, "title", font="bold"
    )
    p.line((80, 80, 80, 410, 730, 410), width=2)
    for i in range(6):
        p.text(72, 415 - 60 * i, str(i * 20), 13, at="r")
        p.line((80, 410 - 60 * i, 730, 410 - 60 * i), fill="#e0e0e0")
    names = d.sample(CITIES_ZH if zh else CITIES, s.randint(5, 8))
    step = 640 / len(names)
    for i, name in enumerate(names):
        x, h = 90 + step * i, 3.0 * d.randint(12, 100)
        p.rect(x + step * 0.15, 410 - h, x + step * 0.75, 409, fill=tint, role="bar", row=i)
        p.text(x + step * 0.45, 432, name, 13, "item", at="m", row=i)
    p.text(
        40, 466, f"Source: survey {day(d)}" if not zh else f"数据来源：统计 {day(d, True)}", 11, "date", fill="#777777"
    )
    return p


@OPEN.template
def form(s: random.Random, d: random.Random) -> Page:
    """A form with fields and boxes to tick."""
    zh = s.random() < 0.4
    p = Page("form", 720, 900)
    p.text(360, 60, "健康申报表" if zh else "Registration form", 25, "title", at="m", font="bold")
    rows = [
        ("姓名" if zh else "Full name", person(d, zh), "name"),
        ("出生日期" if zh else "Date of birth", day(d, zh), "date"),
        ("证件号码" if zh else "Document no.", number(d, 9), "ref"),
        ("电话" if zh else "Telephone", "0" + number(d, 10), "ref"),
        ("预付金额" if zh else "Deposit", money(d, 900), "amount"),
    ]
    for i, (label, value, role) in enumerate(rows):
        y = 110.0 + 42 * i
        p.text(60, y + 22, label, 15, fill="#444444")
        p.rect(230, y, 660, y + 32, outline="#888888")
        p.text(242, y + 22, value, 16, role, fill="#1a2a7a")
    asks = ["Do you smoke?", "Any allergies?", "First visit?", "Wears glasses?", "Needs an interpreter?"]
    asks += ["Had surgery before?", "Takes medicine daily?", "Receive news by mail?"]
    if zh:
        asks = ["是否吸烟？", "是否过敏？", "是否首次就诊？", "是否佩戴眼镜？", "是否需要翻译？", "是否做过手术？"]
        asks += ["是否长期服药？", "是否接收短信？"]
    y = 350.0
    for x, label in [(520, "是" if zh else "Yes"), (610, "否" if zh else "No")]:
        p.text(x + 9, y, label, 15, at="m", font="bold")
    for i, ask in enumerate(asks):
        y = 374.0 + 40 * i
        p.text(60, y + 15, f"{i + 1}. {ask}", 15, "ask", row=i)
        yes = d.random() < 0.5
        for x, on in [(520, yes), (610, not yes)]:
            p.rect(x, y, x + 18, y + 18, outline="#333333", width=2)
            if on:
                p.line((x + 3, y + 9, x + 8, y + 15, x + 16, y + 2), fill="#1a2a7a", width=3, role="tick", row=i)
    p.text(60, 740, "签名" if zh else "Signature", 15)
    p.line((160, 744, 380, 744))
    p.line(scribble(d, 170, 712, 150, 26), fill="#1a2a7a", width=2, role="signature")
    p.text(
        60, 790, "本表所填内容真实有效。" if zh else "I confirm that the above is true and complete.", 13, "sentence"
    )
    return p


@OPEN.template
def ticket(s: random.Random, d: random.Random) -> Page:
    """A train or cinema ticket."""
    zh = s.random() < 0.5
    p = Page("ticket", 760, 340, paper=s.choice(["#fff6e8", "#e9f3fb", "#ffffff"]))
    p.rect(0, 0, 760, 50, fill=s.choice(["#b0452c", "#1f5c99", "#2f7d4f"]))
    p.text(24, 34, "铁路客票" if zh else s.choice(FIRMS).upper() + " RAIL", 22, "firm", fill="#ffffff", font="bold")
    a, b = d.sample(CITIES_ZH if zh else CITIES, 2)
    p.text(40, 106, a, 30, "place", font="bold")
    p.text(330, 106, f"{d.choice('GDKTZ')}{d.randint(11, 999)}", 26, "ref", at="m")
    p.line((280, 116, 380, 116), width=2)
    p.text(620, 106, b, 30, "place", at="r", font="bold")
    p.text(40, 156, day(d, zh), 20, "date")
    p.text(330, 156, clock_time(d), 22, "time", at="m")
    p.text(40, 206, "座位" if zh else "Seat", 15, fill="#666666")
    p.text(
        110,
        208,
        f"{d.randint(1, 16):02d}车{d.randint(1, 20):02d}{d.choice('ABCDF')}号"
        if zh
        else f"Coach {d.choice('ABCDEF')}  {d.randint(1, 80):02d}{d.choice('ABCD')}",
        22,
        "seat",
        font="bold",
    )
    p.text(40, 250, "票价" if zh else "Fare", 15, fill="#666666")
    p.text(110, 252, ("¥" if zh else "£") + f"{d.uniform(8, 900):.2f}", 20, "total")
    p.text(40, 296, person(d, zh), 18, "name")
    p.text(330, 296, number(d, 10), 14, "ref", fill="#666666")
    p.bits(610, 180, 730, 300, qr_bits(number(d, 18)), role="qr")
    return p


@OPEN.template
def timetable(s: random.Random, d: random.Random) -> Page:
    """A departure board."""
    dark = s.random() < 0.5
    p = Page("timetable", 760, 620, paper="#10151f" if dark else "#ffffff")
    ink = "#ffd24a" if dark else INK
    p.text(
        36,
        52,
        f"Departures  {s.choice(CITIES)} Central",
        25,
        "title",
        fill="#ffffff" if dark else "#10407a",
        font="bold",
    )
    p.text(724, 52, clock_time(d), 22, "time", at="r", fill=ink)
    for x, label in [(36, "Time"), (140, "Destination"), (430, "Train"), (560, "Platform"), (724, "Status")]:
        p.text(x, 92, label, 14, fill="#8aa0b8", at="r" if x == 724 else "l")
    for i, place in enumerate(d.sample(CITIES, 10)):
        y = 130 + 46 * i
        p.line((36, y + 16, 724, y + 16), fill="#3a4660" if dark else "#dddddd")
        p.text(36, y, clock_time(d), 19, "time", fill=ink, row=i)
        p.text(140, y, place, 19, "item", fill=ink, row=i)
        p.text(430, y, f"{d.choice(['IC', 'RE', 'RB'])} {d.randint(10, 999)}", 19, "cell", fill=ink, row=i)
        p.text(580, y, str(d.randint(1, 14)), 19, "qty", fill=ink, row=i)
        p.text(724, y, d.choice(["On time", "On time", "+5 min", "+12 min"]), 17, "status", fill=ink, at="r", row=i)
    return p


@OPEN.template
def league(s: random.Random, d: random.Random) -> Page:
    """A table with signed figures."""
    p = Page("league", 700, 640, font=s.choice(["sans", "serif"]))
    zh = s.random() < 0.35
    p.text(
        40,
        54,
        f"{s.choice(FIRMS_ZH)}集团分公司盈亏表（万元）" if zh else f"{s.choice(FIRMS)} branches: profit and change",
        22,
        "title",
    )
    heads = ("名次 分公司 收入 盈亏 同比%" if zh else "Rank Branch Income Profit Change%").split()
    xs = [(60, "m"), (110, "l"), (370, "r"), (520, "r"), (650, "r")]
    p.rect(40, 76, 660, 106, fill=s.choice(["#dfe8f5", "#e8f2e2", "#f3e6e0"]))
    for (x, at), head in zip(xs, heads, strict=True):
        p.text(x, 97, head, 15, at=at, font="bold")
    for i, place in enumerate(d.sample(CITIES_ZH if zh else CITIES, 12)):
        y = 132 + 38 * i
        values = [
            str(i + 1),
            place,
            money(d, 9000),
            f"{d.choice(['-', '', ''])}{d.uniform(3, 900):.2f}",
            f"{d.choice(['-', '', ''])}{d.uniform(0.5, 40):.1f}",
        ]
        for (x, at), value, role in zip(xs, values, ["rank", "item", "amount", "signed", "signed"], strict=True):
            p.text(x, y, value, 16, role, at=at, row=i)
        p.line((40, y + 12, 660, y + 12), fill="#dddddd")
    return p


@OPEN.template
def panel(s: random.Random, d: random.Random) -> Page:
    """A control panel with lights and switches."""
    p = Page("panel", 640, 520, paper=s.choice(["#20242c", "#f2f4f7"]))
    ink = "#ffffff" if p.paper == "#20242c" else INK
    p.text(36, 52, f"{s.choice(FIRMS)} plant monitor", 22, "title", fill=ink, font="bold")
    for i, name in enumerate(
        s.sample(["Pump A", "Pump B", "Boiler", "Fan 1", "Fan 2", "Valve V3", "Chiller", "Mixer", "Filter", "Gate"], 7)
    ):
        y = 104 + 56 * i
        p.text(60, y, name, 18, "item", fill=ink, row=i)
        p.oval(270, y - 6, 11, 11, fill=d.choice(["#2ecc40", "#e02020"]), outline="#777777", role="light", row=i)
        on = d.random() < 0.5
        p.rect(340, y - 18, 392, y + 6, fill="#3a8bff" if on else "#b5bcc6", role="switchbed", row=i)
        p.oval(380 if on else 352, y - 6, 10, 10, fill="#ffffff", outline="#888888", role="switch", row=i)
        p.text(560, y, f"{d.uniform(10, 99):.1f} °C", 18, "amount", at="r", fill=ink, row=i)
    return p


@OPEN.template
def poster(s: random.Random, d: random.Random) -> Page:
    """A poster with very large figures."""
    p = Page("poster", 800, 1000, paper=s.choice(["#fff3c4", "#f7d9d9", "#d9ecf7", "#ffffff"]))
    zh = s.random() < 0.4
    p.text(
        400, 150, "春季大促销" if zh else f"{s.choice(TRADES)} sale", 74, "title", at="m", font="bold", fill="#b02020"
    )
    p.text(400, 250, day(d, zh), 54, "bigdate", at="m")
    p.oval(400, 520, 215, 190, fill="#b02020")
    p.text(
        400,
        560,
        f"{d.choice('£$€¥')}{d.randint(12, 98)}.{d.randint(1, 9)}9",
        112,
        "big",
        at="m",
        font="bold",
        fill="#ffffff",
    )
    p.text(400, 800, d.choice(ITEMS_ZH) if zh else d.choice(ITEMS), 52, "item", at="m")
    p.text(400, 880, f"热线 {number(d, 8)}" if zh else f"Call 0{number(d, 4)} {number(d, 4)}", 46, "bigref", at="m")
    return p


PLAIN_ZH = [
    "根据双方签订的协议，乙方应当在规定期限内完成全部交付工作",
    "经董事会研究决定，自下月起调整各部门的考勤办法",
    "凡逾期不办理登记手续的，视为自动放弃相关权利",
    "工程质量保修期为{n}个月，自验收合格之日起计算",
    "会议认为应当进一步加强安全生产管理工作",
    "请各单位于{d}前将汇总材料报送办公室",
    "本次招标共收到有效投标文件{n}份",
    "住户应当爱护公共设施，不得擅自占用消防通道",
    "双方发生争议时，应当首先通过友好协商解决",
    "本办法由综合管理部负责解释，自发布之日起施行",
    "全年累计完成产值{n}万元，同比有所增长",
    "对表现突出的个人给予通报表扬和适当奖励",
]


def dense_zh(s: random.Random, d: random.Random, marked: Sequence[tuple[str, str]]) -> Page:
    """A full page of Chinese text; marked sentences, of role 'key', are mixed in as (before, after) of a character."""
    size = s.choice([13, 14, 16, 18, 20])
    p = Page("dense_zh", 760, 1000, font=s.choice(["serif", "sans"]))
    p.text(
        380,
        76,
        s.choice(["关于开展年度检查工作的通知", "物业管理服务协议", "会议纪要", "采购合同补充条款"]),
        26,
        "title",
        at="m",
        font=p.font.replace("sans", "") + "bold",
    )
    per, y, n = int(640 // size), 130.0, 0
    spots = {d.randint(3, 20): m for m in marked}
    while y < 940:
        if n in spots:
            p.text(60, y, spots[n][0] + spots[n][1], size, "key")
        else:
            text = ""
            while len(text) < per:
                text += d.choice(PLAIN_ZH).format(
                    n=d.randint(3, 99), d=f"{d.randint(1, 12)}月{d.randint(1, 28)}日"
                ) + d.choice("，。；")
            p.text(60, y, text[:per], size, "line")
        y, n = y + size * 1.6, n + 1
    return p


# --------------------------------------------------------------------------------------------------------------------
# Encoding and wear


def encode(image: Image.Image, form_: str = "PNG", **options: object) -> bytes:
    """The image as a file."""
    out = io.BytesIO()
    image.save(out, form_, **options)
    return out.getvalue()


def jpeg(image: Image.Image, quality: int) -> bytes:
    """The image as a JPEG file."""
    return encode(image.convert("RGB"), "JPEG", quality=quality)


def resized(image: Image.Image, factor: float, how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """The image scaled."""
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), how)


def noisy(image: Image.Image, rng: np.random.Generator, sigma: float) -> Image.Image:
    """The image with noise."""
    a = np.asarray(image, dtype=np.float32)
    return Image.fromarray(np.clip(a + rng.normal(0, sigma, a.shape), 0, 255).astype(np.uint8))


def gamma(image: Image.Image, power: float) -> Image.Image:
    """The image with another gamma."""
    return image.point([round(255 * (v / 255) ** power) for v in range(256)] * len(image.getbands()))


def desk(rng: np.random.Generator, w: int, h: int) -> Bytes8:
    """A background like the top of a desk."""
    base = np.array([[120, 85, 55], [90, 92, 96], [185, 160, 125], [60, 48, 40]][int(rng.integers(4))], np.float32)
    grain = cv2.resize(rng.normal(0, 1, (max(2, h // 3), 12)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 1, (h, w)).astype(np.float32), (0, 0), 1.2)
    return np.clip(base[None, None] + (9 * grain + 10 * fine)[..., None], 0, 255).astype(np.uint8)


def phone_photo(
    image: Image.Image, rng: np.random.Generator, tilt: float, light: float, blur: float, margin: float = 0.07
) -> Image.Image:
    """The page as photographed on a desk: perspective, uneven light, blur and sensor noise."""
    src = np.asarray(image.convert("RGB"))
    h, w = src.shape[:2]
    mx, my = int(w * margin) + 8, int(h * margin) + 8
    out_w, out_h = w + 2 * mx, h + 2 * my
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    move = rng.uniform(-1, 1, (4, 2)).astype(np.float32) * np.array([w, h], np.float32) * tilt
    turn = np.radians(rng.uniform(-2.5, 2.5))
    centre = corners - np.array([w / 2, h / 2], np.float32)
    rotated = centre @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]], np.float32)
    target = rotated + move + np.array([out_w / 2, out_h / 2], np.float32)
    low, high = target.min(0), target.max(0)
    fit = float(min(1.0, 0.97 * out_w / (high[0] - low[0]), 0.97 * out_h / (high[1] - low[1])))
    target = (target - (low + high) / 2) * fit + np.array([out_w / 2, out_h / 2], np.float32)
    warp = cv2.getPerspectiveTransform(corners, target.astype(np.float32))
    page = cv2.warpPerspective(src, warp, (out_w, out_h), flags=cv2.INTER_AREA if fit < 0.8 else cv2.INTER_LINEAR)
    mask = cv2.warpPerspective(np.full((h, w), 255, np.uint8), warp, (out_w, out_h)).astype(np.float32)[..., None] / 255
    back = desk(rng, out_w, out_h).astype(np.float32)
    shadow = cv2.GaussianBlur(np.roll(mask[..., 0], (6, 5), (0, 1)), (0, 0), 7)[..., None]
    mixed = page * mask + back * (1 - 0.45 * shadow) * (1 - mask)
    yy, xx = np.mgrid[0:out_h, 0:out_w].astype(np.float32)
    angle = rng.uniform(0, 6.28)
    ramp = (np.cos(angle) * (xx / out_w - 0.5) + np.sin(angle) * (yy / out_h - 0.5)) * light
    warm = np.array([1.0, 0.985, 0.94], np.float32) if rng.random() < 0.6 else np.array([0.96, 0.99, 1.0], np.float32)
    lit = mixed * (0.9 + ramp)[..., None] * warm
    if blur:
        lit = cv2.GaussianBlur(lit, (0, 0), blur)
    return Image.fromarray(np.clip(lit + rng.normal(0, 3, lit.shape), 0, 255).astype(np.uint8))


# --------------------------------------------------------------------------------------------------------------------
# Where a generator takes its material from


@dataclass
class Context:
    """What one generator call may use."""

    half: Half
    rng: random.Random
    data: Path
    pages: Path
    seed: int

    @property
    def np_rng(self) -> np.random.Generator:
        """A numpy generator seeded from this call's generator."""
        return np.random.default_rng(self.rng.getrandbits(60))

    def files(self, folder: str) -> list[Path]:
        """This half's and this seed's share of the third-party files in a folder, in a fixed order."""
        where = self.pages if folder == "pages" else self.data / folder
        every = [f for f in where.iterdir() if f.suffix.lower() in {".jpg", ".jpeg", ".png", ".bmp", ".webp"}]
        every.sort(key=lambda f: hashlib.sha256(f.name.encode()).digest())
        mine = every[self.half.parity :: 2]
        return sorted(mine[self.seed % SLICES :: SLICES])

    def share(self, items: Sequence[str]) -> Sequence[str]:
        """This seed's share of a list that is long enough to be shared out."""
        return items[self.seed % SLICES :: SLICES] if len(items) >= 2 * SLICES else items

    def open_file(self, path: Path, limit: int = 1600) -> Image.Image:
        """A third-party image, made smaller where it is very large."""
        image = Image.open(path).convert("RGB")
        if max(image.size) > limit:
            image = resized(image, limit / max(image.size))
        return image

    def page(self, *roles: str, only: Sequence[str] = (), avoid: Sequence[str] = ()) -> Page:
        """A drawn page that has operations of one of these roles."""
        for _ in range(200):
            name = self.rng.choice(sorted(self.half.templates))
            if (only and name not in only) or name in avoid:
                continue
            page = self.half.templates[name](random.Random(self.rng.random()), random.Random(self.rng.random()))
            if not roles or page.find(*roles):
                return page
        raise LookupError(f"no template has {roles}")

    def two_pages(self) -> tuple[Page, Page]:
        """Two pages of one template and style, with other data."""
        make, style = self.half.templates[self.rng.choice(sorted(self.half.templates))], self.rng.random()
        return make(random.Random(style), random.Random(self.rng.random())), make(
            random.Random(style), random.Random(self.rng.random())
        )

    def scale(self, low: float = 0.85, high: float = 1.5) -> float:
        """A scale to draw at."""
        return self.rng.uniform(low, high)

    def picture(self, *, text: bool = False, drawn: float = 0.4, avoid: Sequence[str] = ()) -> tuple[str, Image.Image]:
        """A picture of any sort, or of a page or document when text is set."""
        if self.rng.random() < drawn:
            page = self.page(avoid=avoid)
            return f"drawn/{page.name}", page.render(self.scale())
        folders = ["sroie", "sroie", "vat", "taxi", "pages"] + ([] if text else ["photos", "photos"])
        found = [(f, x) for f in dict.fromkeys(self.rng.sample(folders, len(folders))) if (x := self.files(f))]
        path = self.rng.choice(found[0][1])
        return f"{found[0][0]}/{path.name}", self.open_file(path)

    def photo(self) -> tuple[str, Image.Image]:
        """A natural photo."""
        path = self.rng.choice(self.files("photos"))
        return f"photos/{path.name}", self.open_file(path)

    def ship(self, first: Image.Image, second: Image.Image, fine: bool = False) -> tuple[bytes, bytes]:
        """Two look-alikes as files, at times saved in different ways; fine: in ways that keep very small details."""
        way = self.rng.random()
        if way < 0.5:
            return encode(first), encode(second)
        if way < 0.75:
            q = self.rng.randint(88, 95) if fine else self.rng.randint(75, 93)
            return jpeg(first, q), jpeg(second, q)
        if fine:
            return encode(first), jpeg(second, self.rng.randint(88, 95))
        if self.rng.random() < 0.5 and min(second.size) > 400:
            second = resized(second, self.rng.uniform(0.82, 0.97))
        if self.rng.random() < 0.4:
            return encode(first), encode(second, "WEBP", quality=self.rng.randint(75, 92))
        return encode(first), jpeg(second, self.rng.randint(72, 92))

    def made(self, page: Page, second: Page, note: str, fine: bool = False, scale: float = 0) -> Made:
        """Draw two pages at one scale and save them."""
        scale = scale or self.scale()
        a, b = self.ship(page.render(scale), second.render(scale), fine)
        return f"drawn/{page.name}", a, b, note


def change(ctx: Context, roles: Sequence[str], how: Callable[[Op], str], note: str, fine: bool = False) -> Made:
    """A page and the same page with one text of these roles changed."""
    page = ctx.page(*roles)
    i = ctx.rng.choice(page.find(*roles))
    was, now = page.ops[i].text, how(page.ops[i])
    return ctx.made(page, page.with_text(i, now), f"{note}: {was!r} / {now!r}", fine)


# --------------------------------------------------------------------------------------------------------------------
# Look-alikes, usual


@OPEN.kind(same=False, group="usual")
def other_taxi_slip(ctx: Context) -> Made:
    """Two photographed slips from one printed form."""
    a, b = ctx.rng.sample(ctx.files("taxi"), 2)
    return f"taxi/{a.name}+{b.name}", a.read_bytes(), b.read_bytes(), "another slip of the same form"


@OPEN.kind(same=False, group="usual")
def other_page_of_template(ctx: Context) -> Made:
    """Two drawn pages of one template."""
    a, b = ctx.two_pages()
    return ctx.made(a, b, "another page of the same template")


@OPEN.kind(same=False, group="usual")
def amount_digit(ctx: Context) -> Made:
    """One digit of one amount."""
    return change(
        ctx,
        ["amount", "total"],
        lambda op: other_digit(ctx.rng, op.text) if any(c.isdigit() for c in op.text) else op.text + "0",
        "digit changed",
    )


@OPEN.kind(same=False, group="usual")
def date_changed(ctx: Context) -> Made:
    """Another date or time."""
    return change(ctx, ["date", "time"], lambda op: other_date(ctx.rng, op.text), "date or time changed")


@OPEN.kind(same=False, group="usual")
def scan_glyph_changed(ctx: Context) -> Made:
    """One printed character of a real scan replaced by another of the same line."""
    files = ctx.files("sroie")
    for path in ctx.rng.sample(files, len(files)):
        image = ctx.open_file(path)
        grey = np.asarray(image.convert("L"))
        _, ink = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
        _, _, stats, _ = cv2.connectedComponentsWithStats(ink)
        glyphs = [tuple(int(v) for v in s) for s in stats[1:] if 11 <= s[3] <= 45 and 0.35 <= s[2] / s[3] <= 0.9]
        glyphs = [g for g in glyphs if g[0] > image.width * 0.4]
        ctx.rng.shuffle(glyphs)
        for ax, ay, aw, ah, _ in glyphs[:60]:
            for bx, by, bw, bh, _ in glyphs:
                if abs(ay - by) > 2 or abs(ah - bh) > 1 or abs(aw - bw) > 2 or (ax, ay) == (bx, by):
                    continue
                one, two = ink[ay : ay + ah, ax : ax + aw], cv2.resize(ink[by : by + bh, bx : bx + bw], (aw, ah))
                if np.mean(np.abs(one.astype(int) - two)) / 255 < 0.28:
                    continue
                pixels = np.asarray(image).copy()
                patch = pixels[by - 1 : by + bh + 1, bx - 1 : bx + bw + 1]
                if patch.shape[0] < 5 or ax < 2 or ay < 2:
                    continue
                patch = cv2.resize(patch, (aw + 2, ah + 2), interpolation=cv2.INTER_LINEAR)
                if pixels[ay - 1 : ay + ah + 1, ax - 1 : ax + aw + 1].shape != patch.shape:
                    continue
                pixels[ay - 1 : ay + ah + 1, ax - 1 : ax + aw + 1] = patch
                a, b = ctx.ship(image, Image.fromarray(pixels), fine=True)
                return f"sroie/{path.name}", a, b, f"character at {ax},{ay} ({aw}x{ah} px) replaced"
    raise LookupError("no scan with two like characters")


@OPEN.kind(same=False, group="usual")
def chart_bar_changed(ctx: Context) -> Made:
    """One bar with another height."""
    page = ctx.page("bar")
    i = ctx.rng.choice(page.find("bar"))
    x0, y0, x1, y1 = page.ops[i].xy
    steps = [v for v in range(120, 380, 6) if abs(v - y0) > 22]
    y = float(ctx.rng.choice(steps))
    return ctx.made(
        page,
        page.with_op(i, dataclasses.replace(page.ops[i], xy=(x0, y, x1, y1))),
        f"bar from {410 - y0:.0f} to {410 - y:.0f}",
    )


@OPEN.kind(same=False, group="usual")
def other_boxes_ticked(ctx: Context) -> Made:
    """A form with one to three other answers."""
    page = ctx.page("tick")
    second, rows = page, ctx.rng.sample(page.find("tick"), ctx.rng.randint(1, 3))
    for i in rows:
        op = page.ops[i]
        shift = 90 if op.xy[0] < 560 else -90
        second = second.with_op(
            i, dataclasses.replace(op, xy=tuple(v + (shift if n % 2 == 0 else 0) for n, v in enumerate(op.xy)))
        )
    return ctx.made(page, second, f"{len(rows)} answers differ")


@OPEN.kind(same=False, group="usual")
def other_photo_alike(ctx: Context) -> Made:
    """Another photo of like colours and layout, cut to one size."""
    files = ctx.files("photos")

    def cut(path: Path) -> Image.Image:
        image = ctx.open_file(path)
        w, h = min(image.width, round(image.height * 4 / 3)), min(image.height, round(image.width * 3 / 4))
        left, top = (image.width - w) // 2, (image.height - h) // 2
        return image.crop((left, top, left + w, top + h)).resize((480, 360))

    def rough(image: Image.Image) -> NDArray[np.float32]:
        return np.asarray(image.resize((6, 6), Image.Resampling.BOX), dtype=np.float32)

    cuts = [cut(f) for f in files]
    i = ctx.rng.randrange(len(files))
    near = sorted(
        (n for n in range(len(files)) if n != i), key=lambda n: float(np.abs(rough(cuts[i]) - rough(cuts[n])).mean())
    )
    j = ctx.rng.choice(near[:2])
    first, second = ctx.ship(cuts[i], cuts[j])
    return f"photos/{files[i].name}+{files[j].name}", first, second, "other photo of like colours"


@OPEN.kind(same=False, group="usual")
def video_small_object_moved(ctx: Context) -> Made:
    """Two frames of a still camera in which a small thing has moved."""
    source, scene = ctx.photo()
    scene = scene.resize((640, round(640 * scene.height / scene.width)))
    _, other = ctx.photo()
    size = round(640 * ctx.rng.uniform(0.05, 0.1))
    thing = other.crop((other.width // 3, other.height // 3, other.width * 2 // 3, other.height * 2 // 3)).resize(
        (size, size)
    )
    thing = ImageEnhance.Contrast(thing).enhance(1.5)
    mask = Image.new("L", (size, size), 0)
    ImageDraw.Draw(mask).ellipse((2, 2, size - 3, size - 3), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(1))
    x, y = ctx.rng.randint(10, 520), ctx.rng.randint(scene.height // 3, scene.height - size - 10)
    to = (x + 630 // 2) % 560 if ctx.rng.random() < 0.5 else min(630 - size, x + round(size * 1.2))
    frames = []
    for left in (x, to):
        frame = scene.copy()
        frame.paste(thing, (left, y), mask)
        frames.append(jpeg(noisy(frame, ctx.np_rng, 2.0), 88))
    return source, frames[0], frames[1], f"thing of {size} px moved from x={x} to x={to}"


@OPEN.kind(same=False, group="usual")
def mirrored_photo(ctx: Context) -> Made:
    """A photo and its mirror image."""
    source, image = ctx.photo()
    a, b = ctx.ship(image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    return source, a, b, "mirrored left to right"


@OPEN.kind(same=False, group="usual")
def stamp_added(ctx: Context) -> Made:
    """A rubber stamp on one of two pages."""
    page = ctx.page(only=["invoice_en", "invoice_zh", "receipt", "form", "league"])
    text = ctx.rng.choice(["PAID", "VOID", "CANCELLED", "COPY", "REJECTED", "已作废", "已付讫", "作废", "现金付讫"])
    size = page.width * ctx.rng.uniform(0.045, 0.09)
    second = stamp(
        page,
        ctx.rng,
        text,
        page.width * ctx.rng.uniform(0.3, 0.7),
        page.height * ctx.rng.uniform(0.35, 0.75),
        ctx.rng.choice(["#c01818", "#1d3fa5"]),
        size,
    )
    return ctx.made(page, second, f"stamp {text!r}")


@OPEN.kind(same=False, group="usual")
def other_barcode(ctx: Context) -> Made:
    """A label with another barcode and, at times, no number beneath it."""
    rng = ctx.rng
    page = Page("barcode_label", 420, 260)
    page.text(30, 50, rng.choice(ITEMS + ITEMS_ZH), 24, font="bold")
    page.text(30, 80, f"{rng.choice(FIRMS)} {rng.choice(TRADES)}", 15, fill="#555555")
    second, digits, caption = page.copy(), number(rng, 12), rng.random() < 0.5
    put_barcode(page, 60, 110, 300, 100, digits, caption)
    put_barcode(second, 60, 110, 300, 100, number(rng, 12) if rng.random() < 0.5 else other_digit(rng, digits), caption)
    return ctx.made(page, second, "other barcode")


@OPEN.kind(same=False, group="usual")
def other_seat(ctx: Context) -> Made:
    """A ticket for another seat."""

    def how(op: Op) -> str:
        if ctx.rng.random() < 0.6:
            return other_digit(ctx.rng, op.text)
        i = max(n for n, c in enumerate(op.text) if c in "ABCDF")
        return op.text[:i] + ctx.rng.choice([c for c in "ABCD" if c != op.text[i]]) + op.text[i + 1 :]

    return change(ctx, ["seat"], how, "other seat")


def clock_page(rng: random.Random, hour: float, minute: int) -> Page:
    """A wall clock; rng decides the style."""
    p = Page("clock", 320, 320, paper=rng.choice(["#ffffff", "#dfe6ea", "#2b2f38"]))
    p.oval(160, 160, 140, 140, fill="#fdfdfd", outline=rng.choice(["#222222", "#a03020", "#2050a0"]), width=8)
    numbers = rng.random() < 0.6
    for i in range(12):
        a = math.radians(30 * i)
        if numbers:
            p.text(160 + 112 * math.sin(a), 167 - 112 * math.cos(a), str(i or 12), 20, at="m")
        else:
            p.line(
                (160 + 118 * math.sin(a), 160 - 118 * math.cos(a), 160 + 130 * math.sin(a), 160 - 130 * math.cos(a)),
                width=4,
            )
    for angle, length, width in [(30 * (hour + minute / 60), 66, 8), (6 * minute, 98, 4)]:
        a = math.radians(angle)
        p.line((160, 160, 160 + length * math.sin(a), 160 - length * math.cos(a)), width=width, fill="#111111")
    p.oval(160, 160, 7, 7, fill="#111111")
    return p


@OPEN.kind(same=False, group="usual")
def other_clock_time(ctx: Context) -> Made:
    """A clock that shows another time."""
    style, hour, minute = ctx.rng.random(), ctx.rng.randrange(12), ctx.rng.randrange(60)
    to = (
        ((hour + ctx.rng.randint(1, 11)) % 12, minute)
        if ctx.rng.random() < 0.5
        else (hour, (minute + ctx.rng.randint(8, 50)) % 60)
    )
    a, b = clock_page(random.Random(style), hour, minute), clock_page(random.Random(style), *to)
    return ctx.made(a, b, f"{hour}:{minute:02d} / {to[0]}:{to[1]:02d}", scale=ctx.scale(0.5, 1.5))


@OPEN.kind(same=False, group="usual")
def other_gauge_reading(ctx: Context) -> Made:
    """A gauge whose needle points elsewhere."""
    page = Page("gauge", 360, 240, paper=ctx.rng.choice(["#ffffff", "#e8edf2"]))
    page.text(180, 228, ctx.rng.choice(["bar", "km/h", "°C", "rpm x100", "kPa"]), 17, at="m")
    for i in range(11):
        a = math.radians(-90 + 18 * i)
        page.line(
            (180 + 140 * math.sin(a), 190 - 140 * math.cos(a), 180 + 155 * math.sin(a), 190 - 155 * math.cos(a)),
            width=3,
        )
        page.text(180 + 122 * math.sin(a), 196 - 122 * math.cos(a), str(i * 10), 13, at="m")
    was = ctx.rng.uniform(2, 98)
    now = ctx.rng.choice([v for v in np.arange(2.0, 98.0, 1.7) if abs(v - was) > 7])
    out = []
    for value in (was, float(now)):
        p, a = page.copy(), math.radians(-90 + 1.8 * value)
        p.line((180, 190, 180 + 110 * math.sin(a), 190 - 110 * math.cos(a)), fill="#c01818", width=4)
        p.oval(180, 190, 9, 9, fill="#333333")
        out.append(p)
    return ctx.made(out[0], out[1], f"{was:.0f} / {now:.0f}")


@OPEN.kind(same=False, group="usual")
def other_row_highlighted(ctx: Context) -> Made:
    """A marker pen on another row of a list."""
    page = ctx.page("item", only=["invoice_en", "league", "receipt"])
    rows = ctx.rng.sample(page.find("item"), 2)
    out = []
    colour = ctx.rng.choice(["#ffe600", "#7dff6a", "#ff9ad5"])
    for i in rows:
        p, op = page.copy(), page.ops[i]
        p.rect(
            page.width * 0.06,
            op.xy[1] - op.size * 1.1,
            page.width * 0.94,
            op.xy[1] + op.size * 0.4,
            fill=colour,
            alpha=0.4,
        )
        out.append(p)
    return ctx.made(out[0], out[1], "another row is marked")


@OPEN.kind(same=False, group="usual")
def switch_flipped(ctx: Context) -> Made:
    """A switch in the other position."""
    page = ctx.page("switch")
    i = ctx.rng.choice(page.find("switch"))
    op, bed = page.ops[i], page.ops[i - 1]
    on = op.xy[0] > 355
    shift = -28.0 if on else 28.0
    second = page.with_op(i, dataclasses.replace(op, xy=(op.xy[0] + shift, op.xy[1], op.xy[2] + shift, op.xy[3])))
    second = second.with_op(i - 1, dataclasses.replace(bed, fill="#b5bcc6" if on else "#3a8bff"))
    return ctx.made(page, second, "switch flipped")


@OPEN.kind(same=False, group="usual")
def row_left_out(ctx: Context) -> Made:
    """A list without one of its rows' texts."""
    page = ctx.page("item", only=["invoice_en", "invoice_zh", "receipt", "timetable", "league"])
    row = page.ops[ctx.rng.choice(page.find("item"))].row
    second = dataclasses.replace(page, ops=[op for op in page.ops if op.row != row or op.what != "text"])
    return ctx.made(page, second, f"row {row} is blank in the second")


CHESS = "♔♕♖♗♘♙♚♛♜♝♞♟"


@OPEN.kind(same=False, group="usual")
def chess_piece_moved(ctx: Context) -> Made:
    """A board on which one piece stands elsewhere."""
    page = Page("chess", 400, 400)
    light, dark = ctx.rng.choice([("#f0d9b5", "#b58863"), ("#eeeed2", "#769656"), ("#ffffff", "#9aa7b5")])
    for i in range(64):
        x, y = i % 8 * 50, i // 8 * 50
        page.rect(x, y, x + 50, y + 50, fill=dark if (i % 8 + i // 8) % 2 else light)
    squares = ctx.rng.sample(range(64), 19)
    for n in squares[:18]:
        page.text(n % 8 * 50 + 25, n // 8 * 50 + 40, ctx.rng.choice(CHESS), 42, "piece", at="m", font="dejavu")
    i, n = ctx.rng.choice(page.find("piece")), squares[18]
    second = page.with_op(i, dataclasses.replace(page.ops[i], xy=(n % 8 * 50 + 25, n // 8 * 50 + 40)))
    return ctx.made(page, second, "one piece moved", scale=ctx.scale(0.7, 1.4))


# --------------------------------------------------------------------------------------------------------------------
# Look-alikes, adversarial

BANNERS = [
    "CANCELLED – DO NOT PAY",
    "VOID – replaced by new invoice",
    "THIS IS A FORGERY",
    "PAID IN FULL",
    "REFUNDED 12 MARCH",
    "EXPIRED",
    "已作废",
    "此单已取消，请勿付款",
    "样张，无效",
    "已全额退款",
    "NOT THE FINAL VERSION",
    "Disputed: wrong amount",
]


def text_strip(rng: random.Random, width: int, height: int, text: str) -> Image.Image:
    """A strip with a line of text."""
    ground, ink = rng.choice(
        [
            ("#c01818", "#ffffff"),
            ("#ffffff", "#c01818"),
            ("#ffe600", "#000000"),
            ("#ffffff", "#111111"),
            ("#222222", "#ffffff"),
        ]
    )
    strip = Image.new("RGB", (width, height), ground)
    size = height * 0.5
    while size > 9 and font_for(text, "bold", size).getlength(text) > width * 0.94:
        size *= 0.92
    ImageDraw.Draw(strip).text((width / 2, height / 2), text, font=font_for(text, "bold", size), fill=ink, anchor="mm")
    return strip


def stacked(parts: Sequence[Image.Image], across: bool = False) -> Image.Image:
    """Pictures put one below the other, or beside each other."""
    if across:
        out = Image.new("RGB", (sum(p.width for p in parts), max(p.height for p in parts)), "#ffffff")
    else:
        out = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts)), "#ffffff")
    at = 0
    for p in parts:
        out.paste(p, (at, 0) if across else (0, at))
        at += p.width if across else p.height
    return out


@OPEN.kind(same=False, group="adversarial")
def banner_above_or_below(ctx: Context) -> Made:
    """A strip with a decisive text joined to the top or bottom of a page."""
    source, image = ctx.picture(text=True)
    text = ctx.rng.choice(ctx.share(BANNERS))
    strip = text_strip(ctx.rng, image.width, max(28, round(image.height * ctx.rng.uniform(0.04, 0.1))), text)
    above = ctx.rng.random() < 0.5
    a, b = ctx.ship(image, stacked([strip, image] if above else [image, strip]))
    return source, a, b, f"{text!r} {'above' if above else 'below'}"


@OPEN.kind(same=False, group="adversarial")
def chat_bubble_corrects(ctx: Context) -> Made:
    """A last message that corrects what was said."""
    page = ctx.page(only=["chat"])
    last = max(op.xy[3] for op in page.ops if op.what == "rect" and op.xy[3] < page.height - 70)
    english = ["Sorry, the total is {m}", "Wrong: it is {m}, not that", "Don't pay yet!", "Ignore that, it's {m} each"]
    chinese = ["抱歉，总额应为{m}", "刚才发错了，是{m}", "先别付款！", "更正：一共{m}元"]
    zh = any(is_cjk(op.text) for op in page.ops if op.row >= 0)
    text = ctx.rng.choice(chinese if zh else english).format(m=money(ctx.rng, 900))
    w = font_for(text, "sans", 16).getlength(text) + 28
    second = page.copy()
    second.rect(34, last + 20, 34 + w, last + 62, fill="#ffffff" if page.paper != "#ffffff" else "#eeeeee")
    second.oval(17, last + 38, 13, 13, fill="#6080b0")
    second.text(48, last + 47, text, 16)
    return ctx.made(page, second, f"added {text!r}")


@OPEN.kind(same=False, group="adversarial")
def faint_watermark(ctx: Context) -> Made:
    """A faint text across one of the pages."""
    page = ctx.page(only=["invoice_en", "invoice_zh", "form", "league", "receipt"])
    text, alpha = (
        ctx.rng.choice(["VOID", "DRAFT", "SPECIMEN", "NOT VALID", "样本", "作废", "仅供参考"]),
        ctx.rng.uniform(0.05, 0.14),
    )
    size = page.width * 0.62 / max(2.6, len(text) * (1.0 if is_cjk(text) else 0.62))
    second = page.copy()
    second.text(
        page.width / 2,
        page.height / 2,
        text,
        size,
        fill=ctx.rng.choice(["#000000", "#c01818"]),
        font="bold",
        angle=ctx.rng.uniform(20, 45),
        alpha=alpha,
    )
    return ctx.made(page, second, f"watermark {text!r}, strength {alpha:.2f}")


@OPEN.kind(same=False, group="adversarial")
def arrow_turned_round(ctx: Context) -> Made:
    """An arrow sign that points the other way: the same sign turned by 180 degrees."""
    ink, paper = ctx.rng.choice(
        [("#ffffff", "#1f5c99"), ("#111111", "#ffffff"), ("#ffffff", "#2f7d4f"), ("#000000", "#ffd200")]
    )
    page = Page("arrow", 200, 200, paper=paper)
    shaft, head, long = ctx.rng.uniform(8, 22), ctx.rng.uniform(34, 62), ctx.rng.uniform(60, 82)
    page.poly(
        (
            100 - shaft,
            100 + long,
            100 - shaft,
            100 - long + head,
            100 - head,
            100 - long + head,
            100,
            100 - long,
            100 + head,
            100 - long + head,
            100 + shaft,
            100 - long + head,
            100 + shaft,
            100 + long,
        ),
        fill=ink,
    )
    if ctx.rng.random() < 0.5:
        page.rect(6, 6, 194, 194, outline=ink, width=4)
    image = page.render(ctx.scale(0.3, 2), over=2)
    if ctx.rng.random() < 0.4:
        image = image.rotate(90)
    a, b = ctx.ship(image, image.rotate(180), fine=True)
    return "drawn/arrow", a, b, "arrow turned by 180 degrees"


def icon(name: str, ink: str, paper: str) -> Page:
    """A small sign on a grid of 64 units."""
    p = Page(f"icon_{name}", 64, 64, paper=paper)
    if name == "play":
        p.poly((20, 12, 52, 32, 20, 52), fill=ink)
    elif name == "pause":
        p.rect(18, 12, 28, 52, fill=ink)
        p.rect(36, 12, 46, 52, fill=ink)
    elif name == "stop":
        p.rect(15, 15, 49, 49, fill=ink)
    elif name == "record":
        p.oval(32, 32, 18, 18, fill=ink)
    elif name in {"plus", "minus"}:
        p.rect(10, 28, 54, 36, fill=ink)
        if name == "plus":
            p.rect(28, 10, 36, 54, fill=ink)
    elif name in {"lock", "unlock"}:
        p.rect(14, 30, 50, 56, fill=ink)
        p.line((22, 30, 22, 16, 28, 10, 36, 10, 42, 16, 42, 30 if name == "lock" else 20), fill=ink, width=5)
    elif name in {"sound", "mute"}:
        p.poly((8, 24, 20, 24, 34, 12, 34, 52, 20, 40, 8, 40), fill=ink)
        lines = (
            [(40, 24, 44, 32, 40, 40), (47, 18, 53, 32, 47, 46)]
            if name == "sound"
            else [(42, 24, 56, 40), (56, 24, 42, 40)]
        )
        for points in lines:
            p.line(points, fill=ink, width=4)
    elif name.startswith("battery"):
        p.rect(6, 20, 54, 44, outline=ink, width=4)
        p.rect(54, 27, 60, 37, fill=ink)
        p.rect(11, 25, 11 + 9.5 * int(name[-1]), 39, fill=ink)
    elif name.startswith("signal"):
        for i in range(4):
            p.rect(
                8 + 13 * i, 46 - 10 * i, 17 + 13 * i, 54, fill=ink if i < int(name[-1]) else None, outline=ink, width=2
            )
    elif name == "tick":
        p.line((12, 34, 26, 48, 52, 16), fill=ink, width=7)
    elif name == "cross":
        p.line((14, 14, 50, 50), fill=ink, width=7)
        p.line((50, 14, 14, 50), fill=ink, width=7)
    elif name in {"bell", "bell_off"}:
        p.poly((32, 8, 46, 18, 48, 40, 54, 46, 10, 46, 16, 40, 18, 18), fill=ink)
        p.oval(32, 51, 6, 5, fill=ink)
        if name == "bell_off":
            p.line((8, 56, 56, 8), fill=paper, width=9)
            p.line((10, 58, 58, 10), fill=ink, width=4)
    elif name in {"eye", "eye_off"}:
        p.oval(32, 32, 25, 15, outline=ink, width=5)
        p.oval(32, 32, 8, 8, fill=ink)
        if name == "eye_off":
            p.line((12, 54, 52, 10), fill=ink, width=5)
    else:
        raise KeyError(name)
    return p


ICON_PAIRS = [
    "play pause",
    "plus minus",
    "lock unlock",
    "sound mute",
    "battery4 battery1",
    "signal4 signal2",
    "tick cross",
    "bell bell_off",
    "eye eye_off",
    "stop record",
    "battery3 battery2",
    "signal3 signal4",
]


def icon_pair(ctx: Context, pairs: Sequence[str], draw: Callable[[str, str, str], Page]) -> Made:
    """Two icons of different meaning, drawn alike and small."""
    names = ctx.rng.choice(ctx.share(pairs)).split()
    ink, paper = ctx.rng.choice(
        [
            ("#111111", "#ffffff"),
            ("#ffffff", "#222222"),
            ("#2050c0", "#ffffff"),
            ("#ffffff", "#2f7d4f"),
            ("#555555", "#eeeeee"),
        ]
    )
    side = ctx.rng.choice([16, 20, 24, 32, 40, 48, 64])
    one, two = (draw(n, ink, paper).render(side / 64, over=4) for n in names)
    a, b = (encode(one), encode(two)) if ctx.rng.random() < 0.75 else (jpeg(one, 92), jpeg(two, 92))
    return f"drawn/icon {names[0]}", a, b, f"{names[0]} / {names[1]} at {side} px"


@OPEN.kind(same=False, group="adversarial")
def tiny_icons(ctx: Context) -> Made:
    """Icons of different meaning."""
    return icon_pair(ctx, ICON_PAIRS, icon)


@OPEN.kind(same=False, group="adversarial")
def thumbnail_with_other_digit(ctx: Context) -> Made:
    """A full page, and a small picture of it in which one large digit differs."""
    page = ctx.page("big")
    i = ctx.rng.choice(page.find("big", "bigdate"))
    now = other_figure(ctx.rng, page.ops[i])
    first, second = page.render(ctx.scale(0.9, 1.4)), page.with_text(i, now).render(1.0)
    second = resized(second, ctx.rng.uniform(0.24, 0.45))
    return (
        "drawn/poster",
        encode(first),
        jpeg(second, ctx.rng.randint(78, 92)),
        f"{page.ops[i].text!r} / {now!r} in the small one",
    )


@OPEN.kind(same=False, group="adversarial")
def small_print_changed(ctx: Context) -> Made:
    """Small print of 6 to 8 pixels under large headings."""
    page = ctx.page("small")
    i = ctx.rng.choice(page.find("small"))
    now = other_digit(ctx.rng, page.ops[i].text[9:])
    return ctx.made(
        page,
        page.with_text(i, page.ops[i].text[:9] + now),
        "a digit of the small print",
        fine=True,
        scale=ctx.rng.uniform(0.9, 1.15),
    )


HANZI = ["未末", "土士", "大太", "人入", "刀力", "木本", "王玉", "又叉", "万方", "问间", "免兔", "巾币"]
HANZI_FRAMES = [
    ("本案由", "某某负责办理，联系地址见附件。"),
    ("经办人：张", "明，审核人：李建国。"),
    ("该地块坐落于", "林路东侧，面积以实测为准。"),
    ("委托", "平镇人民政府代为保管。"),
    ("第三组组长改由刘", "文担任，其余不变。"),
    ("货物运至", "安仓库后由收货人签收。"),
]


def hanzi_pair(ctx: Context, pairs: Sequence[str], frames: Sequence[tuple[str, str]]) -> Made:
    """Two dense pages that differ in one stroke of one character."""
    two = ctx.rng.choice(ctx.share(pairs))
    one, other = ctx.rng.sample(two, 2)
    before, after = ctx.rng.choice(frames)
    page = dense_zh(random.Random(ctx.rng.random()), random.Random(ctx.rng.random()), [(before + one, after)])
    i = page.find("key")[0]
    return ctx.made(
        page,
        page.with_text(i, before + other + after),
        f"{one} / {other} at size {page.ops[i].size}",
        fine=True,
        scale=ctx.rng.uniform(1.0, 1.5),
    )


@OPEN.kind(same=False, group="adversarial")
def hanzi_one_stroke(ctx: Context) -> Made:
    """One stroke in a dense Chinese page."""
    return hanzi_pair(ctx, HANZI, HANZI_FRAMES)


@OPEN.kind(same=False, group="adversarial")
def minus_sign(ctx: Context) -> Made:
    """A minus sign there or not."""
    return change(ctx, ["signed"], lambda op: op.text[1:] if op.text[0] == "-" else "-" + op.text, "sign", fine=True)


@OPEN.kind(same=False, group="adversarial")
def decisive_line_cut_off(ctx: Context) -> Made:
    """A page, and the same page cut so that its last, decisive line is missing."""
    lines = {
        "invoice_en": [
            "This quotation is not an invoice",
            "Credit note – do not pay",
            "Pro forma only. Goods not yet supplied",
        ],
        "receipt": [
            "REFUND: amount returned to card",
            "TRAINING MODE – NOT A RECEIPT",
            "本票据仅供核对，不作报销凭证",
            "此单为退货单",
        ],
        "league": [
            "Figures are estimates, not audited",
            "All figures in thousands of dollars",
            "以上数据未经审计",
            "以上数字单位为美元",
        ],
        "ticket": ["Valid only with passport", "Not valid for travel", "改签后本票作废", "本凭证不作乘车使用"],
        "bar_chart": ["Forecast, not actual sales", "Bars show returns, not sales", "以上为预测值", "单位：千元"],
    }
    page = ctx.page(only=list(lines))
    zh = sum(is_cjk(op.text) for op in page.ops) > 4
    text = ctx.rng.choice([x for x in lines[page.name] if is_cjk(x) == zh or page.name == "invoice_en"])
    size = page.width * ctx.rng.uniform(0.02, 0.032)
    full = page.copy()
    full.height = page.height + size * 2.4
    full.text(page.width * 0.06, page.height + size * 1.0, text, size, font=ctx.rng.choice(["sans", "bold"]))
    return ctx.made(full, page, f"last line {text!r} is missing in the second")


@OPEN.kind(same=False, group="adversarial")
def light_grey_text_changed(ctx: Context) -> Made:
    """Text in light grey with another digit."""
    page = ctx.page(only=["invoice_en", "form", "league", "bar_chart"])
    size, grey = page.width * ctx.rng.uniform(0.022, 0.05), ctx.rng.choice(["#d4d4d4", "#dcdcdc", "#e2e2e2", "#e8e8e8"])
    text = ctx.rng.choice(["Approved limit {m}", "Batch {n}", "Valid until {d}", "Discount code {n}"]).format(
        m=money(ctx.rng), n=number(ctx.rng, 6), d=day(ctx.rng)
    )
    out = []
    for t in (text, other_digit(ctx.rng, text)):
        p = page.copy()
        p.text(page.width * 0.08, page.height + size, t, size, fill=grey)
        p.height += size * 2
        out.append(p)
    return ctx.made(out[0], out[1], f"grey {grey} text", fine=True)


def ink_layer(page: Page, scale: float, ink: int) -> Image.Image:
    """The page as ink of one shade on a transparent ground."""
    alpha = Image.eval(page.render(scale).convert("L"), lambda v: 255 - v)
    plane = Image.new("L", alpha.size, ink)
    return Image.merge("RGBA", (plane, plane, plane, alpha))


@OPEN.kind(same=False, group="adversarial")
def transparent_black_ink(ctx: Context) -> Made:
    """Two PNG files that are all black but for their transparency, which carries other text."""
    a, b = ctx.two_pages()
    while a.paper == "#10151f" or a.paper == "#20242c":
        a, b = ctx.two_pages()
    scale = ctx.scale(0.7, 1.1)
    if ctx.rng.random() < 0.5 and a.find("total", "date", "amount"):
        i = ctx.rng.choice(a.find("total", "date", "amount"))
        if any(c.isdigit() for c in a.ops[i].text):
            b = a.with_text(i, other_digit(ctx.rng, a.ops[i].text))
    return (
        f"drawn/{a.name}",
        encode(ink_layer(a, scale, 0)),
        encode(ink_layer(b, scale, 0)),
        "black ink on a transparent ground",
    )


@OPEN.kind(same=False, group="adversarial")
def status_light_colour(ctx: Context) -> Made:
    """A red light where the other has a green one."""
    page = ctx.page("light")
    i = ctx.rng.choice(page.find("light"))
    now = "#e02020" if page.ops[i].fill == "#2ecc40" else "#2ecc40"
    return ctx.made(
        page,
        page.with_op(i, dataclasses.replace(page.ops[i], fill=now)),
        "light of another colour",
        scale=ctx.scale(0.7, 1.4),
    )


@OPEN.kind(same=False, group="adversarial")
def blurred_with_other_digit(ctx: Context) -> Made:
    """A slightly blurred copy in which one digit differs."""
    page = ctx.page("total", only=["invoice_en", "invoice_zh", "receipt", "ticket"])
    i = ctx.rng.choice(page.find("total"))
    now, scale = other_digit(ctx.rng, page.ops[i].text), ctx.scale(1.0, 1.5)
    second = page.with_text(i, now).render(scale).filter(ImageFilter.GaussianBlur(ctx.rng.uniform(0.8, 1.5)))
    return (
        f"drawn/{page.name}",
        encode(page.render(scale)),
        jpeg(second, ctx.rng.randint(70, 90)),
        f"{page.ops[i].text!r} / {now!r} in the blurred one",
    )


@OPEN.kind(same=False, group="adversarial")
def yes_no_swapped(ctx: Context) -> Made:
    """A single tick under No instead of Yes, or the reverse."""
    page = ctx.page("tick")
    i = ctx.rng.choice(page.find("tick"))
    op = page.ops[i]
    shift = 90 if op.xy[0] < 560 else -90
    second = page.with_op(
        i, dataclasses.replace(op, xy=tuple(v + (shift if n % 2 == 0 else 0) for n, v in enumerate(op.xy)))
    )
    return ctx.made(page, second, "one tick on the other side", scale=ctx.scale(0.8, 1.4))


@OPEN.kind(same=False, group="adversarial")
def two_rows_swapped(ctx: Context) -> Made:
    """Two names of a table have changed places, the figures have not."""
    page = ctx.page(only=["league", "timetable", "receipt", "bar_chart"])
    i, j = ctx.rng.sample(page.find("item"), 2)
    second = page.with_text(i, page.ops[j].text).with_text(j, page.ops[i].text)
    return ctx.made(page, second, f"{page.ops[i].text!r} and {page.ops[j].text!r} swapped", fine=True)


@OPEN.kind(same=False, group="adversarial")
def capital_numeral_changed(ctx: Context) -> Made:
    """One Chinese banking numeral."""

    def how(op: Op) -> str:
        i = ctx.rng.choice([n for n, c in enumerate(op.text) if c in BIG_ZH[1:]])
        return op.text[:i] + ctx.rng.choice([c for c in BIG_ZH[1:] if c != op.text[i]]) + op.text[i + 1 :]

    return change(ctx, ["capital"], how, "numeral", fine=True)


@OPEN.kind(same=False, group="adversarial")
def note_in_margin(ctx: Context) -> Made:
    """A short note in the blank margin of a real document."""
    name = ctx.rng.choice([f for f in ("sroie", "vat", "taxi") if ctx.files(f)])
    path = ctx.rng.choice(ctx.files(name))
    image = ctx.open_file(path)
    text = ctx.rng.choice(["void", "paid 3/5", "not ours!", "x 2", "wrong shop", "作废", "重复", "不报销"])
    grey = np.asarray(image.convert("L"), dtype=np.float32)
    size = max(18, round(image.width * ctx.rng.uniform(0.028, 0.045)))
    w, h = round(font_for(text, "serifitalic", size).getlength(text)) + 10, round(size * 1.5)
    spots = [
        (x, y)
        for y in range(4, image.height - h - 4, max(4, h // 2))
        for x in range(4, image.width - w - 4, max(4, w // 3))
    ]
    flat = sorted(
        spots,
        key=lambda s: (
            float(grey[s[1] : s[1] + h, s[0] : s[0] + w].std())
            + 0.4 * max(0.0, 140 - float(grey[s[1] : s[1] + h, s[0] : s[0] + w].mean()))
        ),
    )
    x, y = ctx.rng.choice(flat[: max(1, min(12, len(flat) // 10))])
    second = image.copy()
    ImageDraw.Draw(second).text(
        (x + 5, y + h / 2),
        text,
        font=font_for(text, "serifitalic", size),
        fill=ctx.rng.choice(["#1d3fa5", "#b01818", "#222222"]),
        anchor="lm",
    )
    a, b = ctx.ship(image, second, fine=True)
    return f"{name}/{path.name}", a, b, f"note {text!r} added"


# --------------------------------------------------------------------------------------------------------------------
# Copies, usual


def with_file(ctx: Context, image: Image.Image) -> bytes:
    """The first file of a pair of copies."""
    return encode(image) if ctx.rng.random() < 0.6 else jpeg(image, ctx.rng.randint(88, 95))


@OPEN.kind(same=True, group="usual")
def jpeg_again(ctx: Context) -> Made:
    """Saved as JPEG of quality 40 to 90."""
    source, image = ctx.picture()
    q = ctx.rng.randint(40, 90)
    return source, with_file(ctx, image), jpeg(image, q), f"JPEG {q}"


@OPEN.kind(same=True, group="usual")
def png_bmp_tiff(ctx: Context) -> Made:
    """Saved in another format without loss."""
    source, image = ctx.picture()
    to = ctx.rng.choice(["BMP", "TIFF", "PNG", "PNG-P"])
    second = (
        encode(image.quantize(256), "PNG")
        if to == "PNG-P"
        else encode(image, to)
        if to != "PNG"
        else encode(image, "PNG", compress_level=1)
    )
    return source, jpeg(image, 93) if to == "PNG" else encode(image), second, to


@OPEN.kind(same=True, group="usual")
def scaled_down(ctx: Context) -> Made:
    """Scaled by .4 to .9."""
    source, image = ctx.picture()
    f = ctx.rng.uniform(0.4, 0.9)
    second = resized(
        image, f, ctx.rng.choice([Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BOX])
    )
    return (
        source,
        with_file(ctx, image),
        encode(second) if ctx.rng.random() < 0.5 else jpeg(second, ctx.rng.randint(80, 92)),
        f"scale {f:.2f}",
    )


def blank_margins(image: Image.Image, share: float, spread: int = 24) -> list[int]:
    """How many pixels may be cut off the left, top, right and bottom without touching any ink."""
    a = np.asarray(image.convert("L")).astype(int)
    h, w = a.shape
    out = []
    for line in range(4):
        rows = a if line % 2 else a.T
        rows = rows[::-1] if line >= 2 else rows
        most, n = int((h if line % 2 else w) * share), 0
        while (
            n < most
            and rows[n].max() - rows[n].min() <= spread
            and abs(int(rows[n].mean()) - int(rows[0].mean())) < spread
        ):
            n += 1
        out.append(max(0, n - 2) if n < most else n)
    return out


@OPEN.kind(same=True, group="usual")
def blank_margin_cut(ctx: Context) -> Made:
    """One to four percent of blank margin cut off."""
    for _ in range(30):
        source, image = ctx.picture(text=True, drawn=0.7, avoid=["chat", "ticket"])
        left, top, right, bottom = blank_margins(image, ctx.rng.uniform(0.01, 0.04))
        if left + right + top + bottom > 0.02 * image.width:
            second = image.crop((left, top, image.width - right, image.height - bottom))
            return source, with_file(ctx, image), encode(second), f"cut {left},{top},{right},{bottom}"
    raise LookupError("no page with blank margins")


@OPEN.kind(same=True, group="usual")
def brightness_contrast(ctx: Context) -> Made:
    """A little brighter or darker, with more or less contrast."""
    source, image = ctx.picture()
    b, c = ctx.rng.uniform(0.8, 1.2), ctx.rng.uniform(0.8, 1.25)
    second = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(b)).enhance(c)
    return source, with_file(ctx, image), jpeg(second, 90), f"brightness {b:.2f}, contrast {c:.2f}"


@OPEN.kind(same=True, group="usual")
def screenshot_with_bars(ctx: Context) -> Made:
    """Shown in a viewer: plain bars above and below, with buttons but without text."""
    source, image = ctx.picture()
    w, bar = image.width, max(22, round(image.width * ctx.rng.uniform(0.035, 0.07)))
    shade = ctx.rng.choice(["#f2f2f2", "#2b2b2b", "#1f5c99", "#ffffff"])
    top, low = Image.new("RGB", (w, bar), shade), Image.new("RGB", (w, round(bar * 1.3)), shade)
    ink = "#888888"
    for i in range(3):
        ImageDraw.Draw(top).ellipse(
            (bar * (0.4 + 0.8 * i), bar * 0.3, bar * (0.8 + 0.8 * i), bar * 0.7),
            fill=["#ff5f57", "#febc2e", "#28c840"][i],
        )
    for i in range(4):
        x = w * (i + 0.5) / 4
        ImageDraw.Draw(low).rounded_rectangle(
            (x - bar * 0.3, bar * 0.35, x + bar * 0.3, bar * 0.95), radius=bar * 0.12, outline=ink, width=2
        )
    second = stacked([top, image, low])
    return (
        source,
        with_file(ctx, image),
        encode(second) if ctx.rng.random() < 0.6 else jpeg(second, 88),
        "viewer bars without text",
    )


@OPEN.kind(same=True, group="usual")
def border_added(ctx: Context) -> Made:
    """A white, black or grey border, not always even."""
    source, image = ctx.picture()
    shade = ctx.rng.choice(["#ffffff", "#ffffff", "#000000", "#808080"])
    left, top, right, low = (round(max(image.size) * ctx.rng.uniform(0.01, 0.07)) for _ in range(4))
    second = Image.new("RGB", (image.width + left + right, image.height + top + low), shade)
    second.paste(image, (left, top))
    return (
        source,
        with_file(ctx, image),
        encode(second) if ctx.rng.random() < 0.5 else jpeg(second, 90),
        f"border {shade}",
    )


@OPEN.kind(same=True, group="usual")
def exif_orientation(ctx: Context) -> Made:
    """Pixels stored turned, with the EXIF entry that turns them back."""
    source, image = ctx.picture()
    code, turn = ctx.rng.choice(
        [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)]
    )
    exif = Image.Exif()
    exif[0x0112] = code
    return (
        source,
        with_file(ctx, image),
        encode(image.transpose(turn), "JPEG", quality=90, exif=exif),
        f"orientation {code}",
    )


@OPEN.kind(same=True, group="usual")
def slightly_turned(ctx: Context) -> Made:
    """Turned by half a degree to two degrees, as by a scanner."""
    source, image = ctx.picture(text=True)
    angle = ctx.rng.uniform(0.5, 2.0) * ctx.rng.choice([-1, 1])
    corner = np.asarray(image)[:6, :6].reshape(-1, 3).mean(0)
    fill = (int(corner[0]), int(corner[1]), int(corner[2]))
    second = image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=fill)
    return source, with_file(ctx, image), jpeg(second, ctx.rng.randint(82, 93)), f"turned by {angle:.1f} degrees"


@OPEN.kind(same=True, group="usual")
def greyscale(ctx: Context) -> Made:
    """A page in grey, where colour carries no meaning."""
    source, image = ctx.picture(text=True, avoid=["panel", "poster"])
    return (
        source,
        with_file(ctx, image),
        encode(image.convert("L")) if ctx.rng.random() < 0.5 else encode(image.convert("L"), "JPEG", quality=85),
        "greyscale",
    )


@OPEN.kind(same=True, group="usual")
def mild_noise(ctx: Context) -> Made:
    """Noise as of a scanner."""
    source, image = ctx.picture()
    sigma = ctx.rng.uniform(3, 10)
    return source, with_file(ctx, image), jpeg(noisy(image, ctx.np_rng, sigma), 90), f"noise {sigma:.1f}"


@OPEN.kind(same=True, group="usual")
def combined_light(ctx: Context) -> Made:
    """Scaled, brightened and saved as JPEG, as by a messenger."""
    source, image = ctx.picture()
    f, b, q = ctx.rng.uniform(0.55, 0.9), ctx.rng.uniform(0.9, 1.12), ctx.rng.randint(55, 82)
    return (
        source,
        with_file(ctx, image),
        jpeg(ImageEnhance.Brightness(resized(image, f)).enhance(b), q),
        f"scale {f:.2f}, brightness {b:.2f}, JPEG {q}",
    )


# --------------------------------------------------------------------------------------------------------------------
# Copies, hard


@OPEN.kind(same=True, group="hard")
def drawn_again_at_other_dpi(ctx: Context) -> Made:
    """The same page drawn again from its vectors at another resolution."""
    page, one = ctx.page(), ctx.rng.uniform(1.0, 1.3)
    two = one * ctx.rng.choice([0.72, 0.8, 1.25, 1.4, 1.6])
    return f"drawn/{page.name}", encode(page.render(one)), encode(page.render(two)), f"scales {one:.2f} and {two:.2f}"


@OPEN.kind(same=True, group="hard")
def phone_photo_of_page(ctx: Context) -> Made:
    """The page photographed on a desk."""
    source, image = ctx.picture(text=True, drawn=0.65, avoid=["panel", "chat"])
    if max(image.size) > 1300:
        image = resized(image, 1300 / max(image.size))
    second = phone_photo(
        image, ctx.np_rng, ctx.rng.uniform(0.01, 0.04), ctx.rng.uniform(0.15, 0.4), ctx.rng.uniform(0.4, 0.9)
    )
    return source, with_file(ctx, image), jpeg(second, ctx.rng.randint(75, 90)), "photographed on a desk"


@OPEN.kind(same=True, group="hard")
def strongly_shrunk(ctx: Context) -> Made:
    """Scaled by .25 to .4."""
    source, image = ctx.picture()
    f = ctx.rng.uniform(0.25, 0.4)
    return source, with_file(ctx, image), jpeg(resized(image, f), ctx.rng.randint(75, 92)), f"scale {f:.2f}"


@OPEN.kind(same=True, group="hard")
def fax_one_bit(ctx: Context) -> Made:
    """A page in black and white only, at a fax machine's resolution."""
    page = ctx.page(only=["invoice_en", "invoice_zh", "receipt", "form", "league"])
    image = page.render(ctx.scale(1.3, 1.6))
    f = ctx.rng.uniform(0.85, 1.0)
    bits = resized(image.convert("L"), f).point([0 if v < 170 else 255 for v in range(256)]).convert("1")
    return f"drawn/{page.name}", encode(image), encode(bits, ctx.rng.choice(["PNG", "TIFF"])), "one bit a pixel"


@OPEN.kind(same=True, group="hard")
def scanned_twice(ctx: Context) -> Made:
    """Two scans of one page: each a little turned, with its own noise, light and size."""
    source, image = ctx.picture(text=True, drawn=0.75, avoid=["panel", "chat", "timetable"])
    out = []
    for _ in range(2):
        x = image.rotate(ctx.rng.uniform(-0.9, 0.9), Image.Resampling.BICUBIC, fillcolor=image.getpixel((2, 2)))
        x = resized(x, ctx.rng.uniform(0.85, 1.1)).filter(ImageFilter.GaussianBlur(ctx.rng.uniform(0.3, 0.6)))
        x = ImageEnhance.Brightness(noisy(x, ctx.np_rng, ctx.rng.uniform(2, 5))).enhance(ctx.rng.uniform(0.92, 1.05))
        out.append(jpeg(x, ctx.rng.randint(78, 92)))
    return source, out[0], out[1], "two scans"


# --------------------------------------------------------------------------------------------------------------------
# Running


def pairs_of(half: Half, data: Path, pages: Path, per_kind: int, seed: int, only: Sequence[str] = ()) -> Iterator[Pair]:
    """All pairs of a half, kind by kind; a kind with too little material for per_kind different pairs gives fewer."""
    for name, kind in half.kinds.items():
        if only and name not in only:
            continue
        seen: set[frozenset[bytes]] = set()
        for n in range(per_kind):
            for attempt in range(12):
                mark = f"{half.name}/{name}/{seed}/{n}" + (f"/{attempt}" if attempt else "")
                ctx = Context(half, random.Random(mark), data, pages, seed)
                source, first, second, note = kind.make(ctx)
                if first == second and not kind.same:
                    raise ValueError(f"{name} {n}: look-alikes are identical")
                both = frozenset((hashlib.sha256(first).digest(), hashlib.sha256(second).digest()))
                if both not in seen:
                    seen.add(both)
                    yield Pair(name, kind.same, kind.group, source, first, second, note)
                    break


def suffix(data: bytes) -> str:
    """The usual ending for a file of this content."""
    marks = [
        (b"\x89PNG", "png"),
        (b"\xff\xd8", "jpg"),
        (b"RIFF", "webp"),
        (b"BM", "bmp"),
        (b"GIF", "gif"),
        (b"II", "tif"),
        (b"MM", "tif"),
    ]
    return next((end for mark, end in marks if data.startswith(mark)), "bin")


def main(half: Half, arguments: Sequence[str] | None = None) -> int:
    """Write the pairs of a half and an index of them."""
    parser = argparse.ArgumentParser(description=f"Write the {half.name} half of the image pairs.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-kind", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="names of kinds")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    count = 0
    with (given.out / "index.jsonl").open("w", encoding="utf-8") as index:
        for count, pair in enumerate(
            pairs_of(half, given.data, given.pages, given.per_kind, given.seed, given.only), 1
        ):
            names = [
                f"{count:05d}_{pair.kind}_{side}.{suffix(data)}"
                for side, data in (("a", pair.first), ("b", pair.second))
            ]
            for name, data in zip(names, (pair.first, pair.second), strict=True):
                (given.out / name).write_bytes(data)
            row = {
                "kind": pair.kind,
                "same": pair.same,
                "group": pair.group,
                "source": pair.source,
                "first": names[0],
                "second": names[1],
                "note": pair.note,
            }
            index.write(json.dumps(row, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{count} pairs of {len(half.kinds)} kinds in {given.out}\n")
    return 0


def yield_pairs(data: Path, pages: Path, per_kind: int, seed: int, only: Sequence[str] = ()) -> Iterator[Pair]:
    """All pairs of the open half."""
    return pairs_of(OPEN, data, pages, per_kind, seed, only)


if __name__ == "__main__":
    raise SystemExit(main(OPEN))
