"""Marks in a streamed text are found however it is cut."""

from __future__ import annotations

import random

from inference_service.markup import Markup

TEXT = "<think>1 < 2, so</think>it is <|begin_of_box|>12.50<|end_of_box|> <| <th"


def test_parts_do_not_depend_on_the_pieces() -> None:
    """Thinking and answer come out whole, marks gone, what only looks like a mark kept."""
    chance = random.Random(1)
    for _ in range(200):
        markup, parts, rest = Markup(), [], TEXT
        while rest:
            cut = chance.randrange(1, 9)
            parts += markup.feed(rest[:cut])
            rest = rest[cut:]
        parts += markup.feed("", last=True)
        assert "".join(part.text for part in parts if part.thinking) == "1 < 2, so"
        assert "".join(part.text for part in parts if not part.thinking) == "it is 12.50 <| <th"


def test_plain_text_is_not_held_back() -> None:
    """Text without a mark's beginning at its end shows at once."""
    markup = Markup()
    assert [part.text for part in markup.feed("12 euros")] == ["12 euros"]
    assert [part.text for part in markup.feed("a <")] == ["a "]
    assert [part.text for part in markup.feed("b")] == ["<b"]
