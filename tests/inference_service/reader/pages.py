"""Pages made of text: what a recogniser would have read, without one."""

from __future__ import annotations

from inference_service.reader.page import Line, Page, arrange

GLYPH, HEIGHT, STEP = 12.0, 24.0, 40.0


def page(text: str, width: int = 1000) -> Page:
    """A page of the rows of `text`; two spaces or more begin a new line of the row, at the column where it stands."""
    lines: list[Line] = []
    rows = text.strip("\n").splitlines()
    for number, row in enumerate(rows):
        column = 0
        while column < len(row):
            if row[column] == " ":
                column += 1
                continue
            end = row.find("  ", column)
            part = row[column:] if end < 0 else row[column:end]
            left, top = column * GLYPH, number * STEP
            lines.append(Line(part, left, top, left + len(part) * GLYPH, top + HEIGHT))
            column += len(part)
    return arrange(width, int(len(rows) * STEP) or 1, lines)


RECEIPT = page("""
BIG RIVER TRADING SDN BHD (123456-A)
No. 12, Jalan Mawar 3/2,
Taman Bunga, 40000 Shah Alam.
Tel: 03-5512 8890
GST Reg No: 000123456789
Invoice No: BR-00981
Date: 12/03/2018     17:05
Cashier: Aminah
Blue pen            2    3.00    6.00
Notebook A5         1   12.40   12.40
Sub Total                       18.40
GST 6%                           1.10
Total (Incl. GST)               19.50
Rounding Adj                    -0.02
Rounded Total                   19.48
Cash                            50.00
Change                          30.52
GST Summary   Amount   Tax
SR            18.40    1.10
""")

INVOICE_ZH = page("""
江南增值税电子普通发票
发票代码：033001900211
发票号码：12345678
开票日期：2019年04月09日
购买方    名称：宁波启航软件有限公司
纳税人识别号：91330201MA2AB3CD4E
合计            ¥5100.00     ¥663.00
价税合计（大写）  伍仟柒佰陆拾叁圆整   （小写）  ¥5763.00
销售方    名称：杭州云杉办公设备有限公司
纳税人识别号：91330106MA27XK5P8Q
""")

SCREEN = page("""
Network settings
Hostname:            lumen-gw-07
Firmware version:    5.12.3
Uptime:              41 days
Description:
""")

CHART = page("""
Bicycle sales by quarter
Units sold
   820     1460     1735     1190
    Q1      Q2       Q3       Q4
""")
