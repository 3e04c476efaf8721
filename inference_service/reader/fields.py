"""Finds the fields of receipts and invoices, in English and Chinese, among the lines of a page.

Every rule is of one kind: a label, where its value stands (behind it in the line, right of it in the row, below it),
and what a value must look like. A value that can't be told for certain is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum

from inference_service.reader.page import Line, Page


class Field(Enum):
    """What a question may ask for by name."""

    TOTAL = "total"
    SUBTOTAL = "subtotal"
    TAX = "tax"
    TAX_RATE = "tax rate"
    DATE = "date"
    DUE_DATE = "due date"
    TIME = "time"
    COMPANY = "company"
    BUYER = "buyer"
    ADDRESS = "address"
    INVOICE_NUMBER = "invoice number"
    INVOICE_CODE = "invoice code"
    TAX_ID = "tax id"
    PHONE = "phone"
    CASH = "cash"
    CHANGE = "change"
    TITLE = "title"
    BUYER_TAX_ID = "buyer's tax id"
    BUYER_PHONE = "buyer's phone"
    BUYER_ADDRESS = "buyer's address"
    BUYER_BANK = "buyer's bank"
    BUYER_ACCOUNT = "buyer's account"
    BANK = "bank"
    ACCOUNT = "account"
    PAYEE = "payee"
    REVIEWER = "reviewer"
    DRAWER = "drawer"
    MACHINE_NUMBER = "machine number"
    CHECK_CODE = "check code"
    CASHIER = "cashier"
    DISCOUNT = "discount"
    PAYMENT_METHOD = "payment method"
    ORDER_NUMBER = "order number"
    TRACKING_NUMBER = "tracking number"
    SHIPPING_FEE = "shipping fee"
    GOODS_AMOUNT = "amount of the goods"
    WEIGHT = "weight"
    BATCH_NUMBER = "batch number"
    EXPIRY = "expiry date"
    PRODUCTION_DATE = "production date"
    STORAGE = "storage"
    MANUFACTURER = "manufacturer"
    DOSAGE = "dosage"
    STRENGTH = "specification"
    RECIPIENT = "recipient"
    SENDER = "sender"
    COURIER = "courier"
    SERVICE = "service"
    IBAN = "iban"
    DELIVERY_DATE = "delivery date"
    ORDER_TIME = "time of the order"
    SOURCE = "source"
    TABLE_NUMBER = "table number"
    PLATE = "plate"
    CERTIFICATE = "certificate number"
    PRICE_PER_KM = "price per km"
    DISTANCE = "distance"
    WAITING = "waiting time"
    FARE = "fare"
    FUEL_SURCHARGE = "fuel surcharge"
    CALL_FEE = "call fee"
    CARD_BALANCE = "card balance"
    TENDERED = "amount tendered"
    FAX = "fax"
    DOSE = "dose"
    FREQUENCY = "frequency"
    START_TIME = "start of the ride"
    END_TIME = "end of the ride"
    SERVICE_CHARGE = "service charge"
    TIP = "tip"
    ROUNDING = "rounding"
    QUANTITY_TOTAL = "number of items"
    ITEM_COUNT = "number of different items"
    AMOUNT_IN_WORDS = "amount in words"
    ORIGIN = "origin"
    DESTINATION = "destination"
    DEPARTURE = "departure"
    ARRIVAL = "arrival"
    SEAT = "seat"
    COACH = "coach"
    PASSENGER = "passenger"
    PLATFORM = "platform"


CURRENCY = r"(?:RM|MYR|US\$|HK\$|S\$|USD|EUR|GBP|CNY|RMB|[$€£¥￥])"
AMOUNT = re.compile(
    rf"(?<![\d.,/-])(?:{CURRENCY}\s?)?-?(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d{{1,2}})?|\d+\.\d{{2}})(?![\d%])(?!\.\d)(?:\s?元)?"
    rf"|{CURRENCY}\s?\d+(?![\d.,%])|(?<![\d.,/-])\d+(?:\.\d{{1,2}})?\s?元"
)
"""An amount of money: two decimals, grouped thousands, or a currency beside a whole number."""

MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*"
DAY, YEAR = r"(?:3[01]|[12]\d|0?[1-9])", r"(?:(?:19|20)\d\d|\d\d)"
DATE = re.compile(
    r"(?<!\d)(?:"
    r"(?:19|20)\d\d\s?年\s?\d{1,2}\s?月\s?\d{1,2}\s?日?"
    rf"|(?:19|20)\d\d(?P<a>[-/.])(?:1[0-2]|0?[1-9])(?P=a){DAY}"
    rf"|{DAY}(?P<b>\s?[-/.]\s?)(?:1[0-2]|0?[1-9])(?P=b){YEAR}"
    rf"|(?:1[0-2]|0?[1-9])(?P<c>[-/.]){DAY}(?P=c){YEAR}"
    rf"|{DAY}(?:st|nd|rd|th)?[\s/-]?{MONTH}[\s,.'/-]*{YEAR}"
    rf"|{MONTH}\.?\s?{DAY}(?:st|nd|rd|th)?,?\s?(?:19|20)\d\d"
    r")(?:(?!\d)|(?=\d{1,2}:\d\d))",
    re.IGNORECASE,
)
"""A day with month and year; both orders of day and month, as they are printed. Two-digit years count."""

TIME = re.compile(r"(?<![\d:])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:\s?[AP]M)?(?![\d:])", re.IGNORECASE)
PHONE = re.compile(r"\+?\(?\d[\d\s()-]{5,17}\d(?:\s?/\s?\d+)?")
NUMBER = re.compile(r"(?=[A-Z0-9/-]*\d)[A-Z0-9](?:[A-Z0-9/-]|\s(?=\d)){2,}", re.IGNORECASE)
CODE = re.compile(r"(?:[A-Z]{2}\s)?(?=[A-Z0-9-]*\d)[A-Z0-9][A-Z0-9-]{2,}(?:\s\d[\d-]*)*", re.IGNORECASE)
ADJUSTMENT = re.compile(r"-?\d*\.\d{2}(?!\d)")
PERCENT = re.compile(r"\d{1,2}(?:\.\d{1,2})?\s?%")

TOTALS: tuple[tuple[int, re.Pattern[str]], ...] = tuple(
    (weight, re.compile(pattern, re.IGNORECASE))
    for weight, pattern in (
        (
            100,
            r"价税合计|grand\s*total|round\w*\s*d?\s*total|total\s*round|total\s*\(?\s*after\s*round|total\s*rm\s*round",
        ),
        (95, r"(?:total|amount)\s*(?:amount\s*|amt\s*|sales\s*)?\W{0,3}(?:incl|inc\b|with\s*(?:gst|tax))"),
        (90, r"(?:nett?\.?|total)\s*(?:amount|amt|total|payable|due)|(?:amount|amt|total)\s*(?:due|payable)"),
        (60, r"balance\s*(?:due|payable)"),
        (90, r"应付(?:金额|总额)?|实付(?:金额|款)?|实收(?:金额)?|应收(?:金额)?|总金额|总计|总额|合计金额|总价"),
        (85, r"total\s*(?:sales|price|rm|\(rm\)|sgd|usd|eur)|\btotal\b|\btotal(?=rm|:|\d)"),
        (70, r"合\s*计|金额|小写"),
    )
)
NO_TOTAL = re.compile(
    r"sub\s*-?\s*total|total\s*\(?\s*(?:qty|quantity|items?|disc|saving|point|gst|sst|tax|excl|exc\b|before|w/o|without|no\b)"
    r"|gst\s*total|before|excl|小计|总数量|items?\s*total|优惠|saved|不含税",
    re.IGNORECASE,
)
LEGAL = re.compile(
    r"\b(?:sdn\.?\s*bhd|s/b|bhd|ltd|limited|inc|llc|corp|corporation|gmbh|plc|pte|co\.|enterprise|trading|company|holdings"
    r"|restaurant|restoran|cafe|hardware|supermarket|mart|pharmacy|bakery|bookstore|hotel|stores?|shop)\b"
    r"|有限公司|公司|商店|超市|餐厅|饭店|酒店|药房|书店|咖啡",
    re.IGNORECASE,
)
STRONG = re.compile(r"\b(?:sdn\.?\s*bhd|s/b|bhd|ltd|limited|inc|llc|corp|gmbh|plc|pte)\b|有限公司", re.IGNORECASE)
SURE = 0.9
"""The least confidence of the recogniser, 0 to 1, in a line that is quoted as a name or an address."""
STREET = re.compile(
    r"\b(?:no\.?\s?\d|lot\s?\w*\d|jalan|jln|taman|tmn|street|avenue|lane|boulevard|blvd|bandar|kampung|persiaran|lorong"
    r"|(?:road|rd|st|ave|drive|square|quay|row|gardens|plaza|mall|block|blk|floor|suite)\b(?=[\s,.]|$)"
    r"|kuala lumpur|selangor|johor|penang|[A-Z]{1,2}\d{1,2}[A-Z]?\s\d[A-Z]{2}\b)|^\d+[\w-]*,|,\s*\d{5}\b|^\d{5}\s+[A-Z]"
    r"|\d+号(?!码)",
    re.IGNORECASE,
)
NO_ADDRESS = re.compile(
    r"\b(?:tel|fax|phone|ph\b|gst|sst|vat|reg|roc|invoice|receipt|cashier|date|time|bill|email|e-mail|www|http|web|hotline"
    r"|table|document|member|thank|welcome|customer|order|qty|quantity|price|amount|total|payment|from|to)\b"
    r"|电话|发票|税号|日期|代码|[:：]|\bco\.?\s*no",
    re.IGNORECASE,
)
NO_COMPANY = re.compile(r"thank|welcome|invoice to|bill to|customer|\breg\b|:$|购买方", re.IGNORECASE)
BUSINESS = re.compile(r"receipt|invoice|\bbill\b|\btotal\b|cash|发票|收据|小票|收银|合计|总计|应付", re.IGNORECASE)
"""Words that tell a receipt or an invoice from other pages: only there is the first or largest line a firm's name."""

Found = Iterator[tuple[int, Line, str]]


def labelled(page: Page, label: re.Pattern[str], refuse: re.Pattern[str] | None = None) -> Found:
    """Rows with a label in them: the row's number, the line of the label, and what stands behind it in the row."""
    for number, (row, text) in enumerate(zip(page.rows, page.texts, strict=True)):
        if refuse is not None and refuse.search(text):
            continue
        matched = label.search(text)
        if matched is None:
            continue
        position = 0
        for line in row:
            if matched.start() < position + len(line.text) + 1:
                yield number, line, text[matched.end() :]
                break
            position += len(line.text) + 1


def below(page: Page, number: int, label: Line, rows: int = 1) -> list[Line]:
    """Lines in the next `rows` rows that share a column with `label`."""
    return [line for row in page.rows[number + 1 : number + 1 + rows] for line in row if label.above(line)]


def value_of(
    page: Page, label: str, value: re.Pattern[str], refuse: str = "", under: bool = True, last: bool = False
) -> str | None:
    """The first value behind or below a label; with `last`, the rightmost one in its row."""
    refused = re.compile(refuse, re.IGNORECASE) if refuse else None
    for number, line, rest in labelled(page, re.compile(label, re.IGNORECASE), refused):
        texts = [rest, *(each.text for each in below(page, number, line))] if under else [rest]
        for text in texts:
            found = [match.group().strip() for match in value.finditer(tidy(text))]
            if found:
                return found[-1] if last else found[0]
    return None


def tidy(text: str) -> str:
    """Closes the gaps that a recogniser leaves around decimal points and thousands: "9 .00" and "1, 234.50"."""
    return re.sub(r"(?<=\d)(?:\s+([.,])\s?|([.,])\s)(?=\d{2,3}\b)", lambda found: found[1] or found[2], text)


def find_total(page: Page) -> str | None:
    """The amount to pay: the best label that has an amount in its row or just below."""
    best: tuple[float, str] | None = None
    for weight, label in TOTALS:
        for number, line, rest in labelled(page, label, NO_TOTAL):
            amounts = amounts_in(rest)
            if not amounts:
                amounts = [each for near in below_right(page, number, line) for each in amounts_in(near.text)][:1]
            if not amounts:
                continue
            score = weight - 2 * (len(amounts) > 1)
            if best is None or score > best[0]:
                best = score, amounts[-1]
    if best is None:
        return None
    total = rounded(page, best[1])
    # Where cash is rounded to five cents, a total that is not, and that no adjustment leads to, is not what was paid.
    doubtful = total == best[1] and round(worth(total) * 100) % 5 and ROUNDS.search(" ".join(page.texts))
    return None if doubtful and not ADJUSTED.search(" ".join(page.texts)) else total


ADJUSTED = re.compile(r"round\w*(?:\s*(?:adj\w*|amount|amt))?\W*(?:rm\s*)?-?0?\.\d[1-9]", re.IGNORECASE)
ROUNDS = re.compile(r"\bround\w*", re.IGNORECASE)


def rounded(page: Page, total: str) -> str:
    """The total after the rounding of cash amounts, when the page states an adjustment and the amount it leads to."""
    adjustment = value_of(page, r"round\w*(?:\s*(?:adj\w*|amount|amt))?", ADJUSTMENT, r"total", under=False)
    if adjustment is None or not 0 < abs(worth(adjustment)) < 0.06:
        return total
    later = [amount for text in page.texts for amount in amounts_in(text)]
    steps = (worth(total) + worth(adjustment), worth(total) - abs(worth(adjustment)))
    return next((amount for step in steps for amount in later if abs(worth(amount) - step) < 0.001), total)


def worth(amount: str) -> float:
    """An amount as a number."""
    found = re.search(r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)", amount)
    return float(found.group().replace(",", "")) if found else 0.0


def below_right(page: Page, number: int, label: Line) -> list[Line]:
    """Lines of the next row that begin right of the label's left edge."""
    following = page.rows[number + 1 : number + 2]
    return [line for row in following for line in row if line.right > label.right - label.height]


def amounts_in(text: str) -> list[str]:
    """All amounts in a text."""
    return [match.group().strip() for match in AMOUNT.finditer(tidy(text))]


def find_date(page: Page) -> str | None:
    """The date of the document: one beside a label first, else the first on the page."""
    refuse = r"due|expir|valid|deliver|到期|有效"
    marked = value_of(page, r"\bdate\b|开票日期|日\s*期", DATE, refuse)
    if marked:
        return marked
    other = re.compile(refuse, re.IGNORECASE)
    days = [found.group() for text in page.texts if not other.search(text) for found in DATE.finditer(text)]
    # Of several days without a label nobody can tell which is the document's.
    return days[0] if len({re.sub(r"\D", "", day) for day in days}) == 1 else None


def find_company(page: Page) -> str | None:
    """Who issued the document: after a label, else the first line in the upper part that is a firm's name.

    Only one line there may be: of two names nobody can tell which is meant.
    """
    named = find_seller(page)
    if named or not any(BUSINESS.search(text) for text in page.texts):
        return named
    upper = [
        part
        for row in page.segments[:14]
        for part in row
        if part.top < 0.45 * page.height and sum(map(str.isalpha, part.text)) >= 3
    ]
    firms = [place for place, part in enumerate(upper) if LEGAL.search(part.text) and not NO_COMPANY.search(part.text)]
    firms = [place for place in firms if not STREET.search(upper[place].text) or STRONG.search(upper[place].text)]
    if len(firms) != 1 or upper[firms[0]].score < SURE:
        return None  # several names: the owner's beside the shop's, or one that goes on in the next line
    part = upper[firms[0]]
    ends = [match.end() for match in LEGAL.finditer(part.text)]
    start, name = LEGAL.search(part.text), part.text
    # A bare legal form continues the name on the row above.
    bare = start and len(re.sub(r"\bco\b|\(\w\)|\W", "", name[: start.start()], flags=re.IGNORECASE)) < 3
    if bare:
        if not STRONG.search(name) or not firms[0]:
            return None
        name = f"{upper[firms[0] - 1].text} {name}"
    elif name.endswith(("&", ",", "-")) or name.count("(") > name.count(")"):
        return None
    elif re.fullmatch(r"\s*[A-Z]{3,}", part.text[ends[-1] :]):
        name = part.text[: ends[-1]]  # a stamp beside it
    return re.sub(r"\s*\(?\d{5,}\s?[-·.]?\s?[A-Z]\)?\s*$", "", name)  # a registration number is no name


def find_seller(page: Page) -> str | None:
    """A seller who is named behind a label."""
    parties = find_parties(page)
    if len(parties) > 1:
        return parties[-1]
    return value_of(
        page,
        r"(?:销售方|销货单位|收款单位|商户|商家|店铺?)\s*(?:名称|名)\s*[:：]|生产(?:企业|商|厂家)\s*[:：]"
        r"|\b(?:seller|merchant|vendor|sold by|issued by)\s*[:：]",
        PARTY,
    )


def find_buyer(page: Page) -> str | None:
    """The customer."""
    parties = find_parties(page)
    if len(parties) > 1:
        return parties[0]
    label = (
        r"(?:购买方|客户|买方)\s*(?:名称)?\s*[:：]"
        r"|\b(?:bill(?:ed)?\s*to|customer|buyer|sold to|invoice to)\s*(?:name)?\s*[:：]?"
    )
    return value_of(page, label, PARTY)


PARTY = re.compile(r"[^\W\d_][^|:：]{2,}")


def find_parties(page: Page) -> list[str]:
    """The names on a Chinese VAT invoice, in order: the buyer's stands above or left of the seller's."""
    names: list[str] = []
    for row in page.rows:
        for place, line in enumerate(row):
            matched = re.search(r"(?:名\s*|^\s*)称\s*[:：]\s*(?P<name>.*)$", line.text)
            if matched is None:
                continue
            near = [matched["name"], *(each.text for each in row[place + 1 : place + 2])]
            named = next((text.strip() for text in near if len(text.strip()) > 3), None)
            if named:
                names.append(named)
    return names


def find_address(page: Page) -> str | None:
    """The issuer's address: behind its label, else lines in the upper half that look like one, each below the last."""
    marked = value_of(page, r"地\s*址\s*[:：]|(?<!ip )(?<!mac )(?<!mail )\baddress\s*[:：]", re.compile(r".{5,}"))
    if marked:
        return marked
    parts: list[Line] = []
    above: Line | None = None
    for row in page.segments[:16]:
        fitting = [part for part in row if is_address(part.text, parts[-1].text if parts else "")]
        fitting = [part for part in fitting if part.top < 0.5 * page.height and (not parts or parts[-1].above(part))]
        if fitting:
            parts.append(fitting[0])
        elif parts:
            if CONTINUES.search(row[0].text) and row[0].top - parts[-1].bottom < row[0].height:
                return None
            break
        else:
            above = row[0]
    text = " ".join(part.text for part in parts)
    whole = (
        len(text) >= 10
        and BEGINS.match(text)
        and POSTCODE.search(text)
        and min(part.score for part in parts) >= SURE
        and not (above is not None and (above.text.endswith(",") or CONTINUES.search(above.text)))
    )
    return text if whole else None


BEGINS = re.compile(
    r"(?!\d{5}\b)(?:(?:no|lot|unit|level|block|blk|suite|shop|ground|g/f|#|[a-z]-?|p\.?t)[\s.,:#-]*[\w-]*\d|\d|.*号)",
    re.IGNORECASE,
)
"""A whole address begins with a number of a house, a lot or a floor, not with a postcode."""
POSTCODE = re.compile(r"\b\d{5,6}\b|\b[A-Z]{1,2}\d{1,2}[A-Z]?\s\d[A-Z]{2}\b|号|\b[A-Z]{2}\s\d{5}\b")
CONTINUES = re.compile(
    r"\b(?:level|unit|floor|station|block|wisma|plaza|suite|lot|selangor|johor|kuala lumpur|penang|perak|melaka|kedah"
    r"|sabah|sarawak|malaysia|bangunan|menara|mall|jalan|jln|taman|seksyen|section)\b|^\d{5}\b",
    re.IGNORECASE,
)
"""Words of an address; in the line above or below, they say that it is not all."""


def is_address(text: str, before: str) -> bool:
    """Whether a line is part of an address, `before` being its part so far above the line.

    A line that has no street in it can only go on with an address: words, commas and a postcode.
    """
    if NO_ADDRESS.search(text):
        return False
    if STREET.search(text) and not LEGAL.search(text):
        return True
    words = re.fullmatch(r"[A-Za-z ,.'/&()-]*(?:\d{5}[A-Za-z ,.'-]*)?", text)
    return bool(before and words and ("," in text or text.endswith(".") or before.endswith(",")))


def find_subtotal(page: Page) -> str | None:
    """The amount before tax."""
    labels = (
        r"sub\s*-?\s*total|total\s*\(?\s*(?:excl|before|exc\b|w/o)[^\d]*|(?:net|taxable)\s*amount|amount\s*(?:before|excl)|小\s*计"
        r"|税前(?:金额|合计)?|不含税(?:金额|合计)?"
    )
    found = value_of(page, labels, AMOUNT, under=False)
    if found or not any("价税合计" in text for text in page.texts):
        return found
    return value_of(page, r"合\s*计", AMOUNT, "价税", under=False)


def find_tax(page: Page) -> str | None:
    """The amount of tax, where it can be one: small beside the total, and no more than the printed rate makes of it.

    Of several such amounts, the one that leads from the subtotal to the total, or that the rate gives to the cent.
    """
    if any("价税合计" in text for text in page.texts):
        for _, _, rest in labelled(page, re.compile(r"合\s*计"), re.compile("价税")):
            amounts = amounts_in(rest)
            if len(amounts) == 2:
                return amounts[1]
    label = r"\b(?:gst|sst|vat|tax|service tax)\b\s*(?:amount|amt)?|税\s*额|税金"
    refuse = r"inclusive|excl|inc\b|before|total\s*(?:amount|sales)|invoice|\bno\b|\bid\b|reg|summary|code|with gst|sub"
    marked = [
        amounts[-1]
        for _, _, rest in labelled(page, re.compile(label, re.IGNORECASE), re.compile(refuse, re.IGNORECASE))
        if (amounts := amounts_in(rest))
    ]
    total, subtotal = find_total(page), find_subtotal(page)
    if total is None or not worth(total):
        return marked[0] if len({worth(each) for each in marked}) == 1 else None
    whole = worth(total)
    rates = [rate for rate in (_rate(text) for text in page.texts for text in PERCENT.findall(text)) if 0 < rate <= 0.3]
    most = whole * max(rates) / (1 + max(rates)) if rates else 0.26 * whole
    fit = [each for each in [*marked, *_tax_column(page, whole)] if worth(each) <= most + 0.05]
    if len({worth(each) for each in fit}) <= 1:
        return fit[0] if fit else None
    exact = [each for each in fit if subtotal and abs(worth(subtotal) + worth(each) - whole) < 0.011]
    exact = exact or [
        each for each in fit if any(abs(worth(each) * (1 + rate) - whole * rate) < 0.011 for rate in rates)
    ]
    return exact[0] if exact and len({worth(each) for each in exact}) == 1 else None


def _rate(percent: str) -> float:
    """A percentage as a share."""
    return float(percent.rstrip("% ")) / 100


def _tax_column(page: Page, total: float) -> list[str]:
    """The tax in a summary of net amounts and tax by rate, whose rows add up to the total; none of several."""
    for number, text in enumerate(page.texts):
        if not re.search(r"(?:amount|goods|net|amt|excl).*\b(?:tax|gst|vat)\b", text, re.IGNORECASE) or amounts_in(
            text
        ):
            continue
        pairs = []
        for row in page.texts[number + 1 : number + 6]:
            amounts = amounts_in(row)
            if len(amounts) == 2 and not re.search(r"total", row, re.IGNORECASE):
                pairs.append(amounts)
        paid = [tax for _, tax in pairs if worth(tax)]
        if abs(sum(worth(net) + worth(tax) for net, tax in pairs) - total) < 0.06 and len(paid) == 1:
            return paid
    return []


def find_change(page: Page) -> str | None:
    """What was given back: the amount in its row; of several, the one that the cash leaves of the total."""
    label = re.compile(r"\bchange\b|找\s*零", re.IGNORECASE)
    found = [each for _, _, rest in labelled(page, label, re.compile("exchange", re.I)) for each in amounts_in(rest)]
    if len({worth(each) for each in found}) <= 1:
        return found[0] if found else None
    total = find_total(page)
    handed = re.compile(r"cash|tendered?|paid|received|payment|现金|收款|实收", re.IGNORECASE)
    given = [worth(each) for _, _, rest in labelled(page, handed) for each in amounts_in(rest)]
    right = [each for each in found if total and any(abs(cash - worth(total) - worth(each)) < 0.051 for cash in given)]
    return right[0] if right and len({worth(each) for each in right}) == 1 else None


def find_tax_id(page: Page) -> str | None:
    """The issuer's tax number; none when several different ones stand on the page."""
    label = re.compile(
        r"(?:gst|vat|tax|sst)\s*(?:reg\w*\.?)?\s*(?:no|id|number|#)\b\s*[.:#]*|纳税人识别号|税\s*号|统一社会信用代码",
        re.IGNORECASE,
    )
    found = {
        code.strip()
        for _, _, rest in labelled(page, label)
        for code in CODE.findall(rest)
        if sum(map(str.isdigit, code)) >= 6
    }
    return found.pop() if len(found) == 1 else None


def find_title(page: Page) -> str | None:
    """The heading: the first of the tallest lines of the upper third, if they stand out from the page's usual line."""
    if not page.lines:
        return None
    heights = sorted(line.height for line in page.lines)
    usual = heights[len(heights) // 2]
    upper = [line for line in page.lines if line.middle < page.height / 3 and sum(map(str.isalpha, line.text)) >= 2]
    tallest = max((line.height for line in upper), default=0.0)
    if tallest < 1.2 * usual:
        return None
    return next(line.text for line in upper if line.height > 0.85 * tallest)


def find_time(page: Page) -> str | None:
    """The time of the document: the only one on the page, else the only one in the row of a date."""
    for texts in (page.texts, [text for text in page.texts if DATE.search(text)]):
        times = {match.group() for text in texts for match in TIME.finditer(text)}
        if len({time[:5] for time in times}) == 1:
            return max(times, key=len)
    return None


def find_tendered(page: Page) -> str | None:
    """What the customer handed over: the sum that, less the change, is the total."""
    total, change = find_total(page), FINDERS[Field.CHANGE](page)
    if total is None or change is None:
        return None
    wanted = worth(total) + worth(change)
    label = re.compile(r"cash|tendered?|paid|received|payment|现金|收款|实收", re.IGNORECASE)
    found = {amount for _, _, rest in labelled(page, label) for amount in amounts_in(rest)}
    right = {amount for amount in found if abs(worth(amount) - wanted) < 0.051}
    return right.pop() if len({worth(each) for each in right}) == 1 else None


def find_invoice_number(page: Page) -> str | None:
    """The document's number, without a date that stands beside it."""
    found = value_of(
        page,
        r"(?:tax\s*)?(?:invoice|receipt|bill|document|doc|rcpt|inv|slip|trans(?:action)?)\.?\s*(?:(?:no|number|num|id)\b|#)\s*[.:#]*|invoice\s*[:#]"
        r"|发票号码?|票据号码?|票据号|(?<![运订])单号|小票号|\bNo\.?\s*(?=\d{8}\b)",
        NUMBER,
        r"gst\s*(?:reg|no|id)|tax\s*(?:id|reg)",
    )
    return (DATE.split(found)[0].strip(" /-") or None) if found and DATE.search(found) else found


def find_phone(page: Page) -> str | None:
    """A telephone number with as many digits as one has: 7 to 15 (E.164)."""
    found = value_of(page, r"\b(?:tel|telephone|phone|hotline|h/p|contact)\b\.?|电\s*话|手机", PHONE, under=False)
    return found if found and 7 <= len(re.sub(r"\D", "", found.split("/")[0])) <= 15 else None


def find_words(page: Page) -> str | None:
    """The total in Chinese characters for amounts; none where two are printed."""
    found = {match.group() for text in page.texts for match in WORDS.finditer(text)}
    return found.pop() if len(found) == 1 else None


WORDS = re.compile(
    r"[壹贰叁肆伍陆柒捌玖拾][零壹贰叁肆伍陆柒捌玖拾佰仟万亿]*[圆元](?:[零壹贰叁肆伍陆柒捌玖角分]*[分角整正]|整|正)?"
)


FINDERS: dict[Field, Callable[[Page], str | None]] = {
    Field.TOTAL: find_total,
    Field.SUBTOTAL: find_subtotal,
    Field.TAX: find_tax,
    Field.TAX_RATE: lambda page: value_of(page, r"\b(?:gst|vat|sst|tax)\b(?:\s*rate)?|税\s*率", PERCENT),
    Field.DATE: find_date,
    Field.DUE_DATE: lambda page: value_of(page, r"due\s*(?:date|on|by)?|payable by|到期日?|付款期限", DATE),
    Field.TIME: find_time,
    Field.COMPANY: find_company,
    Field.BUYER: find_buyer,
    Field.ADDRESS: find_address,
    Field.INVOICE_NUMBER: find_invoice_number,
    Field.INVOICE_CODE: lambda page: value_of(page, r"发票代码|invoice\s*code", CODE),
    Field.TAX_ID: find_tax_id,
    Field.PHONE: find_phone,
    Field.CASH: lambda page: value_of(page, r"\bcash\b|现金", AMOUNT, r"cash\s*(?:bill|sales?|back)|change", False),
    Field.CHANGE: find_change,
    Field.TENDERED: find_tendered,
    Field.TITLE: find_title,
    Field.AMOUNT_IN_WORDS: find_words,
}
