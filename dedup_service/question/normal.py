"""The normal form of a question: what the exact tier compares, and what every later step starts from."""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

from opencc import OpenCC

Language = Literal["zh", "en", "other"]

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

_HAN = re.compile(f"[{CJK}]")
_QUOTED = re.compile(r'"([^"]*)"')
_SPACE_BESIDE_HAN = re.compile(f"(?<=[{CJK}]) +| +(?=[{CJK}])")
_LETTER = re.compile(r"[^\W\d_]")

# Every style of quotation mark becomes one, so that only what is quoted matters.
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»『』「」《》〈〉【】″", '"') | dict.fromkeys("‘’‚‛′`´", "'"))
# Currency written in full width, dashes of every width, the Chinese full stop and enumeration comma.
_SIGNS = str.maketrans(
    {"￥": "¥", "￡": "£", "￠": "¢", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-", "～": "~"}
)
# Signs that change what is asked wherever they stand.
_BEARING = frozenset("%‰$¥€£¢°#@&+*=<>^√\"'℃℉")

_simplifier = OpenCC("t2s")


@lru_cache(maxsize=16384)
def normalise(text: str) -> str:
    """Returns the form of ``text`` in which two spellings of one question are equal.

    Compatibility forms are folded (NFKC: full width to half width), case is folded outside quotation marks,
    traditional characters become simplified ones, and punctuation becomes a space, except for signs that bear
    meaning: currency, per cent, degrees, quotation marks, a minus before a digit, and points, commas, colons, slashes
    and dashes within a number. Any text is accepted; the result may be empty.
    """
    folded = (
        unicodedata.normalize("NFKC", text.translate(_QUOTES).translate(_SIGNS)).translate(_SIGNS).translate(_QUOTES)
    )
    if _HAN.search(folded):
        folded = _simplifier.convert(folded)
    pieces: list[str] = []
    at = 0
    for quoted in _QUOTED.finditer(folded):
        pieces += [_bare(folded[at : quoted.start()]), f' "{" ".join(quoted[1].split())}" ']
        at = quoted.end()
    pieces.append(_bare(folded[at:]))
    return _SPACE_BESIDE_HAN.sub("", " ".join("".join(pieces).split()))


def _bare(text: str) -> str:
    """Folds case and drops punctuation from a text that holds no quoted string."""
    text = text.casefold()
    kept: list[str] = []
    for at, sign in enumerate(text):
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        if sign.isalnum() or unicodedata.category(sign).startswith("M"):
            kept.append(sign)
        elif sign == "'":
            kept.append("'" if before.isalpha() and after.isalpha() else " ")
        elif sign == '"':
            kept.append(" ")
        elif (
            sign in _BEARING
            or unicodedata.category(sign) in ("So", "Sc", "Sm")
            or (sign == "-" and after.isdigit())
            or (sign in ".,:/-" and before.isdigit() and after.isdigit())
        ):
            kept.append(sign)
        else:
            kept.append(" ")
    return "".join(kept)


def detect_language(text: str) -> Language:
    """Tells the language of a question by its script: "zh" as soon as a fifth of its letters are Han characters
    (Chinese questions about images often quote Latin names), "en" for other Latin text, "other"
    for the rest (kana make it Japanese)."""
    letters = _LETTER.findall(text)
    if not letters:
        return "other"
    if any("\u3040" <= letter <= "\u30ff" for letter in letters):
        return "other"
    han = sum(1 for letter in letters if _HAN.match(letter))
    if han * 5 >= len(letters):
        return "zh"
    latin = sum(1 for letter in letters if letter.isascii() or "LATIN" in unicodedata.name(letter, ""))
    return "en" if latin * 2 > len(letters) else "other"
