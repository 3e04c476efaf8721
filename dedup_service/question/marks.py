"""The marks in which two questions differ though their words are the same: signs, brackets, raised and lowered figures,
quotes, the case of letters that stand for something.

The readings are made from a folded text that has lost most of these. Whatever was lost is compared here, so that two
texts are never taken for one because nobody looked.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from dedup_service.question.normal import CJK, KANA, QUOTED, SHORT_WORDS, detect_language, normalise
from dedup_service.question.words import is_word

_CHUNK = re.compile(rf"[{CJK}{KANA}々]|[^\s{CJK}{KANA}々]+")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_GAP_BEFORE_UNIT = re.compile(r"(?<=\d) +(?=[%‰°℃℉])")
_ABOUT_MARKS = re.compile(
    r"\b(?:separat\w+|delimit\w*|punctuation|commas?|semicolons?|colons?|hyphens?|dash(?:es)?|quot(?:e|es|ation)\b"
    r"|brackets?|parenthes[ie]s|apostrophes?|symbols?|characters?|bullets?|between)\b"
    r"|分隔|隔开|分开|标点|符号|逗号|句号|分号|冒号|顿号|引号|括号|书名号|连字符|字符|小数点|千分|标出|括起来|放在|之间",
    re.IGNORECASE,
)
"""Words of a question about marks: in it every mark counts, even those of ordinary prose."""
_ABOUT_SPELLING = re.compile(
    r"\b(?:json|yaml|xml|csv|keys?|fields?|columns?|variables?|keywords?|reply|answer|respond|say|write|return|capitals?"
    r"|capitali[sz]\w+|(?:lower|upper)[- ]?case|letters?|spell\w*)\b",
    re.IGNORECASE,
)
"""Words of a question in which a capital may be wanted, or asked about. Latin words in Chinese text always may."""
_STYLES = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'"})
_TRAILING = ",.;:?!…。，、；：？！"
_SHORT_TITLE = frozenset(word.title() for word in (*SHORT_WORDS, "mr", "ms", "dr", "st"))


@dataclass(frozen=True)
class MarkDifference:
    """Marks of each side that the other lacks. ``grave`` says that they bear on what is asked for (a sign, a figure, a
    quoted string); otherwise they may be a habit of writing, and further evidence may outweigh them."""

    left: str
    right: str
    grave: bool


@dataclass(frozen=True)
class _Marked:
    """What bears meaning in one text: quoted strings, chunks with a mark in them, words by their case."""

    quoted: Counter[str]
    styles: Counter[str]
    chunks: Counter[str]
    cases: dict[str, Counter[str]]
    apostrophes: frozenset[str]
    words: frozenset[str]


def mark_difference(a: str, b: str) -> MarkDifference | None:
    """The difference of two questions in marks that bear meaning; None when there is none."""
    strict = bool(_ABOUT_MARKS.search(a) or _ABOUT_MARKS.search(b))
    spelling = any(_ABOUT_SPELLING.search(text) or detect_language(text) != "en" for text in (a, b))
    one, other = _marked(a, strict, spelling), _marked(b, strict, spelling)
    left, right = one.chunks - other.chunks, other.chunks - one.chunks
    grave = any(_grave(chunk) for chunk in (*left, *right))
    if one.quoted != other.quoted:
        left.update(one.quoted - other.quoted)
        right.update(other.quoted - one.quoted)
        grave = True
    elif one.styles != other.styles:
        left.update(one.styles - other.styles)
        right.update(other.styles - one.styles)
        grave = grave or strict
    for word in {**one.cases, **other.cases}:
        mine, theirs = one.cases.get(word, Counter()), other.cases.get(word, Counter())
        if set(mine) == set(theirs) or not _case_counts(word, mine, theirs):
            continue
        left.update(mine)
        right.update(theirs)
        grave = grave or len(word) == 1 or any(_mixed(form) for form in (*mine, *theirs))
    for texts, spelt, plain in ((left, one, other), (right, other, one)):
        for word in spelt.apostrophes - plain.apostrophes:
            bare = re.sub("['’]", "", word)
            if bare in plain.words and bare not in spelt.words and is_word(bare):
                texts[word] += 1
    if not left and not right:
        return None
    return MarkDifference(" ".join(sorted(left)), " ".join(sorted(right)), grave)


@lru_cache(maxsize=16384)
def _marked(text: str, strict: bool, spelling: bool) -> _Marked:
    normal = _GAP_BEFORE_UNIT.sub("", normalise(text))
    quoted: Counter[str] = Counter()
    styles: Counter[str] = Counter()
    for found in QUOTED.finditer(normal):
        content = next((group for group in found.groups() if group is not None), "")
        quoted[content] += 1
        styles[(found[0][0] + found[0][-1]).translate(_STYLES)] += 1
    plain = QUOTED.sub(" ", normal)
    shouted = plain.isupper() and len(re.findall(r"[A-Z]{2,}", plain)) > 2
    chunks: Counter[str] = Counter()
    cases: dict[str, Counter[str]] = {}
    apostrophes: set[str] = set()
    words: set[str] = set()
    found_chunks = _CHUNK.findall(_without_prose_brackets(plain))
    for place, chunk in enumerate(found_chunks):
        last = place + 1 == len(found_chunks)
        bare = chunk if strict and not last else _without_prose_marks(chunk, found_chunks, place)
        if not bare:
            continue
        if _bears(bare):
            chunks[_THOUSANDS.sub(lambda number: number[0].replace(",", ""), bare)] += 1
            continue
        for word in re.findall(r"[^\W_]+(?:['’][^\W_]+)*", bare):
            if "'" in word or "’" in word:
                apostrophes.add(word.replace("’", "'").lower())
            words.add(word.lower())
            alone = last or not found_chunks[place + 1].islower()
            form = _case_of(word, first=place == 0, shouted=shouted, alone=alone, spelling=spelling)
            if form is not None:
                cases.setdefault(word.casefold(), Counter())[form] += 1
    return _Marked(quoted, styles, chunks, cases, frozenset(apostrophes), frozenset(words))


def _without_prose_brackets(text: str) -> str:
    """Takes the brackets off a remark of several ordinary words: "(with the tax)"."""
    return re.sub(r"(?:(?<=\s)|^)\(([a-z]+(?: [a-z]+)+)\)(?=[\s.,?!]|$)", r"\1", text)


def _without_prose_marks(chunk: str, chunks: list[str], place: int) -> str:
    """Takes off the marks of ordinary prose behind a word: a comma, a colon, the end of a sentence."""
    if len(chunk) == 1:
        beside_han = place > 0 and re.match(f"[{CJK}]", chunks[place - 1])
        return "" if chunk in ",.:?!。，：？！" and beside_han else chunk
    bare = chunk.rstrip(_TRAILING)
    if not bare:
        return chunk if set(chunk) - set(".…,。?!") else ""
    tail = chunk[len(bare) :]
    if tail == "," and bare.istitle() and place and "".join(chunks[place + 1 : place + 2]).rstrip(_TRAILING).istitle():
        return chunk  # a list of names: Mary Ann or Lee, Mary, Ann or Lee
    if len(tail) > 1 or not (bare[-1].isalnum() or bare[-1] in "\"'”’)%"):
        return chunk
    if tail in ".!" and bare[-1].isdigit():
        return bare if tail == "." else chunk
    return bare


def _bears(chunk: str) -> bool:
    """Whether a chunk holds a mark, a figure's style or an accent that a folded text may lose."""
    bare = re.sub(r"(?<=[^\W\d_])['’\-‐‑](?=[^\W\d_])", "", chunk)
    for sign in bare:
        category = unicodedata.category(sign)
        if category[0] in "PSMC" or (category[0] == "N" and not sign.isdecimal()):
            return True
        if ord(sign) > 127 and not re.match(f"[{CJK}]", sign):
            normal = unicodedata.normalize("NFKD", sign)
            if normal != sign and category != "Lo":
                return True
    return bool(re.search(r"\d", bare) and re.search(r"[^\W\d_]", bare))


def _grave(chunk: str) -> bool:
    """Whether a chunk's mark bears on the content; a point within a word or an enumeration comma may be a habit."""
    return not re.fullmatch(r"[^\W\d_]+(?:\.[^\W\d_]+)*\.?|、", chunk)


def _case_of(word: str, *, first: bool, shouted: bool, alone: bool, spelling: bool) -> str | None:
    """The form of a word as far as its case means something; small letters for a word written in the usual way, None
    for the article and the pronoun."""
    if len(word) == 1:
        if not word.isalpha() or word == "a":
            return word if word == "a" else None
        if (word == "A" and first and not alone) or (word == "I" and not alone):
            return None
        return word
    if word.islower() or not word.isalpha():
        return word
    if word[0].isupper() and word[1:].islower():
        usual = first or (not spelling and (len(word) > 2 or word in _SHORT_TITLE))
        return word.lower() if usual else word
    emphatic = not spelling and word.isupper() and len(word) > 3 and is_word(word.lower())
    return word.lower() if shouted or emphatic else word


def _mixed(form: str) -> bool:
    """Whether a word mixes its letters' cases as units, variables and codes do."""
    return not form.islower() and not form.isupper() and not form.istitle()


def _case_counts(word: str, mine: Counter[str], theirs: Counter[str]) -> bool:
    """Whether a difference of case is one. A word that stands on one side only is for the readings to weigh, but for a
    single capital, which they may take for an article."""
    if mine and theirs:
        return True
    return len(word) == 1 and any(form.isupper() for form in (*mine, *theirs))
