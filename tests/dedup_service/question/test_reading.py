"""Reading a question, and laying two readings on each other."""

from itertools import combinations

import pytest

from dedup_service.question.alignment import align
from dedup_service.question.numerals import han_value
from dedup_service.question.reading import read

SAME = [
    [
        "What is the total amount?",
        "how much is the total?",
        "total?",
        "Please tell me the grand total.",
        "How much did it cost in total?",
    ],
    [
        "总金额是多少？",
        "请问总金额多少",
        "总额?",
        "一共多少钱",
        "合计金额是多少呢",
        "帮我看一下总共多少钱",
        "這張收據總共花了多少錢",
    ],
    ["how many people are there in the picture?", "number of people in the image", "count the people"],
    ["图中有几个人", "图片里一共有多少人", "照片上人数是多少", "有多少个人？", "数一下有几个人"],
    ["what color is the car?", "what is the color of the car", "the car's colour?"],
    ["开票日期是哪天", "什么时候开的票", "发票日期"],
    ["is there a dog?", "Does the picture contain a dog", "Can you see a dog in the photo?"],
    ["有狗吗", "图里有没有狗", "是否有狗", "图中存在狗吗"],
    ["what is the man doing", "What's the man up to"],
]


@pytest.mark.parametrize("questions", SAME, ids=lambda questions: questions[0])
def test_wordings_of_one_question_agree(questions: list[str]) -> None:
    """Politeness, frame, synonym, inflection and script leave the reading as it is."""
    assert all(align(read(a), read(b)).agrees for a, b in combinations(questions, 2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the total?", "What is the tax?"),
        ("What is the item?", "What are the items?"),
        ("who bought it", "when was it bought"),
        ("where is the dog", "is there a dog"),
        ("how many items are there", "what are the items"),
        ("how far is it from Ipoh to Penang", "how far is it from Penang to Ipoh"),
        ("does the man chase the dog", "does the dog chase the man"),
        ("What is my name", "What is your name"),
        ("what is on the invoice date line of this receipt", "what is on the date line of this invoice"),
        ("最高的是哪一个", "最高的是多少"),
        ("从北京到上海多少公里", "从上海到北京多少公里"),
        ("这家店怎么样", "这家店怎么了"),
        ("你认识他吗", "他认识你吗"),
        ("总金额是多少", "what is the total"),
    ],
)
def test_whatever_is_left_over_counts(one: str, other: str) -> None:
    """A word, an order, an interrogative or a language that differs is never read away."""
    assert not align(read(one), read(other)).agrees


@pytest.mark.parametrize(
    ("question", "ask"),
    [
        ("could you tell me how many cars there are", "count"),
        ("请问有几辆汽车", "count"),
        ("why is it red", "why"),
        ("为什么是红色的", "why"),
        ("is it open", "yes-no"),
        ("门开着吗", "yes-no"),
        ("贵不贵", "yes-no"),
        ("Is it going up or down?", "what"),
        ("total", "what"),
    ],
)
def test_what_is_asked_for(question: str, ask: str) -> None:
    """The strongest interrogative says what kind of answer is wanted; an alternative is an open question."""
    assert read(question).ask == ask


@pytest.mark.parametrize(
    ("digits", "value"),
    [("三", 3), ("十", 10), ("二十三", 23), ("一百零五", 105), ("二〇二四", 2024), ("三万二千", 32000)],
)
def test_chinese_numerals(digits: str, value: int) -> None:
    """Chinese numerals have the value of Arabic ones."""
    assert han_value(digits) == value


def test_a_question_is_never_read_away() -> None:
    """Politeness alone keeps at least one unit, so that two empty readings can't agree."""
    assert not align(read("please"), read("thanks")).agrees
    assert not align(read("请问"), read("谢谢")).agrees
