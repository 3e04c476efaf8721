"""Cuts a question into units: an English word in its base form, a number, a sign, or one Chinese character."""

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from lemminflect import getAllLemmas  # type: ignore[import-untyped]
from rapidfuzz.distance import DamerauLevenshtein

from dedup_service.question.normal import CJK, fold

_UNIT = re.compile(rf"\d+(?:[.,:/-]\d+)*|[{CJK}]|[^\W\d_{CJK}]+(?:'[^\W\d_{CJK}]+)?|[^\s\w]", re.UNICODE)
_CODE = re.compile(r"[a-z]*\d[a-z0-9]*[a-z][a-z0-9]*|[a-z]+\d[a-z0-9]*")
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_MEASURED = re.compile(r"(\d+(?:\.\d+)?)([a-z]{1,3})")

_ENGLISH = tomllib.loads(files("dedup_service.question").joinpath("english.toml").read_text("utf-8"))
CONTRACTIONS: Mapping[str, str] = _ENGLISH["contractions"]
FORMS: Mapping[str, str] = _ENGLISH["forms"]
_GRAMMAR = frozenset(_ENGLISH["grammar"])


@lru_cache(maxsize=65536)
def lemma(word: str) -> str:
    """The base form of a lower-case English word; the word itself when it is in no dictionary."""
    if word in FORMS:
        return FORMS[word]
    if not word.isascii() or not word.isalpha() or len(word) < 3:
        return word
    found = getAllLemmas(word)
    for part in ("VERB", "NOUN", "AUX"):
        if part in found:
            return str(min(found[part], key=lambda form: (form == word and part == "VERB", len(form))))
    return word


@lru_cache(maxsize=65536)
def is_plural(word: str) -> bool:
    """Tells whether a lower-case English word is a noun in the plural."""
    if word in ("people", "men", "women", "children", "numbers", "axes", "taxes"):
        return True
    if word in FORMS or not word.isascii() or not word.endswith("s") or len(word) < 4:
        return False
    return any(form != word for form in getAllLemmas(word).get("NOUN", ()))


@lru_cache(maxsize=65536)
def is_word(word: str) -> bool:
    """Tells whether the dictionary knows a lower-case English word."""
    return word in FORMS or word in _GRAMMAR or bool(getAllLemmas(word))


@lru_cache(maxsize=65536)
def is_misspelling(one: str, other: str) -> bool:
    """Tells whether two Latin words are one word and a slip of the pen: at least five letters, one slip (two from nine
    letters on), the same first letter, and not both in the dictionary: "form" and "from" are two words."""
    if min(len(one), len(other)) < 5 or one[0] != other[0] or not (one.isalpha() and other.isalpha()):
        return False
    if not (one.isascii() and other.isascii()) or is_word(one) == is_word(other):
        return False
    slips = 2 if min(len(one), len(other)) >= 9 else 1
    return DamerauLevenshtein.distance(one, other, score_cutoff=slips) <= slips


def surface_units(text: str) -> tuple[str, ...]:
    """The units of a text in normal form, uninflected: numbers without thousands separators, contractions written out,
    a unit of measure set apart from its number ("5kg")."""
    found: list[str] = []
    for piece in re.findall(rf"[{CJK}]|[^\s{CJK}]+", text):
        if len(piece) == 1 or piece in CONTRACTIONS:
            found += CONTRACTIONS.get(piece, piece).split()
            continue
        for word in re.findall(r"\"|[^\s\"]+", piece):
            if word in CONTRACTIONS:
                found += CONTRACTIONS[word].split()
            elif _ORDINAL.fullmatch(word) or (_CODE.fullmatch(word) and not _MEASURED.fullmatch(word)):
                found.append(word)
            elif word.endswith("'s") and len(word) > 3:
                found += [word[:-2], "'s"]
            else:
                found += _UNIT.findall(word)
    return tuple(unit.replace(",", "") if unit[0].isdigit() and _thousands(unit) else unit for unit in found)


def _thousands(number: str) -> bool:
    return bool(re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", number))


def units(text: str) -> tuple[str, ...]:
    """The units of any text, normalised, English words in their base form."""
    return tuple(lemma(unit) for unit in surface_units(fold(text)))
