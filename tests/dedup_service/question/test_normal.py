"""The normal form: what counts as one question without being compared; and the folded form."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dedup_service.question.normal import detect_language, fold, normalise

DATA = Path(__file__).parents[3] / "benchmarks/data/equal"

BASES = (
    "What is the total",
    "Which entry shows 500.00 in column B",
    "How many items cost more than $20",
    "Is the power given as 5 mW",
    "图中第3行的金额是多少",
    "哪个城市的气温是12℃",
)
HARMLESS = (
    lambda text: text + "?",
    lambda text: text + "？",
    lambda text: text + "。",
    lambda text: text + "??",
    lambda text: text + " ?",
    lambda text: "  " + text.replace(" ", " \t ") + "\n",
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    lambda text: text[0].lower() + text[1:],
    lambda text: "Please " + text,
    lambda text: "请问" + text,
    lambda text: text + ", please",
    lambda text: text + "? Thanks!",
    lambda text: text + "？谢谢！",
    lambda text: text.replace("图", "圖").replace("额", "額").replace("气", "氣"),
)
"""Every kind of difference that the closed list names."""
MEANINGFUL = [
    *"+-−±×÷=<>≠≤≥~^_*#@&|/\\%‰°$€£¥()[]{}<>'\"“”‘’«»†‡§¶•←→↑↓²³₁₂½①★☆",
    *"\u0300\u0301\u0304\u0308\u0332",
    *"0123456789",
    *"AZbzαβΔß",
    *";:、·…",
]


def test_a_closed_list_of_differences_is_dropped() -> None:
    """Spelling that the list calls harmless makes no other question, in either language."""
    pairs = [
        ("What's the total??", "what's the total"),
        ("總金額是多少？", "总金额是多少"),
        ("税额 是 １３％ 吗", "税额是13%吗"),
        ("Ｔｏｔａｌ？", "total"),
        ("  total\n amount ", "total amount"),
        ("Hello! Please, what is it? Thank you.", "what is it"),
        ("您好，请问这是什么？谢谢！", "这是什么"),
    ]
    for one, other in pairs:
        assert normalise(one) == normalise(other), (one, other)


@given(st.sampled_from(BASES), st.lists(st.sampled_from(HARMLESS), max_size=3))
def test_harmless_edits_merge(base: str, edits: list[object]) -> None:
    """Whichever listed edits are made, one after another, the normal form stays. A mark that stands alone, behind a
    space, is no end of the sentence: it may be what is asked about."""
    text = base
    for edit in edits:
        text = edit(text)  # type: ignore[operator]
    assume(re.search(r"\s[.!。…,]", text) is None)
    assume("请问" not in text[1:] and "Please" not in text[1:])
    assert normalise(text) == normalise(base)


@given(st.sampled_from(BASES), st.data())
def test_a_meaningful_edit_of_one_character_never_merges(base: str, data: st.DataObject) -> None:
    """A sign, bracket, quote, raised figure, digit, letter or accent that comes, goes or changes makes another
    question, wherever it stands."""
    sign = data.draw(st.sampled_from(MEANINGFUL))
    at = data.draw(st.integers(0, len(base)))
    grown = base[:at] + sign + base[at:]
    changed = base[:at] + sign + base[at + 1 :]
    ending = at >= len(base) - 1 and sign == "…"
    assert ending or normalise(grown) != normalise(base)
    if base[at : at + 1].casefold() != sign.casefold() and base[at : at + 1].strip():
        assert ending or normalise(changed) != normalise(base)
    if sign.isdigit() or unicodedata.category(sign)[0] in "SM":
        other = data.draw(st.sampled_from([mark for mark in MEANINGFUL if mark != sign and mark != "…"]))
        assert normalise(grown) != normalise(base[:at] + other + base[at:])


@given(st.text(alphabet=st.characters(categories=["L", "N", "S", "M", "P", "Zs"], max_codepoint=0x2FFF), max_size=60))
def test_nothing_but_the_list_is_ever_dropped(text: str) -> None:
    """In text of any script, all that goes is white space and the marks at the end, and all that changes is the first
    letter's case. (Half width, Chinese script and courtesy lie outside of this alphabet, or are left out.)"""
    assume(not re.search("please|kindly|thank|thx|cheers|hello|hi|hey|good|excuse|greet", text, re.IGNORECASE))
    before = "".join(text.split())
    after = "".join(normalise(text).split())
    assert before[1:].rstrip(".?!…,").startswith(after[1:].rstrip(".?!…,"))
    assert after[1:] == before[1 : len(after)]
    assert set(before[len(after) :]) <= set(".?!…,")
    assert after[:1] == before[:1] or after[:1] == before[:1].lower()


def test_compatibility_forms_are_not_width() -> None:
    """Only the block of full and half width folds: a fraction, a raised figure, a unit in one character, a circled
    number and a Roman numeral stay what they are."""
    for one, other in [
        ("1½", "11/2"),
        ("10²", "102"),
        ("5㎎", "5mg"),
        ("①", "1"),
        ("Ⅳ", "IV"),
        ("ﬁn", "fin"),
        ("…", "..."),
    ]:
        assert normalise(f"is {one} there") != normalise(f"is {other} there")


def test_a_mark_that_is_asked_about_stays() -> None:
    """A mark alone, after a sign, or that makes a factorial ends no sentence."""
    for one, other in [
        ("?", "!"),
        ("5!", "5"),
        ("What is 5!", "What is 5?"),
        ("Which key prints !", "Which key prints"),
        ("AA-?", "AA?"),
        ("find *.", "find *"),
    ]:
        assert normalise(one) != normalise(other)


def test_case_is_kept_but_for_the_first_letter() -> None:
    """A capital at the beginning is a habit; in a unit, a code, an answer's form or a quote it is not."""
    assert normalise("Which is it?") == normalise("which is it?")
    for one, other in [
        ("MW or kW?", "mW or kW?"),
        ("Mb/s", "mb/s"),
        ("YES or NO?", "yes or NO?"),
        ("say yes", "say YES"),
        ("A or B?", "a or B?"),
        ("Maße", "Masse"),
    ]:
        assert normalise(one) != normalise(other)


def test_what_is_quoted_is_kept_as_it_is() -> None:
    """Width, script, spaces and marks within quotation marks are what is asked about."""
    for one, other in [
        ("写的是“發”吗", "写的是“发”吗"),
        ('is it "a  b"', 'is it "a b"'),
        ("“Ａ”是全角吗", "“A”是全角吗"),
        ("“你好。”", "“你好”"),
    ]:
        assert normalise(one) != normalise(other)


def test_the_set_of_meaningful_edits() -> None:
    """None of another author's pairs that differ in a mark that matters has one normal form."""
    for line in (DATA / "edits.jsonl").read_text("utf-8").splitlines():
        pair = json.loads(line)
        assert normalise(pair["a"]) != normalise(pair["b"]), pair


def test_the_set_of_harmless_edits() -> None:
    """Nearly all of another author's pairs that ask the same in another spelling have one normal form; the rest are
    reworded and have to be compared."""
    pairs = [json.loads(line) for line in (DATA / "harmless.jsonl").read_text("utf-8").splitlines()]
    apart = [pair for pair in pairs if normalise(pair["a"]) != normalise(pair["b"])]
    assert len(apart) <= 3, apart


def test_the_folded_form_drops_more() -> None:
    """The folded form, from which a comparison starts, knows neither case nor most punctuation."""
    assert fold("What is the TOTAL:") == fold("what is the total") == "what is the total"
    assert fold("「红楼梦」是谁写的") == fold("“红楼梦”是谁写的？")
    assert fold("10³") == fold("103")


@given(st.text(max_size=80))
def test_normal_form_is_stable(text: str) -> None:
    """Any text has a normal form, and the normal form of a normal form is itself."""
    once = normalise(text)
    assert normalise(once) == once
    assert bool(once) == bool(text.strip())


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is it?", "en"),
        ("这是什么？", "zh"),
        ("LOGO 是什么颜色", "zh"),
        ("これは何", "other"),
        ("сколько", "other"),
        ("", "other"),
    ],
)
def test_language_by_script(text: str, language: str) -> None:
    """Han letters make a question Chinese, Latin ones English; anything else is said to be other."""
    assert detect_language(text) == language
