"""Renders the example pages: fictional receipts, invoices, charts, screens and labels, in English and Chinese.

    python examples/render.py [folder]

The rendered files are kept beside this script, so that nobody needs the fonts to use them. Rendering needs Pillow and
the Debian packages fonts-noto-cjk and fonts-dejavu-core.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

NOTO = "/usr/share/fonts/opentype/noto/NotoSansCJK-{weight}.ttc"
MONO = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono{weight}.ttf"
SIMPLIFIED = 2
"""The face of the Noto collection with the mainland's forms."""

INK, SOFT, LINE, PAPER = "#1d1f24", "#6a7080", "#c9ced8", "#ffffff"
BLUE, GREEN, RED, AMBER = "#2457c5", "#1d8a5b", "#c0392b", "#d98a1b"


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The proportional face."""
    return ImageFont.truetype(NOTO.format(weight="Bold" if bold else "Regular"), size, index=SIMPLIFIED)


def mono(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The face of a till."""
    return ImageFont.truetype(MONO.format(weight="-Bold" if bold else ""), size)


class Sheet:
    """A page to draw on."""

    def __init__(self, width: int, height: int, colour: str = PAPER) -> None:
        self.image = Image.new("RGB", (width, height), colour)
        self.draw = ImageDraw.Draw(self.image)
        self.width, self.height = width, height

    def text(
        self, x: float, y: float, text: str, face: ImageFont.FreeTypeFont, colour: str = INK, anchor: str = "la"
    ) -> None:
        """Writes one line; `anchor` as Pillow defines it."""
        self.draw.text((x, y), text, font=face, fill=colour, anchor=anchor)

    def rule(self, y: float, left: float, right: float, colour: str = LINE, width: int = 2, dash: int = 0) -> None:
        """Draws a horizontal line, dashed when `dash` is given."""
        if not dash:
            self.draw.line((left, y, right, y), fill=colour, width=width)
            return
        x = left
        while x < right:
            self.draw.line((x, y, min(x + dash, right), y), fill=colour, width=width)
            x += 2 * dash

    def box(
        self, x: float, y: float, w: float, h: float, fill: str | None = None, line: str | None = None, r: int = 0
    ) -> None:
        """Draws a rectangle."""
        self.draw.rounded_rectangle((x, y, x + w, y + h), r, fill=fill, outline=line, width=2)


def on_desk(sheet: Sheet, turn: float, seed: int) -> Image.Image:
    """A till slip as a camera sees it: slightly turned, a shadow under it, a little grain."""
    margin = 60
    size = sheet.width + 2 * margin, sheet.height + 2 * margin
    desk = Image.linear_gradient("L").resize(size).convert("RGB")
    desk = ImageChops.blend(Image.new("RGB", size, "#8a735c"), desk, 0.14)
    slip = sheet.image.convert("RGBA").rotate(turn, Image.Resampling.BICUBIC, expand=True)
    place = (size[0] - slip.width) // 2, (size[1] - slip.height) // 2
    shadow = Image.new("L", size, 0)
    shadow.paste(slip.getchannel("A").point(lambda value: value // 2), (place[0] + 8, place[1] + 12))
    desk.paste("#20160c", (0, 0), shadow.filter(ImageFilter.GaussianBlur(12)))
    desk.paste(slip, place, slip)
    noise = Image.frombytes("L", size, random.Random(seed).randbytes(size[0] * size[1]))
    grain = Image.merge("RGB", [noise] * 3).filter(ImageFilter.GaussianBlur(0.8))
    return Image.blend(desk, grain, 0.035)


Item = tuple[str, str]


def slip(
    name: str,
    lines: Sequence[str],
    facts: Sequence[Item],
    items: Sequence[Item],
    sums: Sequence[Item],
    foot: Sequence[str],
) -> Sheet:
    """A till slip in a monospaced face."""
    width, x = 560, 36
    height = 210 + 30 * len(lines) + 32 * (len(facts) + len(items)) + 38 * len(sums) + 30 * len(foot)
    sheet = Sheet(width, height, "#fbfaf6")
    y = 34.0
    sheet.text(width / 2, y, name, mono(30, True), anchor="ma")
    y += 48
    for line in lines:
        sheet.text(width / 2, y, line, mono(19), anchor="ma")
        y += 30
    y += 12
    for group, face, step in ((facts, mono(19), 32), (items, mono(20), 32), (sums, mono(22, True), 38)):
        sheet.rule(y, x, width - x, SOFT, dash=8)
        y += 14
        for left, right in group:
            sheet.text(x, y, left, face)
            sheet.text(width - x, y, right, face, anchor="ra")
            y += step
    sheet.rule(y, x, width - x, SOFT, dash=8)
    y += 16
    for line in foot:
        sheet.text(width / 2, y, line, mono(18), anchor="ma")
        y += 30
    return sheet


def receipt_grocer() -> Image.Image:
    """A grocer's receipt."""
    return on_desk(
        slip(
            "GREENLEAF GROCERS LTD",
            ["18 Harbour Road, Bristol BS1 4RW", "Tel: 0117 496 0182"],
            [("Receipt No: GL-204817", ""), ("Date: 14/03/2026", "17:42"), ("Cashier: Maya", "")],
            [
                ("Sourdough loaf", "3.80"),
                ("Oat milk 1L", "2.10"),
                ("Cherry tomatoes", "2.45"),
                ("Coffee beans", "8.95"),
            ],
            [("Subtotal", "17.30"), ("VAT", "1.79"), ("Total", "£19.09"), ("Cash", "20.00"), ("Change", "0.91")],
            ["Thank you for shopping local"],
        ),
        0.6,
        1,
    )


def receipt_cafe() -> Image.Image:
    """A café's receipt."""
    return on_desk(
        slip(
            "THE COPPER KETTLE CAFE",
            ["7 Station Street, Leeds LS1 5DL", "Phone: 0113 496 0345"],
            [("Bill No: 88213", "Table: 6"), ("Date: 02 Apr 2026", "09:15")],
            [("Flat white", "3.60"), ("Almond croissant", "3.25"), ("Orange juice", "4.00")],
            [("Subtotal", "10.85"), ("Service charge", "1.09"), ("Total due", "£11.94")],
            ["Guest WiFi: kettle-guest"],
        ),
        -0.8,
        2,
    )


def receipt_supermarket_zh() -> Image.Image:
    """A supermarket's receipt in Chinese."""
    sheet = Sheet(580, 900, "#fbfaf6")
    sheet.text(290, 36, "青禾生活超市", font(38, True), anchor="ma")
    sheet.text(290, 92, "地址：杭州市西湖区云栖路66号", font(21), anchor="ma")
    sheet.text(290, 126, "电话：0571-8800 6621", font(21), anchor="ma")
    y = 172
    for left, right in (("小票号：QH20260318007", ""), ("日期：2026-03-18", "19:26"), ("收银员：陈晓", "")):
        sheet.text(38, y, left, font(22))
        sheet.text(542, y, right, font(22), anchor="ra")
        y += 38
    sheet.rule(y, 38, 542, SOFT, dash=8)
    y += 16
    for left, middle, right in (
        ("商品", "数量", "金额"), ("纯牛奶1L", "2", "25.60"), ("鸡蛋30枚", "1", "23.90"), ("东北大米5kg", "1", "45.80"),
        ("洗衣液2L", "1", "29.90"),
    ):  # fmt: skip
        sheet.text(38, y, left, font(22))
        sheet.text(370, y, middle, font(22), anchor="ma")
        sheet.text(542, y, right, font(22), anchor="ra")
        y += 42
    sheet.rule(y, 38, 542, SOFT, dash=8)
    y += 18
    for left, right in (("优惠", "-5.20"), ("应付金额", "¥120.00"), ("现金", "150.00"), ("找零", "30.00")):
        sheet.text(38, y, left, font(26, True))
        sheet.text(542, y, right, font(26, True), anchor="ra")
        y += 48
    sheet.text(290, y + 24, "谢谢惠顾，欢迎再次光临", font(22), SOFT, anchor="ma")
    return on_desk(sheet, 0.5, 3)


def invoice(
    number: str, date: str, due: str, rows: Sequence[tuple[str, str, str, str]], sums: Sequence[Item]
) -> Image.Image:
    """An invoice of Northwind Instruments: one template, whatever it bills."""
    sheet = Sheet(1000, 1240)
    sheet.box(0, 0, 1000, 14, BLUE)
    sheet.text(64, 64, "Northwind Instruments Ltd", font(34, True), BLUE)
    for position, line in enumerate(
        ("42 Foundry Lane, Sheffield S3 8GG", "VAT No: GB 372 9041 65", "Tel: 0114 496 0770")
    ):
        sheet.text(64, 124 + 30 * position, line, font(20), SOFT)
    sheet.text(936, 60, "INVOICE", font(44, True), anchor="ra")
    for position, (left, right) in enumerate((("Invoice No:", number), ("Date:", date), ("Due date:", due))):
        sheet.text(650, 134 + 34 * position, left, font(21), SOFT)
        sheet.text(936, 134 + 34 * position, right, font(21, True), anchor="ra")
    sheet.text(64, 272, "Bill to:", font(21), SOFT)
    sheet.text(150, 272, "Alder & Finch Laboratories", font(21, True))
    sheet.box(64, 340, 872, 46, "#eef2fb")
    columns = (80, 590, 760, 920)
    for x, head, anchor in zip(columns, ("Description", "Quantity", "Unit price", "Amount"), "lrrr", strict=True):
        sheet.text(x, 351, head, font(20, True), anchor=f"{anchor}a")
    y = 404
    for row in rows:
        for x, cell, anchor in zip(columns, row, "lrrr", strict=True):
            sheet.text(x, y, cell, font(21), anchor=f"{anchor}a")
        sheet.rule(y + 40, 64, 936)
        y += 56
    y += 30
    for position, (left, right) in enumerate(sums):
        last = position == len(sums) - 1
        sheet.text(610, y, left, font(26 if last else 21, last))
        sheet.text(920, y, right, font(26 if last else 21, last), anchor="ra")
        y += 50
    sheet.rule(1100, 64, 936)
    sheet.text(64, 1120, "Payment by bank transfer within 30 days. IBAN: GB29 NWBK 6016 1331 9268 19", font(18), SOFT)
    return sheet.image


def invoice_en() -> Image.Image:
    """The first invoice."""
    return invoice(
        "NW-2026-0417",
        "17 April 2026",
        "17 May 2026",
        (
            ("Digital calliper 150 mm", "6", "48.50", "291.00"),
            ("Torque wrench 20-100 Nm", "2", "139.00", "278.00"),
            ("Calibration service", "1", "185.00", "185.00"),
        ),
        (("Subtotal", "754.00"), ("VAT 20%", "150.80"), ("Total", "£904.80")),
    )


def invoice_en_lookalike() -> Image.Image:
    """The same template a few days later: another number, date and amount."""
    return invoice(
        "NW-2026-0421",
        "21 April 2026",
        "21 May 2026",
        (
            ("Digital calliper 150 mm", "9", "48.50", "436.50"),
            ("Torque wrench 20-100 Nm", "2", "139.00", "278.00"),
            ("Calibration service", "1", "185.00", "185.00"),
        ),
        (("Subtotal", "899.50"), ("VAT 20%", "179.90"), ("Total", "£1,079.40")),
    )


def invoice_zh() -> Image.Image:
    """An invoice in Chinese."""
    sheet = Sheet(1180, 800, "#fffdf8")
    brown = "#7a4b1e"
    sheet.text(590, 36, "江南电子发票（普通发票）", font(36, True), brown, anchor="ma")
    sheet.rule(94, 400, 780, brown)
    for position, (left, right) in enumerate(
        (("发票号码：", "26330000001874529036"), ("开票日期：", "2026年04月09日"))
    ):
        sheet.text(770, 112 + 32 * position, left, font(20), brown)
        sheet.text(870, 112 + 32 * position, right, font(20))
    sheet.box(40, 190, 1100, 520, None, brown)
    for x, title, name, code in (
        (56, "购买方", "宁波启航软件有限公司", "91330201MA2AB3CD4E"),
        (606, "销售方", "杭州云杉办公设备有限公司", "91330106MA27XK5P8Q"),
    ):
        sheet.text(x, 204, f"{title}信息", font(18), brown)
        sheet.text(x, 240, f"名称：{name}", font(21))
        sheet.text(x, 276, f"统一社会信用代码/纳税人识别号：{code}", font(18))
    sheet.rule(320, 40, 1140, brown)
    columns = (56, 460, 560, 690, 850, 960, 1124)
    heads = ("项目名称", "规格型号", "数量", "单价", "金额", "税率", "税额")
    rows = (
        ("*办公设备*激光打印机", "LP-2600", "3", "1280.00", "3840.00", "13%", "499.20"),
        ("*办公耗材*硒鼓", "T-88", "6", "210.00", "1260.00", "13%", "163.80"),
    )
    for number, row in enumerate((heads, *rows)):
        for x, cell, anchor in zip(columns, row, "llrrrrr", strict=True):
            sheet.text(x, 336 + 48 * number, cell, font(20), brown if number == 0 else INK, anchor=f"{anchor}a")
    sheet.rule(560, 40, 1140, brown)
    sheet.text(56, 574, "合计", font(21), brown)
    sheet.text(850, 574, "¥5100.00", font(21), anchor="ra")
    sheet.text(1124, 574, "¥663.00", font(21), anchor="ra")
    sheet.rule(616, 40, 1140, brown)
    sheet.text(56, 632, "价税合计（大写）", font(21), brown)
    sheet.text(280, 632, "伍仟柒佰陆拾叁圆整", font(22))
    sheet.text(760, 632, "（小写）", font(21), brown)
    sheet.text(860, 630, "¥5763.00", font(24, True))
    sheet.text(56, 738, "开票人：林嘉", font(20))
    return sheet.image


def chart_sales() -> Image.Image:
    """A bar chart with its values."""
    sheet = Sheet(960, 620)
    sheet.text(60, 36, "Bicycle sales by quarter, 2025", font(32, True))
    sheet.text(60, 84, "Units sold, all shops", font(20), SOFT)
    base, top = 520, 150
    for step in range(5):
        y = base - (base - top) * step / 4
        sheet.rule(y, 110, 910)
        sheet.text(96, y, f"{step * 500}", font(18), SOFT, anchor="rm")
    for place, (quarter, value) in enumerate((("Q1", 820), ("Q2", 1460), ("Q3", 1735), ("Q4", 1190))):
        x = 170 + 190 * place
        height = (base - top) * value / 2000
        sheet.box(x, base - height, 110, height, BLUE)
        sheet.text(x + 55, base - height - 10, str(value), font(22, True), anchor="mb")
        sheet.text(x + 55, base + 14, quarter, font(22), anchor="ma")
    sheet.text(60, 578, "Source: company accounts", font(18), SOFT)
    return sheet.image


def chart_energy_zh() -> Image.Image:
    """A bar chart in Chinese, lying on its side."""
    sheet = Sheet(960, 600)
    sheet.text(60, 34, "2025年各部门用电量", font(34, True))
    sheet.text(60, 88, "单位：千瓦时", font(20), SOFT)
    values = (("研发部", 4820, BLUE), ("生产部", 9360, GREEN), ("市场部", 2150, AMBER), ("行政部", 1780, RED))
    for place, (name, value, colour) in enumerate(values):
        y = 150 + 105 * place
        sheet.text(170, y + 30, name, font(24), anchor="rm")
        sheet.box(190, y, value / 9360 * 600, 60, colour)
        sheet.text(204 + value / 9360 * 600, y + 30, str(value), font(24, True), anchor="lm")
    return sheet.image


def screen_settings() -> Image.Image:
    """A settings screen."""
    sheet = Sheet(1000, 680, "#f4f5f8")
    sheet.box(0, 0, 230, 680, "#20304f")
    sheet.text(30, 32, "Lumen Cloud", font(26, True), "#ffffff")
    for place, entry in enumerate(("Overview", "Devices", "Network", "Billing", "Settings")):
        if entry == "Network":
            sheet.box(14, 94 + 54 * place, 202, 44, "#3a5488", r=8)
        sheet.text(34, 102 + 54 * place, entry, font(20), "#e8edf8")
    sheet.text(270, 34, "Network settings", font(32, True))
    sheet.box(270, 100, 690, 440, PAPER, LINE, 12)
    facts = (
        ("Hostname:", "lumen-gw-07"), ("IP address:", "10.24.8.117"), ("Subnet mask:", "255.255.252.0"),
        ("Gateway:", "10.24.8.1"), ("Firmware version:", "5.12.3"), ("Uptime:", "41 days"), ("Status:", "Connected"),
    )  # fmt: skip
    for place, (left, right) in enumerate(facts):
        y = 126 + 58 * place
        sheet.text(300, y, left, font(22), SOFT)
        sheet.text(560, y, right, font(22, True), GREEN if right == "Connected" else INK)
        if place:
            sheet.rule(y - 16, 300, 930)
    sheet.box(800, 570, 160, 54, BLUE, r=8)
    sheet.text(880, 597, "Save", font(22, True), "#ffffff", anchor="mm")
    return sheet.image


def screen_order_zh() -> Image.Image:
    """An order in a shopping app, in Chinese."""
    sheet = Sheet(620, 1000, "#f3f4f6")
    sheet.box(0, 0, 620, 90, "#e4572e")
    sheet.text(310, 45, "订单详情", font(32, True), "#ffffff", anchor="mm")
    sheet.box(24, 116, 572, 150, PAPER, r=14)
    sheet.text(50, 138, "已发货", font(30, True), "#e4572e")
    sheet.text(50, 196, "预计送达：4月12日", font(22), SOFT)
    sheet.box(24, 290, 572, 640, PAPER, r=14)
    facts = (
        ("订单编号：", "883120260409551"), ("下单时间：", "2026-04-08 21:37"), ("收货人：", "周文静"),
        ("快递公司：", "飞燕快运"), ("运单号：", "FY7730518846"), ("支付方式：", "银行卡"), ("商品金额：", "¥268.00"),
        ("运费：", "¥12.00"), ("实付款：", "¥280.00"),
    )  # fmt: skip
    for place, (left, right) in enumerate(facts):
        y = 318 + 66 * place
        sheet.text(50, y, left, font(23), SOFT)
        sheet.text(220, y, right, font(23, place == 8), RED if place == 8 else INK)
    return sheet.image


def label_parcel() -> Image.Image:
    """A parcel label."""
    sheet = Sheet(760, 960)
    sheet.box(20, 20, 720, 920, None, INK)
    sheet.text(46, 44, "SWIFTPOST EXPRESS", font(40, True))
    sheet.rule(112, 20, 740, INK, 3)
    for y, left, right in (
        (140, "From:", "Harlow Prints, 9 Mill Row, York YO1 7HH"), (210, "To:", "Dr Priya Nair"),
        (250, "", "31 Elmfield Gardens"), (290, "", "Cardiff CF14 2PN"),
    ):  # fmt: skip
        sheet.text(46, y, left, font(22), SOFT)
        sheet.text(140, y, right, font(26 if y > 200 else 22, y > 200))
    sheet.rule(350, 20, 740, INK, 3)
    for place, (left, right) in enumerate(
        (("Weight:", "2.35 kg"), ("Service:", "Next Day"), ("Order ref:", "HP-66120"))
    ):
        sheet.text(46, 376 + 56 * place, left, font(26), SOFT)
        sheet.text(220, 376 + 56 * place, right, font(28, True))
    sheet.rule(560, 20, 740, INK, 3)
    bars, x = random.Random(7), 90.0
    while x < 660:
        width = bars.choice((3, 3, 5, 8))
        sheet.box(x, 600, width, 210, INK)
        x += width + bars.choice((3, 5, 8))
    sheet.text(380, 836, "Tracking No: SP 4471 0926 385", font(28, True), anchor="ma")
    return sheet.image


def label_medicine_zh() -> Image.Image:
    """A medicine's label in Chinese."""
    sheet = Sheet(900, 560, "#f7fbff")
    sheet.box(0, 0, 900, 110, "#1f6fb2")
    sheet.text(40, 26, "布洛芬缓释胶囊", font(42, True), "#ffffff")
    sheet.text(860, 56, "OTC", font(34, True), "#ffffff", anchor="rm")
    facts = (
        ("规格：", "0.3g×20粒"), ("用法用量：", "口服，一次1粒，一日2次"), ("贮藏：", "密封，在阴凉干燥处保存"),
        ("生产批号：", "B260215"), ("有效期至：", "2028年01月"), ("生产企业：", "南岭制药有限公司"),
    )  # fmt: skip
    for place, (left, right) in enumerate(facts):
        sheet.text(44, 146 + 62 * place, left, font(25), SOFT)
        sheet.text(200, 146 + 62 * place, right, font(25, True))
    return sheet.image


def ticket_train() -> Image.Image:
    """A train ticket."""
    sheet = Sheet(980, 460, "#fff6e8")
    sheet.box(0, 0, 980, 78, "#b5482a")
    sheet.text(36, 16, "CROSSCOUNTY RAIL", font(34, True), "#ffffff")
    facts = (
        ("Passenger:", "Tomas Berg"), ("From:", "Norwich"), ("To:", "Ely"), ("Date:", "23 May 2026"),
        ("Departs:", "08:57"), ("Coach:", "C"), ("Seat:", "42A"), ("Price:", "£18.40"),
    )  # fmt: skip
    for place, (left, right) in enumerate(facts):
        x, y = 44 + 470 * (place // 4), 116 + 76 * (place % 4)
        sheet.text(x, y, left, font(24), SOFT)
        sheet.text(x + 160, y - 2, right, font(28, True))
    return sheet.image


PAGES: dict[str, Callable[[], Image.Image]] = {
    "receipt-grocer.jpg": receipt_grocer,
    "receipt-cafe.jpg": receipt_cafe,
    "receipt-supermarket-zh.jpg": receipt_supermarket_zh,
    "invoice-en.png": invoice_en,
    "invoice-en-lookalike.png": invoice_en_lookalike,
    "invoice-zh.png": invoice_zh,
    "chart-sales.png": chart_sales,
    "chart-energy-zh.png": chart_energy_zh,
    "screen-settings.png": screen_settings,
    "screen-order-zh.png": screen_order_zh,
    "label-parcel.png": label_parcel,
    "label-medicine-zh.png": label_medicine_zh,
    "ticket-train.png": ticket_train,
}


def main(folder: Path) -> None:
    """Renders every page into `folder`."""
    for name, render in PAGES.items():
        image = render()
        if name.endswith(".png"):
            image.quantize(128, dither=Image.Dither.NONE).save(folder / name, optimize=True)
        else:
            image.save(folder / name, quality=88, optimize=True)
        print(f"{name:32} {image.width}×{image.height} {(folder / name).stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pages")
