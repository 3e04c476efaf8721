"""Marks that bear meaning: seen by the comparison, whatever the folded text lost."""

import json
from pathlib import Path

import pytest

from dedup_service.question.marks import mark_difference
from dedup_service.question.score import Calibration, gather

DATA = Path(__file__).parents[3] / "benchmarks/data/equal"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Which item costs .75?", "Which item costs 75?"),
        ("Which fund is rated BBB+?", "Which fund is rated BBB?"),
        ("Is the loss (12.00)?", "Is the loss 12.00?"),
        ("差额是-¥30吗？", "差额是¥30吗？"),
        ("Is it 3 mV?", "Is it 3 MV?"),
        ("Which curve reaches 2⁴?", "Which curve reaches 24?"),
        ("哪一行带※？", "哪一行带◎？"),
        ("Answer as {total, date}.", "Answer as (total, date)."),
        ("Name the variable 'k'.", "Name the variable 'K'."),
        ("Reply with GOOD or BAD.", "Reply with good or bad."),
        ("日期写成YYYY.MM.DD", "日期写成YYYY/MM/DD"),
        ("Split the names by ; only", "Split the names by , only"),
        ("Is the word Müll there?", "Is the word Mull there?"),
        ("字段名用total", "字段名用Total"),
    ],
)
def test_a_mark_that_matters_is_a_difference(one: str, other: str) -> None:
    """Signs, brackets, raised figures, quotes, accents, separators and the case of units and wanted words differ, in
    both directions."""
    assert mark_difference(one, other) is not None
    assert mark_difference(other, one) is not None
    assert not gather(one, other, 0.99).agrees


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the total, please?", "Tell me: what is the total?"),
        ("On this receipt, what is the total?", "What is the total on this receipt?"),
        ("What’s the total?", "What is the total?"),
        ("Is it over $1,000?", "Does it exceed $1000?"),
        ("帮我看下，总价是多少", "总价是多少？"),
        ("What is the total (with the tax)?", "What is the total with the tax?"),
        ("A total of what?", "what is the total"),
        ("What Is The Total?", "what is the total"),
        ("What is the TOTAL amount?", "What is the total amount?"),
    ],
)
def test_marks_of_prose_are_no_difference(one: str, other: str) -> None:
    """Commas, colons, apostrophes of contractions, thousands separators, brackets around a remark and capitals of a
    title say nothing."""
    assert mark_difference(one, other) is None


def test_the_set_of_meaningful_edits_is_never_served_cold() -> None:
    """However alike the vectors, another author's pairs with one meaningful edit are not taken for one question."""
    prior = Calibration.prior()
    served = []
    for line in (DATA / "edits.jsonl").read_text("utf-8").splitlines():
        pair = json.loads(line)
        evidence = gather(pair["a"], pair["b"], 0.99)
        if evidence.agrees or evidence.exact or prior.score(evidence).probability >= prior.serve_at:
            served.append(pair)
    assert not served


def test_a_grave_difference_is_a_veto() -> None:
    """A sign or figure that differs forbids reuse; a mere capital does not, but is no agreement either."""
    assert [veto.kind for veto in gather("Is it 5 mW?", "Is it 5 MW?", 0.99).vetoes] == ["MARK"]
    capital = gather("Return the PDF", "Return the pdf", 0.99)
    assert not capital.vetoes
    assert not capital.agrees
