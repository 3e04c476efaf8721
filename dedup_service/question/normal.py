"""The forms of a question's text: the *normal form*, under which two questions are one without being compared, and
the *folded form*, from which a comparison starts.

The normal form is a key: whatever it drops is never looked at again. It therefore drops a closed list of harmless
differences and keeps everything else. The folded form drops far more, and two texts with one folded form are not equal
for that: `marks` looks at what it dropped.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

from opencc import OpenCC

Language = Literal["zh", "en", "other"]

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
KANA = "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f"

_HAN = re.compile(f"[{CJK}]")
_OTHER_CJK = re.compile(f"[{KANA}\u1100-\u11ff\uac00-\ud7af]")
_SPACE_BESIDE_HAN = re.compile(f"(?<=[{CJK}]) +| +(?=[{CJK}])")
_LETTER = re.compile(r"[^\W\d_]")
_WIDE = re.compile("[\uff01-\uff60\uff61-\uffee]+")
_WIDE_QUOTES = str.maketrans({"＂": '"', "＇": "'", "｀": "`", "｢": "「", "｣": "」"})

QUOTED = re.compile(
    r'"([^"]*)"|“([^“”]*)”|„([^„“”]*)[“”]|‘([^‘’]*)’|«([^«»]*)»|「([^「」]*)」|『([^『』]*)』|《([^《》]*)》|〈([^〈〉]*)〉'
    r"|【([^【】]*)】|`([^`]*)`|(?<![^\W_])'([^']*)'(?![^\W_])"
)
"""A quoted string with its marks; one of the groups holds what is quoted."""

_ENDS = ".?!。…,"
_END_RUN = re.compile(r"( ?)([.?!。…,][.?!。…, ]*)$")
_POLITE_HEAD = re.compile(
    r"(?:(?:hi|hello|hey|good (?:morning|afternoon|evening))(?: there)?[,.!:]+ ?"
    r"|excuse me,? "
    r"|(?:(?:could|can|would|will) you )?(?:please|kindly)(?: tell me)?[,:] ?"
    rf"|(?:(?:could|can|would|will) you )?(?:please|kindly)(?: |(?=[{CJK}]))"
    r"|(?:你好|您好|嗨)[,。!]+ ?"
    r"|(?:请问|請問)(?:一下)?[,:]? ?"
    r"|(?:劳驾|勞駕)[,:] ?"
    r"|(?:麻烦|麻煩)(?:你|您)?(?:看一下)?[,:] ?"
    r"|(?:麻烦|麻煩)(?:你|您)?(?=把|将|描述|翻译|列出|总结|解释|读|写|说|告诉|提取|识别|数|给|计算)"
    r"|(?:请|請)(?:你|您)?(?=把|将|用|描述|翻译|列出|列举|总结|概括|解释|读|写|说出|说说|说一|说明一|告诉|提取|识别|数一|数出|给出"
    r"|计算|算|找出|指出|回答|按|根据|只|从|判断|比较|看))",
    re.IGNORECASE,
)
"""Words of courtesy before a question. A greeting needs its comma, and 请 a verb after it: 请假单 is a form."""
_POLITE_TAIL = re.compile(
    r"(?:,? please"
    r"|[.?!,…]+ ?(?:please|(?:many )?thanks(?: a lot| in advance| so much| again)?"
    r"|thank you(?: very much| so much| in advance)?|cheers|thx)"
    r"|[。.?!,…]+ ?(?:谢谢|多谢|感谢|谢谢你|谢谢您|谢谢了|谢啦|拜托|拜托了|麻烦了|麻烦你了|麻烦您了|辛苦|辛苦了))$",
    re.IGNORECASE,
)
"""Words of courtesy after a question; in a sentence of their own, or behind a comma."""
_FIRST_WORD = re.compile(r"[^\W\d_]+(?![^\W_])")
SHORT_WORDS = frozenset(
    {"am", "an", "as", "at", "be", "by", "do", "go", "he", "if", "in", "is", "it", "me", "my", "no", "of", "on", "or"}
    | {"so", "to", "up", "us", "we"}
)
"""English words of two letters; other pairs of letters may be a unit or a symbol."""

_simplifier = OpenCC("t2s")


@lru_cache(maxsize=16384)
def normalise(text: str) -> str:
    """Returns the form of ``text`` under which two spellings of one question are equal without being compared.

    What it drops is this closed list: marks that end the text (full stop, question and exclamation mark, comma,
    ellipsis, but not the factorial's mark); full and half width of one character (the block U+FF00 alone: NFKC would
    also make digits of ½, ² and ①); white space at either end, in runs, and beside a Chinese character; traditional
    for simplified characters; the case of the first letter, where it begins a word of ordinary spelling; and the
    listed words of courtesy at either end. What stands in quotation marks stays as it is. Any text is accepted; the
    result is empty for white space only. The form of a form is itself.
    """
    for _ in range(8):
        before, text = text, _once(text)
        if text == before:
            break
    return text


def _once(text: str) -> str:
    text = text.translate(_WIDE_QUOTES)
    chinese = _HAN.search(text) is not None and _OTHER_CJK.search(text) is None
    pieces: list[str] = []
    at = 0
    for quoted in QUOTED.finditer(text):
        pieces += [_plain(text[at : quoted.start()], chinese), quoted[0]]
        at = quoted.end()
    pieces.append(_plain(text[at:], chinese))
    return _small_first(_without_ends("".join(pieces).strip()))


def _plain(text: str, chinese: bool) -> str:
    """Folds width, white space and script of a text that holds no quoted string."""
    text = _WIDE.sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), text)
    text = re.sub(r"\s+", " ", text)
    if chinese:
        text = _simplifier.convert(text)
    return _SPACE_BESIDE_HAN.sub("", text)


def _without_ends(text: str) -> str:
    """Takes marks and words of courtesy off both ends, and never all of a text."""
    while True:
        shorter = _without_marks(text)
        for courtesy in (_POLITE_HEAD.match(shorter), _POLITE_TAIL.search(shorter)):
            if courtesy is not None and (rest := shorter[: courtesy.start()] + shorter[courtesy.end() :]).strip(
                _ENDS + " "
            ):
                shorter = rest.strip()
                break
        if shorter == text:
            return text
        text = shorter


def _without_marks(text: str) -> str:
    """Takes off the marks that end a text. A mark that stands alone is what is asked about, unless it is the question's
    own mark after a space; after a sign or a digit, only a question mark ends the text: 5! and * . mean something."""
    run = _END_RUN.search(text)
    if run is None or run.start() == 0:
        return text
    before = text[: run.start()]
    marks = run[2].rstrip()
    word = before[-1:].isalpha() and (not before[-1:].isascii() or before[-2:-1].isalpha())
    closing = before[-1:] in "\"”’»」』》〉】`'"
    if run[1]:
        return before if marks[0] == "?" and set(marks) <= set("?。 ") else text
    if word or closing:
        return before
    if before[-1:].isdigit() and set(marks) <= set("?。,") | ({"."} if marks.count(".") == 1 else set()):
        return before
    return text[: len(text) - (len(marks) - len(marks.rstrip("?。")))] if marks.rstrip("?。") != marks else text


def _small_first(text: str) -> str:
    """Writes the first letter small where it begins a word of ordinary spelling: "What", not "mW", "MB" or "A"."""
    word = _FIRST_WORD.match(text)
    if word is None or not word[0][1:].islower():
        return text
    small = word[0][0].lower()
    if len(small) != 1 or small.upper() != word[0][0] or (len(word[0]) == 2 and small + word[0][1] not in SHORT_WORDS):
        return text
    return small + text[1:]


_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»『』「」《》〈〉【】″", '"') | dict.fromkeys("‘’‚‛′`´", "'"))
# Currency written in full width, dashes of every width, the Chinese full stop and enumeration comma.
_SIGNS = str.maketrans(
    {"￥": "¥", "￡": "£", "￠": "¢", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-", "～": "~"}
)
# Signs that change what is asked wherever they stand.
_BEARING = frozenset("%‰$¥€£¢°#@&+*=<>^√\"'℃℉")
_STRAIGHT = re.compile(r'"([^"]*)"')


@lru_cache(maxsize=16384)
def fold(text: str) -> str:
    """Returns the form of ``text`` from which a comparison starts. It drops more than is harmless: two texts with one
    folded form may still differ in a mark, a sign or a case that matters, see `marks`.

    Compatibility forms are folded (NFKC), case is folded outside quotation marks, traditional characters become
    simplified ones, and punctuation becomes a space, except for signs that bear meaning: currency, per cent, degrees,
    quotation marks, a minus before a digit, and points, commas, colons, slashes and dashes within a number. Any text is
    accepted; the result may be empty.
    """
    folded = (
        unicodedata.normalize("NFKC", text.translate(_QUOTES).translate(_SIGNS)).translate(_SIGNS).translate(_QUOTES)
    )
    if _HAN.search(folded):
        folded = _simplifier.convert(folded)
    pieces: list[str] = []
    at = 0
    for quoted in _STRAIGHT.finditer(folded):
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


@lru_cache(maxsize=16384)
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
