"""Asks the model whether two questions about one unseen image always have the same answer: one token, with probability.

The model reads a fixed instruction with worked examples, then the pair; of all tokens only the two verdicts count. Each
pair is put in both orders, because language models favour a place, and the two log-odds are averaged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from inference_service.engine import Judgement

CHINESE = re.compile("[㐀-鿿]")


@dataclass(frozen=True, slots=True)
class Script:
    """The judge's words in one language."""

    instruction: str
    pair: str
    same: tuple[str, ...]
    different: tuple[str, ...]


ENGLISH_SCRIPT = Script(
    instruction=(
        "Two users ask about the same picture, which you can't see. Would one answer, given to both, always be right? "
        "Say yes only if the questions ask for exactly the same thing, whatever the picture shows. Say no if they "
        "differ in the thing, the quantity, the time, the place, a condition, a negation, or in how much detail they "
        "want.\n"
        "A: How much is it in total?\nB: What is the total amount?\nSame answer: yes\n"
        "A: What is the amount before tax?\nB: What is the amount after tax?\nSame answer: no\n"
        "A: Is there a dog?\nB: Is there no dog?\nSame answer: no\n"
        "A: What colour is the car?\nB: The car is what color?\nSame answer: yes\n"
    ),
    pair="A: {left}\nB: {right}\nSame answer (yes or no):",
    same=("yes", "Yes", "YES"),
    different=("no", "No", "NO"),
)

CHINESE_SCRIPT = Script(
    instruction=(
        "两位用户就同一张图片各提一个问题，你看不到图片。同一个答案给两人是否永远都正确？"
        "只有两个问题在任何图片上问的都完全是同一件事，才答“是”；对象、数量、时间、地点、条件、否定或所要的详细程度有任何不同，都答“否”。\n"
        "甲：一共多少钱？\n乙：总金额是多少？\n答案相同：是\n"
        "甲：税前金额是多少？\n乙：税后金额是多少？\n答案相同：否\n"
        "甲：图中有狗吗？\n乙：图中没有狗吗？\n答案相同：否\n"
        "甲：这辆车是什么颜色？\n乙：车的颜色是什么？\n答案相同：是\n"
    ),
    pair="甲：{left}\n乙：{right}\n答案相同（是或否）：",
    same=("是",),
    different=("否", "不"),
)


def script_for(left: str, right: str) -> Script:
    """Chinese where either question is."""
    return CHINESE_SCRIPT if CHINESE.search(left) or CHINESE.search(right) else ENGLISH_SCRIPT


def judgement(log_odds: Sequence[float], temperature: float, same_at: float, different_at: float) -> Judgement:
    """The verdict from the log-odds of "same" in each order.

    The orders' mean is divided by the temperature, then mapped by the logistic function (Platt scaling without offset:
    the judge's bias cancels in neither order). Orders that contradict each other beyond the thresholds are unsure.
    """
    chances = [logistic(each / temperature) for each in log_odds]
    chance = logistic(sum(log_odds) / len(log_odds) / temperature)
    if max(chances) >= same_at and min(chances) <= different_at:
        return Judgement("unsure", chance)
    if chance >= same_at:
        return Judgement("same", chance)
    return Judgement("different" if chance <= different_at else "unsure", chance)


def logistic(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * value))
