"""Token ids become exactly the text that belongs to the answer."""

from __future__ import annotations

import random

import pytest

from inference_service.answer_text import AnswerText
from inference_service.glm.detokenizer import ALPHABET, Detokenizer, Marks, Spelling

WORDS = {0: "Ġ", 1: "a", 2: "b", 3: "Ċ", 10: "<think>", 11: "</think>", 12: "<|begin_of_box|>", 13: "<|user|>"}
LETTERS = {byte: letter for letter, byte in ALPHABET.items()}
MARKS = Marks(10, 11, frozenset({12, 13}))


def spelling() -> Spelling:
    """Tokens 100 to 355 are the single bytes."""
    return Spelling(
        lambda token: LETTERS[token - 100] if 100 <= token < 356 else WORDS.get(token), frozenset(range(10, 14))
    )


def spelt(text: str) -> list[int]:
    return [100 + byte for byte in text.encode()]


def run(tokens: list[int], stops: tuple[str, ...] = (), thinking: bool = False) -> AnswerText:
    """Feeds all tokens and checks that the pieces shown make up the texts."""
    detokenizer = Detokenizer(spelling(), MARKS, stops, thinking)
    text = thought = ""
    for token in tokens:
        shown = detokenizer.feed(token)
        text, thought = text + shown.text, thought + shown.thinking
        if detokenizer.answer.stopped:
            break
    shown = detokenizer.finish()
    assert (text + shown.text, thought + shown.thinking) == (detokenizer.answer.text, detokenizer.answer.thinking_text)
    return detokenizer.answer


def test_every_byte_has_one_letter() -> None:
    """The alphabet is a bijection between 256 bytes and 256 printable characters."""
    assert sorted(ALPHABET.values()) == list(range(256))
    assert all(letter.isprintable() and not letter.isspace() for letter in ALPHABET)


def test_characters_cut_between_tokens_are_put_together() -> None:
    """A character of several bytes shows when it is complete, and never as a replacement."""
    detokenizer = Detokenizer(spelling(), MARKS, ())
    shown = [detokenizer.feed(token).text for token in spelt("总😀")]
    assert shown == ["", "", "总", "", "", "", "😀"]


def test_invalid_bytes_show_as_replacements() -> None:
    """Bytes that are no UTF-8 become U+FFFD, as decoding all at once would show them."""
    chance = random.Random(1)
    for _ in range(200):
        data = bytes(chance.choice(b"ab\xe6\x80\xbb\xf0\x9f\xff ") for _ in range(12))
        assert run([100 + byte for byte in data]).text == data.decode(errors="replace").strip()


def test_thoughts_and_boxes_are_split_off() -> None:
    """Thinking is a text of its own; boxes and control tokens vanish; both texts are trimmed."""
    tokens = [10, 3, *spelt("so 12"), 3, 11, 3, 12, *spelt("12"), 12, 13, 3]
    found = run(tokens)
    assert (found.thinking_text, found.text) == ("so 12", "12")
    assert run([*spelt("hm"), 11, *spelt("yes")], thinking=True).text == "yes"


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("one two three", ("two",), "one"),
        ("one two three", ("three", "two"), "one"),
        ("aaab", ("aab",), "a"),
        ("one tw", ("two",), "one tw"),
        ("一共五元。还有", ("。",), "一共五元"),
        ("never", ("x",), "never"),
    ],
)
def test_stop_strings_end_the_answer(text: str, stops: tuple[str, ...], shown: str) -> None:
    """The stop string that is complete first ends the answer and is not shown; what only begins one is."""
    assert run(spelt(text), stops).text == shown
