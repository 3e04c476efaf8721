"""Text becomes exactly the answer and its thinking, however it is cut."""

from __future__ import annotations

import random

from inference_service.answer_text import AnswerText, Stopper, Trimmer, overlap

TEXT = "\n<think>1 < 2, so</think>\nit is <|begin_of_box|>12.50<|end_of_box|> <| <th<|user|>\n"


def cut(text: str, chance: random.Random) -> list[str]:
    pieces = []
    while text:
        size = chance.randrange(1, 9)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def test_parts_do_not_depend_on_the_pieces() -> None:
    """Thinking and answer come out whole, marks gone, ends trimmed, what only looks like a mark kept."""
    chance = random.Random(1)
    for _ in range(200):
        answer, text, thinking = AnswerText(), "", ""
        for shown in (*map(answer.feed, cut(TEXT, chance)), answer.finish()):
            text, thinking = text + shown.text, thinking + shown.thinking
        assert (thinking, text) == ("1 < 2, so", "it is 12.50 <| <th")
        assert (answer.thinking_text, answer.text, answer.leaked) == (thinking, text, False)


def test_plain_text_is_not_held_back() -> None:
    """Text without a mark's beginning at its end shows at once."""
    answer = AnswerText()
    assert [answer.feed(text).text for text in ("12 euros", " a <", "b")] == ["12 euros", " a", " <b"]


def test_a_thought_that_was_never_opened_is_thinking_when_it_closes() -> None:
    """What came before a bare closing mark is no answer; it has leaked where it was shown."""
    chance = random.Random(2)
    for _ in range(200):
        answer = AnswerText()
        for piece in cut("let me see. 5 </think> RM 5", chance):
            answer.feed(piece)
        answer.finish()
        assert (answer.thinking_text, answer.text, answer.leaked) == ("let me see. 5", "RM 5", True)
    answer = AnswerText()
    shown = answer.feed("\n a</think>b</think>RM 5")
    assert (shown.thinking, shown.text, answer.leaked) == ("ab", "RM 5", False)


def test_a_thought_without_end_is_no_answer() -> None:
    """An answer that ends inside a thought is empty."""
    answer = AnswerText()
    answer.feed("<think>hm")
    answer.finish()
    assert (answer.text, answer.thinking_text) == ("", "hm")


def test_stopping_does_not_depend_on_the_pieces() -> None:
    """However a text is cut, the same is shown."""
    chance = random.Random(2)
    for _ in range(300):
        text = "".join(chance.choice("ab ") for _ in range(30))
        stops = tuple("".join(chance.choice("ab ") for _ in range(chance.randrange(1, 5))) for _ in range(2))
        stopper, shown = Stopper(stops), ""
        for piece in cut(text, chance):
            shown += stopper.feed(piece)
        shown += stopper.feed("", last=True)
        ends = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
        assert shown == (text[: min(ends)[1]] if ends else text)


def test_overlap_is_the_longest_beginning_of_a_stop() -> None:
    """Only a proper beginning counts."""
    assert (overlap("xab", "abc"), overlap("abc", "abc"), overlap("aa", "aab"), overlap("", "a")) == (2, 0, 2, 0)


def test_white_space_at_the_ends_never_shows() -> None:
    """Inner white space is shown when something follows it."""
    trimmer = Trimmer()
    assert [trimmer.feed(text) for text in ("  ", " a", " ", "\n", "b ", "")] == ["", "a", "", "", " \nb", ""]
