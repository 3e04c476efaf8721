"""The scope of a question: the clause that asks, what is told beside it, and what is set aside.

"I've lost page 9, so: what figure is carried over, not brought forward?" asks for a figure carried over. That page 9
is lost is context; "brought forward" is set aside. A number or a name in the context is not what is asked about, and a
"not" that sets something aside negates nothing.

The rules work on clauses, not on a syntax tree, and prefer to keep: what can't be told apart is asked. A supposition
("if the rate were 5 %"), a clause that puts something of the picture before the question ("there is a red car") and
whatever is quoted are never context. Text without punctuation is one clause.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

from dedup_service.question.normal import CJK

_LISTS = tomllib.loads(files("dedup_service.question").joinpath("scope.toml").read_text("utf-8"))
_ENGLISH: Mapping[str, Sequence[str]] = _LISTS["english"]
_CHINESE: Mapping[str, Sequence[str]] = _LISTS["chinese"]

_HAN = re.compile(f"[{CJK}]")
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|「[^」]*」|『[^』]*』|《[^》]*》|'[^' ]+'")
_END = re.compile(r"[?？]|[!！。；;…]+|[.](?=\s|$)|[:：](?=\D|$)|\s[-–—]+\s|[—–]{1,2}|\n+")
_COMMA = re.compile(r"[,，](?!\d)|、(?=[我你他她它就才还也都别不没])")
_WORD = re.compile(r"[a-z0-9']+")
_FRONTED = re.compile(r"(?P<front>[A-Za-z][\w' -]{2,60}?),\s+(?P<asked>[A-Za-z][^,;:.?!\n]*?)(?P<end>[?.!]*\s*)")
_VERBS = frozenset(_ENGLISH["auxiliary"]) | {"i", "we", "you", "not", "n't", "but", "and", "or"}
_OPENS = (frozenset(_ENGLISH["interrogative"]) | frozenset(_ENGLISH["auxiliary"])) - {"which"}


@dataclass(frozen=True)
class Scope:
    """A question's text in three parts, each in its own order. ``asked`` is never empty unless the text is."""

    asked: str
    context: str = ""
    aside: str = ""
    filler: bool = False
    """Whether a greeting or another clause that says nothing was left out."""


@dataclass(frozen=True)
class _Clause:
    text: str
    sentence: int
    question: bool
    """Whether its sentence ends in a question mark."""


@lru_cache(maxsize=32768)
def scope(text: str) -> Scope:
    """Tells the clauses of a question apart. Pure; any text is accepted."""
    rules = _chinese if _HAN.search(text) else _english
    text = text.replace("’", "'")
    clauses = _clauses(text if rules is _chinese else unfronted(text))
    if not clauses:
        return Scope(text)
    if not any(clause.question for clause in clauses):
        # The mark is often left out: the last clause with an interrogative has it.
        last = max((at for at, clause in enumerate(clauses) if rules.interrogates(clause.text)), default=-1)
        clauses = [replace(clause, question=at == last) for at, clause in enumerate(clauses)]
    marked = any(clause.question for clause in clauses)
    kinds = [rules.kind(clause, marked) if len(clauses) > 1 else "ask" for clause in clauses]
    kinds = rules.stories(clauses, kinds, marked)
    if not {"ask", "keep", "turn"} & set(kinds):
        # Nothing asks: the last clause that is not set aside does, or all do.
        last = max((at for at, kind in enumerate(kinds) if kind == "context"), default=-1)
        kinds = [
            kind if kind == "aside" and last >= 0 else ("ask" if at >= last else kind) for at, kind in enumerate(kinds)
        ]
    parts: dict[str, list[str]] = {"asked": [], "context": [], "aside": []}
    for clause, kind in zip(clauses, kinds, strict=True):
        if kind == "filler":
            continue
        kept, dropped = rules.turn(clause.text) if kind in ("ask", "keep", "turn") else (clause.text, "")
        parts["asked" if kind in ("ask", "keep", "turn") else kind].append(kept)
        if dropped:
            parts["aside"].append(dropped)
    joined = {name: ", ".join(part for part in pieces if part.strip()) for name, pieces in parts.items()}
    return Scope(joined["asked"] or text, joined["context"], joined["aside"], "filler" in kinds)


def asked(text: str) -> str:
    """What a question asks; the text as it is where nothing stands beside it."""
    parts = scope(text)
    return parts.asked if parts.context or parts.aside or parts.filler else text


def unfronted(text: str) -> str:
    """An English question with what stands before it put behind: "on page 2, who signed?" asks "who signed on page 2?".

    Only a phrase that begins with a preposition and holds no verb of its own, before the one comma of a question that
    begins as questions do; anything else is left as it is."""
    found = _FRONTED.fullmatch(text)
    if not found:
        return text
    front, asked, end = found["front"], found["asked"], found["end"]
    words, first = _WORD.findall(front.casefold()), _WORD.findall(asked.casefold())[:1]
    if not words or words[0] not in _ENGLISH["preposition"] or first[0] not in _OPENS or set(words) & _VERBS:
        return text
    return f"{asked} {front}{end}"


def _clauses(text: str) -> list[_Clause]:
    """Cuts a text at its punctuation, never within a quoted string, a number or an abbreviation."""
    quoted = [match.span() for match in _QUOTED.finditer(text)]

    def inside(at: int) -> bool:
        return any(start < at < end - 1 for start, end in quoted)

    found: list[_Clause] = []
    start = 0
    ends = [m for m in _END.finditer(text) if not inside(m.start()) and not _abbreviated(text, m)]
    for sentence, end in enumerate([*ends, None]):
        stop = end.start() if end else len(text)
        question = bool(end and end[0] in "?？")
        at = start
        for comma in [m for m in _COMMA.finditer(text, start, stop) if not inside(m.start())]:
            found.append(_Clause(text[at : comma.start()].strip(), sentence, question))
            at = comma.end()
        found.append(_Clause(text[at:stop].strip(), sentence, question))
        start = end.end() if end else stop
    return [clause for clause in found if clause.text]


def _abbreviated(text: str, end: re.Match[str]) -> bool:
    before = re.search(r"([A-Za-z.]+)$", text[: end.start()])
    return end[0] == "." and bool(before) and before[1].casefold() in _ENGLISH["abbreviation"]  # type: ignore[index]


class _English:
    """The rules for text without Chinese characters."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        self.personal = frozenset(lists["personal"])
        self.interrogative = frozenset(lists["interrogative"])
        self.openers = frozenset(lists["auxiliary"]) | frozenset(lists["request"])
        self.auxiliaries = frozenset(lists["auxiliary"])
        self.pictured = frozenset(lists["pictured"])
        self.opening = frozenset(lists["opening"])
        self.supposition = frozenset(lists["supposition"])
        self.bare_request = frozenset(lists["bare_request"])
        self.presenting = tuple(lists["presenting"])
        self.wish = tuple(lists["wish"])
        self.aside = tuple(lists["aside"])
        # "Not including tax" narrows down what is asked; it sets nothing aside.
        self.content = re.compile(r"not (?:including|counting|inclusive|excluding|with|yet|paid|taking|allowing)\b")
        self.turning = re.compile(rf"\b(?:{'|'.join(lists['turn'])})\b")

    def words(self, text: str) -> list[str]:
        """The words of a clause without what opens it and says nothing."""
        words = _WORD.findall(text.casefold())
        while words and words[0] in self.opening:
            words = words[2:] if words[1:2] == ["there"] and words[0] in ("hi", "hey", "hello") else words[1:]
        return words

    def interrogates(self, text: str) -> bool:
        """Whether a clause asks by its words alone."""
        words = self.words(text)
        return bool(words) and (words[0] in self.openers or any(word in self.interrogative for word in words[:6]))

    def kind(self, clause: _Clause, marked: bool) -> str:
        """What a clause does: "ask", "keep" (belongs to what is asked), "context" or "aside"."""
        words = self.words(clause.text)
        rest = " ".join(words)
        if not words or rest in self.bare_request:
            return "filler"
        if any(_begins(rest, phrase) for phrase in self.aside) and not self.content.match(rest):
            return "turn" if " but " in rest else "aside"
        if any(f" {phrase} " in f" {rest} " for phrase in self.aside if phrase.startswith("i")):
            return "context"
        personal = any(word in self.personal for word in words)
        if words[0] in self.supposition:
            return "keep"
        if any(_begins(rest, phrase) for phrase in self.presenting):
            return "context" if personal and marked and not clause.question and words[0].startswith("there") else "keep"
        wished = any(_begins(rest, phrase) for phrase in self.wish)
        if wished and words[-1] in ("know", "ask", "me"):
            return "context"  # "I'd like to know": what, the next clause says.
        asks = words[0] in self.openers or words[0] in self.interrogative or wished
        if clause.question or not marked:
            asks = asks or any(word in self.interrogative for word in words[:6])
        if personal and not asks:
            return "context"
        if personal and marked and not clause.question and not wished and words[0] not in self.openers:
            return "context"
        if marked and not clause.question and not asks and self.tells(words):
            return "context"
        return "ask" if asks else "keep"

    def tells(self, words: Sequence[str]) -> bool:
        """Whether a clause is a statement about something that is not in the picture, as far as its words tell."""
        verbs = sum(word in self.auxiliaries or word.endswith(("n't", "'s", "'ve", "'re")) for word in words)
        return len(words) >= 5 and verbs > 0 and not self.pictured & set(words)

    def stories(self, clauses: Sequence[_Clause], kinds: Sequence[str], marked: bool) -> list[str]:
        """A sentence that asks nothing and speaks of somebody is a story as a whole."""
        told = {
            clause.sentence
            for clause, kind in zip(clauses, kinds, strict=True)
            if kind == "context" and not clause.question and len(self.words(clause.text)) > 1
        }
        asking = {clause.sentence for clause, kind in zip(clauses, kinds, strict=True) if kind in ("ask", "turn")}
        stories = told - asking if marked else set()
        first = next((at for at, clause in enumerate(clauses) if clause.question), len(clauses))
        return [
            "context"
            if (kind == "keep" and clause.sentence in stories and not self.fixed(clause))
            or (kind == "ask" and at > first and not clause.question and self.explains(clause))
            else kind
            for at, (clause, kind) in enumerate(zip(clauses, kinds, strict=True))
        ]

    def explains(self, clause: _Clause) -> bool:
        """Whether a clause after the question says what the answer is for."""
        return " ".join(self.words(clause.text)).startswith(("i need it", "i need this", "i want it", "we need it"))

    def fixed(self, clause: _Clause) -> bool:
        """Whether a clause belongs to the question whatever stands around it."""
        words = _WORD.findall(clause.text.casefold())
        return bool(words) and words[0] in self.supposition

    def turn(self, text: str) -> tuple[str, str]:
        """Parts a clause from what it sets aside: "not A but B", "B rather than A"."""
        turned = re.match(r"(?i)\W*not\b(.+?)\bbut\b(.+)", text)
        if turned:
            return turned[2], turned[1]
        found = self.turning.search(text.casefold())
        return (text[: found.start()], text[found.end() :]) if found else (text, "")


class _Chinese:
    """The rules for text with Chinese characters."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        self.personal = _any(lists["personal"])
        self.interrogative = _any(lists["interrogative"])
        self.request = _any(lists["request"])
        self.telling = _any(lists["telling"])
        self.supposition = _any(lists["supposition"])
        self.presenting = re.compile(
            "|".join(map(re.escape, lists["presenting"]))
            + r"|第.{1,3}[行列栏页条项个张]|[左右][边侧上下面]|^.{0,4}[行列栏]$"
        )
        self.head = _any(lists["aside_head"])
        self.tail = re.compile(rf"(?:{_any(lists['aside_tail']).pattern})(?:了|吧|啊|哈)?$")
        self.within = re.compile(r"(?:而不是|而非|(?<=.)(?<!是)不是)(.+?)(?=而是|[，,]|是(?!不)|$)")
        self.turned = re.compile(
            r"(?<=.)(?:而是|(?<![不是])是(?!不)|(?<![不别没需主重])我?(?:只|就)?要(?!求|不)|只问|就问)(?=.)"
        )
        self.wish = re.compile(
            r"我?(?:只|就|是)?(?:想(?:知道|要|问|看|确认|了解)|问|(?:只|就|我)要"
            r"|要.*(?:[的数名号额价期率量字]|时间|原文|内容)$|需要.*的)"
        )
        self.every = re.compile(r"(?:谁|什么|啥|哪儿?|怎么)[都也]|没(?:什么|啥|几)|好几|几乎")
        self.fillers = re.compile(rf"^(?:{_any(lists['opening']).pattern}|…|\.|\s|，)+")

    def interrogates(self, text: str) -> bool:
        """As for English."""
        return bool(self.interrogative.search(self.every.sub("", self.fillers.sub("", text))))

    def kind(self, clause: _Clause, marked: bool) -> str:
        """As for English."""
        text = clause.text
        bare = self.fillers.sub("", text)
        if not bare:
            return "filler"
        if self.head.match(bare) and not re.match(r"不是不|别的|不要紧|别墅|别名", bare):
            return "turn" if self.turned.search(bare) else "aside"
        if self.tail.search(bare) and len(bare) > 2:
            return "aside"
        asks = self.interrogates(bare)
        if asks and (clause.question or not marked):
            return "ask"
        if re.match(self.supposition, bare):
            return "keep"
        wished = bool(self.request.match(bare) or self.wish.match(bare))
        if wished and not (marked and not clause.question):
            return "ask"
        if self.presenting.search(bare):
            return "keep"
        if self.personal.search(bare):
            return "ask" if wished and re.search(r"(?:告诉我|念给我|给我|我要的?|我想知道|我想问)", bare) else "context"
        if len(bare) > 3 and self.telling.search(bare) and marked:
            return "context"
        return "keep"

    def stories(self, clauses: Sequence[_Clause], kinds: Sequence[str], marked: bool) -> list[str]:
        """A story runs from the beginning to the last clause that tells something."""
        last = max((at for at, kind in enumerate(kinds) if kind == "context" and len(clauses[at].text) > 3), default=-1)
        asks = next((at for at, kind in enumerate(kinds) if kind in ("ask", "turn")), len(kinds))
        return [
            "context" if kind == "keep" and at < min(last, asks) and marked and not self.fixed(clause) else kind
            for at, (clause, kind) in enumerate(zip(clauses, kinds, strict=True))
        ]

    def fixed(self, clause: _Clause) -> bool:
        """As for English."""
        return bool(self.presenting.search(clause.text) or self.supposition.match(clause.text))

    def turn(self, text: str) -> tuple[str, str]:
        """Parts a clause from what it sets aside: "not A but B", "B and not A"."""
        bare = self.fillers.sub("", text)
        head, turned = self.head.match(bare), self.turned.search(bare)
        if head and turned:
            return bare[turned.end() :], bare[head.end() : turned.start()]
        found = self.within.search(text)
        before = text[: found.start()] if found else ""
        if not found or before.endswith("是") or not (found[0].startswith("而") or re.search("[是要问]", before)):
            return text, ""
        rest = text[: found.start()] + text[found.end() :]
        return (rest, found[1]) if rest.strip() else (text, "")


def _any(expressions: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(sorted(map(re.escape, expressions), key=len, reverse=True)))


def _begins(text: str, phrase: str) -> bool:
    return text == phrase or text.startswith(phrase + " ")


_english = _English(_ENGLISH)
_chinese = _Chinese(_CHINESE)
