"""Values that stand beside a label of their own: the label as a whole, and the shape that the value must have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from inference_service.reader.fields import AMOUNT, DATE, TIME, Field, tidy
from inference_service.reader.page import Page

MONEY = rf"(?:{AMOUNT.pattern})"
DAY = rf"(?:{DATE.pattern})|20\d\d\s?年\s?(?:1[0-2]|0?[1-9])\s?月|(?:1[0-2]|0?[1-9])月(?:3[01]|[12]\d|0?[1-9])日"
CLOCK = TIME.pattern
CODE = r"(?=[A-Z0-9 /-]*\d)[A-Z0-9][A-Z0-9/-]+(?: [A-Z0-9/-]*\d[A-Z0-9/-]*)*"
NAME = r"(?=(?:.*[^\W\d_]){2})(?:(?:mr|mrs|ms|dr|prof)\.? )?[^\W\d_][\w .'·&,()-]{0,40}"
TEXT = r"\S.{1,80}"


@dataclass(frozen=True, slots=True)
class Label:
    """How a value is marked on a page."""

    field: Field
    marks: str
    """The label as a regular expression; it stands at the beginning of a line."""
    shape: str
    """What the value must be as a whole."""
    colon: bool = True
    """Whether a label that stands in one line with its value needs a colon or the like between them."""


LABELS = (
    Label(Field.CASHIER, r"cashier|served by|server|waiter|operator|salesperson|收银员|收款员|服务员|操作员", NAME),
    Label(
        Field.DISCOUNT,
        r"(?:total\s*)?(?:discount|disc|savings?)|优惠(?:金额)?|折扣|已优惠|立减",
        rf"-?{MONEY}|-\d+\.\d\d",
        colon=False,
    ),
    Label(Field.PAYMENT_METHOD, r"payment (?:method|type|mode)|paid by|pay by|支付方式|付款方式", NAME),
    Label(Field.ORDER_NUMBER, r"order (?:no|number|ref|reference|id)\.?|订单(?:编号|号码?)", CODE),
    Label(Field.TRACKING_NUMBER, r"tracking (?:no|number|id)\.?|运单号码?|快递单号|物流单号", CODE),
    Label(
        Field.SHIPPING_FEE,
        r"shipping(?: fee| cost)?|delivery (?:fee|charge)|postage|运费|配送费|邮费",
        MONEY,
        colon=False,
    ),
    Label(Field.GOODS_AMOUNT, r"商品(?:总?金额|总价|总额)|goods total|merchandise total", MONEY),
    Label(
        Field.WEIGHT,
        r"(?:gross |net )?weight|重量|毛重|净重|净含量",
        r"\d+(?:\.\d+)?\s?(?:kg|g|lb|lbs|oz|千克|克|公斤|斤)",
    ),
    Label(Field.BATCH_NUMBER, r"(?:batch|lot) (?:no|number)\.?|(?:生产)?批号", CODE),
    Label(
        Field.EXPIRY, r"expir(?:y|es|ation)(?: date)?|best before|use by|valid until|有效期至?|保质期至|失效日期", DAY
    ),
    Label(Field.PRODUCTION_DATE, r"(?:production|manufactur\w+|mfg) date|生产日期", DAY),
    Label(Field.STORAGE, r"storage|贮藏|储藏|贮存|保存方法|储存条件", TEXT),
    Label(Field.MANUFACTURER, r"manufacturer|made by|produced by|生产(?:企业|厂家|商)|制造商", NAME),
    Label(Field.DOSAGE, r"dosage|directions|用法用量|用法|用量", TEXT),
    Label(Field.STRENGTH, r"strength|规格", TEXT),
    Label(Field.RECIPIENT, r"to|ship to|deliver to|recipient|consignee|收货人|收件人", NAME),
    Label(Field.SENDER, r"from|ship from|sender|寄件人|发件人", NAME),
    Label(Field.COURIER, r"courier|carrier|快递公司|物流公司|承运人", NAME),
    Label(Field.SERVICE, r"service", NAME),
    Label(Field.IBAN, r"iban", r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4})+(?: ?[A-Z0-9]{1,3})?", colon=False),
    Label(
        Field.DELIVERY_DATE,
        r"预计(?:送达|到达)(?:时间|日期)?|(?:estimated )?delivery(?: date)?|delivered on|arrives",
        DAY,
    ),
    Label(Field.ORDER_TIME, r"下单时间|ordered(?: at| on)?|order (?:date|time)", rf"(?:{DAY})\s*(?:{CLOCK})"),
    Label(Field.SOURCE, r"source|data source|来源|数据来源|资料来源", TEXT),
    Label(Field.TABLE_NUMBER, r"table(?: (?:no|number))?\.?|桌号|台号", r"[A-Z]?\d{1,4}[A-Z]?"),
    Label(
        Field.PLATE,
        r"taxi no\.?|(?:car|plate|vehicle) (?:no|number|plate)\.?|车牌号?码?|车号(?:京)?",
        r"(?:京\s?)?[A-Z][.\-·]?\s?(?:[A-HJ-NP-Z]\d{4}|[A-HJ-NP-Z]{2}\s?\d{1,4}[A-Z]?)",
    ),
    Label(Field.CERTIFICATE, r"certificate no\.?|证号|监督卡号?|资格证号?", r"\d{6}", colon=False),
    Label(Field.FAX, r"fax(?: no)?\.?|传真|f", r"\+?[\d() -]{7,18}"),
    Label(Field.PRICE_PER_KM, r"price per km", r"\d{1,2}\.\d{2}"),
    Label(Field.DISTANCE, r"distance|mileage|里程", r"\d{1,3}\.\d{1,2}(?:\s?(?:km|公里|千米))?"),
    Label(Field.WAITING, r"waiting time|等候(?:时间)?", r"\d{2}:\d{2}:\d{2}"),
    Label(Field.FARE, r"fare", r"[¥￥]\s?\d+\.\d{2}"),
    Label(Field.FUEL_SURCHARGE, r"燃油附加费|fuel oil surcharge|fuel surcharge", r"[¥￥]?\s?\d+\.\d{2}"),
    Label(Field.CALL_FEE, r"预约叫车服务费|电召费", r"[¥￥]?\s?\d+\.\d{2}"),
    Label(
        Field.SERVICE_CHARGE,
        r"(?:service|serv\.?|svc) (?:charge|chrg|chg|fee)s?\.?(?:\s*[@(]?\s*\d{1,2}(?:\.\d)?\s?%\)?)?"
        r"|服务费(?:\(\d+%\))?",
        MONEY,
        colon=False,
    ),
    Label(Field.TIP, r"tips?|gratuity|小费", MONEY, colon=False),
    Label(
        Field.ROUNDING,
        r"round(?:ing|ed)?(?: (?:adj(?:ustment)?|amount|amt)\.?)?(?: \(rm\))?|舍入(?:金额)?|抹零",
        rf"-?{MONEY}|-?(?:RM ?)?-?\d*\.\d\d",
        colon=False,
    ),
    Label(
        Field.QUANTITY_TOTAL,
        r"(?:total|no\.?) ?(?:qty|quantity)'?s?(?: tender)?|qty\(s\)|total (?:pieces|pcs)"
        r"|总数量|合计数量|总件数|数量合计",
        r"\d{1,4}(?:\.0+)?",
        colon=False,
    ),
    Label(Field.ITEM_COUNT, r"(?:no\. of |number of )?line items|item\(s\)|品种数?|商品种类", r"\d{1,3}", colon=False),
    Label(Field.CARD_BALANCE, r"卡余额|card balance", r"[¥￥]?\s?\d+\.\d{2}"),
)

TRIP = (
    Label(Field.ORIGIN, r"from|origin|departure station|出发地|始发站?|出发站", NAME),
    Label(Field.DESTINATION, r"to|destination|arrival station|目的地|终点站?|到达站", NAME),
    Label(Field.DEPARTURE, r"departs?|departure(?: time)?|dep\.?|出发时间|开车时间|发车时间|起飞时间", CLOCK),
    Label(Field.ARRIVAL, r"arrives?|arrival(?: time)?|arr\.?|到达时间|到站时间|抵达时间", CLOCK),
    Label(Field.SEAT, r"seat(?: (?:no|number))?\.?|座位号?|座号|席位", r"[0-9A-Z]{1,4}(?:号|座)?"),
    Label(Field.COACH, r"coach(?: (?:no|number))?\.?|carriage|车厢号?", r"[0-9A-Z]{1,3}(?:号|车)?"),
    Label(Field.PLATFORM, r"platform|站台|检票口", r"[0-9A-Z]{1,4}"),
    Label(Field.PASSENGER, r"passenger(?: name)?|traveller|乘客(?:姓名)?|旅客(?:姓名)?", NAME),
    Label(Field.TOTAL, r"(?:ticket )?(?:price|fare)|票价", MONEY),
)
"""What a ticket for a journey says: there "from" and "to" are no people."""

SURE = 0.8
"""The least confidence of the recogniser, 0 to 1, in a line that a value is taken from."""
PEOPLE = (Field.RECIPIENT, Field.SENDER)
"""Fields whose value may go on with an address, which is no part of it."""
HEAD = re.compile(r"(?:amount|total|qty|quantity|price|rm|no|date|time|tax|金额|数量|单价)\.?", re.IGNORECASE)
"""Heads of columns, which are no values of the label beside them."""
IBAN = re.compile(r"(?<![A-Z0-9])IBAN[:：]?\s*([A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)(?![A-Za-z0-9])")
PAID_BY = re.compile(
    r"\bpayments? by ((?:bank|wire) transfer|direct debit|che(?:que|ck)|credit card|card|cash)\b", re.IGNORECASE
)
RIDE = (
    Field.PLATE,
    Field.CERTIFICATE,
    Field.PRICE_PER_KM,
    Field.DISTANCE,
    Field.WAITING,
    Field.FARE,
    Field.FUEL_SURCHARGE,
    Field.CALL_FEE,
    Field.CARD_BALANCE,
    Field.START_TIME,
    Field.END_TIME,
    Field.INVOICE_CODE,
    Field.INVOICE_NUMBER,
)
"""What a taxi's receipt says."""
ZERO = re.compile(r"\D*0+(?:[.,]0+)?\D*")


def read_labels(page: Page) -> dict[Field, str]:
    """The value of every label that stands once on the page, or everywhere with the same value."""
    found: dict[Field, str] = {}
    for label in LABELS:
        values = {value for value in _values(page, label) if value}
        if len(values) == 1:
            value = values.pop()
            found[label.field] = re.split(r"[,，]", value)[0].strip() if label.field in PEOPLE else value
    found.update(_ride(page))
    trip = {label.field: values.pop() for label in TRIP if len(values := {*filter(None, _values(page, label))}) == 1}
    if {Field.SEAT, Field.DEPARTURE, Field.COACH, Field.PASSENGER} & trip.keys():
        found = {field: value for field, value in found.items() if field not in PEOPLE} | trip
    text = " ".join(page.texts)
    if len(banks := set(IBAN.findall(text))) == 1:
        found[Field.IBAN] = banks.pop().strip()
    if Field.PAYMENT_METHOD not in found and (paid := PAID_BY.search(text)):
        found[Field.PAYMENT_METHOD] = paid[1]
    for field, shape in (
        (Field.DOSE, r"(?:一次|每次)\s*(\d+(?:\.\d+)?\s?[粒片颗袋支])"),
        (Field.FREQUENCY, r"((?:一|每)[日天]\s*\d+\s?次)"),
    ):
        said = set(re.findall(shape, text))
        if len(said) == 1:
            found[field] = said.pop()
    return found


def _values(page: Page, label: Label) -> list[str]:
    mark = re.compile(rf"(?:{label.marks})\s*(?P<colon>[:：.]?)\s*(?P<rest>.*)", re.IGNORECASE)
    values = []
    for row in page.rows:
        for place, line in enumerate(row):
            matched = mark.fullmatch(line.text.strip())
            if matched is None:
                continue
            rest = matched["rest"].strip()
            if rest:
                apart = matched["colon"] or not label.colon
                values.append(_shaped(rest, label.shape) if apart and line.score >= SURE else "")
            elif place + 1 < len(row):
                beside = row[place + 1]
                values.append(_shaped(beside.text, label.shape) if beside.score >= SURE else "")
    return values


def _shaped(text: str, shape: str) -> str:
    """The text when it is a value of this shape, else nothing."""
    text = tidy(text.strip())
    if HEAD.fullmatch(text):
        return ""
    return text if re.fullmatch(shape, text, re.IGNORECASE) and not re.search(r"[:：]$", text) else ""


def _ride(page: Page) -> dict[Field, str]:
    """What only a taxi's receipt says: when the ride began and ended, its price for a kilometre and its fare."""
    text = " ".join(page.texts)
    if not re.search(r"taxi|出租", text, re.IGNORECASE) and not ("里程" in text and "等候" in text):
        return {}
    found: dict[Field, str] = {}
    shapes = {
        (r"时间|time", r"(\d\d:\d\d)\s?[-~—]\s?(\d\d:\d\d)"): (Field.START_TIME, Field.END_TIME),
        (r"单价", r"(\d{1,2}\.\d{2})"): (Field.PRICE_PER_KM,),
        (r"金额", r"([¥￥]\s?\d+\.\d{2})"): (Field.FARE,),
    }
    for (mark, shape), fields in shapes.items():
        for row in page.rows:
            if len(row) >= 2 and re.fullmatch(mark, row[-2].text.strip(), re.IGNORECASE):
                matched = re.fullmatch(shape, row[-1].text.strip(), re.IGNORECASE)
                if matched and row[-1].score >= SURE and (len(fields) == 1 or matched[1] <= matched[2]):
                    found |= dict(
                        zip(fields, (each for each in matched.groups() if each and len(each) > 2), strict=False)
                    )
    lines = [line.text.strip() for line in page.lines]
    for before, after in pairwise(lines):
        if re.fullmatch(r"\d{12}", before) and re.fullmatch(r"\d{8}", after):
            found[Field.INVOICE_CODE], found[Field.INVOICE_NUMBER] = before, after
    return found
