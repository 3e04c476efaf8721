"""Builds pairs of images by which a "same image?" check can be judged: a second unseen set of kinds.

    python -m benchmarks.image_kinds_unseen_second --data DIR --pages DIR --out DIR --per-kind N --seed S

Interface and drawing tools are those of `image_kinds`; kinds and page templates are its own. Written by somebody who
had not read the check, and measured once, when the rules stood still: whoever changes a rule after looking at it must
name it a development set. Copies are "usual" or "hard" (something in the copy can no longer be read), look-alikes
"usual" or "adversarial".
"""

from __future__ import annotations

import dataclasses
import io
import math
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pypdfium2
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks import image_kinds as base
from benchmarks.image_kinds import Context, Half, Made, Op, Page, Pair, encode, jpeg, resized

INK = base.INK
SECOND = Half("closed2", 1)


class Style(random.Random):
    """A style generator that may be told which language to use."""

    lang: bool | None = None


def chinese(s: random.Random, share: float = 0.5) -> bool:
    """Whether the page is to be Chinese; the same number of draws either way."""
    wish = s.random() < share
    told = getattr(s, "lang", None)
    return wish if told is None else told


def fork(d: random.Random) -> random.Random:
    """A generator of its own for one value, so that two languages of a page share all other values."""
    return random.Random(d.random())


def day_both(d: random.Random, zh: bool) -> str:
    """A date, the same one in both languages."""
    y, m, n = d.randint(2021, 2026), d.randint(1, 12), d.randint(1, 28)
    return f"{y}年{m}月{n}日" if zh else f"{n:02d}/{m:02d}/{y}"


def dark(p: Page) -> bool:
    """Whether the paper is dark."""
    return sum(int(p.paper[i : i + 2], 16) for i in (1, 3, 5)) < 300


def pair_of(ctx: Context, page: Page, second: Page, note: str, fine: bool = False, scale: float = 0) -> Made:
    """Context.made, which in addition insists that the two can be told apart once drawn."""
    scale = scale or ctx.scale()
    one, two = page.render(scale), second.render(scale)
    if one.size == two.size:
        gap = np.abs(np.asarray(one, np.int16) - np.asarray(two, np.int16)).max(axis=2)
        if int((gap > 14).sum()) < 3:
            raise ValueError(f"{page.name}: no visible difference, {note}")
    a, b = ctx.ship(one, two, fine)
    return f"drawn/{page.name}", a, b, note


# --------------------------------------------------------------------------------------------------------------------
# Page templates


@SECOND.template
def utility_bill(s: random.Random, d: random.Random) -> Page:
    """A gas, water or power bill with a usage chart, a payment slip and small print."""
    zh = chinese(s)
    p = Page("utility_bill", 760, 1040)
    tint = s.choice(["#0a6ebd", "#d2691e", "#2e7d32", "#6a1b9a"])
    what = s.randint(0, 2)
    city = s.randint(0, 15)
    unit = ["kWh", "m³", "m³"][what]
    p.rect(0, 0, 760, 84, fill=tint)
    names = [("供电公司", "Power"), ("自来水公司", "Water"), ("燃气公司", "Gas")][what]
    p.text(
        40,
        54,
        base.CITIES_ZH[city] + names[0] if zh else f"{base.CITIES[city]} {names[1]} Board",
        28,
        "firm",
        fill="#ffffff",
        font="bold",
    )
    p.text(720, 54, "缴费通知单" if zh else "Your bill", 22, fill="#ffffff", at="r")
    rows = [
        ("户名" if zh else "Customer", base.person(fork(d), zh), "name"),
        ("户号" if zh else "Account", base.number(d, 10), "ref"),
        ("账单日期" if zh else "Bill date", day_both(d, zh), "date"),
        ("最迟付款日" if zh else "Pay by", day_both(d, zh), "date"),
    ]
    for i, (label, value, role) in enumerate(rows):
        p.text(40, 126 + 26 * i, label, 15, fill="#666666")
        p.text(170, 126 + 26 * i, value, 16, role)
    due = d.uniform(20, 480)
    p.rect(480, 106, 720, 206, outline=tint, width=2)
    p.text(600, 134, "应付金额" if zh else "Amount due", 15, at="m", fill="#555555")
    p.text(600, 182, f"{'¥' if zh else '£'}{due:,.2f}", 36, "total", at="m", font="bold", fill=tint)
    y = 262
    for x, label, at in [
        (40, "项目" if zh else "Item", "l"),
        (420, "上期" if zh else "Previous", "r"),
        (540, "本期" if zh else "Present", "r"),
        (720, "金额" if zh else "Amount", "r"),
    ]:
        p.text(x, y, label, 14, at=at, font="bold", fill=tint)
    p.line((40, y + 8, 720, y + 8), fill=tint, width=2)
    items = [
        ("峰时用量", "Day units"),
        ("谷时用量", "Night units"),
        ("基本费", "Standing charge"),
        ("附加费", "Levy"),
        ("上期结余", "Balance brought forward"),
    ]
    for i, (cz, en) in enumerate(items):
        y += 30
        p.text(40, y, cz if zh else en, 15, "item", row=i)
        if i < 2:
            a = d.randint(1000, 8999)
            p.text(420, y, str(a), 15, "meter", at="r", row=i)
            p.text(540, y, f"{a + d.randint(30, 900)}", 15, "meter", at="r", row=i)
        value = f"{d.uniform(2, 200):.2f}"
        p.text(720, y, ("-" if i == 4 else "") + value, 15, "signed" if i == 4 else "amount", at="r", row=i)
    y += 50
    p.text(40, y, f"{'近六个月用量' if zh else 'Use in the last six months'} ({unit})", 15, font="bold")
    low = y + 150
    for i in range(6):
        v = d.randint(20, 120)
        x = 70 + i * 105
        p.rect(x, low - v, x + 52, low, fill=tint, role="bar")
        p.text(x + 26, low + 18, f"{i + 3}月" if zh else ["Mar", "Apr", "May", "Jun", "Jul", "Aug"][i], 13, at="m")
    p.line((50, low, 710, low), fill="#444444", width=1.5)
    y = low + 60
    p.rect(40, y, 56, y + 16, outline="#333333", width=1.5, role="box")
    p.text(68, y + 14, "同意电子账单" if zh else "I agree to paperless billing", 14)
    p.rect(380, y, 396, y + 16, outline="#333333", width=1.5, role="box")
    p.text(408, y + 14, "同意自动扣款" if zh else "Collect by direct debit", 14)
    p.line((40, y + 40, 720, y + 40), fill="#999999")
    for i in range(4):
        a, b = d.randint(11, 98), d.randint(101, 989)
        t = (
            f"第{i + 1}条 逾期每日加收{a / 10:.1f}‰违约金,每户上限{b}元;如对读数有异议请于{d.randint(3, 30)}日内提出。"
            if zh
            else f"Note {i + 1}. Late payment adds {a / 10:.1f}% a month up to {b}.00; dispute a reading within "
            f"{d.randint(3, 30)} days of the bill."
        )
        p.text(40, y + 66 + 17 * i, t, 11, "fine", fill="#444444")
    return p


@SECOND.template
def boarding_pass(s: random.Random, d: random.Random) -> Page:
    """A boarding pass with a stub."""
    zh = chinese(s, 0.4)
    p = Page("boarding_pass", 1040, 420, paper=s.choice(["#ffffff", "#f6f8fb", "#fffdf5"]))
    tint = s.choice(["#b3002d", "#00386b", "#00695c", "#4a148c"])
    p.rect(0, 0, 1040, 64, fill=tint)
    line = s.randint(0, 11)
    p.text(
        30,
        44,
        f"{base.FIRMS_ZH[line]}航空" if zh else f"{base.FIRMS[line]} Airways",
        28,
        "firm",
        fill="#ffffff",
        font="bold",
    )
    p.text(700, 44, "登机牌" if zh else "Boarding pass", 22, fill="#ffffff", at="r")
    a, b = d.sample(range(16), 2)
    place = base.CITIES_ZH if zh else base.CITIES
    name, flight = base.person(fork(d), zh), f"{s.choice(['NX', 'KB', 'HF', 'MU', 'ZL'])}{base.number(d, 4)}"
    gate, seat = f"{d.choice('ABCDE')}{d.randint(10, 59)}", f"{d.randint(10, 59)}{d.choice('ABCDEF')}"
    t = base.clock_time(d)
    p.text(30, 106, "旅客姓名" if zh else "Passenger", 14, fill="#777777")
    p.text(30, 134, name, 22, "name", font="bold")
    p.text(30, 176, "始发" if zh else "From", 14, fill="#777777")
    p.text(30, 216, place[a], 34, "place", font="bold")
    p.poly((330, 196, 376, 206, 330, 216, 338, 206), fill=tint, role="icon")
    p.text(410, 176, "到达" if zh else "To", 14, fill="#777777")
    p.text(410, 216, place[b], 34, "place", font="bold")
    cells = [
        ("航班", "Flight", flight, "ref"),
        ("日期", "Date", day_both(d, zh), "date"),
        ("登机时间", "Boarding", t, "time"),
        ("登机口", "Gate", gate, "code"),
        ("座位", "Seat", seat, "code"),
    ]
    x = 30
    for cz, en, value, role in cells:
        p.text(x, 262, cz if zh else en, 14, fill="#777777")
        p.text(x, 294, value, 22, role, font="bold")
        x += 190 if role == "date" else 135
    p.text(
        30,
        392,
        "登机口于起飞前15分钟关闭" if zh else "Gate closes 15 minutes before departure",
        13,
        "sentence",
        fill="#555555",
    )
    full = base.number(d, 12)
    base.put_barcode(p, 440, 320, 250, 62, full, caption=False)
    p.line((740, 64, 740, 420), fill="#999999", width=1)
    for i, (label, value, role) in enumerate(
        [
            ("姓名" if zh else "Name", name, "stub"),
            ("航班" if zh else "Flight", flight, "stub"),
            ("座位" if zh else "Seat", seat, "stub"),
            ("登机口" if zh else "Gate", gate, "stub"),
        ]
    ):
        p.text(764, 104 + 70 * i, label, 14, fill="#777777")
        p.text(764, 134 + 70 * i, value, 22, role, font="bold")
    p.text(764, 394, f"{'序号' if zh else 'Seq'} {d.randint(1, 240):03d}", 14, "ref")
    return p


@SECOND.template
def pharmacy_sticker(s: random.Random, d: random.Random) -> Page:
    """The label a pharmacy sticks on a box."""
    zh = chinese(s)
    p = Page("pharmacy_sticker", 700, 430, paper=s.choice(["#ffffff", "#fffef2", "#f2fbff"]))
    p.rect(6, 6, 694, 424, outline="#333333", width=2)
    shop = s.randint(0, 15)
    p.text(
        30,
        50,
        base.CITIES_ZH[shop] + "第三医院药房" if zh else f"{base.CITIES[shop]} High Street Pharmacy",
        22,
        "firm",
        font="bold",
    )
    p.text(670, 50, day_both(d, zh), 16, "date", at="r")
    p.line((20, 64, 680, 64), fill="#333333", width=1.5)
    p.text(30, 100, base.person(fork(d), zh), 22, "name", font="bold")
    p.text(670, 100, f"{'处方号' if zh else 'Rx'} {base.number(d, 7)}", 16, "ref", at="r")
    k = d.randrange(6)
    drug = [
        ("二甲双胍片", "Metformin"),
        ("华法林钠片", "Warfarin"),
        ("左甲状腺素钠片", "Levothyroxine"),
        ("阿托伐他汀片", "Atorvastatin"),
        ("氨氯地平片", "Amlodipine"),
        ("泼尼松片", "Prednisolone"),
    ][k]
    dose = f"{d.choice(['0.5', '2.5', '1.5', '7.5', '12.5', '6.25'])} mg"
    p.text(30, 150, f"{drug[0]}  {dose}" if zh else f"{drug[1]}  {dose}", 28, "dose", font="bold")
    n, t = d.randint(1, 3), d.randint(2, 4)
    p.text(
        30,
        200,
        f"口服,每次{n}片,每日{t}次" if zh else f"Take {n} tablet{'s' * (n > 1)} {t} times a day by mouth",
        22,
        "direction",
    )
    k = d.randrange(3)
    p.text(
        30,
        236,
        ["饭前服用", "饭后服用", "睡前服用"][k]
        if zh
        else ["Take before meals", "Take after meals", "Take at bedtime"][k],
        20,
        "direction",
    )
    p.text(30, 290, f"{'数量' if zh else 'Quantity'} {d.choice([14, 28, 30, 56, 60, 84])}", 18, "qty")
    p.text(
        350, 290, f"{'有效期至' if zh else 'Use before'} {d.randint(1, 12):02d}/{d.randint(2026, 2029)}", 18, "expiry"
    )
    p.line((20, 320, 680, 320), fill="#333333")
    a = [
        ("可能引起嗜睡,服药后勿驾驶。", "May cause drowsiness. Do not drive."),
        ("避免饮酒。", "Avoid alcoholic drinks."),
        ("整片吞服,不可嚼碎。", "Swallow whole. Do not crush."),
    ][d.randrange(3)]
    p.text(30, 352, a[0] if zh else a[1], 16, "warning")
    p.text(
        30,
        382,
        f"{'请放在儿童不能接触的地方  电话' if zh else 'Keep out of the reach of children   Tel'} {base.number(s, 8)}",
        13,
        fill="#555555",
    )
    p.oval(640, 366, 26, 26, outline="#c62828", width=3, role="icon")
    p.line((622, 384, 658, 348), fill="#c62828", width=3, role="icon")
    return p


@SECOND.template
def school_report(s: random.Random, d: random.Random) -> Page:
    """A school report with marks, attendance and a comment."""
    zh = chinese(s)
    p = Page("school_report", 740, 980, font=s.choice(["sans", "serif"]))
    bold = p.font.replace("sans", "") + "bold"
    place = s.randint(0, 15)
    p.text(
        370,
        70,
        base.CITIES_ZH[place] + "市实验中学" if zh else f"{base.CITIES[place]} Park School",
        30,
        "firm",
        at="m",
        font=bold,
    )
    p.text(370, 104, "学生成绩报告单" if zh else "Report to parents", 20, at="m")
    p.line((60, 120, 680, 120), fill="#333333", width=2)
    p.text(60, 156, "姓名" if zh else "Pupil", 16, fill="#555555")
    p.text(140, 156, base.person(fork(d), zh), 18, "name", font=bold)
    p.text(400, 156, "班级" if zh else "Class", 16, fill="#555555")
    p.text(470, 156, f"{d.randint(7, 9)}{d.choice('ABCDE')}", 18, "code")
    p.text(680, 156, day_both(d, zh), 16, "date", at="r")
    subjects = [
        ("语文", "English"),
        ("数学", "Mathematics"),
        ("物理", "Physics"),
        ("化学", "Chemistry"),
        ("历史", "History"),
        ("地理", "Geography"),
        ("音乐", "Music"),
        ("体育", "Sport"),
        ("美术", "Art"),
    ]
    top = 190
    p.rect(60, top, 680, top + 34, fill=s.choice(["#dfe8f2", "#eee6d8", "#e2efe0"]))
    for x, cz, en in [(80, "科目", "Subject"), (300, "平时", "Term"), (420, "期末", "Exam"), (560, "等级", "Grade")]:
        p.text(x, top + 24, cz if zh else en, 16, font=bold)
    y = top + 34
    for i, (cz, en) in enumerate(subjects):
        p.text(80, y + 26, cz if zh else en, 17, "item", row=i)
        p.text(300, y + 26, str(d.randint(41, 99)), 17, "mark", row=i)
        p.text(420, y + 26, str(d.randint(41, 99)), 17, "mark", row=i)
        p.text(560, y + 26, d.choice("ABCDE"), 17, "grade", row=i)
        y += 38
        p.line((60, y, 680, y), fill="#bbbbbb")
    for x in (60, 280, 400, 540, 680):
        p.line((x, top, x, y), fill="#999999")
    y += 44
    p.text(60, y, f"{'缺勤(天)' if zh else 'Days absent'}: {d.randint(1, 19)}", 17, "absent")
    p.text(300, y, f"{'迟到(次)' if zh else 'Times late'}: {d.randint(1, 19)}", 17, "absent")
    y += 46
    p.text(60, y, "是否升级" if zh else "Moves up a year", 17)
    for i, (cz, en) in enumerate([("是", "Yes"), ("否", "No")]):
        p.rect(240 + 110 * i, y - 16, 258 + 110 * i, y + 2, outline="#222222", width=1.6, role="box")
        p.text(268 + 110 * i, y, cz if zh else en, 17)
    y += 46
    p.text(60, y, "教师评语" if zh else "Teacher's comment", 16, fill="#555555")
    notes = d.sample(
        [
            ("该生上课认真,作业完成及时。", "Listens well and hands in work on time."),
            ("课堂发言积极,书写有待提高。", "Speaks up in class; handwriting needs care."),
            ("与同学相处融洽,乐于助人。", "Gets on with others and is ready to help."),
            ("近期成绩有所下降,请家长关注。", "Marks have dropped of late; please see us."),
        ],
        2,
    )
    for cz, en in notes:
        y += 30
        p.text(60, y, cz if zh else en, 17, "sentence")
    y += 70
    p.text(60, y, "班主任" if zh else "Form teacher", 15)
    p.line(base.scribble(fork(d), 180, y - 34, 150, 40), fill="#1b2a6b", width=1.6, role="sign")
    p.line((170, y + 6, 350, y + 6), fill="#777777")
    return p


@SECOND.template
def menu_board(s: random.Random, d: random.Random) -> Page:
    """A chalk or lit board over a counter."""
    zh = chinese(s)
    p = Page("menu_board", 980, 640, paper=s.choice(["#20262b", "#1d2b22", "#f7f1e3"]))
    light = dark(p)
    ink, tint = ("#f4f1e8", "#ffcf5c") if light else ("#2b2118", "#a33b20")
    k = s.randint(0, 24)
    p.text(
        490,
        70,
        "老" + base.SURNAMES[k % len(base.SURNAMES)] + "记面馆" if zh else f"{base.LAST[k]}'s Corner Cafe",
        38,
        "firm",
        at="m",
        fill=tint,
        font="bold",
    )
    p.line((60, 92, 920, 92), fill=tint, width=2)
    dishes = [
        ("牛肉面", "Beef noodles"),
        ("番茄鸡蛋面", "Tomato soup"),
        ("红烧排骨饭", "Rib plate"),
        ("小笼包", "Steamed dumplings"),
        ("凉拌黄瓜", "Cucumber salad"),
        ("酸辣汤", "Hot and sour soup"),
        ("煎饺", "Fried dumplings"),
        ("豆浆", "Soy drink"),
        ("葱油饼", "Onion pancake"),
        ("炒青菜", "Greens"),
        ("绿豆粥", "Bean porridge"),
        ("冰柠檬茶", "Iced lemon tea"),
        ("卤蛋", "Tea egg"),
        ("鱼香茄子", "Aubergine"),
    ]
    for i, (cz, en) in enumerate(d.sample(dishes, 12)):
        x, y = 60 + (i % 2) * 450, 150 + (i // 2) * 66
        p.text(x, y, cz if zh else en, 25, "dish", fill=ink, row=i)
        p.text(
            x + 390,
            y,
            f"{d.randint(3, 68)}.{d.choice(['00', '50', '80', '20'])}",
            25,
            "price",
            fill=tint,
            at="r",
            row=i,
        )
        if d.random() < 0.25:
            p.text(x + 300, y, "辣" if zh else "hot", 15, "mark_", fill="#e2574c", at="r")
    p.text(
        490,
        590,
        f"{'营业时间' if zh else 'Open'} {d.randint(6, 11)}:{d.choice(['00', '30'])} – {d.randint(17, 23)}:"
        f"{d.choice(['00', '30'])}",
        22,
        "hours",
        at="m",
        fill=ink,
    )
    return p


@SECOND.template
def blood_panel(s: random.Random, d: random.Random) -> Page:
    """A laboratory result sheet."""
    zh = chinese(s)
    p = Page("blood_panel", 760, 900)
    place = s.randint(0, 15)
    p.text(
        380,
        60,
        base.CITIES_ZH[place] + "人民医院检验科" if zh else f"{base.CITIES[place]} Clinical Laboratory",
        25,
        "firm",
        at="m",
        font="bold",
    )
    p.text(40, 104, f"{'患者' if zh else 'Patient'}: {base.person(fork(d), zh)}", 16, "name")
    p.text(330, 104, f"{'年龄' if zh else 'Age'}: {d.randint(19, 89)}", 16, "age")
    p.text(720, 104, f"{'样本号' if zh else 'Sample'} {base.number(d, 9)}", 16, "ref", at="r")
    p.text(40, 132, "采样" if zh else "Taken", 15, fill="#555555")
    p.text(100, 132, day_both(d, zh), 15, "date")
    p.line((40, 146, 720, 146), fill="#222222", width=2)
    tests = [
        ("白细胞", "WBC", 4.0, 10.0, "10⁹/L"),
        ("红细胞", "RBC", 3.8, 5.5, "10¹²/L"),
        ("血红蛋白", "Haemoglobin", 115.0, 150.0, "g/L"),
        ("血小板", "Platelets", 125.0, 350.0, "10⁹/L"),
        ("葡萄糖", "Glucose", 3.9, 6.1, "mmol/L"),
        ("肌酐", "Creatinine", 45.0, 84.0, "µmol/L"),
        ("尿酸", "Urate", 155.0, 357.0, "µmol/L"),
        ("总胆固醇", "Cholesterol", 2.9, 5.2, "mmol/L"),
        ("甘油三酯", "Triglycerides", 0.5, 1.7, "mmol/L"),
        ("钾", "Potassium", 3.5, 5.3, "mmol/L"),
        ("钠", "Sodium", 137.0, 147.0, "mmol/L"),
        ("碱剩余", "Base excess", -3.0, 3.0, "mmol/L"),
    ]
    for x, cz, en, at in [
        (40, "项目", "Test", "l"),
        (330, "结果", "Result", "r"),
        (470, "参考范围", "Range", "m"),
        (720, "单位", "Unit", "r"),
    ]:
        p.text(x, 172, cz if zh else en, 15, at=at, font="bold")
    for i, (cz, en, low, high, unit) in enumerate(tests):
        y = 206 + 36 * i
        v = low + (high - low) * d.uniform(-0.25, 1.25)
        if low < 0:
            v = -abs(v) - 0.4
        text = f"{v:.1f}" if high < 20 else f"{v:.0f}"
        p.text(40, y, cz if zh else en, 16, "item", row=i)
        p.text(330, y, text, 16, "signed" if v < 0 else "result", at="r", row=i, font="bold")
        if not low <= float(text) <= high:
            up = float(text) > high
            p.poly(
                (350, y - 1, 362, y - 1, 356, y - 14) if up else (350, y - 13, 362, y - 13, 356, y),
                fill="#c62828",
                role="arrow",
            )
        p.text(470, y, f"{low:g} – {high:g}", 15, at="m", fill="#555555")
        p.text(720, y, unit, 14, at="r", fill="#555555", font="dejavu")
        p.line((40, y + 11, 720, y + 11), fill="#dddddd")
    y = 206 + 36 * 12 + 30
    p.text(40, y, "乙肝表面抗原" if zh else "Hepatitis B antigen", 17)
    positive = d.random() < 0.5
    p.text(
        330,
        y,
        ("阳性" if positive else "阴性") if zh else ("positive" if positive else "negative"),
        17,
        "sign_word",
        font="bold",
    )
    p.text(40, y + 40, f"{'审核' if zh else 'Checked by'}", 15)
    p.line(base.scribble(fork(d), 160, y + 16, 110, 34), fill="#222266", width=1.5, role="sign")
    p.text(
        40,
        y + 84,
        f"{'本报告仅对所检样本负责,报告号' if zh else 'Valid for the sample tested only. Report'} {base.number(d, 8)}",
        12,
        "fine",
        fill="#666666",
    )
    return p


@SECOND.template
def transfer_screen(s: random.Random, d: random.Random) -> Page:
    """The screen of a bank's app after a transfer."""
    zh = chinese(s, 0.6)
    p = Page("transfer_screen", 540, 1000, paper="#f4f5f7")
    tint = s.choice(["#1677ff", "#07a35a", "#c8102e"])
    p.text(30, 34, base.clock_time(d), 17, "clock", font="bold")
    p.rect(478, 20, 508, 34, outline="#222222", width=1.5)
    p.rect(480, 22, 500, 32, fill="#222222")
    p.rect(0, 50, 540, 104, fill="#ffffff")
    p.text(270, 86, "转账详情" if zh else "Transfer details", 20, at="m", font="bold")
    p.line((28, 68, 18, 78, 28, 88), fill="#333333", width=2)
    p.rect(20, 124, 520, 400, fill="#ffffff")
    p.oval(270, 180, 28, 28, fill=tint)
    p.line((256, 181, 267, 192, 286, 168), fill="#ffffff", width=4, role="tick")
    p.text(270, 244, "转账成功" if zh else "Sent", 20, "state", at="m")
    p.text(270, 320, f"{'¥' if zh else '£'}{d.uniform(3, 9800):,.2f}", 46, "total", at="m", font="bold")
    p.text(270, 366, f"{'手续费' if zh else 'Fee'} {d.uniform(0.1, 9):.2f}", 15, "amount", at="m", fill="#999999")
    p.rect(20, 416, 520, 800, fill="#ffffff")
    rows = [
        ("收款人", "To", base.person(fork(d), zh), "name"),
        ("收款账号", "Account", f"{base.number(d, 4)} **** {base.number(d, 4)}", "ref"),
        ("付款账号", "From", f"**** {base.number(d, 4)}", "ref"),
        ("时间", "Date", day_both(d, zh), "date"),
        (
            "附言",
            "Message",
            (["房租", "餐费", "学费", "还款", "货款"] if zh else ["rent", "dinner", "fees", "loan", "goods"])[
                d.randrange(5)
            ],
            "memo",
        ),
        ("流水号", "Reference", base.number(d, 16), "ref"),
    ]
    for i, (cz, en, value, role) in enumerate(rows):
        y = 462 + 60 * i
        p.text(44, y, cz if zh else en, 17, fill="#888888")
        p.text(496, y, value, 17, role, at="r")
        p.line((44, y + 20, 496, y + 20), fill="#eeeeee")
    p.rect(60, 840, 250, 890, outline=tint, width=1.5)
    p.text(155, 872, "再转一笔" if zh else "Send again", 17, at="m", fill=tint)
    p.rect(290, 840, 480, 890, fill=tint)
    p.text(385, 872, "完成" if zh else "Done", 17, at="m", fill="#ffffff")
    p.text(
        270,
        960,
        "到账时间以收款银行为准" if zh else "The other bank decides when it arrives",
        12,
        at="m",
        fill="#aaaaaa",
    )
    return p


@SECOND.template
def calendar_month(s: random.Random, d: random.Random) -> Page:
    """A month with entries in some of its days."""
    zh = chinese(s)
    p = Page("calendar_month", 980, 760)
    tint = s.choice(["#c0392b", "#2471a3", "#1e8449"])
    m, y = d.randint(1, 12), d.randint(2023, 2027)
    names = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]
    p.text(40, 60, f"{y}年{m}月" if zh else f"{names[m - 1]} {y}", 34, "month", fill=tint, font="bold")
    w, h, top = 128.0, 104.0, 110.0
    for i in range(7):
        p.text(
            44 + w * i + w / 2,
            98,
            "周" + "一二三四五六日"[i] if zh else ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][i],
            16,
            at="m",
            fill="#c0392b" if i > 4 else "#444444",
        )
    start = d.randint(0, 6)
    events = [
        ("体检", "Check-up"),
        ("家长会", "Parents"),
        ("出差", "Travel"),
        ("交房租", "Pay rent"),
        ("牙医", "Dentist"),
        ("聚餐", "Dinner"),
        ("考试", "Exam"),
        ("例会", "Meeting"),
        ("搬家", "Move house"),
        ("还书", "Library"),
    ]
    busy = dict(zip(d.sample(range(1, 29), 9), [events[d.randrange(10)] for _ in range(9)], strict=True))
    for n in range(1, 31):
        k = n - 1 + start
        x, yy = 44 + w * (k % 7), top + h * (k // 7)
        p.rect(x, yy, x + w, yy + h, outline="#cccccc")
        p.text(x + 10, yy + 26, str(n), 18, fill="#c0392b" if k % 7 > 4 else INK)
        if n in busy:
            hour = f"{d.randint(8, 20)}:{d.choice(['00', '15', '30', '45'])}"
            p.rect(x + 6, yy + 44, x + w - 6, yy + 92, fill=d.choice(["#fde3df", "#dcecf7", "#e0f2e3", "#fff4cf"]))
            p.text(x + 14, yy + 64, hour, 14, "time", row=n)
            p.text(x + 14, yy + 86, busy[n][0] if zh else busy[n][1], 15, "event", row=n)
    return p


@SECOND.template
def chat_log(s: random.Random, d: random.Random) -> Page:
    """A conversation in a messenger."""
    zh = chinese(s)
    p = Page("chat_log", 560, 980, paper=s.choice(["#ededed", "#e5ddd5", "#ffffff"]))
    mine = s.choice(["#95ec69", "#dcf8c6", "#cfe3ff"])
    p.rect(0, 0, 560, 76, fill="#f7f7f7")
    p.text(280, 50, base.person(fork(d), zh), 20, "name", at="m", font="bold")
    p.line((34, 34, 22, 44, 34, 54), fill="#333333", width=2)
    lines = [
        ("明天几点到?", "When will you be here?"),
        ("大概{}点", "Around {}"),
        ("一共{}元", "That is {} in all"),
        ("收到了,谢谢", "Got it, thanks"),
        ("地址发我一下", "Send me the address"),
        ("{}号楼{}室", "Flat {}, number {}"),
        ("可以改到下周吗", "Can we move it to next week?"),
        ("好的没问题", "Yes, no problem"),
        ("不行,我有事", "No, I am busy then"),
        ("已经付款了", "I have paid"),
        ("还没付款", "I have not paid yet"),
        ("带{}个箱子", "Bring {} boxes"),
        ("我在{}号口等你", "Waiting at exit {}"),
    ]
    y = 110.0
    p.text(276, y, day_both(d, zh), 13, "date", at="r", fill="#888888")
    p.text(286, y, base.clock_time(d), 13, "time", fill="#888888")
    y += 30
    turns = d.sample(lines, 9)
    for i, (cz, en) in enumerate(turns):
        text = cz if zh else en
        while "{}" in text:
            text = text.replace("{}", str(d.randint(2, 29)), 1)
        mark = d.random() < 0.5
        w = base.font_for(text, "sans", 20).getlength(text) + 34
        x = 500 - w if mark else 60.0
        p.rect(x, y, x + w, y + 50, fill=mine if mark else ("#f2f2f2" if p.paper == "#ffffff" else "#ffffff"), row=i)
        p.oval(530 if mark else 30, y + 25, 20, 20, fill=["#7e57c2", "#26a69a"][mark])
        p.text(x + 17, y + 33, text, 20, "last" if i == len(turns) - 1 else "said", row=i)
        y += 84
    p.rect(0, 910, 560, 980, fill="#f7f7f7")
    p.rect(70, 924, 440, 966, fill="#ffffff", outline="#dddddd")
    p.oval(500, 945, 20, 20, outline="#555555", width=2)
    p.line((490, 945, 510, 945), fill="#555555", width=2)
    p.line((500, 935, 500, 955), fill="#555555", width=2)
    return p


@SECOND.template
def sales_columns(s: random.Random, d: random.Random) -> Page:
    """A chart of columns in two or three series with a legend."""
    zh = chinese(s)
    p = Page("sales_columns", 920, 600)
    k = s.randrange(3)
    p.text(
        460,
        48,
        [
            ("各门店销量", "Units sold by branch"),
            ("季度收入(万元)", "Quarterly revenue, thousands"),
            ("用电量(度)", "Power used, kWh"),
        ][k][not zh],
        26,
        "title",
        at="m",
        font="bold",
    )
    n, groups = s.choice([2, 3]), s.choice([4, 5, 6])
    colours = s.sample(["#3366cc", "#dc3912", "#ff9900", "#109618", "#7b3f9e", "#2aa5a0"], n)
    low, high, left = 510.0, 120.0, 90.0
    for i in range(6):
        y = low - (low - high) * i / 5
        p.line((left, y, 880, y), fill="#dddddd")
        p.text(left - 12, y + 5, str(i * 20), 14, at="r", fill="#666666")
    step = 780 / groups
    for g in range(groups):
        x = left + 14 + g * step
        w = (step - 34) / n
        for j in range(n):
            v = d.randint(12, 98)
            p.rect(
                x + j * w,
                low - (low - high) * v / 100,
                x + (j + 1) * w - 3,
                low,
                fill=colours[j],
                role="bar",
                row=g * 10 + j,
            )
        label = (
            ["北区", "南区", "东区", "西区", "中区", "新区"][g]
            if zh
            else ["North", "South", "East", "West", "Mid", "New"][g]
        )
        p.text(x + n * w / 2, low + 26, label, 16, at="m")
    for j in range(n):
        x = 300 + j * 150
        p.rect(x, 560, x + 18, 578, fill=colours[j], role="legend", row=j)
        p.text(x + 26, 576, [f"{2023 + j}年", str(2023 + j)][not zh], 16, "legendtext", row=j)
    p.line((left, low, 880, low), fill="#333333", width=2)
    return p


@SECOND.template
def site_map(s: random.Random, d: random.Random) -> Page:
    """A plan of a fair or park with numbered places and one marker."""
    zh = chinese(s)
    p = Page("site_map", 900, 700, paper=s.choice(["#eef4e6", "#f3efe6"]))
    lines = fork(d)
    for i in range(5):
        y = 90 + i * 130 + lines.uniform(-20, 20)
        p.line((0, y, 900, y + lines.uniform(-40, 40)), fill="#ffffff", width=18)
        x = 80 + i * 190 + lines.uniform(-30, 30)
        p.line((x, 0, x + lines.uniform(-40, 40), 700), fill="#ffffff", width=18)
    p.poly([v for i in range(9) for v in (i * 113, 610 + lines.uniform(-24, 24))] + [900, 700, 0, 700], fill="#a9d3e8")
    names = [
        ("入口", "Entrance"),
        ("洗手间", "Toilets"),
        ("餐厅", "Restaurant"),
        ("停车场", "Car park"),
        ("医务室", "First aid"),
        ("游客中心", "Visitors"),
        ("展馆A", "Hall A"),
        ("展馆B", "Hall B"),
        ("码头", "Pier"),
        ("花园", "Garden"),
    ]
    spots = [(140 + 160 * (i % 5), 170 + 240 * (i // 5)) for i in range(10)]
    d.shuffle(spots)
    for i, (cz, en) in enumerate(names):
        x, y = spots[i]
        p.rect(x - 50, y - 34, x + 50, y + 14, fill=["#f6d6a8", "#d9c8e6", "#c8e0c1"][i % 3], outline="#9b8f7a")
        p.text(x, y - 4, cz if zh else en, 15, "placename", at="m")
    x, y = d.choice(spots)
    put_marker(p, x, y + 50)
    p.text(20, 40, "园区导览图" if zh else "Site plan", 26, "title", font="bold")
    p.text(880, 40, f"1:{d.choice([500, 1000, 2000, 2500])}", 16, at="r")
    return p


def put_marker(p: Page, x: float, y: float) -> None:
    """A drop-shaped marker whose tip is at x, y."""
    p.poly((x, y, x - 10, y - 20, x + 10, y - 20), fill="#d32f2f", role="marker")
    p.oval(x, y - 24, 12, 12, fill="#d32f2f", role="marker")
    p.oval(x, y - 24, 5, 5, fill="#ffffff", role="marker")


@SECOND.template
def shelf_tag(s: random.Random, d: random.Random) -> Page:
    """The price tag of a shelf."""
    zh = chinese(s)
    p = Page("shelf_tag", 640, 330, paper=s.choice(["#ffffff", "#fff36b", "#ffe9e3"]))
    p.rect(4, 4, 636, 326, outline="#222222", width=2)
    k = d.randrange(16)
    p.text(24, 54, base.FOODS_ZH[k] if zh else base.FOODS[k], 32, "item", font="bold")
    p.text(24, 90, f"{d.choice([250, 400, 500, 750, 900])}{'克' if zh else ' g'}", 20, "qty", fill="#555555")
    p.text(
        600,
        214,
        f"{d.randint(1, 89)}.{d.randint(0, 9)}{d.choice('059')}",
        112,
        "price",
        at="r",
        font="bold",
        fill="#c4001a",
    )
    p.text(40, 214, "¥" if zh else "£", 56, font="bold", fill="#c4001a")
    p.text(24, 254, f"{'每100克' if zh else 'per 100 g'} {d.uniform(0.3, 9):.2f}", 17, "amount")
    base.put_barcode(p, 24, 266, 180, 44, base.number(d, 12), caption=False)
    p.text(
        612,
        302,
        f"{'产地' if zh else 'from'} {(base.CITIES_ZH if zh else base.CITIES)[d.randrange(16)]}",
        17,
        "origin",
        at="r",
    )
    p.text(400, 254, f"{'有效至' if zh else 'until'} {day_both(d, zh)}", 15, "date")
    return p


@SECOND.template
def plate(s: random.Random, d: random.Random) -> Page:
    """The rear of a car with its number plate."""
    p = Page("plate", 760, 520, paper=s.choice(["#9aa3a8", "#8d9a86", "#b0a79a"]))
    body = s.choice(["#c62828", "#1c2c5e", "#e8e8e8", "#2e3a2f", "#5d4037"])
    zh = chinese(s)
    p.rect(0, 420, 760, 520, fill="#55585a")
    p.rect(90, 170, 670, 430, fill=body)
    p.poly((150, 170, 220, 60, 540, 60, 610, 170), fill=body)
    p.poly((180, 164, 234, 78, 526, 78, 580, 164), fill="#2a3338")
    for x in (104, 590):
        p.rect(x, 200, x + 66, 250, fill="#b3161c")
        p.rect(x + 40, 200, x + 66, 250, fill="#f0a030")
    p.rect(130, 420, 210, 490, fill="#151515")
    p.rect(550, 420, 630, 490, fill="#151515")
    p.rect(70, 360, 690, 424, fill="#1d1d1d")
    letters = "ABCDEFGHJKLMNPRSTUVWXY"
    text = (
        d.choice("京沪粤浙苏川鲁")
        + d.choice(letters[:8])
        + " "
        + "".join(d.choice(letters + "0123456789") for _ in range(5))
        if zh
        else "".join(d.choice(letters) for _ in range(2))
        + base.number(d, 2)
        + " "
        + "".join(d.choice(letters) for _ in range(3))
    )
    p.rect(250, 270, 510, 338, fill="#0b3fae" if zh else "#f7d417", outline="#111111", width=2, role="plate")
    ink = "#ffffff" if zh else "#111111"
    start = 264.0
    if zh:
        p.text(start, 322, text[0], 40, fill=ink, font="bold")
        start += 44
        text = text[1:]
    p.text(start, 322, text, 42 if zh else 46, "regno", fill=ink, font="bold")
    return p


@SECOND.template
def delivery_table(s: random.Random, d: random.Random) -> Page:
    """A list of deliveries or of people on duty."""
    zh = chinese(s)
    p = Page("delivery_table", 860, 700, font=s.choice(["sans", "serif"]))
    bold = p.font.replace("sans", "") + "bold"
    duty = s.random() < 0.5
    p.text(
        40,
        58,
        (("值班表" if duty else "送货清单") if zh else ("Duty roster" if duty else "Delivery list")),
        28,
        "title",
        font=bold,
    )
    p.text(820, 58, day_both(d, zh), 17, "date", at="r")
    xs, y = [50, 130, 330, 540, 810], 110.0
    p.rect(40, 84, 820, 118, fill=s.choice(["#d7e3f0", "#ead9cf", "#dfeadb"]))
    for x, cz, en, at in zip(
        xs, ["序", "姓名", "地点", "时间", "费用"], ["No.", "Name", "Place", "Time", "Cost"], "llllr", strict=True
    ):
        p.text(x, 108, cz if zh else en, 16, at=at, font=bold)
    for i in range(12):
        y += 44
        who = base.person(fork(d), zh)
        k = d.randrange(16)
        p.text(xs[0], y - 6, str(i + 1), 17)
        p.text(xs[1], y - 6, who, 17, "cell", row=i)
        p.text(xs[2], y - 6, (base.CITIES_ZH if zh else base.CITIES)[k], 17, "cell", row=i)
        p.text(xs[3], y - 6, base.clock_time(d), 17, "time", row=i)
        p.text(xs[4], y - 6, f"{d.uniform(4, 320):.2f}", 17, "amount", at="r", row=i)
        p.line((40, y + 8, 820, y + 8), fill="#bbbbbb")
    return p


@SECOND.template
def permission_slip(s: random.Random, d: random.Random) -> Page:
    """A consent form with boxes to tick."""
    zh = chinese(s)
    p = Page("permission_slip", 740, 900, paper=s.choice(["#ffffff", "#fffaf0"]), font=s.choice(["sans", "serif"]))
    bold = p.font.replace("sans", "") + "bold"
    p.text(370, 70, "知情同意书" if zh else "Consent form", 30, "title", at="m", font=bold)
    who = base.person(fork(d), zh)
    p.text(60, 130, f"{'姓名' if zh else 'Name'}:", 17)
    p.text(150, 130, who, 18, "name", font=bold)
    p.text(680, 130, day_both(d, zh), 16, "date", at="r")
    k = s.randrange(3)
    p.text(
        60,
        176,
        [
            ("兹同意参加学校组织的春游活动。", "I agree to the school trip as described overleaf."),
            ("兹同意接受下列检查和治疗。", "I agree to the examination and treatment below."),
            ("兹同意公司按下列方式处理本人信息。", "I agree that my details are used as set out below."),
        ][k][not zh],
        17,
        "sentence",
    )
    asks = [
        ("已阅读全部条款", "I have read all the terms"),
        ("无药物过敏史", "I have no drug allergy"),
        ("同意拍照", "Photographs may be taken"),
        ("愿意接受回访", "You may call me afterwards"),
        ("同意转交第三方", "Details may be passed to others"),
        ("需要午餐", "I need lunch"),
        ("自行返回", "I return home on my own"),
        ("已购保险", "I am insured"),
    ]
    for i, (cz, en) in enumerate(d.sample(asks, 6)):
        y = 236 + 52 * i
        p.rect(70, y - 18, 92, y + 4, outline="#222222", width=1.8, role="box", row=i)
        if d.random() < 0.5:
            p.line((73, y - 8, 80, y - 1, 91, y - 20), fill="#1b2a6b", width=2.6, role="tick", row=i)
        p.text(110, y, cz if zh else en, 18, "sentence", row=i)
    p.text(60, 580, "联系电话" if zh else "Telephone", 17)
    p.text(200, 580, base.number(d, 11), 18, "ref")
    p.text(60, 620, "费用" if zh else "Cost", 17)
    p.text(200, 620, f"{d.uniform(8, 900):.2f}", 18, "amount")
    p.text(60, 720, "签字" if zh else "Signed", 17)
    p.line((150, 726, 400, 726), fill="#666666")
    p.line(base.scribble(fork(d), 165, 676, 180, 44), fill="#1b2a6b", width=1.8, role="sign")
    for i in range(3):
        n = d.randint(2, 28)
        p.text(
            60,
            800 + 18 * i,
            f"{i + 1}. 如需撤回,请于{n}日内以书面形式提出,逾期无效。"
            if zh
            else f"{i + 1}. You may withdraw in writing within {n} days; after that the form stands.",
            11,
            "fine",
            fill="#555555",
        )
    return p


@SECOND.template
def wayfinding(s: random.Random, d: random.Random) -> Page:
    """A sign with arrows and pictograms."""
    zh = chinese(s)
    p = Page("wayfinding", 860, 560, paper=s.choice(["#14406b", "#1a1a1a", "#0d5c3f", "#f2c500"]))
    ink = "#ffffff" if dark(p) else "#111111"
    places = [
        ("出口", "Way out"),
        ("站台", "Platforms"),
        ("行李寄存", "Left luggage"),
        ("急诊", "Emergency"),
        ("电梯", "Lifts"),
        ("售票处", "Tickets"),
        ("出租车", "Taxis"),
        ("公共汽车", "Buses"),
    ]
    for i, (cz, en) in enumerate(d.sample(places, 4)):
        y = 70 + 128 * i
        left = d.random() < 0.5
        put_arrow(p, 90, y + 24, 44, left, ink, i)
        p.text(190, y + 40, cz if zh else en, 44, "placename", fill=ink, font="bold", row=i)
        p.text(800, y + 40, f"{d.choice('ABCDEFG')}{d.randint(1, 29)}", 40, "code", at="r", fill=ink, row=i)
        if i < 3:
            p.line((40, y + 92, 820, y + 92), fill=ink, width=1.5)
    return p


def put_arrow(p: Page, x: float, y: float, r: float, left: bool, ink: str, row: int) -> None:
    """A bold arrow to the left or the right."""
    k = -1 if left else 1
    p.ops.append(
        Op(
            "poly",
            (
                x + k * r,
                y,
                x,
                y - r * 0.8,
                x,
                y - r * 0.28,
                x - k * r,
                y - r * 0.28,
                x - k * r,
                y + r * 0.28,
                x,
                y + r * 0.28,
                x,
                y + r * 0.8,
            ),
            fill=ink,
            role="arrowicon",
            row=row,
        )
    )


@SECOND.template
def weather_screen(s: random.Random, d: random.Random) -> Page:
    """A forecast of seven days with frost."""
    zh = chinese(s)
    p = Page("weather_screen", 560, 900, paper=s.choice(["#dbe9f7", "#e9eef2", "#1f3350"]))
    ink = "#f2f6fa" if dark(p) else "#1c2733"
    k = d.randrange(16)
    p.text(280, 74, (base.CITIES_ZH if zh else base.CITIES)[k], 32, "placename", at="m", fill=ink)
    p.text(280, 176, f"-{d.randint(2, 19)}°", 88, "signed", at="m", fill=ink)
    p.text(
        280,
        224,
        (["晴", "多云", "小雪", "雾"] if zh else ["Clear", "Cloudy", "Light snow", "Fog"])[d.randrange(4)],
        22,
        "state",
        at="m",
        fill=ink,
    )
    for i in range(7):
        y = 310 + 70 * i
        p.text(
            50,
            y,
            "周" + "一二三四五六日"[i]
            if zh
            else ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"][i],
            20,
            fill=ink,
        )
        low = d.randint(2, 19)
        p.text(390, y, f"-{low}°", 22, "signed", at="r", fill=ink, row=i)
        p.text(500, y, f"{d.randint(1, 9)}°", 22, "high", at="r", fill=ink, row=i)
        if d.random() < 0.5:
            p.oval(270, y - 8, 12, 12, fill="#f5b301")
        else:
            p.oval(262, y - 6, 12, 9, fill="#a8b4c0")
            p.oval(278, y - 8, 14, 12, fill="#a8b4c0")
        p.line((50, y + 24, 510, y + 24), fill="#9fb0c2")
    p.text(
        280,
        840,
        f"{'湿度' if zh else 'Humidity'} {d.randint(20, 98)}%   {'风力' if zh else 'Wind'} {d.randint(1, 9)}",
        17,
        "state",
        at="m",
        fill=ink,
    )
    return p


@SECOND.template
def yard_scene(s: random.Random, d: random.Random) -> Page:
    """A car park from above, as a camera sees it."""
    p = Page("yard_scene", 960, 600, paper=s.choice(["#6d7275", "#7a7468", "#5f6a66"]))
    colours = ["#b71c1c", "#0d47a1", "#eeeeee", "#212121", "#9e9e9e", "#f9a825", "#1b5e20"]
    for row in range(2):
        y = 40 + row * 340
        for i in range(10):
            x = 40 + i * 88
            p.line((x, y, x, y + 170), fill="#e8e8e0", width=3)
            if d.random() < 0.55:
                put_car(p, x + 44, y + 88, d.choice(colours), row * 10 + i)
        p.line((920, y, 920, y + 170), fill="#e8e8e0", width=3)
    p.line([v for i in range(2) for v in (40 + i * 880, 295)], fill="#dfd28a", width=3)
    p.text(20, 590, f"CAM {s.randint(1, 16):02d}", 18, fill="#ffffff", font="mono")
    return p


def put_car(p: Page, x: float, y: float, colour: str, row: int) -> None:
    """A car from above."""
    p.rect(x - 28, y - 60, x + 28, y + 60, fill=colour, role="car", row=row)
    p.rect(x - 22, y - 30, x + 22, y - 12, fill="#37474f", role="car", row=row)
    p.rect(x - 22, y + 30, x + 22, y + 44, fill="#37474f", role="car", row=row)


# --------------------------------------------------------------------------------------------------------------------
# Copies, usual: everything that mattered in the first can still be read in the second


COLOURED = ["sales_columns", "site_map"]  # templates in which colour carries meaning


def material(
    ctx: Context,
    *,
    text: bool = False,
    drawn: float = 0.6,
    low: float = 1.15,
    high: float = 1.7,
    avoid: Sequence[str] = (),
) -> tuple[str, Image.Image]:
    """A picture to be copied, large enough that its small print survives an ordinary copy."""
    if ctx.rng.random() < drawn:
        page = ctx.page(avoid=avoid)
        return f"drawn/{page.name}", page.render(ctx.scale(low, high))
    return ctx.picture(text=text, drawn=0.0)


def fitted(image: Image.Image, side: int) -> Image.Image:
    """The image made smaller, where it is larger, so that its long side is side."""
    return resized(image, side / max(image.size)) if max(image.size) > side else image


@SECOND.kind(same=True, group="usual")
def messenger_resave(ctx: Context) -> Made:
    """What arrives through a messenger: long side limited, JPEG."""
    source, image = material(ctx)
    app, side, low, high = ctx.rng.choice([("W", 1600, 72, 82), ("X", 1280, 68, 78), ("T", 1280, 82, 89)])
    second = fitted(image, side)
    q = ctx.rng.randint(low, high)
    data = second.convert("RGB")
    out = encode(data, "JPEG", quality=q, subsampling=2, progressive=True)
    return source, base.with_file(ctx, image), out, f"messenger {app} {second.size} q{q}"


@SECOND.kind(same=True, group="usual")
def webp_reencode(ctx: Context) -> Made:
    """Saved as WebP by a site, JPEG before."""
    source, image = material(ctx)
    q = ctx.rng.randint(60, 88)
    return source, jpeg(image, ctx.rng.randint(85, 94)), encode(fitted(image, 1500), "WEBP", quality=q), f"webp q{q}"


@SECOND.kind(same=True, group="usual")
def viewer_screenshot(ctx: Context) -> Made:
    """A screenshot of the picture open in a telephone's or a computer's viewer."""
    rng = ctx.rng
    for _ in range(40):  # until all of it can still be read on the screen
        source, image = material(ctx)
        tall = rng.random() < 0.65
        w, h = (
            rng.choice([(1080, 2340), (1170, 2532), (1080, 1920)]) if tall else rng.choice([(1920, 1080), (1680, 1050)])
        )
        bar = rng.randint(60, 90) if tall else rng.randint(26, 40)
        foot = rng.randint(90, 170) if tall else rng.randint(40, 60)
        room_w, room_h = (w, h - 2 * bar - foot) if tall else (w - 40, h - bar - foot)
        if min(room_w / image.width, room_h / image.height) >= (0.6 if source.startswith("drawn/") else 0.75):
            break
    ground = rng.choice(["#000000", "#000000", "#ffffff", "#1c1c1e", "#f2f2f7"])
    ink = "#ffffff" if ground in ("#000000", "#1c1c1e") else "#111111"
    shot = Image.new("RGB", (w, h), ground)
    f = min(room_w / image.width, room_h / image.height)
    small = resized(image, f)
    shot.paste(
        small,
        (
            (w - small.width) // 2,
            2 * bar + (room_h - small.height) // 2 if tall else bar + (room_h - small.height) // 2,
        ),
    )
    draw = ImageDraw.Draw(shot)
    size = bar * 0.42
    font = base.font_for("0", "bold", size)
    clock = base.clock_time(rng)
    if tall:
        draw.text((bar * 0.8, bar * 0.7), clock, font=font, fill=ink, anchor="ls")
        x = w - bar * 1.6
        draw.rectangle((x, bar * 0.36, x + bar * 0.7, bar * 0.7), outline=ink, width=3)
        draw.rectangle((x + 5, bar * 0.36 + 5, x + 5 + bar * 0.55 * rng.random(), bar * 0.7 - 5), fill=ink)
        for i in range(4):
            draw.rectangle((x - bar + i * 14, bar * 0.66 - i * 7, x - bar + i * 14 + 9, bar * 0.7), fill=ink)
        draw.line((bar * 0.9, bar * 1.25, bar * 0.6, bar * 1.5, bar * 0.9, bar * 1.75), fill=ink, width=4)
        title = rng.choice(
            [f"{rng.randint(1, 40)}/{rng.randint(41, 90)}", "照片", "IMG_" + base.number(rng, 4), "昨天 " + clock]
        )
        draw.text((w / 2, bar * 1.65), title, font=base.font_for(title, "bold", size), fill=ink, anchor="ms")
        for i in range(4):
            x = w * (i + 0.5) / 4
            draw.ellipse((x - 20, h - foot / 2 - 20, x + 20, h - foot / 2 + 20), outline=ink, width=4)
        draw.rectangle((w * 0.33, h - 14, w * 0.67, h - 7), fill=ink)
    else:
        draw.rectangle((0, 0, w, bar), fill="#e3e3e3")
        for i, c in enumerate(("#ff5f57", "#febc2e", "#28c840")):
            draw.ellipse((14 + 26 * i, bar / 2 - 7, 28 + 26 * i, bar / 2 + 7), fill=c)
        draw.text(
            (w / 2, bar * 0.7),
            f"scan_{base.number(rng, 4)}.png",
            font=base.font_for("s", "sans", size),
            fill="#333333",
            anchor="ms",
        )
        draw.rectangle((0, h - foot, w, h), fill="#d8dde6")
        draw.text(
            (w - 20, h - foot * 0.35),
            f"{clock}   {rng.randint(8, 100)}%",
            font=base.font_for("0", "sans", foot * 0.4),
            fill="#222222",
            anchor="rs",
        )
    out = encode(shot) if rng.random() < 0.6 else jpeg(shot, rng.randint(80, 92))
    return source, base.with_file(ctx, image), out, f"screenshot {w}x{h}, scaled {f:.2f}"


@SECOND.kind(same=True, group="usual")
def scan_margins_cropped(ctx: Context) -> Made:
    """The blank bed of the scanner round the page cut away."""
    page = ctx.page(
        avoid=["transfer_screen", "chat_log", "weather_screen", "yard_scene", "plate", "wayfinding", "menu_board"]
    )
    sheet = page.render(ctx.scale(1.0, 1.4))
    rng, nrng = ctx.rng, ctx.np_rng
    w, h = sheet.size
    left, right, top, bottom = (rng.uniform(0.02, 0.22) * side for side in (w, w, h, h))
    bed = np.full((int(h + top + bottom), int(w + left + right), 3), rng.choice([252, 246, 238, 225]), np.float32)
    bed += nrng.normal(0, 1.5, bed.shape[:2])[..., None]
    scan = Image.fromarray(np.clip(bed, 0, 255).astype(np.uint8))
    scan.paste(sheet, (int(left), int(top)))
    keep = rng.uniform(0, 0.25)
    box = (int(left * (1 - keep)), int(top * (1 - keep)), int(left + w + right * keep), int(top + h + bottom * keep))
    second = scan.crop(box)
    return (
        f"drawn/{page.name}",
        base.with_file(ctx, scan),
        jpeg(second, rng.randint(80, 93)),
        f"cropped to {box} of {scan.size}",
    )


@SECOND.kind(same=True, group="usual")
def scan_skewed(ctx: Context) -> Made:
    """Laid on the scanner a little askew."""
    source, image = material(
        ctx, text=True, avoid=["transfer_screen", "chat_log", "weather_screen", "yard_scene", "plate"]
    )
    angle = ctx.rng.choice([-1, 1]) * ctx.rng.uniform(0.4, 2.5)
    grown = ctx.rng.random() < 0.7
    fill = ctx.rng.choice(["#ffffff", "#f4f4f2", "#e4e4e4"])
    second = image.rotate(angle, Image.Resampling.BICUBIC, expand=grown, fillcolor=fill)
    second = base.noisy(second, ctx.np_rng, ctx.rng.uniform(0.5, 2.5))
    return source, base.with_file(ctx, image), jpeg(second, ctx.rng.randint(80, 92)), f"askew {angle:.2f}"


@SECOND.kind(same=True, group="usual")
def auto_contrast(ctx: Context) -> Made:
    """A dull scan and the same after the scanner's automatic contrast."""
    source, image = material(ctx)
    low, high = ctx.rng.randint(8, 45), ctx.rng.randint(195, 245)
    a = np.asarray(image, np.float32) / 255 * (high - low) + low
    dull = Image.fromarray(a.astype(np.uint8))
    second = ImageOps.autocontrast(dull, cutoff=ctx.rng.uniform(0, 1.2), preserve_tone=ctx.rng.random() < 0.5)
    return source, base.with_file(ctx, dull), jpeg(second, ctx.rng.randint(82, 94)), f"levels {low}-{high} stretched"


@SECOND.kind(same=True, group="usual")
def grey_copy(ctx: Context) -> Made:
    """Sent on in grey."""
    source, image = material(ctx, avoid=COLOURED)
    grey = image.convert("L")
    if ctx.rng.random() < 0.4:
        grey = ImageEnhance.Contrast(grey).enhance(ctx.rng.uniform(1.0, 1.2))
    grey = fitted(grey, ctx.rng.choice([1200, 1500, 2000]))
    out = encode(grey) if ctx.rng.random() < 0.4 else encode(grey, "JPEG", quality=ctx.rng.randint(78, 92))
    return source, base.with_file(ctx, image), out, "grey"


@SECOND.kind(same=True, group="usual")
def pdf_other_dpi(ctx: Context) -> Made:
    """Put into a PDF and drawn from it at another resolution."""
    source, image = material(ctx, text=True, low=1.4, high=1.8)
    dpi = ctx.rng.choice([96, 110, 150, 200])
    out = ctx.rng.uniform(0.78, 1.4)
    file = io.BytesIO()
    image.save(file, "PDF", resolution=dpi, quality=ctx.rng.randint(80, 95))
    document = pypdfium2.PdfDocument(file.getvalue())
    second = document[0].render(scale=dpi / 72 * out).to_pil().convert("RGB")
    document.close()
    data = encode(second) if ctx.rng.random() < 0.6 else jpeg(second, ctx.rng.randint(82, 94))
    return source, base.with_file(ctx, image), data, f"pdf at {dpi}, drawn at {dpi * out:.0f} dpi"


def desk_photo(ctx: Context, image: Image.Image, tilt: float, shade: float, blur: float, noise: float) -> Image.Image:
    """The printed page on a table, seen from a corner, with a soft shadow across it."""
    rng = ctx.np_rng
    src = np.asarray(image.convert("RGB"), np.float32)
    h, w = src.shape[:2]
    m = 0.06 + tilt
    out_w, out_h = int(w * (1 + m)), int(h * (1 + m))
    grain = cv2.GaussianBlur(rng.normal(0, 1, (out_h, out_w)).astype(np.float32), (0, 0), sigmaX=22, sigmaY=1.4)
    grain = (grain / max(1e-6, float(grain.std()))).astype(np.float32)
    wood = np.array([[150, 112, 78], [92, 84, 80], [196, 188, 176], [60, 58, 64]][int(rng.integers(4))], np.float32)
    table = wood[None, None] * (1 + 0.06 * grain[..., None])
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    pull = rng.uniform(0, tilt, (4, 2)) * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * np.array([w, h])
    target = corners + pull + np.array([(out_w - w) / 2, (out_h - h) / 2])
    warp = cv2.getPerspectiveTransform(corners, target.astype(np.float32))
    sheet = cv2.warpPerspective(src * 0.96 + 6, warp, (out_w, out_h), flags=cv2.INTER_AREA)
    mask = cv2.warpPerspective(np.ones((h, w), np.float32), warp, (out_w, out_h))[..., None]
    scene = sheet * mask + table * (1 - mask)
    yy, xx = np.mgrid[0 : 1 : out_h * 1j, 0 : 1 : out_w * 1j].astype(np.float32)
    a = rng.uniform(0, 2 * math.pi)
    across = np.cos(a) * (xx - 0.5) + np.sin(a) * (yy - 0.5)
    hand = 1 / (1 + np.exp(-(across - rng.uniform(-0.3, 0.3)) / 0.06))
    light = 1 - shade * hand - 0.5 * shade * ((xx - 0.5) ** 2 + (yy - 0.5) ** 2)
    tone = np.array([1.0, 0.97, 0.9], np.float32) if rng.random() < 0.5 else np.array([0.95, 0.99, 1.0], np.float32)
    scene = scene * light[..., None] * tone
    if blur:
        scene = cv2.GaussianBlur(scene, (0, 0), blur)
    return Image.fromarray(np.clip(scene + rng.normal(0, noise, scene.shape), 0, 255).astype(np.uint8))


@SECOND.kind(same=True, group="usual")
def printed_page_photo(ctx: Context) -> Made:
    """A telephone's photo of the printed page, near enough that all of it can be read."""
    page = ctx.page(
        avoid=["transfer_screen", "chat_log", "weather_screen", "yard_scene", "plate", "wayfinding", "menu_board"]
    )
    image = page.render(ctx.scale(1.4, 1.7))
    shot = desk_photo(
        ctx, image, ctx.rng.uniform(0.015, 0.06), ctx.rng.uniform(0.08, 0.25), ctx.rng.uniform(0, 0.7), 2.5
    )
    return f"drawn/{page.name}", base.with_file(ctx, image), jpeg(shot, ctx.rng.randint(80, 92)), "photo of a print"


@SECOND.kind(same=True, group="usual")
def half_thumbnail(ctx: Context) -> Made:
    """Half the size; the first is drawn large, so that its small print survives."""
    source, image = material(ctx, drawn=0.6, low=2.3, high=2.6)
    if not source.startswith("drawn/"):
        source, image = ctx.photo()
    second = resized(
        image, 0.5, ctx.rng.choice([Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BOX])
    )
    return source, base.with_file(ctx, image), jpeg(second, ctx.rng.randint(82, 93)), "half"


@SECOND.kind(same=True, group="usual")
def app_sharpening(ctx: Context) -> Made:
    """An app's "enhance": sharper, more colour, a little more contrast."""
    source, image = material(ctx)
    second = image.filter(ImageFilter.UnsharpMask(ctx.rng.uniform(1, 2.5), ctx.rng.randint(60, 150), 2))
    second = ImageEnhance.Color(second).enhance(ctx.rng.uniform(1.05, 1.35))
    second = ImageEnhance.Contrast(second).enhance(ctx.rng.uniform(1.0, 1.15))
    return source, base.with_file(ctx, image), jpeg(second, ctx.rng.randint(82, 93)), "enhanced"


@SECOND.kind(same=True, group="usual")
def dusty_scan(ctx: Context) -> Made:
    """A scan with specks, hairs and the scanner's line of dirt."""
    source, image = material(
        ctx, text=True, avoid=["transfer_screen", "chat_log", "weather_screen", "yard_scene", "plate"]
    )
    rng = ctx.rng
    layer = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(layer)
    w, h = image.size
    for _ in range(rng.randint(8, 40)):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.4, 1.3)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rng.randint(60, 150))
    for _ in range(rng.randint(1, 3)):
        x, y, a = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0, 6.3)
        points: list[float] = []
        for _ in range(18):
            points += [x, y]
            a += rng.uniform(-0.35, 0.35)
            x, y = x + 3 * math.cos(a), y + 3 * math.sin(a)
        draw.line(points, fill=rng.randint(50, 110), width=1)
    if rng.random() < 0.4:
        x = rng.uniform(0.02, 0.98) * w
        draw.line((x, 0, x, h), fill=rng.randint(12, 35), width=1)
    second = Image.composite(
        Image.new("RGB", image.size, "#3a3630"), image, layer.filter(ImageFilter.GaussianBlur(0.5))
    )
    second = base.noisy(second, ctx.np_rng, rng.uniform(0.5, 2))
    return source, base.with_file(ctx, image), jpeg(second, rng.randint(82, 93)), "dust"


# --------------------------------------------------------------------------------------------------------------------
# Copies, hard: some of the content can no longer be read in the second


@SECOND.kind(same=True, group="hard")
def quarter_thumbnail(ctx: Context) -> Made:
    """A preview in which small print is gone."""
    source, image = material(ctx, text=True)
    second = fitted(image, ctx.rng.randint(240, 380))
    return source, base.with_file(ctx, image), jpeg(second, ctx.rng.randint(60, 85)), f"preview {second.size}"


@SECOND.kind(same=True, group="hard")
def many_hops(ctx: Context) -> Made:
    """Forwarded again and again, each time smaller and coarser."""
    source, image = material(ctx)
    second = image
    for _ in range(ctx.rng.randint(4, 7)):
        second = resized(second, ctx.rng.uniform(0.78, 0.93))
        data = jpeg(second, ctx.rng.randint(18, 40))
        second = Image.open(io.BytesIO(data)).convert("RGB")
    return source, base.with_file(ctx, image), data, f"many hops, {second.size}"


@SECOND.kind(same=True, group="hard")
def far_page_photo(ctx: Context) -> Made:
    """A hasty photo of a page in bad light: tilted, blurred, noisy."""
    page = ctx.page(
        avoid=["transfer_screen", "chat_log", "weather_screen", "yard_scene", "plate", "wayfinding", "menu_board"]
    )
    image = page.render(ctx.scale(1.0, 1.3))
    shot = desk_photo(
        ctx, resized(image, 0.7), ctx.rng.uniform(0.08, 0.14), ctx.rng.uniform(0.35, 0.6), ctx.rng.uniform(1.2, 2), 9
    )
    return f"drawn/{page.name}", base.with_file(ctx, image), jpeg(shot, ctx.rng.randint(55, 75)), "bad photo of a print"


# --------------------------------------------------------------------------------------------------------------------
# Look-alikes, usual


def redo(
    ctx: Context,
    page: Page,
    roles: Sequence[str],
    how: Callable[[Op], str],
    note: str,
    fine: bool = True,
    low: float = 1.0,
    high: float = 1.5,
) -> Made:
    """A page and the page with one text of these roles changed; texts printed twice are changed twice."""
    i = ctx.rng.choice(page.find(*roles))
    was, now = page.ops[i].text, how(page.ops[i])
    second = page.copy()
    for j, op in enumerate(page.ops):
        if op.what == "text" and op.text == was and op.role in {*roles, "stub"}:
            second.ops[j] = dataclasses.replace(op, text=now)
    return pair_of(ctx, page, second, f"{note}: {was!r} / {now!r}", fine, scale=ctx.scale(low, high))


@SECOND.kind(same=False, group="usual")
def small_print_digit(ctx: Context) -> Made:
    """Same form, one digit in the small print."""
    page = ctx.page("fine")
    return redo(ctx, page, ["fine"], lambda op: base.other_digit(ctx.rng, op.text), "small print", low=1.2, high=1.6)


@SECOND.kind(same=False, group="usual")
def other_holder(ctx: Context) -> Made:
    """Same form made out to another person."""
    page = ctx.page("name")

    def other(op: Op) -> str:
        return base.other_of(ctx.rng, lambda: base.person(ctx.rng, base.is_cjk(op.text)), op.text)

    return redo(ctx, page, ["name"], other, "name", fine=ctx.rng.random() < 0.5)


@SECOND.kind(same=False, group="usual")
def other_day(ctx: Context) -> Made:
    """Same form of another date."""
    page = ctx.page("date")
    return redo(ctx, page, ["date"], lambda op: base.other_date(ctx.rng, op.text), "date", fine=ctx.rng.random() < 0.5)


@SECOND.kind(same=False, group="usual")
def column_one_changed(ctx: Context) -> Made:
    """A chart with one column of another height."""
    page = ctx.page("bar", only=["sales_columns", "utility_bill"])
    i = ctx.rng.choice(page.find("bar"))
    op = page.ops[i]
    x0, y0, x1, y1 = op.xy
    room = 390 if page.name == "sales_columns" else 120
    was = (y1 - y0) / room
    now = ctx.rng.choice([v / 100 for v in range(8, 101) if abs(v / 100 - was) > 0.09 and abs(v / 100 - was) < 0.5])
    second = page.with_op(i, dataclasses.replace(op, xy=(x0, y1 - now * room, x1, y1)))
    return pair_of(ctx, page, second, f"column {was:.2f} / {now:.2f}", fine=ctx.rng.random() < 0.5)


@SECOND.kind(same=False, group="usual")
def marker_elsewhere(ctx: Context) -> Made:
    """The same plan with its marker at another place."""
    page = ctx.page("marker", only=["site_map"])
    tip = page.ops[page.find("marker")[0]].xy[:2]
    spots = [(140 + 160 * (i % 5), 220 + 240 * (i // 5)) for i in range(10)]
    x, y = ctx.rng.choice([s for s in spots if math.dist(s, tip) > 5])
    second = page.copy()
    second.ops = [op for op in page.ops if op.role != "marker"]
    put_marker(second, x, y)
    return pair_of(ctx, page, second, f"marker {tip} / {(x, y)}")


@SECOND.kind(same=False, group="usual")
def last_message_other(ctx: Context) -> Made:
    """A conversation that ends otherwise."""
    page = ctx.page("last", only=["chat_log"])
    i = page.find("last")[0]
    op = page.ops[i]
    said = {o.text for o in page.ops if o.role in ("last", "said")}
    zh = any(base.is_cjk(o) for o in said)
    choice = (
        ["明天见", "算了,不去了", "钱已退给你", "改到周五吧", "我同意", "我不同意", "到了告诉我", "已经取消了"]
        if zh
        else [
            "See you tomorrow",
            "Leave it, I am not coming",
            "I sent the money back",
            "Friday then",
            "I agree",
            "I do not agree",
            "Call me when you get there",
            "It is cancelled",
        ]
    )
    text = ctx.rng.choice([c for c in choice if c not in said])
    j = next(k for k, o in enumerate(page.ops) if o.what == "rect" and o.row == op.row)
    w = base.font_for(text, "sans", 20).getlength(text) + 34
    x0, y0, x1, y1 = page.ops[j].xy
    right = x1 > 499
    x0, x1 = (500 - w, 500) if right else (60, 60 + w)
    second = page.with_op(j, dataclasses.replace(page.ops[j], xy=(x0, y0, x1, y1)))
    second.ops[i] = dataclasses.replace(op, text=text, xy=(x0 + 17, op.xy[1]))
    return pair_of(ctx, page, second, f"last message {op.text!r} / {text!r}", fine=ctx.rng.random() < 0.3)


@SECOND.kind(same=False, group="usual")
def price_tag_other(ctx: Context) -> Made:
    """The same article at another price."""
    page = ctx.page("price", only=["shelf_tag", "menu_board"])
    return redo(ctx, page, ["price"], lambda op: base.other_digit(ctx.rng, op.text), "price", fine=False, low=0.9)


@SECOND.kind(same=False, group="usual")
def rows_exchanged(ctx: Context) -> Made:
    """A table in which two rows stand in each other's place."""
    page = ctx.page(only=["delivery_table", "school_report", "menu_board"])
    rows = sorted({op.row for op in page.ops if op.row >= 0 and op.what == "text"})

    def words(r: int) -> list[str]:
        return [op.text for op in page.ops if op.row == r]

    while True:
        a, b = ctx.rng.sample(rows, 2)
        if words(a) != words(b):
            break
    first = {r: next(op for op in page.ops if op.row == r and op.what == "text").xy for r in (a, b)}
    second = page.copy()
    for k, op in enumerate(page.ops):
        if op.row in (a, b) and op.what == "text":
            to, here = first[b if op.row == a else a], first[op.row]
            second.ops[k] = dataclasses.replace(op, xy=(op.xy[0] + to[0] - here[0], op.xy[1] + to[1] - here[1]))
    return pair_of(ctx, page, second, f"rows {words(a)} and {words(b)}", fine=ctx.rng.random() < 0.5)


def small_thing(ctx: Context, size: int) -> Image.Image:
    """A small object with an outline to be put on a photo: a ball, a bird or a parcel."""
    k = size * 4
    x = Image.new("RGBA", (k, k), (0, 0, 0, 0))
    draw = ImageDraw.Draw(x)
    c = ctx.rng.choice(["#f44336", "#ffeb3b", "#ffffff", "#1a1a1a", "#03a9f4"])
    what = ctx.rng.randrange(3)
    if what == 0:
        draw.ellipse((4, 4, k - 4, k - 4), fill=c, outline="#222222", width=k // 20)
        draw.ellipse((k * 0.25, k * 0.2, k * 0.45, k * 0.4), fill="#ffffff")
    elif what == 1:
        draw.polygon(
            (0, k * 0.35, k * 0.5, k * 0.55, k, k * 0.3, k * 0.62, k * 0.7, k * 0.5, k * 0.85, k * 0.38, k * 0.7),
            fill=c,
            outline="#222222",
        )
    else:
        draw.rectangle((4, k * 0.2, k - 4, k - 4), fill="#c08a4d", outline="#4a3218", width=k // 20)
        draw.rectangle((k * 0.42, k * 0.2, k * 0.58, k - 4), fill="#e6d5b8")
    return x.resize((size, size), Image.Resampling.LANCZOS)


@SECOND.kind(same=False, group="usual")
def frame_small_move(ctx: Context) -> Made:
    """Two frames of one fixed camera: a car in another bay, or a small thing elsewhere in the view."""
    rng = ctx.rng
    if rng.random() < 0.5:
        page = ctx.page(only=["yard_scene"])
        taken = sorted({op.row for op in page.ops if op.role == "car"})
        free = [r for r in range(20) if r not in taken]
        if taken and free:
            a, b = rng.choice(taken), rng.choice(free)
            ops = [op for op in page.ops if op.role == "car" and op.row == a]
            second = page.copy()
            second.ops = [op for op in page.ops if not (op.role == "car" and op.row == a)]
            put_car(second, 40 + (b % 10) * 88 + 44, 40 + (b // 10) * 340 + 88, ops[0].fill or "#eeeeee", b)
            scale = ctx.scale(0.8, 1.2)
            frames = [base.noisy(p.render(scale), ctx.np_rng, 2) for p in (page, second)]
            q = rng.randint(70, 90)
            return "drawn/yard_scene", jpeg(frames[0], q), jpeg(frames[1], q), f"car from bay {a} to {b}"
    source, image = ctx.photo()
    image = fitted(image, 960)
    size = int(max(image.size) * rng.uniform(0.05, 0.09))
    w, h = image.size
    for _ in range(200):  # until it stands out at both places
        thing = small_thing(ctx, size)
        spots = [(rng.randint(0, w - size), rng.randint(0, h - size)) for _ in range(2)]
        if math.dist(*spots) < 1.5 * size:
            continue
        frames = []
        for spot in spots:
            frame = image.copy()
            frame.paste(thing, spot, thing)
            frames.append(frame)
        solid = np.asarray(thing.getchannel("A")) > 128
        seen = [
            np.abs(
                np.asarray(f.crop((x, y, x + size, y + size)), np.int16)
                - np.asarray(image.crop((x, y, x + size, y + size)), np.int16)
            )
            .mean(axis=2)[solid]
            .mean()
            for f, (x, y) in zip(frames, spots, strict=True)
        ]
        if min(seen) > 55:
            break
    q = rng.randint(75, 92)
    out = [jpeg(base.noisy(frame, ctx.np_rng, 1.5), q) for frame in frames]
    return source, out[0], out[1], f"thing of {size} px from {spots[0]} to {spots[1]}"


@SECOND.kind(same=False, group="usual")
def regno_other_letter(ctx: Context) -> Made:
    """The same car with one other letter or digit on its plate."""
    page = ctx.page("regno")

    def how(op: Op) -> str:
        i = ctx.rng.choice([k for k, c in enumerate(op.text) if c != " "])
        pool = "0123456789" if op.text[i].isdecimal() else "ABCDEFGHJKLMNPRSTUVWXY"
        return op.text[:i] + ctx.rng.choice([c for c in pool if c != op.text[i]]) + op.text[i + 1 :]

    return redo(ctx, page, ["regno"], how, "plate", fine=False, low=0.8, high=1.4)


@SECOND.kind(same=False, group="usual")
def language_version(ctx: Context) -> Made:
    """The same document in Chinese and in English."""
    name = ctx.rng.choice([n for n in sorted(SECOND.templates) if n not in ("plate", "yard_scene")])
    style, data, both = ctx.rng.random(), ctx.rng.random(), []
    for lang in (True, False):
        s = Style(style)
        s.lang = lang
        both.append(SECOND.templates[name](s, random.Random(data)))
    if ctx.rng.random() < 0.5:
        both.reverse()
    return pair_of(ctx, both[0], both[1], "other language")


def put_seal(page: Page, rng: random.Random, x: float, y: float, r: float) -> None:
    """A round red seal with a star."""
    page.oval(x, y, r, r, outline="#c81e1e", width=r * 0.07, role="seal")
    star = [
        v
        for i in range(10)
        for a in [math.pi * (i / 5 - 0.5)]
        for q in [r * (0.34 if i % 2 == 0 else 0.14)]
        for v in (x + q * math.cos(a), y + q * math.sin(a))
    ]
    page.poly(star, fill="#c81e1e", role="seal")
    word = rng.choice(["财务专用章", "审核专用章", "已收讫", "RECEIVED", "CHECKED"])
    page.text(
        x, y + r * 0.72, word, r * (0.24 if base.is_cjk(word) else 0.22), "seal", fill="#c81e1e", at="m", font="bold"
    )


@SECOND.kind(same=False, group="usual")
def seal_or_tick_added(ctx: Context) -> Made:
    """A round seal, or a hand-made tick, on one of the two."""
    if ctx.rng.random() < 0.5:
        page = ctx.page(only=["utility_bill", "school_report", "blood_panel", "delivery_table", "permission_slip"])
        second = page.copy()
        put_seal(
            second,
            ctx.rng,
            page.width * ctx.rng.uniform(0.55, 0.85),
            page.height * ctx.rng.uniform(0.6, 0.9),
            page.width * 0.08,
        )
        return pair_of(ctx, page, second, "seal")
    page = ctx.page("item", "cell", "dish", avoid=["shelf_tag", "menu_board"])
    op = page.ops[ctx.rng.choice(page.find("item", "cell", "dish"))]
    left, _ = extent(op)
    y, s = op.xy[1], op.size
    second = page.copy()
    second.line(
        (left - s * 1.3, y - s * 0.4, left - s * 0.9, y, left - s * 0.2, y - s * 1.0),
        fill="#c62828",
        width=2.4,
        role="tick",
    )
    return pair_of(ctx, page, second, f"tick beside {op.text!r}", fine=True)


@SECOND.kind(same=False, group="usual")
def next_of_the_pad(ctx: Context) -> Made:
    """The next sheet of one printed form: everything filled in is other, everything printed is the same."""
    a, b = ctx.two_pages()
    while a.name in ("yard_scene", "site_map", "wayfinding"):
        a, b = ctx.two_pages()
    return pair_of(ctx, a, b, "another of the same form")


# --------------------------------------------------------------------------------------------------------------------
# Look-alikes, adversarial


def extent(op: Op) -> tuple[float, float]:
    """Left and right end of a text, in page units."""
    w = base.font_for(op.text, op.font, op.size * 4).getlength(op.text) / 4
    left = op.xy[0] - {"l": 0.0, "m": w / 2, "r": w}[op.at]
    return left, left + w


@SECOND.kind(same=False, group="adversarial")
def thin_strike(ctx: Context) -> Made:
    """One entry struck through with a thin line."""
    page = ctx.page("amount", "direction", "mark", "sentence", "dish", "cell", "last", "event")
    i = ctx.rng.choice(page.find("amount", "direction", "mark", "sentence", "dish", "cell", "last", "event"))
    op = page.ops[i]
    left, right = extent(op)
    second = page.copy()
    y = op.xy[1] - op.size * 0.33
    second.line(
        (left - 3, y + ctx.rng.uniform(-1.5, 1.5), right + 3, y + ctx.rng.uniform(-1.5, 1.5)),
        fill=op.fill or INK if dark(page) else ctx.rng.choice([INK, "#1b2a6b", "#b71c1c"]),
        width=1.1,
    )
    return pair_of(ctx, page, second, f"struck {op.text!r}", fine=True, scale=ctx.scale(1.0, 1.5))


@SECOND.kind(same=False, group="adversarial")
def point_elsewhere(ctx: Context) -> Made:
    """The decimal point one place further, or gone."""
    page = ctx.page("amount", "dose", "total", "result", "price")

    def how(op: Op) -> str:
        i = op.text.index(".")
        if op.text[i + 1 : i + 3].isdecimal() and ctx.rng.random() < 0.6 and len(op.text) > i + 2:
            return op.text[:i] + op.text[i + 1] + "." + op.text[i + 2 :]
        return op.text[:i] + op.text[i + 1 :]

    roles = ["amount", "dose", "total", "result", "price"]
    found = [j for j in page.find(*roles) if "." in page.ops[j].text]
    while not found:
        page = ctx.page(*roles)
        found = [j for j in page.find(*roles) if "." in page.ops[j].text]
    i = ctx.rng.choice(found)
    was, now = page.ops[i].text, how(page.ops[i])
    return pair_of(ctx, page, page.with_text(i, now), f"point: {was!r} / {now!r}", fine=True, scale=ctx.scale(1.0, 1.5))


@SECOND.kind(same=False, group="adversarial")
def ghost_void(ctx: Context) -> Made:
    """A faint watermark VOID or 作废 across one of the two."""
    page = ctx.page(avoid=["plate", "yard_scene", "wayfinding"])
    word = ctx.rng.choice(["VOID", "作废", "VOID", "无效", "CANCELLED"])
    second = page.copy()
    size = min(page.width / len(word) * (0.9 if word.isascii() else 0.7), page.height * 0.4)
    second.text(
        page.width * 0.5,
        page.height * 0.5,
        word,
        size,
        "ghost",
        fill="#ffffff" if dark(page) else "#777777",
        font="bold",
        angle=ctx.rng.uniform(15, 40),
        alpha=ctx.rng.uniform(0.15, 0.25),
    )
    return pair_of(ctx, page, second, f"watermark {word!r}", fine=ctx.rng.random() < 0.5)


@SECOND.kind(same=False, group="adversarial")
def minus_lost(ctx: Context) -> Made:
    """A figure below nought and the same without its sign."""
    page = ctx.page("signed")
    i = ctx.rng.choice(page.find("signed"))
    was = page.ops[i].text
    pair = [page, page.with_text(i, was.lstrip("-"))]
    if ctx.rng.random() < 0.5:
        pair.reverse()
    return pair_of(ctx, pair[0], pair[1], f"sign of {was!r}", fine=True, scale=ctx.scale(1.0, 1.5))


TWINS = [
    ("未", "末", ["本月{}付清水费", "{}登记人员请留步", "客户:周{}"]),
    ("己", "已", ["自{}填写", "编号{}丑", "联系人:赵{}"]),
    ("土", "士", ["{}官学校", "经办:李{}杰", "{}产专营"]),
    ("千", "干", ["{}层饼", "若{}问题", "{}货区"]),
    ("天", "夫", ["工作{}", "姓名:陈{}", "{}人到访"]),
    ("人", "入", ["{}口登记", "每{}一张", "{}库清单"]),
    ("大", "太", ["{}原路12号", "王{}明", "{}平洋厅"]),
    ("折", "拆", ["请勿{}叠", "此件可{}", "{}旧费"]),
    ("治", "冶", ["{}金车间", "综合{}理", "张{}国"]),
    ("免", "兔", ["{}费领取", "{}子两只", "{}检通道"]),
    ("侯", "候", ["{}先生收", "等{}区", "{}诊室"]),
    ("戊", "戌", ["{}时开门", "甲{}年", "{}组成员"]),
    ("日", "曰", ["{}期有效", "子{}", "{}用品"]),
    ("贷", "货", ["{}款合同", "还{}清单", "{}物单据"]),
    ("卖", "买", ["{}方签字", "{}家电话", "只{}一件"]),
    ("王", "玉", ["收件人:{}华", "{}米两袋", "{}女士"]),
]


def parcel_note(rng: random.Random, line: str) -> Page:
    """A Chinese slip of a few lines, one of which is given."""
    p = Page(
        "parcel_note", 640, 420, paper=rng.choice(["#ffffff", "#fdf8e8", "#eef5ee"]), font=rng.choice(["sans", "serif"])
    )
    p.rect(10, 10, 630, 410, outline="#444444", width=1.5)
    p.text(
        320,
        62,
        rng.choice(["收发登记单", "物业通知", "窗口告示"]),
        28,
        at="m",
        font="serifbold" if p.font == "serif" else "bold",
    )
    p.line((30, 80, 610, 80), fill="#444444")
    lines = [
        f"单号 {base.number(rng, 8)}",
        f"地址 {rng.choice(base.CITIES_ZH)}市中山路{rng.randint(1, 300)}号",
        f"经手人 {base.person(rng, True)}",
        f"日期 {base.day(rng, True)}",
    ]
    lines.insert(rng.randint(0, 4), line)
    for i, text in enumerate(lines):
        p.text(50, 134 + 56 * i, text, 23, "line")
    return p


@SECOND.kind(same=False, group="adversarial")
def hanzi_twins(ctx: Context) -> Made:
    """One character and the one that looks like it, in a line of a slip."""
    twins = TWINS[ctx.seed % base.SLICES :: base.SLICES] if len(TWINS) >= 2 * base.SLICES else TWINS
    a, b, frames = ctx.rng.choice(twins)
    frame, mark = ctx.rng.choice(frames), ctx.rng.random()
    first, second = (parcel_note(random.Random(mark), frame.replace("{}", c)) for c in (a, b))
    return pair_of(ctx, first, second, f"{a}/{b} in {frame}", fine=True, scale=ctx.scale(1.0, 1.6))


def blank_spot(image: Image.Image, rng: random.Random, w: int, h: int, edge: bool = False) -> tuple[int, int] | None:
    """Where a box of this size covers nothing drawn; with edge, near the left or right side."""
    grey = np.asarray(image.convert("L"), np.float32)
    lap = (np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1), cv2.CV_32F)) > 6).astype(np.uint8)
    total = cv2.integral(lap)
    free = []
    for y in range(2, image.height - h - 2, max(2, h // 8)):
        for x in range(2, image.width - w - 2, max(2, w // 8)):
            if total[y + h, x + w] - total[y, x + w] - total[y + h, x] + total[y, x] == 0:
                free.append((x, y))  # noqa: PERF401
    if edge:
        free = [s for s in free if s[0] < image.width * 0.12 or s[0] + w > image.width * 0.88] or free
    return rng.choice(free) if free else None


def short_note(rng: random.Random) -> str:
    """A few words as one jots them down."""
    return rng.choice(
        [
            f"ring {base.clock_time(rng)}",
            "not ours!",
            f"paid {rng.randint(5, 400)}",
            f"see p.{rng.randint(2, 40)}",
            "ask Tom",
            "wrong?",
            f"共{rng.randint(2, 90)}份",
            "待核",
            "不对",
            "已寄",
            f"欠{rng.randint(10, 900)}",
            "问老王",
        ]
    )


def with_blank(
    ctx: Context, w: float, h: float, edge: bool = False
) -> tuple[str, Image.Image, tuple[int, int, int, int]]:
    """A picture and a box in it that is blank; w in shares of the width, h in shares of w."""
    for _ in range(60):
        source, image = material(ctx, text=True, drawn=0.7, low=1.0, high=1.4, avoid=["plate", "yard_scene"])
        bw = max(int(image.width * w), 96)
        bh = int(bw * h)
        if image.height > bh + 10 and (spot := blank_spot(image, ctx.rng, bw, bh, edge)):
            return source, image, (spot[0], spot[1], bw, bh)
    raise LookupError("no picture has room")


def ground(image: Image.Image, box: tuple[int, int, int, int]) -> float:
    """The brightness of a box."""
    x, y, w, h = box
    return float(np.asarray(image.crop((x, y, x + w, y + h)).convert("L"), np.float32).mean())


@SECOND.kind(same=False, group="adversarial")
def pencil_in_margin(ctx: Context) -> Made:
    """A small pencil note where nothing was."""
    source, image, box = with_blank(ctx, 0.13, 0.3, edge=True)
    x, y, w, h = box
    text = short_note(ctx.rng)
    size = min(h * 0.8, w / max(1.0, base.font_for(text, "serifitalic", 20).getlength(text) / 20))
    layer = Image.new("L", (w, h), 0)
    ImageDraw.Draw(layer).text(
        (w / 2, h / 2), text, font=base.font_for(text, "serifitalic", size), fill=200, anchor="mm"
    )
    layer = layer.rotate(ctx.rng.uniform(-4, 4), Image.Resampling.BICUBIC)
    second = image.copy()
    second.paste("#6a6a6e" if ground(image, box) > 110 else "#c9c9c9", (x, y), layer)
    a, b = ctx.ship(image, second, fine=True)
    return source, a, b, f"pencil {text!r} {size:.0f} px at {x},{y}"


def strip_with(rng: random.Random, width: int) -> tuple[Image.Image, str]:
    """A strip of text as wide as the picture."""
    text = rng.choice(
        [
            "This is a forgery – do not pay.",
            "Corrected version follows.",
            "Agreed by both sides on the phone.",
            "Only valid together with page 2.",
            "以上内容有误,以本行为准。",
            "此图为样张,不可使用。",
            "已与对方确认,同意退款。",
            f"Reply by {base.day(rng)}.",
            f"请于{base.day(rng, True)}前回复。",
        ]
    )
    size = max(13.0, min(width * rng.uniform(0.026, 0.04), 40))
    while base.font_for(text, "sans", size).getlength(text) > width * 0.94 and size > 8:
        size -= 1
    strip = Image.new(
        "RGB", (width, int(size * rng.uniform(1.9, 3))), rng.choice(["#ffffff", "#f3f3f3", "#fff8d6", "#101010"])
    )
    ink = "#f0f0f0" if strip.getpixel((0, 0)) == (16, 16, 16) else INK
    ImageDraw.Draw(strip).text(
        (width * 0.03, strip.height / 2), text, font=base.font_for(text, "sans", size), fill=ink, anchor="lm"
    )
    return strip, text


@SECOND.kind(same=False, group="adversarial")
def strip_below(ctx: Context) -> Made:
    """A strip with a sentence put on below the picture."""
    source, image = material(ctx, drawn=0.5, low=0.9, high=1.3)
    strip, text = strip_with(ctx.rng, image.width)
    second = Image.new("RGB", (image.width, image.height + strip.height))
    second.paste(image, (0, 0))
    second.paste(strip, (0, image.height))
    a, b = ctx.ship(image, second, fine=ctx.rng.random() < 0.5)
    return source, a, b, f"strip {text!r}"


@SECOND.kind(same=False, group="adversarial")
def page_pasted_beside(ctx: Context) -> Made:
    """The next sheet of the same form scanned along with the first."""
    a, b = ctx.two_pages()
    scale, across = ctx.scale(0.85, 1.2), ctx.rng.random() < 0.75
    one, two = a.render(scale), b.render(scale)
    gap = ctx.rng.randint(0, 30)
    size = (one.width * 2 + gap, one.height) if across else (one.width, one.height * 2 + gap)
    second = Image.new("RGB", size, ctx.rng.choice(["#ffffff", "#cfcfcf", "#2a2a2a"]))
    order = [one, two] if ctx.rng.random() < 0.6 else [two, one]
    second.paste(order[0], (0, 0))
    second.paste(order[1], (one.width + gap, 0) if across else (0, one.height + gap))
    x, y = ctx.ship(one, second)
    return f"drawn/{a.name}", x, y, "second sheet " + ("beside" if across else "below")


@SECOND.kind(same=False, group="adversarial")
def sticky_over_blank(ctx: Context) -> Made:
    """A sticky note with a few words on an empty part of the page."""
    source, image, box = with_blank(ctx, ctx.rng.uniform(0.14, 0.2), 0.75)
    x, y, w, h = box
    colour = ctx.rng.choice(["#fff27a", "#ffd0e0", "#c9f0c0", "#cfe6ff"])
    note = Image.new("RGBA", (w, h), (0, 0, 0, 0))
    draw = ImageDraw.Draw(note)
    draw.rectangle((2, 2, w - 4, h - 4), fill=colour)
    text = short_note(ctx.rng)
    size = min(h * 0.4, 0.84 * w / max(1.0, base.font_for(text, "italic", 20).getlength(text) / 20))
    draw.text((w / 2, h / 2), text, font=base.font_for(text, "italic", size), fill="#24346e", anchor="mm")
    note = note.rotate(ctx.rng.uniform(-3, 3), Image.Resampling.BICUBIC)
    second = image.copy()
    second.paste(note, (x, y), note)
    a, b = ctx.ship(image, second, fine=ctx.rng.random() < 0.5)
    return source, a, b, f"sticky {text!r}"


def pictogram(rng: random.Random, side: float) -> Page:
    """A single pictogram that means something else when mirrored."""
    back = rng.choice(["#ffffff", "#f0f0f0", "#1f2a44", "#0b6e4f"])
    p = Page("pictogram", side, side, paper=back)
    ink = "#ffffff" if dark(p) else rng.choice(["#111111", "#b71c1c", "#0d47a1"])
    k, u = rng.randrange(5), side / 100
    if k == 0:  # bent arrow, turn
        p.line([v * u for v in (30, 85, 30, 45, 65, 45)], fill=ink, width=10 * u)
        p.poly([v * u for v in (62, 26, 88, 45, 62, 64)], fill=ink)
    elif k == 1:  # next track
        p.poly([v * u for v in (20, 24, 58, 50, 20, 76)], fill=ink)
        p.rect(62 * u, 24 * u, 74 * u, 76 * u, fill=ink)
    elif k == 2:  # crescent moon
        p.oval(48 * u, 50 * u, 32 * u, 32 * u, fill=ink)
        p.oval(62 * u, 46 * u, 28 * u, 28 * u, fill=back)
    elif k == 3:  # lines aligned left
        for i, w in enumerate((66, 40, 58, 30)):
            p.rect(18 * u, (22 + 16 * i) * u, (18 + w) * u, (29 + 16 * i) * u, fill=ink)
    else:  # door with somebody leaving
        p.rect(56 * u, 14 * u, 84 * u, 88 * u, outline=ink, width=4 * u)
        p.oval(34 * u, 26 * u, 8 * u, 8 * u, fill=ink)
        p.line([v * u for v in (34, 36, 40, 60, 28, 84)], fill=ink, width=6 * u)
        p.line([v * u for v in (40, 60, 54, 78)], fill=ink, width=6 * u)
        p.line([v * u for v in (37, 44, 56, 50)], fill=ink, width=5 * u)
    return p


@SECOND.kind(same=False, group="adversarial")
def icon_mirrored(ctx: Context) -> Made:
    """One pictogram the other way round, alone or on a sign full of others."""
    way = ctx.rng.random()
    if way < 0.35:
        page = pictogram(ctx.rng, 100)
        first = page.render(ctx.rng.choice([0.64, 0.96, 1.28, 2.56]), over=3)
        a, b = ctx.ship(first, ImageOps.mirror(first), fine=True)
        return "drawn/pictogram", a, b, "pictogram mirrored"
    if way < 0.7:
        page = ctx.page("arrowicon")
        i = ctx.rng.choice(page.find("arrowicon"))
    else:
        page = ctx.page("arrow", only=["blood_panel"])
        i = ctx.rng.choice(page.find("arrow"))
    op = page.ops[i]
    n = 0 if way < 0.7 else 1
    low, high = min(op.xy[n::2]), max(op.xy[n::2])
    xy = tuple(low + high - v if k % 2 == n else v for k, v in enumerate(op.xy))
    return pair_of(ctx, page, page.with_op(i, dataclasses.replace(op, xy=xy)), "arrow the other way", fine=True)


@SECOND.kind(same=False, group="adversarial")
def digits_upside_down(ctx: Context) -> Made:
    """A tag whose number, turned half round, is another number; the printing about it stays upright."""
    rng = ctx.rng
    turned = {"0": "0", "6": "9", "8": "8", "9": "6"}
    while True:
        text = rng.choice("689") + "".join(rng.choice("0689") for _ in range(rng.randint(0, 3))) + rng.choice("689")
        other = "".join(turned[c] for c in reversed(text))
        if other != text:
            break
    back, ink = rng.choice(
        [("#ffffff", "#111111"), ("#f6d743", "#111111"), ("#21406f", "#ffffff"), ("#8d1c1c", "#ffffff")]
    )
    bits = Image.new("RGB", (800, 320), back)
    size = min(260.0, 1200 / len(text))
    ImageDraw.Draw(bits).text(
        (400, 160),
        text,
        font=base.font_for(text, rng.choice(["bold", "sans", "serifbold"]), size),
        fill=ink,
        anchor="mm",
    )
    word = rng.choice(["LOCKER", "ROOM", "储物柜", "房间号", "BIB", "TABLE", "餐桌"])
    pages = []
    for b in (bits, bits.transpose(Image.Transpose.ROTATE_180)):
        p = Page("number_tag", 520, 340, paper=back)
        p.rect(8, 8, 512, 332, outline=ink, width=3)
        p.text(260, 66, word, 34, at="m", fill=ink, font="bold")
        p.bits(30, 96, 490, 280, np.asarray(b, np.uint8))
        p.oval(40, 40, 10, 10, outline=ink, width=2)
        p.oval(480, 40, 10, 10, outline=ink, width=2)
        pages.append(p)
    return pair_of(ctx, pages[0], pages[1], f"{text} / {other}", fine=rng.random() < 0.5)


@SECOND.kind(same=False, group="adversarial")
def pale_text_changed(ctx: Context) -> Made:
    """A line in a grey little darker than the paper, with one digit or word other."""
    page = ctx.page(avoid=["plate", "yard_scene", "site_map", "wayfinding", "calendar_month"])
    rng = ctx.rng
    zh = any(base.is_cjk(op.text) for op in page.ops)
    a = (
        [
            f"仅限{base.day(rng, True)}前使用",
            f"第{rng.randint(2, 98)}版 内部使用",
            f"保证金{rng.randint(100, 990)}元不退",
        ]
        if zh
        else [
            f"valid until {base.day(rng)}",
            f"draft {rng.randint(2, 98)} – internal",
            f"deposit of {rng.randint(100, 990)} not returned",
        ]
    )
    text = rng.choice(a)
    other = (
        base.other_date(rng, text)
        if base.plausible(text) and ("until" in text or "前" in text)
        else base.other_digit(rng, text)
    )
    shade = rng.uniform(0.16, 0.3)
    paper = [int(page.paper[i : i + 2], 16) for i in (1, 3, 5)]
    ink = "#" + "".join(f"{round(v * (1 - shade) + (255 if dark(page) else 0) * shade):02x}" for v in paper)
    low = page.height
    pages = []
    for t in (text, other):
        p = page.copy()
        p.height = low + 46
        p.rect(0, low, p.width, low + 46, fill=page.paper)
        p.text(page.width / 2, low + 28, t, 19, "pale", fill=ink, at="m")
        pages.append(p)
    return pair_of(
        ctx, pages[0], pages[1], f"pale {text!r} / {other!r} shade {shade:.2f}", fine=True, scale=ctx.scale(1.0, 1.4)
    )


@SECOND.kind(same=False, group="adversarial")
def box_unchecked(ctx: Context) -> Made:
    """A box with its tick, and without it."""
    page = ctx.page("box", only=["permission_slip", "utility_bill", "school_report"])
    full = page.copy()
    boxes = [page.ops[i] for i in page.find("box")]
    ticks = {op.row for op in page.ops if op.role == "tick"}
    op = ctx.rng.choice([b for b in boxes if b.row < 0 or b.row not in ticks] or boxes)
    if op.row >= 0 and op.row in ticks:
        full, page = page, page.with_op(next(i for i in page.find("tick") if page.ops[i].row == op.row), None)
    else:
        x0, y0, x1, y1 = op.xy
        w, h = x1 - x0, y1 - y0
        if ctx.rng.random() < 0.5:
            full.line(
                (x0 + w * 0.15, y0 + h * 0.5, x0 + w * 0.42, y1 - h * 0.18, x1 - w * 0.1, y0 + h * 0.12),
                fill="#1b2a6b",
                width=2.2,
            )
        else:
            full.line((x0 + w * 0.2, y0 + h * 0.2, x1 - w * 0.2, y1 - h * 0.2), fill=INK, width=1.8)
            full.line((x0 + w * 0.2, y1 - h * 0.2, x1 - w * 0.2, y0 + h * 0.2), fill=INK, width=1.8)
    pair = [page, full]
    if ctx.rng.random() < 0.5:
        pair.reverse()
    return pair_of(ctx, pair[0], pair[1], "box ticked in one", fine=True, scale=ctx.scale(1.0, 1.5))


@SECOND.kind(same=False, group="adversarial")
def swapped_legend(ctx: Context) -> Made:
    """The key of a chart says the opposite: two colours, or two names, changed places."""
    page = ctx.page("legend", only=["sales_columns"])
    role = ctx.rng.choice(["legend", "legendtext"])
    i, j = ctx.rng.sample(page.find(role), 2)
    second = page.copy()
    a, b = page.ops[i], page.ops[j]
    second.ops[i] = dataclasses.replace(a, fill=b.fill, text=b.text)
    second.ops[j] = dataclasses.replace(b, fill=a.fill, text=a.text)
    return pair_of(ctx, page, second, f"{role} swapped", fine=True, scale=ctx.scale(0.9, 1.4))


@SECOND.kind(same=False, group="adversarial")
def extra_zero(ctx: Context) -> Made:
    """Ten times as much: a zero more before the point or at the end."""
    roles = ["amount", "total", "price", "qty", "absent", "last", "meter"]
    page = ctx.page(*roles)
    found: list[int] = []
    while not found:
        page = ctx.page(*roles)
        found = [
            k
            for k in page.find(*roles)
            if re.search(r"[1-9][\d,]*(\.\d|\D*$)", page.ops[k].text) and not re.search(r"(^|\D)0\.", page.ops[k].text)
        ]
    i = ctx.rng.choice(found)
    was = page.ops[i].text
    if "." in was and was[was.rindex(".") + 1 :].isdecimal():
        at = was.rindex(".")
        head = max(k for k in range(at + 1) if k == 0 or not (was[k - 1].isdecimal() or was[k - 1] == ","))
        now = was[:head] + f"{int(was[head:at].replace(',', '')) * 10:,}" + was[at:]
    else:
        at = max(k for k, c in enumerate(was) if c.isdecimal()) + 1
        now = was[:at] + "0" + was[at:]
    return pair_of(ctx, page, page.with_text(i, now), f"zero: {was!r} / {now!r}", fine=True, scale=ctx.scale(1.0, 1.5))


def yield_pairs(data: Path, pages: Path, per_kind: int, seed: int, only: Sequence[str] = ()) -> Iterator[Pair]:
    """All pairs of this set."""
    data = data if (data / "sroie").is_dir() else data / "images"
    return base.pairs_of(SECOND, data, pages, per_kind, seed, only)


def run(arguments: Sequence[str]) -> int:
    """The command line; --data may be the folder that holds images/ as well as images/ itself."""
    given = list(arguments)
    if "--data" in given[:-1]:
        at = given.index("--data") + 1
        if not (Path(given[at]) / "sroie").is_dir() and (Path(given[at]) / "images" / "sroie").is_dir():
            given[at] = str(Path(given[at]) / "images")
    return base.main(SECOND, given)


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
