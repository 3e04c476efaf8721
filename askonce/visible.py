"""What of a text can be seen: the one function that both the key of an answer and the text for the model go through.

A text may hold characters that show nothing: a person who reads it, and rules that look for words, miss what they
say, and a model may not. Marks that only steer line breaks or direction are taken out. Whatever could carry a message
or join two words unseen is refused. What is left is both the key's text and the model's.
"""

from __future__ import annotations

import re
import unicodedata

from askonce.faults import InvalidInput

# Soft hyphen, zero-width space, word joiner, byte order mark, and the marks of direction for one place.
_DROPPED = re.compile("[\u00ad\u200b\u2060\ufeff\u200e\u200f\u061c]")
# Joiners: part of an emoji or of a script that shapes its letters by them, anywhere else nothing.
_JOINER = re.compile("[\u200c\u200d]")
_SELECTOR = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_FLAG = re.compile(
    "\U0001f3f4(?:"
    + "|".join("".join(chr(0xE0000 + ord(letter)) for letter in region) for region in ("gbeng", "gbsct", "gbwls"))
    + ")\U000e007f"
)
"""The flags of England, Scotland and Wales: the only emoji that are spelt in tag characters."""
_HIDDEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u202a-\u202e\u2061-\u206f\u2800\u3164\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
"""The rest of Unicode's default-ignorable characters, with the blanks that are no spaces: fillers of Hangul, the empty
Braille pattern, the empty note head, annotation marks."""
_SHAPED = (
    "ARABIC",
    "SYRIAC",
    "MONGOLIAN",
    "DEVANAGARI",
    "BENGALI",
    "GURMUKHI",
    "GUJARATI",
    "ORIYA",
    "TAMIL",
    "TELUGU",
    "KANNADA",
    "MALAYALAM",
    "SINHALA",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
    "NKO",
)
"""Scripts whose letters take their shape by joiners, by the beginning of their characters' names."""


def visible(text: str, field: str = "text") -> str:
    """The text without marks that show nothing. Raises InvalidInput with TEXT_INVISIBLE_CHARACTERS, naming `field`,
    where an invisible character could say something. The result passes unchanged."""
    if text.isascii():
        return text
    text = _DROPPED.sub("", text)
    text = _JOINER.sub(lambda found: found[0] if _joins(text, found.start()) else "", text)
    rest = _FLAG.sub("", text)
    found = _HIDDEN.search(rest) or next(
        (mark for mark in _SELECTOR.finditer(rest) if not _selects(rest, mark.start())), None
    )
    if found is not None:
        raise InvalidInput(
            "TEXT_INVISIBLE_CHARACTERS",
            f"{field}: remove the invisible character U+{ord(found[0]):04X}; what can't be seen is not asked.",
            field=field,
            metadata={"character": f"U+{ord(found[0]):04X}"},
        )
    return text


def _joins(text: str, at: int) -> bool:
    """Whether a joiner stands where it shapes what is seen: between two emoji, or within a script that needs it."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if text[at] == "\u200d" and _pictorial(before) and _pictorial(after):
        return True
    return (
        any(unicodedata.name(sign, "").startswith(_SHAPED) for sign in (before, after) if sign) and before.strip() != ""
    )


def _selects(text: str, at: int) -> bool:
    """Whether a variation selector follows a character that has variants: a symbol or a keycap's base before the
    common ones, a Chinese character before the ideographic ones; never a second selector."""
    before, selector = text[at - 1 : at] if at else "", text[at]
    if not before:
        return False
    if selector >= "\U000e0100" or selector < "\ufe0e":
        return unicodedata.name(before, "").startswith(("CJK UNIFIED", "CJK COMPATIBILITY")) or (
            selector < "\ufe0e" and unicodedata.category(before) == "Sm"
        )
    return unicodedata.category(before) in ("So", "Sm", "Sk") or before in "#*0123456789‼⁉〰〽©®™ℹ"


def _pictorial(sign: str) -> bool:
    return bool(sign) and (unicodedata.category(sign) in ("So", "Sk") or sign in "\ufe0f♀♂")
