"""Builds pairs of images by which a "same image?" check can be judged: the CLOSED half of the kinds.

Same interface as image_kinds.py, from which it takes its tools; other kinds, other page templates, and the other half
of the third-party files. Not for developers of the check.

    python image_kinds_closed.py --data DIR --pages DIR --out DIR --per-kind N --seed S
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import random
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from benchmarks import image_kinds as base
from benchmarks.image_kinds import Context, Half, Made, Op, Page, Pair, encode, jpeg, resized

INK = base.INK
CLOSED = Half("closed", 1)

# --------------------------------------------------------------------------------------------------------------------
# Page templates


@CLOSED.template
def statement(s: random.Random, d: random.Random) -> Page:
    """A bank statement."""
    zh = s.random() < 0.4
    p = Page("statement", 780, 960)
    tint = s.choice(["#004b87", "#8b0000", "#3d5a2a"])
    p.rect(0, 0, 780, 12, fill=tint)
    p.text(
        50,
        64,
        f"{s.choice(base.CITIES_ZH)}商业银行" if zh else f"{s.choice(base.FIRMS)} Bank",
        26,
        "firm",
        fill=tint,
        font="bold",
    )
    p.text(50, 110, base.person(d, zh), 17, "name")
    p.text(50, 134, "账号" if zh else "Account", 14, fill="#555555")
    p.text(130, 134, f"{base.number(d, 4)} {base.number(d, 4)} {base.number(d, 4)}", 15, "ref")
    p.text(730, 134, base.day(d, zh), 15, "date", at="r")
    heads = ("日期 摘要 支出 收入 余额" if zh else "Date Details Out In Balance").split()
    xs = [(50, "l"), (160, "l"), (470, "r"), (590, "r"), (730, "r")]
    p.rect(40, 160, 740, 190, fill="#e9eef3")
    for (x, at), head in zip(xs, heads, strict=True):
        p.text(x, 181, head, 14, at=at, font="bold")
    balance = d.uniform(500, 9000)
    for i in range(16):
        y, value, out = 218 + 40 * i, round(d.uniform(3, 900), 2), d.random() < 0.6
        balance += -value if out else value
        what = d.choice(
            ["消费", "转账", "工资", "利息", "水电费", "话费", "退款"]
            if zh
            else ["Card payment", "Transfer", "Salary", "Interest", "Direct debit", "Refund"]
        )
        p.text(50, y, f"{d.randint(1, 12):02d}-{d.randint(1, 28):02d}", 15, "cell", row=i)
        p.text(160, y, f"{what} {base.firm(d, zh) if zh else d.choice(base.FIRMS)}"[:26], 15, "item", row=i)
        p.text(470 if out else 590, y, f"{value:,.2f}", 15, "amount", at="r", row=i)
        p.text(730, y, f"{balance:,.2f}", 15, "amount", at="r", row=i)
    p.line((40, 870, 740, 870), fill=tint)
    p.text(590, 900, "期末余额" if zh else "Closing balance", 16, at="r", font="bold")
    p.text(730, 900, f"{balance:,.2f}", 17, "total", at="r", font="bold")
    return p


CLAUSES = [
    ("The deposit is refundable within {n} days of cancellation", "is", "is not"),
    ("Pets are allowed in the building after approval", "are allowed", "are not allowed"),
    ("The tenant shall pay for repairs above {m}", "shall pay", "shall not pay"),
    ("Smoking is permitted on balconies", "is permitted", "is prohibited"),
    ("Goods may be returned without the original packing", "without", "with"),
    ("The warranty covers damage by water", "covers", "excludes"),
    ("Either party may end this agreement before {d}", "before", "after"),
    ("All members must attend the meeting on {d}", "All", "No"),
    ("Parking is free at weekends", "is free", "is charged"),
    ("The price includes delivery and {n} hours of training", "includes", "excludes"),
    ("Visitors must register at the desk by {t}", "must", "need not"),
    ("Interest is paid at the end of the year", "paid", "owed"),
    ("Claims above {m} require a second signature", "above", "below"),
    ("The fee increases by {n}% each year", "increases", "decreases"),
]


@CLOSED.template
def notice(s: random.Random, d: random.Random) -> Page:
    """A page of English clauses with a signature."""
    p = Page("notice", 760, 1000, font=s.choice(["serif", "sans"]))
    size = s.choice([14, 15, 17])
    p.text(
        380,
        80,
        s.choice(["Tenancy terms", "House rules", "Terms of sale", "Membership agreement"]),
        28,
        "title",
        at="m",
        font=p.font.replace("sans", "") + "bold",
    )
    p.text(70, 124, f"Between {base.firm(s)} and", size)
    p.text(420, 124, base.person(d), size, "name")
    y = 170.0
    for i, (clause, _, _) in enumerate(d.sample(CLAUSES, 12)):
        text = clause.format(n=d.randint(2, 60), m=f"£{d.randint(2, 90) * 10}.00", d=base.day(d), t=base.clock_time(d))
        p.text(70, y, f"{i + 1}.", size)
        p.text(100, y, text + ".", size, "clause", row=i)
        y += size * 3.2
    p.text(70, y + 20, "Signed", size)
    p.line((140, y + 24, 360, y + 24))
    p.line(base.scribble(d, 150, y - 8, 160, 26), fill="#1a2a7a", width=2, role="signature")
    p.text(440, y + 20, base.day(d), size, "date")
    return p


@CLOSED.template
def lab_report(s: random.Random, d: random.Random) -> Page:
    """A laboratory report with units."""
    zh = s.random() < 0.4
    p = Page("lab_report", 740, 720)
    p.text(
        370,
        56,
        f"{s.choice(base.CITIES_ZH)}第一医院检验报告单"
        if zh
        else f"{s.choice(base.CITIES)} Hospital – laboratory report",
        23,
        "title",
        at="m",
        font="bold",
    )
    p.text(50, 100, base.person(d, zh), 17, "name")
    p.text(330, 100, "样本号" if zh else "Sample", 15, fill="#555555")
    p.text(400, 100, base.number(d, 8), 15, "ref")
    p.text(690, 100, base.day(d, zh), 15, "date", at="r")
    p.line((40, 116, 700, 116), width=2)
    units = ["×10⁹/L", "×10¹²/L", "mmol/L", "mg/m²", "kg/m³", "g/cm²", "mL/min", "×10³/µL", "m²", "ng/mL"]
    names = (
        "白细胞 红细胞 血糖 肌酐 尿酸 钾 钠 钙 胆固醇 甘油三酯 铁蛋白"
        if zh
        else "Leucocytes Erythrocytes Glucose Creatinine Urate Potassium Sodium Calcium Cholesterol Ferritin Albumin"
    )
    for i, name in enumerate(d.sample(names.split(), 11)):
        y, low = 152 + 44 * i, d.uniform(0.5, 60)
        p.text(50, y, name, 16, "item", row=i)
        p.text(360, y, f"{d.uniform(low * 0.7, low * 2.2):.1f}", 17, "amount", at="r", row=i, font="bold")
        p.text(400, y, d.choice(units), 16, "unit", row=i, font="dejavu")
        p.text(690, y, f"{low:.1f} – {low * 1.8:.1f}", 15, "range", at="r", row=i, fill="#555555")
        p.line((40, y + 14, 700, y + 14), fill="#e0e0e0")
    p.text(50, 680, "审核者：" if zh else "Approved by:", 15)
    p.text(150, 680, base.person(d, zh), 15, "name")
    return p


@CLOSED.template
def medicine(s: random.Random, d: random.Random) -> Page:
    """The label of a medicine."""
    zh = s.random() < 0.5
    p = Page("medicine", 700, 420, paper=s.choice(["#ffffff", "#f6fbff"]))
    p.rect(0, 0, 700, 70, fill=s.choice(["#1e6fb8", "#2b8a57", "#a3275c"]))
    names = (
        "阿莫西林胶囊 布洛芬片 氯雷他定片 二甲双胍片 头孢克肟颗粒"
        if zh
        else "Amoxil Ibuprol Loratan Metforin Cefixor Ramitol Nordaxin"
    )
    p.text(30, 48, s.choice(names.split()), 30, "title", fill="#ffffff", font="bold")
    rows = [
        ("规格" if zh else "Strength", f"{d.randint(1, 9)}.{d.randint(1, 9)} mg", "dose"),
        (
            "用法" if zh else "Dose",
            f"一次{d.randint(1, 4)}.5 mL，一日{d.randint(2, 4)}次"
            if zh
            else f"{d.randint(1, 4)}.5 mL, {d.randint(2, 4)} times a day",
            "dose",
        ),
        ("批号" if zh else "Batch", base.number(d, 7), "ref"),
        ("有效期至" if zh else "Expires", base.day(d, zh), "date"),
        ("患者" if zh else "Patient", base.person(d, zh), "name"),
        ("价格" if zh else "Price", f"{d.uniform(3, 90):.2f}", "amount"),
    ]
    for i, (label, value, role) in enumerate(rows):
        p.text(30, 118 + 46 * i, label, 18, fill="#555555")
        p.text(160, 118 + 46 * i, value, 20, role, row=i)
    p.text(30, 400, "请仔细阅读说明书" if zh else "Keep out of reach of children", 13)
    p.bits(560, 280, 670, 390, base.qr_bits(base.number(d, 16)), role="qr")
    return p


def face(rng: random.Random) -> list[Op]:
    """A simple drawn portrait in a box of 130 by 160 at 40, 90."""
    p = Page("face", 0, 0)
    skin, hair = (
        rng.choice(["#f2d0b0", "#d9a878", "#8f5c38", "#f7dcc8"]),
        rng.choice(["#20160f", "#5a3b1c", "#b08a3a", "#777777"]),
    )
    p.rect(40, 90, 170, 250, fill=rng.choice(["#cfe0f0", "#e6e6e6", "#f3e3c8"]), role="face")
    p.oval(105, 250, 60, 40, fill=rng.choice(["#2d3e6b", "#6b2d2d", "#2d6b4a", "#444444"]), role="face")
    p.rect(40, 251, 170, 292, fill="#ffffff", role="face")
    p.oval(105, 150, rng.uniform(34, 42), rng.uniform(40, 46), fill=hair, role="face")
    p.oval(105, 164, rng.uniform(28, 34), rng.uniform(36, 42), fill=skin, role="face")
    for x in (93, 117):
        p.oval(x, 160, 4, 3, fill="#222222", role="face")
        if rng.random() < 0.5:
            p.oval(x, 160, 9, 8, outline="#222222", width=2, role="face")
    p.line((95, 186, 105, 186 + rng.uniform(-4, 6), 115, 186), fill="#802020", width=3, role="face")
    return p.ops


@CLOSED.template
def id_card(s: random.Random, d: random.Random) -> Page:
    """A staff or identity card with a portrait."""
    zh = s.random() < 0.5
    p = Page("id_card", 560, 340, paper=s.choice(["#ffffff", "#eef6ee", "#eef2fa"]))
    p.rect(0, 0, 560, 60, fill=s.choice(["#1f3f7a", "#7a1f3a", "#1f6a5a"]))
    p.text(
        28,
        40,
        s.choice(base.FIRMS_ZH) + "集团工作证" if zh else f"{s.choice(base.FIRMS)} staff card",
        24,
        "title",
        fill="#ffffff",
        font="bold",
    )
    p.ops += face(d)
    p.rect(40, 251, 170, 292, fill=p.paper)
    rows = [
        ("姓名" if zh else "Name", base.person(d, zh), "name"),
        ("工号" if zh else "Number", base.number(d, 6), "ref"),
        (
            "部门" if zh else "Unit",
            d.choice(["财务部", "研发部", "市场部", "后勤部"] if zh else ["Finance", "Research", "Sales", "Stores"]),
            "item",
        ),
        ("签发日期" if zh else "Issued", base.day(d, zh), "date"),
        ("有效期至" if zh else "Valid to", base.day(d, zh), "date"),
    ]
    for i, (label, value, role) in enumerate(rows):
        p.text(200, 112 + 38 * i, label, 15, fill="#666666")
        p.text(300, 112 + 38 * i, value, 19, role)
    return p


WORDS = [
    "budget",
    "launch",
    "hiring",
    "server",
    "design",
    "contract",
    "audit",
    "travel",
    "training",
    "review",
    "backlog",
    "release",
    "vendor",
    "support",
    "survey",
    "office",
]


@CLOSED.template
def whiteboard(s: random.Random, d: random.Random) -> Page:
    """A whiteboard with notes."""
    p = Page("whiteboard", 860, 560, paper=s.choice(["#f4f6f5", "#eceff1"]))
    p.rect(0, 0, 860, 560, outline="#9aa0a6", width=14)
    p.text(
        60,
        80,
        s.choice(["Sprint plan", "Today", "Open questions", "To do"]),
        40,
        "title",
        fill="#1d3fa5",
        font="serifitalic",
    )
    p.line((60, 92, 300, 97), fill="#1d3fa5", width=3)
    for i, word in enumerate(d.sample(WORDS, 6)):
        y = 150 + 58 * i
        p.text(80, y, "–", 32, fill="#222222")
        p.text(112, y, word, 32, "item", fill=s.choice(["#222222", "#b01818", "#176b2c"]), font="serifitalic", row=i)
        p.text(430, y, base.person(d).split()[0], 30, "name", fill="#222222", font="serifitalic", row=i)
        p.text(700, y, f"{d.randint(1, 28)}/{d.randint(1, 12)}", 30, "date", fill="#176b2c", font="serifitalic", row=i)
    return p


CODE = [
    ("    if count {} limit:", ["<", "<=", ">", ">=", "==", "!="]),
    ("    total = price {} rate", ["+", "-", "*", "/"]),
    ("    enabled = {}", ["True", "False", "None"]),
    ("    for i in range({}):", ["1", "n", "n + 1", "n - 1"]),
    ("        value {} step", ["+=", "-=", "*="]),
    ("    while queue {} seen:", ["and", "or"]),
    ("    retries = {}", ["1", "3", "7", "10"]),
    ("        return {}", ["left", "right", "None"]),
    ("    size = len(items) {} 2", ["//", "%", "*"]),
    ("    mask = flags {} 0xFF", ["&", "|", "^"]),
]


@CLOSED.template
def code_screen(s: random.Random, d: random.Random) -> Page:
    """A window with source code."""
    dark = s.random() < 0.6
    p = Page("code_screen", 760, 560, paper="#1e1e1e" if dark else "#ffffff", font="mono")
    ink = "#d4d4d4" if dark else "#202020"
    p.rect(0, 0, 760, 34, fill="#333333" if dark else "#e8e8e8")
    p.text(20, 23, f"{d.choice(WORDS)}_{d.choice(WORDS)}.py", 14, "name", fill=ink, font="sans")
    size = s.choice([14, 16, 18])
    lines = [f"def {d.choice(WORDS)}_{d.choice(WORDS)}(items, limit={d.randint(2, 99)}):"]
    chosen = d.sample(CODE, 10) + d.sample(CODE, 4)
    lines += [pattern.format(d.choice(options)) for pattern, options in chosen]
    for i, line in enumerate(lines):
        y = 66 + size * 1.75 * i
        p.text(44, y, str(i + 1), size, fill="#808080", at="r")
        p.text(60, y, line, size, "code", fill="#569cd6" if dark and i == 0 else ink, row=i)
    p.height = 66 + size * 1.75 * 15
    return p


@CLOSED.template
def town_map(s: random.Random, d: random.Random) -> Page:
    """A street map with a pin."""
    p = Page("town_map", 640, 560, paper="#f2efe9")
    for _ in range(5):
        x, y = s.uniform(0, 560), s.uniform(0, 480)
        p.rect(x, y, x + s.uniform(40, 130), y + s.uniform(30, 110), fill=s.choice(["#cdebb0", "#d9d0c9", "#aad3df"]))
    names, labels = s.sample(base.LAST, 8), []
    for i in range(4):
        y = 70 + 130 * i + s.uniform(-20, 20)
        p.line((0, y, 640, y + s.uniform(-24, 24)), fill="#ffffff", width=14)
        labels.append((40 + s.uniform(0, 380), y - 12, f"{names[i]} Street"))
        x = 80 + 150 * i + s.uniform(-25, 25)
        p.line((x, 0, x + s.uniform(-30, 30), 560), fill="#fcd6a4" if i == 1 else "#ffffff", width=12)
    for lx, ly, label in labels:
        p.text(lx, ly, label, 14, "item", fill="#555555")
    x, y = d.uniform(60, 580), d.uniform(90, 500)
    p.poly((x, y, x - 13, y - 26, x + 13, y - 26), fill="#e53935", role="pin")
    p.oval(x, y - 32, 15, 15, fill="#e53935", role="pin")
    p.oval(x, y - 32, 6, 6, fill="#ffffff", role="pin")
    p.text(20, 546, f"Map data {d.randint(2019, 2026)}", 11, "date", fill="#888888")
    return p


@CLOSED.template
def line_chart(s: random.Random, d: random.Random) -> Page:
    """A chart with two lines and a legend."""
    p = Page("line_chart", 760, 460)
    zh = s.random() < 0.4
    p.text(
        40,
        44,
        "月度客流量（千人）" if zh else "Monthly visitors, " + " and ".join(s.sample(base.CITIES, 2)),
        20,
        "title",
        font="bold",
    )
    for i in range(6):
        p.text(66, 395 - 60 * i, str(20 * i), 13, at="r")
        p.line((76, 390 - 60 * i, 730, 390 - 60 * i), fill="#dddddd")
    colours = s.sample(["#d62728", "#1f77b4", "#2ca02c", "#9467bd"], 2)
    for c in range(2):
        points = [v for i in range(12) for v in (90 + 56 * i, 390 - 3 * d.uniform(8, 98))]
        p.line(points, fill=colours[c], width=3, role="series", row=c)
    for i in range(12):
        p.text(90 + 56 * i, 412, str(i + 1), 13, at="m")
    for c in range(2):
        p.rect(520 + 110 * c, 430, 540 + 110 * c, 442, fill=colours[c], role="legend", row=c)
        p.text(546 + 110 * c, 442, ("甲站", "乙站")[c] if zh else ("North", "South")[c], 14, "legendtext", row=c)
    return p


@CLOSED.template
def pie_chart(s: random.Random, d: random.Random) -> Page:
    """A pie chart with a legend."""
    p = Page("pie_chart", 620, 420)
    zh, n = s.random() < 0.4, s.randint(3, 5)
    p.text(30, 44, "支出构成" if zh else "Where the money goes", 21, "title", font="bold")
    colours = s.sample(["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948"], n)
    names = s.sample(
        ["房租", "餐饮", "交通", "医疗", "教育", "娱乐"]
        if zh
        else ["Rent", "Food", "Travel", "Health", "School", "Leisure"],
        n,
    )
    weights = [d.uniform(0.6, 3) for _ in range(n)]
    start = -90.0
    for i, w in enumerate(weights):
        end = start + 360 * w / sum(weights)
        p.slice_(220, 230, 150, start, end, colours[i], role="slice")
        start = end
        p.rect(430, 120 + 40 * i, 450, 140 + 40 * i, fill=colours[i], role="legend", row=i)
        p.text(462, 136 + 40 * i, names[i], 16, "legendtext", row=i)
    p.text(30, 408, f"Total {base.money(d, 9000)}", 12, "amount", fill="#666666")
    return p


@CLOSED.template
def menu(s: random.Random, d: random.Random) -> Page:
    """The menu of a restaurant."""
    zh = s.random() < 0.4
    p = Page("menu", 560, 760, paper=s.choice(["#fffaf0", "#2d2a26", "#ffffff"]), font="serif")
    ink, cur = "#f5e9d0" if p.paper == "#2d2a26" else INK, "¥" if zh else s.choice("£$€")
    p.text(
        280,
        80,
        s.choice(base.FIRMS_ZH) + "酒楼" if zh else f"The {s.choice(base.FIRMS)} Arms",
        34,
        "title",
        at="m",
        fill=ink,
        font="serifbold",
    )
    for i, item in enumerate(d.sample(base.FOODS_ZH if zh else base.FOODS, 11)):
        y = 150 + 46 * i
        p.text(60, y, item, 20, "item", fill=ink, row=i)
        p.text(
            500,
            y,
            f"{cur}{d.randint(2, 48)}.{d.choice(['00', '50', '80', '95'])}",
            20,
            "amount",
            at="r",
            fill=ink,
            row=i,
        )
    p.text(
        280,
        710,
        f"订座电话 {base.number(d, 8)}"
        if zh
        else f"Open until {d.randint(6, 11)}:{d.choice(['00', '15', '30', '45'])} {d.choice(['AM', 'PM'])}",
        17,
        "ampm",
        at="m",
        fill=ink,
    )
    return p


@CLOSED.template
def slide(s: random.Random, d: random.Random) -> Page:
    """A slide of a talk."""
    p = Page("slide", 960, 540, paper=s.choice(["#ffffff", "#0f2a47", "#f6f1e7"]))
    ink = "#ffffff" if p.paper == "#0f2a47" else INK
    p.text(60, 90, f"{s.choice(WORDS).title()} and {s.choice(WORDS)}", 42, "title", fill=ink, font="bold")
    p.rect(60, 106, 260, 111, fill="#e0902b")
    for i in range(5):
        text = d.choice(
            [
                "{w} costs fell to {m}",
                "{w} starts on {d}",
                "{n} teams asked for {w}",
                "{w} moves to {c}",
                "{n}% of {w} is done",
            ]
        )
        text = text.format(
            w=d.choice(WORDS), m=base.money(d), d=base.day(d), n=d.randint(3, 97), c=d.choice(base.CITIES)
        )
        p.oval(76, 170 + 66 * i, 5, 5, fill="#e0902b", row=i)
        p.text(98, 180 + 66 * i, text, 27, "bullet", fill=ink, row=i)
    p.text(900, 516, str(d.randint(2, 60)), 15, "cell", fill="#888888", at="r")
    return p


# --------------------------------------------------------------------------------------------------------------------
# Look-alikes, usual


@CLOSED.kind(same=False, group="usual")
def name_changed(ctx: Context) -> Made:
    """Another name of a person."""

    def how(op: Op) -> str:
        if base.is_cjk(op.text):
            return base.other_of(ctx.rng, lambda: base.person(ctx.rng, True), op.text)
        words = op.text.split()
        names = base.LAST if len(words) > 1 else base.FIRST
        return " ".join([*words[:-1], base.other_of(ctx.rng, lambda: ctx.rng.choice(names), words[-1])])

    page = ctx.page("name", avoid=["code_screen"])
    i = ctx.rng.choice(page.find("name"))
    now = how(page.ops[i])
    return ctx.made(page, page.with_text(i, now), f"{page.ops[i].text!r} / {now!r}")


@CLOSED.kind(same=False, group="usual")
def reference_digits_transposed(ctx: Context) -> Made:
    """Two neighbouring digits of a reference number in the other order."""

    def how(op: Op) -> str:
        t = op.text
        spots = [i for i in range(len(t) - 1) if t[i].isdigit() and t[i + 1].isdigit() and t[i] != t[i + 1]]
        if not spots:
            return base.other_digit(ctx.rng, t)
        i = ctx.rng.choice(spots)
        return t[:i] + t[i + 1] + t[i] + t[i + 2 :]

    return base.change(ctx, ["ref"], how, "digits transposed")


@CLOSED.kind(same=False, group="usual")
def other_vat_invoice(ctx: Context) -> Made:
    """Two photographed invoices on one printed form."""
    a, b = ctx.rng.sample(ctx.files("vat"), 2)
    return f"vat/{a.name}+{b.name}", a.read_bytes(), b.read_bytes(), "another invoice on the same form"


@CLOSED.kind(same=False, group="usual")
def other_receipt_scan(ctx: Context) -> Made:
    """Two scanned receipts, from one shop where there are such."""
    files = ctx.files("sroie")
    shops: dict[str, list[Path]] = {}
    for f in files:
        card = f.with_suffix(".json")
        shop = str(json.loads(card.read_text(encoding="utf-8")).get("company", f.name)) if card.exists() else f.name
        shops.setdefault(shop[:10], []).append(f)
    chains = [v for v in shops.values() if len(v) > 1]
    a, b = ctx.rng.sample(ctx.rng.choice(chains) if chains and ctx.rng.random() < 0.7 else files, 2)
    return f"sroie/{a.name}+{b.name}", jpeg(ctx.open_file(a), 90), jpeg(ctx.open_file(b), 90), "another receipt"


@CLOSED.kind(same=False, group="usual")
def chart_point_moved(ctx: Context) -> Made:
    """One month of a line with another value."""
    page = ctx.page("series")
    i = ctx.rng.choice(page.find("series"))
    points = list(page.ops[i].xy)
    n = ctx.rng.randrange(12) * 2 + 1
    was = points[n]
    points[n] = ctx.rng.choice([v for v in range(96, 372, 4) if abs(v - was) > 36])
    return ctx.made(page, page.with_op(i, dataclasses.replace(page.ops[i], xy=tuple(points))), f"month {n // 2 + 1}")


@CLOSED.kind(same=False, group="usual")
def pie_slices_changed(ctx: Context) -> Made:
    """A border between two slices elsewhere."""
    page = ctx.page("slice")
    slices = page.find("slice")
    n = ctx.rng.randrange(len(slices) - 1)
    a, b = page.ops[slices[n]], page.ops[slices[n + 1]]
    spots = [v for v in np.arange(a.xy[4] + 12, b.xy[5] - 12, 3.0) if abs(v - a.xy[5]) > 14]
    to = float(ctx.rng.choice(spots))
    second = page.with_op(slices[n], dataclasses.replace(a, xy=(*a.xy[:5], to))).with_op(
        slices[n + 1], dataclasses.replace(b, xy=(*b.xy[:4], to, b.xy[5]))
    )
    return ctx.made(page, second, f"border moved by {to - a.xy[5]:.0f} degrees")


@CLOSED.kind(same=False, group="usual")
def mirrored_document(ctx: Context) -> Made:
    """A document and its mirror image."""
    source, image = ctx.picture(text=True)
    how = Image.Transpose.FLIP_LEFT_RIGHT if ctx.rng.random() < 0.7 else Image.Transpose.FLIP_TOP_BOTTOM
    a, b = ctx.ship(image, image.transpose(how))
    return source, a, b, how.name


@CLOSED.kind(same=False, group="usual")
def line_struck_out(ctx: Context) -> Made:
    """A line of text crossed out by pen."""
    page = ctx.page("item", "clause", "bullet", "amount", avoid=["town_map", "pie_chart"])
    op = page.ops[ctx.rng.choice(page.find("item", "clause", "bullet", "amount"))]
    w = base.font_for(op.text, op.font, op.size).getlength(op.text)
    x = op.xy[0] - (w if op.at == "r" else w / 2 if op.at == "m" else 0)
    second, y = page.copy(), op.xy[1] - op.size * 0.3
    wobble = [v for i in range(9) for v in (x - 4 + (w + 8) * i / 8, y + ctx.rng.uniform(-1, 1) * op.size * 0.08)]
    second.line(wobble, fill=ctx.rng.choice(["#b01818", "#1d3fa5", "#222222"]), width=max(2, op.size * 0.1))
    return ctx.made(page, second, f"{op.text!r} struck out")


@CLOSED.kind(same=False, group="usual")
def signature_missing(ctx: Context) -> Made:
    """Signed or not, or signed by another hand."""
    page = ctx.page("signature")
    i = page.find("signature")[0]
    if ctx.rng.random() < 0.6:
        return ctx.made(page, page.with_op(i, None), "not signed")
    x, y = page.ops[i].xy[:2]
    other = tuple(base.scribble(random.Random(ctx.rng.random()), x, y - 13, 160, 26))
    return ctx.made(page, page.with_op(i, dataclasses.replace(page.ops[i], xy=other)), "another hand")


@CLOSED.kind(same=False, group="usual")
def other_qr(ctx: Context) -> Made:
    """Another QR code in the same place."""
    if ctx.rng.random() < 0.5:
        page = ctx.page("qr")
        i = page.find("qr")[0]
        page2 = page.with_op(i, dataclasses.replace(page.ops[i], bits=base.qr_bits(base.number(ctx.rng, 16))))
        return ctx.made(page, page2, "other QR code")
    page = Page("qr_poster", 360, 420)
    page.text(
        180,
        60,
        ctx.rng.choice(["Scan to pay", "扫码支付", "Wi-Fi", "扫一扫加好友", "Feedback"]),
        30,
        at="m",
        font="bold",
    )
    second = page.copy()
    for p in (page, second):
        p.bits(
            50,
            100,
            310,
            360,
            base.qr_bits("https://example.com/" + "".join(ctx.rng.choices(string.ascii_lowercase, k=12))),
        )
    return ctx.made(page, second, "other QR code")


@CLOSED.kind(same=False, group="usual")
def map_pin_moved(ctx: Context) -> Made:
    """The pin of a map elsewhere."""
    page = ctx.page("pin")
    pin = page.find("pin")
    x, y = page.ops[pin[0]].xy[:2]
    dx, dy = 0.0, 0.0
    while math.hypot(dx, dy) < 40 or not (40 < x + dx < 600 and 80 < y + dy < 520):
        dx, dy = ctx.rng.uniform(-260, 260), ctx.rng.uniform(-220, 220)
    second = page
    for i in pin:
        op = second.ops[i]
        second = second.with_op(
            i, dataclasses.replace(op, xy=tuple(v + (dy if n % 2 else dx) for n, v in enumerate(op.xy)))
        )
    return ctx.made(page, second, f"pin moved by {dx:.0f},{dy:.0f}")


@CLOSED.kind(same=False, group="usual")
def handwritten_note_added(ctx: Context) -> Made:
    """A note in pen across a free place of a page."""
    page = ctx.page(only=["statement", "notice", "lab_report", "medicine", "menu"])
    text = ctx.rng.choice(
        [
            "only 2 received",
            "agreed 15 %",
            "see other copy",
            "not approved!",
            "call back Monday",
            "Repeat in 3 days",
            "sold out",
        ]
    )
    second = page.copy()
    second.text(
        page.width * ctx.rng.uniform(0.35, 0.65),
        page.height * ctx.rng.uniform(0.12, 0.9),
        text,
        page.width * ctx.rng.uniform(0.03, 0.05),
        fill=ctx.rng.choice(["#1d3fa5", "#b01818"]),
        font="serifitalic",
        angle=ctx.rng.uniform(-8, 12),
        alpha=0.9,
    )
    return ctx.made(page, second, f"note {text!r}")


@CLOSED.kind(same=False, group="usual")
def portrait_replaced(ctx: Context) -> Made:
    """A card with another portrait, drawn or photographed."""
    page = ctx.page("face")
    if ctx.rng.random() < 0.5:
        files = ctx.rng.sample(ctx.files("photos"), 2)
        out = []
        for f in files:
            p, image = page.copy(), ctx.open_file(f)
            w = min(image.width, round(image.height * 0.81))
            image = image.crop(((image.width - w) // 2, 0, (image.width + w) // 2, round(w / 0.81)))
            p.bits(40, 90, 170, 250, np.asarray(image.resize((260, 320))))
            out.append(p)
        title = page.find("title")[0]
        one, two = (p.with_text(title, "Lost property tag") for p in out)
        return ctx.made(one, two, f"photo {files[0].name} / {files[1].name}")
    spots, other = page.find("face"), face(random.Random(ctx.rng.random()))
    ops = page.ops[: spots[0]] + other + page.ops[spots[-1] + 1 :]
    return ctx.made(page, dataclasses.replace(page, ops=ops), "another drawn portrait")


@CLOSED.kind(same=False, group="usual")
def whiteboard_word(ctx: Context) -> Made:
    """Another word on a whiteboard."""
    page = ctx.page("item", only=["whiteboard"])
    i = ctx.rng.choice(page.find("item"))
    now = base.other_of(ctx.rng, lambda: ctx.rng.choice(WORDS), page.ops[i].text)
    return ctx.made(page, page.with_text(i, now), f"{page.ops[i].text!r} / {now!r}")


@CLOSED.kind(same=False, group="usual")
def code_token(ctx: Context) -> Made:
    """Another operator or constant in a line of code."""
    page = ctx.page("code")
    i = ctx.rng.choice(page.find("code")[1:])
    for pattern, options in CODE:
        for was in options:
            if pattern.format(was) == page.ops[i].text:
                now = ctx.rng.choice([o for o in options if o != was])
                return ctx.made(page, page.with_text(i, pattern.format(now)), f"{was!r} / {now!r}", fine=True)
    raise LookupError(page.ops[i].text)


@CLOSED.kind(same=False, group="usual")
def bullet_missing(ctx: Context) -> Made:
    """A slide as built up: one bullet more or less."""
    page = ctx.page("bullet")
    row = ctx.rng.choice([4, 4, ctx.rng.randrange(5)])
    second = dataclasses.replace(page, ops=[op for op in page.ops if op.row != row])
    return ctx.made(page, second, f"bullet {row + 1} is missing")


# --------------------------------------------------------------------------------------------------------------------
# Look-alikes, adversarial


@CLOSED.kind(same=False, group="adversarial")
def banner_beside(ctx: Context) -> Made:
    """A strip with a decisive text down the left or right side."""
    source, image = ctx.picture(text=True)
    text = ctx.rng.choice(ctx.share(base.BANNERS))
    strip = base.text_strip(ctx.rng, image.height, max(28, round(image.width * ctx.rng.uniform(0.05, 0.1))), text)
    strip = strip.transpose(Image.Transpose.ROTATE_90)
    left = ctx.rng.random() < 0.5
    a, b = ctx.ship(image, base.stacked([strip, image] if left else [image, strip], across=True))
    return source, a, b, f"{text!r} {'left' if left else 'right'}"


@CLOSED.kind(same=False, group="adversarial")
def second_page_beside(ctx: Context) -> Made:
    """A page alone, and the same page with another beside or below it."""
    one, two = ctx.two_pages()
    source, image = (
        (f"drawn/{one.name}", one.render(1.0)) if ctx.rng.random() < 0.6 else ctx.picture(text=True, drawn=0)
    )
    other = two.render(1.0) if source.startswith("drawn") else ctx.picture(text=True, drawn=0)[1]
    across = image.height >= image.width
    other = resized(other, image.height / other.height if across else image.width / other.width)
    a, b = ctx.ship(image, base.stacked([image, other], across))
    return source, a, b, "another page beside or below"


@CLOSED.kind(same=False, group="adversarial")
def six_or_nine_turned(ctx: Context) -> Made:
    """Signs that read otherwise when turned by 180 degrees."""
    text = ctx.rng.choice(ctx.share(["6", "9", "66", "99", "16", "91", "86", "98", "61", "19", "68", "89"]))
    ink, paper = ctx.rng.choice(
        [("#ffffff", "#c01818"), ("#111111", "#ffffff"), ("#ffd200", "#111111"), ("#1d3fa5", "#ffffff")]
    )
    page = Page("sign", 120, 120, paper=paper)
    size = 84 if len(text) == 1 else 66
    box = base.font_for(text, "bold", size).getbbox(text, anchor="ms")
    page.text(60, 60 - (box[1] + box[3]) / 2, text, size, at="m", fill=ink, font="bold")
    if ctx.rng.random() < 0.5:
        page.oval(60, 60, 57, 57, outline=ink, width=4)
    image = page.render(ctx.scale(0.3, 2.5), over=2)
    a, b = ctx.ship(image, image.rotate(180), fine=True)
    return "drawn/sign", a, b, f"{text} turned by 180 degrees"


def icon(name: str, ink: str, paper: str) -> Page:
    """A small sign on a grid of 64 units."""
    p = Page(f"icon_{name}", 64, 64, paper=paper)
    heart = [
        v
        for i in range(40)
        for t in [i / 39 * 6.2832]
        for v in (
            32 + 1.45 * 16 * math.sin(t) ** 3,
            30 - 1.45 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
        )
    ]
    star = [
        v
        for i in range(10)
        for r in [26 if i % 2 == 0 else 11]
        for v in (32 + r * math.sin(i * 0.6283), 34 - r * math.cos(i * 0.6283))
    ]
    if name == "heart_full":
        p.poly(heart, fill=ink)
    elif name == "heart_line":
        p.line([*heart, *heart[:4]], fill=ink, width=4)
    elif name == "star_full":
        p.poly(star, fill=ink)
    elif name == "star_line":
        p.line([*star, *star[:4]], fill=ink, width=4)
    elif name in {"download", "upload"}:
        p.rect(10, 52, 54, 58, fill=ink)
        p.rect(28, 10 if name == "download" else 24, 36, 32 if name == "download" else 46, fill=ink)
        p.poly((14, 28, 50, 28, 32, 47) if name == "download" else (14, 27, 50, 27, 32, 8), fill=ink)
    elif name == "sun":
        p.oval(32, 32, 13, 13, fill=ink)
        for i in range(8):
            a = i * 0.7854
            p.line(
                (32 + 18 * math.cos(a), 32 + 18 * math.sin(a), 32 + 27 * math.cos(a), 32 + 27 * math.sin(a)),
                fill=ink,
                width=4,
            )
    elif name == "moon":
        p.oval(32, 32, 24, 24, fill=ink)
        p.oval(42, 26, 20, 20, fill=paper)
    elif name in {"mail_closed", "mail_open"}:
        p.rect(8, 18, 56, 52, outline=ink, width=4)
        p.line((8, 18, 32, 38, 56, 18) if name == "mail_closed" else (8, 18, 32, 4, 56, 18), fill=ink, width=4)
    elif name in {"rain", "snow"}:
        p.oval(24, 24, 14, 12, fill=ink)
        p.oval(40, 26, 15, 12, fill=ink)
        for x in (20, 32, 44):
            if name == "rain":
                p.line((x + 3, 43, x - 3, 57), fill=ink, width=4)
            else:
                p.oval(x, 50, 4, 4, fill=ink)
    elif name in {"query", "alert"}:
        p.oval(32, 32, 27, 27, outline=ink, width=4)
        p.text(32, 45, "?" if name == "query" else "!", 36, at="m", fill=ink, font="bold")
    elif name in {"forward", "rewind"}:
        for x in (10, 32):
            p.poly((x, 14, x + 22, 32, x, 50) if name == "forward" else (x + 22, 14, x, 32, x + 22, 50), fill=ink)
    elif name.startswith("stars"):
        for i in range(5):
            small = [v * 0.21 + (12.6 * i if n % 2 == 0 else 26) for n, v in enumerate(star)]
            p.poly(small, fill=ink if i < int(name[-1]) else None, outline=ink)
    elif name in {"male", "female"}:
        p.oval(28 if name == "male" else 32, 38 if name == "male" else 24, 15, 15, outline=ink, width=5)
        p.line(
            (39, 27, 54, 12, 42, 12, 54, 12, 54, 24) if name == "male" else (32, 39, 32, 60, 32, 51, 22, 51, 42, 51),
            fill=ink,
            width=5,
        )
    else:
        raise KeyError(name)
    return p


ICON_PAIRS = [
    "heart_full heart_line",
    "star_full star_line",
    "download upload",
    "sun moon",
    "mail_closed mail_open",
    "rain snow",
    "query alert",
    "forward rewind",
    "stars3 stars4",
    "male female",
    "stars2 stars5",
    "star_full heart_full",
]


@CLOSED.kind(same=False, group="adversarial")
def tiny_icons_more(ctx: Context) -> Made:
    """Icons of different meaning."""
    return base.icon_pair(ctx, ICON_PAIRS, icon)


HANZI = ["己已", "日曰", "千干", "侯候", "天夫", "白自", "甲申", "贝见", "鸟乌", "今令", "戊戌", "牛午"]
HANZI_FRAMES = [
    ("收货方签字：", "先生，联系电话见合同首页。"),
    ("车间主任赵", "林同志负责本次整改。"),
    ("文件编号：京", "字第十七号，存档备查。"),
    ("本段由", "某负责校对，如有异议请书面提出。"),
    ("样品标记为", "字样，不得与其他批次混放。"),
    ("负责人陈", "生，任期三年。"),
]


@CLOSED.kind(same=False, group="adversarial")
def hanzi_stroke_more(ctx: Context) -> Made:
    """One stroke in a dense Chinese page."""
    return base.hanzi_pair(ctx, HANZI, HANZI_FRAMES)


@CLOSED.kind(same=False, group="adversarial")
def point_or_comma(ctx: Context) -> Made:
    """A decimal point where the other has a thousands comma."""
    page = ctx.page("amount", only=["statement", "lab_report"])
    i = ctx.rng.choice(page.find("amount"))
    text = f"{ctx.rng.randint(2, 98)},{ctx.rng.randint(100, 999)}"
    a, b = ctx.rng.sample([text, text.replace(",", ".")], 2)
    return ctx.made(page.with_text(i, a), page.with_text(i, b), f"{a} / {b}", fine=True)


@CLOSED.kind(same=False, group="adversarial")
def dose_without_point(ctx: Context) -> Made:
    """A decimal point there or not."""
    return base.change(ctx, ["dose"], lambda op: op.text.replace(".", "", 1), "point", fine=True)


SUPERS = "⁰¹²³⁴⁵⁶⁷⁸⁹"


@CLOSED.kind(same=False, group="adversarial")
def superscript_changed(ctx: Context) -> Made:
    """Another exponent in a unit."""
    page = ctx.page("unit")
    while not (fit := [n for n in page.find("unit") if any(c in SUPERS for c in page.ops[n].text)]):
        page = ctx.page("unit")
    i = ctx.rng.choice(fit)
    was = page.ops[i].text
    n = ctx.rng.choice([n for n, c in enumerate(was) if c in SUPERS])
    now = was[:n] + ctx.rng.choice([c for c in SUPERS[2:] if c != was[n]]) + was[n + 1 :]
    return ctx.made(page, page.with_text(i, now), f"{was} / {now}", fine=True)


@CLOSED.kind(same=False, group="adversarial")
def transparent_white_ink(ctx: Context) -> Made:
    """White ink on a transparent ground: blank on white paper, but of different text on a dark one."""
    rng = ctx.rng
    size, ground = rng.choice([40, 56, 72]), (255, 255, 255, 0)
    words = [
        f"{rng.choice(base.FIRMS)} {rng.choice(base.TRADES)}",
        f"{base.number(rng, 3)} {rng.choice(WORDS)}",
        base.firm(rng, True),
        base.money(rng),
    ]
    one = rng.choice(words)
    two = base.other_digit(rng, one) if any(c.isdigit() for c in one) else rng.choice([w for w in words if w != one])
    width = round(max(base.font_for(t, "bold", size).getlength(t) for t in (one, two))) + 40
    out = []
    for t in (one, two):
        image = Image.new("RGBA", (width, size * 2), ground)
        ImageDraw.Draw(image).text(
            (20, size * 1.3), t, font=base.font_for(t, "bold", size), fill=(255, 255, 255, 255), anchor="ls"
        )
        out.append(encode(image))
    return "drawn/white logo", out[0], out[1], f"{one!r} / {two!r} in white on transparent"


@CLOSED.kind(same=False, group="adversarial")
def sixteen_bit_low_values(ctx: Context) -> Made:
    """16-bit grey pictures whose content lies in a narrow range of values."""
    if ctx.rng.random() < 0.5:
        one, two = ctx.two_pages()
        a, b, source = one.render(0.8).convert("L"), two.render(0.8).convert("L"), f"drawn/{one.name}"
        b = b.resize(a.size)
    else:
        files = ctx.rng.sample(ctx.files("photos"), 2)
        a, b = (ctx.open_file(f).convert("L").resize((480, 360)) for f in files)
        source = f"photos/{files[0].name}+{files[1].name}"
    floor = ctx.rng.choice([0, 0, 1024, 4096, 32768])
    out = [encode(Image.fromarray(np.asarray(x).astype(np.uint16) + np.uint16(floor))) for x in (a, b)]
    return source, out[0], out[1], f"values {floor} to {floor + 255} of 65535"


@CLOSED.kind(same=False, group="adversarial")
def legend_colours_swapped(ctx: Context) -> Made:
    """Two colours of a legend swapped, so that the chart says the opposite."""
    page = ctx.page("legend")
    i, j = ctx.rng.sample(page.find("legend"), 2)
    a, b = page.ops[i], page.ops[j]
    second = page.with_op(i, dataclasses.replace(a, fill=b.fill)).with_op(j, dataclasses.replace(b, fill=a.fill))
    return ctx.made(page, second, "legend swapped", scale=ctx.scale(0.8, 1.4))


@CLOSED.kind(same=False, group="adversarial")
def caption_on_photo(ctx: Context) -> Made:
    """Another caption over the same photo."""
    source, image = ctx.photo()
    rng = ctx.rng
    size = max(16, round(image.width * rng.uniform(0.04, 0.09)))
    one = rng.choice(
        ["SOLD", "Open day {d}", "Only {m}!", "Camera {n}  {t}", "Lost: call {n}", "限时{m}元", "仅剩{n}件", "Lot {n}"]
    )
    one = one.format(d=base.day(rng), m=base.money(rng, 300), n=base.number(rng, 4), t=base.clock_time(rng))
    two = base.other_digit(rng, one) if any(c.isdigit() for c in one) else "FOR SALE"
    y, out = round(image.height * rng.choice([0.12, 0.88])), []
    for t in (one, two):
        x = image.copy()
        ImageDraw.Draw(x).text(
            (image.width / 2, y),
            t,
            font=base.font_for(t, "bold", size),
            fill="#ffffff",
            anchor="mm",
            stroke_width=max(1, size // 14),
            stroke_fill="#000000",
        )
        out.append(x)
    a, b = ctx.ship(out[0], out[1])
    return source, a, b, f"{one!r} / {two!r}"


def scanned(ctx: Context, image: Image.Image) -> Image.Image:
    """The page as it comes from a scanner."""
    corner = image.getpixel((2, 2))
    x = image.rotate(ctx.rng.uniform(-0.8, 0.8), Image.Resampling.BICUBIC, fillcolor=corner)
    x = base.noisy(x.filter(ImageFilter.GaussianBlur(ctx.rng.uniform(0.3, 0.6))), ctx.np_rng, ctx.rng.uniform(2, 5))
    return ImageEnhance.Brightness(x).enhance(ctx.rng.uniform(0.93, 1.05))


@CLOSED.kind(same=False, group="adversarial")
def rescan_of_other_page(ctx: Context) -> Made:
    """Scans of two pages of one layout, or of one page and a version of it with another figure."""
    one, two = ctx.two_pages()
    figures = [i for i in one.find("amount", "total", "date", "ref") if one.ops[i].size >= 13]
    note = "another page of the same layout"
    if figures and ctx.rng.random() < 0.6:
        i = ctx.rng.choice(figures)
        two, note = one.with_text(i, base.other_figure(ctx.rng, one.ops[i])), "one digit differs"
    scale = ctx.scale(1.1, 1.5)
    return (
        f"drawn/{one.name}",
        jpeg(scanned(ctx, one.render(scale)), 88),
        jpeg(scanned(ctx, two.render(scale)), 88),
        note,
    )


@CLOSED.kind(same=False, group="adversarial")
def table_cells_swapped(ctx: Context) -> Made:
    """Two figures of one column have changed places."""
    page = ctx.page("amount", only=["statement", "lab_report", "menu"])
    i, j = 0, 0
    while i == j or page.ops[i].xy[0] != page.ops[j].xy[0] or page.ops[i].text == page.ops[j].text:
        i, j = ctx.rng.choices(page.find("amount"), k=2)
    second = page.with_text(i, page.ops[j].text).with_text(j, page.ops[i].text)
    return ctx.made(page, second, f"{page.ops[i].text} and {page.ops[j].text} swapped", fine=True)


@CLOSED.kind(same=False, group="adversarial")
def line_blacked_out(ctx: Context) -> Made:
    """One text under a black or white bar."""
    page = ctx.page("name", "ref", "amount", "clause", avoid=["code_screen", "town_map"])
    op = page.ops[ctx.rng.choice(page.find("name", "ref", "amount", "clause"))]
    w = base.font_for(op.text, op.font, op.size).getlength(op.text)
    x = op.xy[0] - (w if op.at == "r" else w / 2 if op.at == "m" else 0)
    second = page.copy()
    second.rect(
        x - 3,
        op.xy[1] - op.size,
        x + w + 3,
        op.xy[1] + op.size * 0.3,
        fill=ctx.rng.choice(["#000000", "#000000", page.paper]),
    )
    return ctx.made(page, second, f"{op.text!r} covered")


def large_figure(ctx: Context, only: Sequence[str], size: float) -> tuple[Page, int]:
    """A page and the position of a text on it with a digit, of at least this size."""
    while True:
        page = ctx.page(only=only)
        fit = [n for n, op in enumerate(page.ops) if op.size >= size and any(c.isdecimal() for c in op.text)]
        if fit:
            return page, ctx.rng.choice(fit)


@CLOSED.kind(same=False, group="adversarial")
def low_quality_other_digit(ctx: Context) -> Made:
    """Two poor copies, of pages that differ in one digit of a readable size."""
    page, i = large_figure(ctx, ["statement", "lab_report", "medicine", "id_card", "whiteboard", "menu", "slide"], 15)
    second = page.with_text(i, base.other_figure(ctx.rng, page.ops[i]))
    scale = ctx.scale(1.1, 1.5)
    a, b = (
        jpeg(p.render(scale).filter(ImageFilter.GaussianBlur(ctx.rng.uniform(0.3, 0.9))), ctx.rng.randint(38, 65))
        for p in (page, second)
    )
    return f"drawn/{page.name}", a, b, f"{page.ops[i].text!r} / {second.ops[i].text!r}"


@CLOSED.kind(same=False, group="adversarial")
def currency_changed(ctx: Context) -> Made:
    """Another currency sign, in one place or all."""
    page = ctx.page("amount", only=["menu"])
    was = page.ops[page.find("amount")[0]].text[0]
    now = ctx.rng.choice([c for c in "£$€¥" if c != was])
    chosen = page.find("amount") if ctx.rng.random() < 0.3 else [ctx.rng.choice(page.find("amount"))]
    second = page
    for i in chosen:
        second = second.with_text(i, now + second.ops[i].text[1:])
    return ctx.made(page, second, f"{was} / {now} in {len(chosen)} places", fine=True)


@CLOSED.kind(same=False, group="adversarial")
def negated_clause(ctx: Context) -> Made:
    """A clause that says the opposite."""
    page = ctx.page("clause")
    i = ctx.rng.choice(page.find("clause"))
    for clause, was, now in CLAUSES:
        if page.ops[i].text.startswith(clause.split("{")[0]):
            return ctx.made(
                page, page.with_text(i, page.ops[i].text.replace(was, now, 1)), f"{was!r} / {now!r}", fine=True
            )
    raise LookupError(page.ops[i].text)


@CLOSED.kind(same=False, group="adversarial")
def am_or_pm(ctx: Context) -> Made:
    """AM for PM, or another closing time."""

    def how(op: Op) -> str:
        if op.text.endswith(("AM", "PM")):
            return op.text[:-2] + ("PM" if op.text.endswith("AM") else "AM")
        return base.other_digit(ctx.rng, op.text)

    return base.change(ctx, ["ampm"], how, "time", fine=True)


@CLOSED.kind(same=False, group="adversarial")
def phone_photo_other_digit(ctx: Context) -> Made:
    """A page, and a phone photo of a version of it with another digit in large type."""
    page, i = large_figure(ctx, ["statement", "medicine", "id_card", "menu", "slide", "whiteboard"], 16)
    second = page.with_text(i, base.other_figure(ctx.rng, page.ops[i]))
    scale = ctx.scale(1.1, 1.4)
    shot = base.phone_photo(second.render(scale), ctx.np_rng, 0.02, 0.25, 0.5)
    return (
        f"drawn/{page.name}",
        encode(page.render(scale)),
        jpeg(shot, 88),
        f"{page.ops[i].text!r} / {second.ops[i].text!r}",
    )


# --------------------------------------------------------------------------------------------------------------------
# Copies, usual


@CLOSED.kind(same=True, group="usual")
def webp(ctx: Context) -> Made:
    """Saved as WebP."""
    source, image = ctx.picture()
    q = ctx.rng.randint(45, 92)
    return source, base.with_file(ctx, image), encode(image, "WEBP", quality=q), f"WebP {q}"


@CLOSED.kind(same=True, group="usual")
def scaled_up(ctx: Context) -> Made:
    """Scaled up by 1.2 to 2."""
    source, image = ctx.picture()
    if max(image.size) > 1100:
        image = resized(image, 1100 / max(image.size))
    f = ctx.rng.uniform(1.2, 2.0)
    second = resized(
        image, f, ctx.rng.choice([Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST])
    )
    return source, base.with_file(ctx, image), jpeg(second, ctx.rng.randint(78, 92)), f"scale {f:.2f}"


@CLOSED.kind(same=True, group="usual")
def gamma_changed(ctx: Context) -> Made:
    """Another gamma."""
    source, image = ctx.picture()
    g = ctx.rng.choice([ctx.rng.uniform(0.65, 0.88), ctx.rng.uniform(1.14, 1.6)])
    return source, base.with_file(ctx, image), jpeg(base.gamma(image, g), 90), f"gamma {g:.2f}"


@CLOSED.kind(same=True, group="usual")
def turned_quarter(ctx: Context) -> Made:
    """A page with text, lying on its side."""
    source, image = ctx.picture(text=True)
    turn = ctx.rng.choice([Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270])
    second = image.transpose(turn)
    return source, base.with_file(ctx, image), encode(second) if ctx.rng.random() < 0.5 else jpeg(second, 88), turn.name


@CLOSED.kind(same=True, group="usual")
def mild_blur(ctx: Context) -> Made:
    """A little out of focus."""
    source, image = ctx.picture()
    r = ctx.rng.uniform(0.5, 1.2)
    return source, base.with_file(ctx, image), jpeg(image.filter(ImageFilter.GaussianBlur(r)), 90), f"blur {r:.1f}"


@CLOSED.kind(same=True, group="usual")
def sharpened(ctx: Context) -> Made:
    """Sharpened."""
    source, image = ctx.picture()
    second = image.filter(ImageFilter.UnsharpMask(ctx.rng.uniform(1, 2.5), ctx.rng.randint(60, 160), 2))
    return source, base.with_file(ctx, image), jpeg(second, 90), "unsharp mask"


@CLOSED.kind(same=True, group="usual")
def colour_cast(ctx: Context) -> Made:
    """Seen under another light."""
    source, image = ctx.picture()
    gain = np.array([ctx.rng.uniform(0.88, 1.06), ctx.rng.uniform(0.93, 1.04), ctx.rng.uniform(0.82, 1.06)], np.float32)
    second = Image.fromarray(np.clip(np.asarray(image, np.float32) * gain, 0, 255).astype(np.uint8))
    return source, base.with_file(ctx, image), jpeg(second, 90), f"gains {' '.join(f'{g:.2f}' for g in gain)}"


@CLOSED.kind(same=True, group="usual")
def gif_palette(ctx: Context) -> Made:
    """Saved with a palette of 64 to 256 colours."""
    source, image = ctx.picture()
    n = ctx.rng.choice([64, 128, 256])
    second = image.quantize(n, dither=Image.Dither.NONE if ctx.rng.random() < 0.5 else Image.Dither.FLOYDSTEINBERG)
    return source, base.with_file(ctx, image), encode(second, "GIF"), f"{n} colours"


@CLOSED.kind(same=True, group="usual")
def combined_forwarded(ctx: Context) -> Made:
    """A border, then scaled, then saved twice as JPEG."""
    source, image = ctx.picture()
    edge = round(max(image.size) * ctx.rng.uniform(0.01, 0.04))
    second = Image.new(
        "RGB", (image.width + 2 * edge, image.height + 2 * edge), ctx.rng.choice(["#ffffff", "#000000", "#f0f0f0"])
    )
    second.paste(image, (edge, edge))
    second = resized(second, ctx.rng.uniform(0.55, 1.2)).filter(ImageFilter.GaussianBlur(ctx.rng.uniform(0.0, 0.4)))
    qualities = [ctx.rng.randint(60, 85), ctx.rng.randint(60, 85)]
    for q in qualities:
        data = jpeg(second, q)
        second = Image.open(io.BytesIO(data)).convert("RGB")
    return source, base.with_file(ctx, image), data, f"border, scale, JPEG {qualities}"


# --------------------------------------------------------------------------------------------------------------------
# Copies, hard


@CLOSED.kind(same=True, group="hard")
def drawn_again_smooth(ctx: Context) -> Made:
    """The same page drawn from its vectors with other hinting: large, averaged, at times in grey."""
    page, one = ctx.page(), ctx.rng.uniform(1.0, 1.4)
    two = one * ctx.rng.choice([0.75, 0.9, 1.0, 1.15, 1.33])
    second = page.render(two, over=3)
    if ctx.rng.random() < 0.3 and not page.find("legend", "series"):
        second = second.convert("L").convert("RGB")
    return f"drawn/{page.name}", encode(page.render(one)), encode(second), f"scales {one:.2f} and {two:.2f}, smooth"


@CLOSED.kind(same=True, group="hard")
def phone_photo_dim(ctx: Context) -> Made:
    """Photographed in poor light: darker, more tilt, more noise."""
    source, image = ctx.picture(text=True, drawn=0.7, avoid=["code_screen", "slide"])
    if max(image.size) > 1300:
        image = resized(image, 1300 / max(image.size))
    shot = base.phone_photo(
        image,
        ctx.np_rng,
        ctx.rng.uniform(0.03, 0.06),
        ctx.rng.uniform(0.3, 0.55),
        ctx.rng.uniform(0.5, 1.0),
        ctx.rng.uniform(0.05, 0.14),
    )
    shot = base.noisy(ImageEnhance.Brightness(shot).enhance(ctx.rng.uniform(0.6, 0.85)), ctx.np_rng, 4)
    return source, base.with_file(ctx, image), jpeg(shot, ctx.rng.randint(70, 86)), "dim photo"


@CLOSED.kind(same=True, group="hard")
def icon_at_other_size(ctx: Context) -> Made:
    """The same icon at another size."""
    name = ctx.rng.choice(ctx.share(" ".join(ICON_PAIRS[:10]).split()))
    ink, paper = ctx.rng.choice(
        [("#111111", "#ffffff"), ("#ffffff", "#222222"), ("#2050c0", "#ffffff"), ("#ffffff", "#2f7d4f")]
    )
    a, b = ctx.rng.sample([20, 24, 32, 40, 48, 64], 2)
    one = icon(name, ink, paper).render(a / 64, over=4)
    two = (
        icon(name, ink, paper).render(b / 64, over=4)
        if ctx.rng.random() < 0.5
        else one.resize((b, b), Image.Resampling.BICUBIC)
    )
    return f"drawn/icon {name}", encode(one), encode(two), f"{name} at {a} and {b} px"


@CLOSED.kind(same=True, group="hard")
def moire_from_screen(ctx: Context) -> Made:
    """A photo of a screen: stripes, a little perspective and glare."""
    source, image = ctx.picture(text=True, drawn=0.8)
    if max(image.size) > 1300:
        image = resized(image, 1300 / max(image.size))
    rng = ctx.np_rng
    a = np.asarray(image, np.float32)
    h, w = a.shape[:2]
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    for _ in range(2):
        angle, period = rng.uniform(0, 3.14), rng.uniform(3.2, 14)
        wave = np.sin(2 * np.pi * (xx * np.cos(angle) + yy * np.sin(angle)) / period + 2.5 * np.sin(yy / h * 5))
        a = a * (1 + rng.uniform(0.03, 0.07) * wave[..., None] * np.array([1, 0.8, 1.1], np.float32))
    glare = np.exp(
        -(((xx - w * rng.uniform(0.2, 0.8)) / (w * 0.25)) ** 2 + ((yy - h * rng.uniform(0.2, 0.8)) / (h * 0.25)) ** 2)
    )
    a = a * 0.92 + 26 * glare[..., None]
    shot = Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))
    shift = rng.uniform(-0.018, 0.018, (4, 2)).astype(np.float32) * np.array([w, h], np.float32)
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    inner = (corners - np.array([w / 2, h / 2], np.float32)) * 0.95 + np.array([w / 2, h / 2], np.float32)
    warp = cv2.getPerspectiveTransform(corners, (inner + shift).astype(np.float32))
    out = cv2.warpPerspective(np.asarray(shot), warp, (w, h), borderMode=cv2.BORDER_CONSTANT, borderValue=(24, 24, 26))
    return source, base.with_file(ctx, image), jpeg(Image.fromarray(out), ctx.rng.randint(75, 90)), "photo of a screen"


@CLOSED.kind(same=True, group="hard")
def photocopy(ctx: Context) -> Made:
    """A photocopy: grey, high contrast, specks and a little turned."""
    page = ctx.page(only=["statement", "notice", "lab_report", "medicine", "menu", "id_card"])
    while page.paper == "#2d2a26":
        page = ctx.page(only=["statement", "notice", "lab_report", "medicine", "menu", "id_card"])
    image = page.render(ctx.scale(1.1, 1.5))
    x = image.convert("L").rotate(ctx.rng.uniform(-1.2, 1.2), Image.Resampling.BICUBIC, fillcolor=255)
    a = np.asarray(x.filter(ImageFilter.GaussianBlur(0.7)), np.float32)
    a = np.clip((a - 60) * 1.5, 0, 255)
    rng = ctx.np_rng
    for _ in range(int(rng.integers(40, 160))):
        y, z, r = int(rng.integers(a.shape[0])), int(rng.integers(a.shape[1])), int(rng.integers(1, 3))
        a[y : y + r, z : z + r] = rng.uniform(20, 160)
    a[:, : int(a.shape[1] * 0.008)] *= 0.35
    second = Image.fromarray(a.astype(np.uint8))
    return f"drawn/{page.name}", encode(image), encode(second, "JPEG", quality=ctx.rng.randint(70, 88)), "photocopy"


@CLOSED.kind(same=True, group="hard")
def folded_page(ctx: Context) -> Made:
    """A scan of the page after it was folded: shaded creases and a slight bend."""
    source, image = ctx.picture(text=True, drawn=0.75, avoid=["code_screen", "slide", "whiteboard"])
    a = np.asarray(image, np.float32)
    h, w = a.shape[:2]
    rng = ctx.np_rng
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    bend = np.float32(rng.uniform(1, 3)) * np.sin(yy / h * np.float32(rng.uniform(3, 7)))
    a = np.asarray(
        cv2.remap(a, xx + bend, yy + bend * 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
    folds: list[float] = [h / 3, 2 * h / 3] if rng.random() < 0.5 else [h / 2]
    for at in folds:
        crease = np.exp(-(((yy - at - (xx - w / 2) * rng.uniform(-0.01, 0.01)) / rng.uniform(2, 4)) ** 2))
        side = np.where(yy > at, 1.0, 0.955).astype(np.float32)
        a = (a * (1 - 0.22 * crease)[..., None] * side[..., None]).astype(np.float32)
    second = Image.fromarray(np.clip(a + rng.normal(0, 2.5, a.shape), 0, 255).astype(np.uint8))
    return source, base.with_file(ctx, image), jpeg(second, ctx.rng.randint(78, 90)), "folded"


def yield_pairs(data: Path, pages: Path, per_kind: int, seed: int, only: Sequence[str] = ()) -> Iterator[Pair]:
    """All pairs of the closed half."""
    return base.pairs_of(CLOSED, data, pages, per_kind, seed, only)


if __name__ == "__main__":
    raise SystemExit(base.main(CLOSED))
