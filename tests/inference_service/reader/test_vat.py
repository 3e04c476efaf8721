"""VAT invoices are read by their layout: by party, by shape, and only where sums add up."""

from __future__ import annotations

import pytest

from inference_service.reader.answering import reply
from inference_service.reader.document import study
from inference_service.reader.fields import Field
from tests.inference_service.reader.pages import page

PAPER = """
1100999130          No 12345678
校验码 11111 22222 33333 44444     开票日期：2021年05月06日
名    称：南岭研究所
纳税人识别号：110101111122222
地址、电话：    南岭市东山区一号路5号010-11112222
开户行及账号：    南岭银行东山支行1234567890123
货物或应税劳务、服务名称    规格型号    单位    数量    单价    金额    税率    税额
台灯                  DL-1      台      2      50.00    100.00    13%    13.00
合    计                                              ¥100.00        ¥13.00
价税合计（大写）    壹佰壹拾叁圆整    （小写）    {total}
名    称：北河照明有限公司
纳税人识别号：91110000XXXXYYYY1Z
地址、电话：    北河市西区二号路6号010-33334444
开户行及账号：    北河银行西区支行9876543210987
收款人：王一    复核：    开票人：李二三
"""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("购买方的电话是多少？", "010-11112222"),
        ("What is the seller's phone number?", "010-33334444"),
        ("销售方地址", "北河市西区二号路6号"),
        ("buyer's tax number", "110101111122222"),
        ("卖家的银行账号", "9876543210987"),
        ("发票代码", "1100999130"),
        ("invoice number?", "12345678"),
        ("校验码是多少", "11111 22222 33333 44444"),
        ("开票人是谁", "李二三"),
        ("不含税金额合计", "¥100.00"),
        ("total tax", "¥13.00"),
        ("总金额（含税）", "¥113.00"),
        ("台灯的单价", "50.00"),
        ("How many 台灯?", "2"),
        ("税率是多少", "13%"),
    ],
)
def test_each_party_and_column_has_its_own_value(question: str, answer: str) -> None:
    """A question that names a party, a column or a label gets what stands there and nothing beside it."""
    said = reply(study(page(PAPER.replace("{total}", "¥113.00"))), question)
    assert (said.text, said.answered) == (answer, True)


@pytest.mark.parametrize(
    "question", ["电话是多少？", "What is the tax number?", "复核人是谁？", "银行账号", "备注写了什么？"]
)
def test_what_two_parties_have_and_what_is_empty_is_not_answered(question: str) -> None:
    """Without a party nobody can tell which of two values is meant; an empty field has no value, not the next one's."""
    assert not reply(study(page(PAPER.replace("{total}", "¥113.00"))), question).answered


def test_sums_that_do_not_add_up_are_not_read() -> None:
    """A misread digit in any of amount, tax and total leaves all three unanswered."""
    found = study(page(PAPER.replace("{total}", "¥118.00"))).fields
    assert not {Field.TOTAL, Field.SUBTOTAL, Field.TAX} & found.keys()
