"""The word lists of `lexicon/*.toml`: which expressions mean the same, which exclude each other, which say nothing.

Each file holds tables of senses. A sense is a name with its expressions, English and Chinese in one list:

    kind = "OPPOSITE" # the senses of one table exclude each other, and a veto of this kind says so; absent: synonyms

    [side]
    left = ["left", "left-hand side", "左边", "左侧"]
    right = ["right", "right-hand side", "右边", "右侧"]

An expression means the same as every other one of its sense, in both languages. English expressions match whatever
the inflection. `[kinds]` gives a table another veto kind than its file has. A `[types]` table says what kind of
answer a sense asks for ("amount", "date" ...), so that the interrogative that only repeats it can be left out:
"发票日期是哪天" asks no more than "发票日期". `frames.toml` lists what carries no meaning at all, `[[expand]]` turns
one expression into several senses ("人数" = how many + person), `movable` lists the senses of the file that may
change their place ("*": all of them), and `shield` keeps a word whole in which a listed character would mean
something else.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from dedup_service.question.words import units

RESERVED = frozenset({"types", "drop", "kinds"})


@dataclass(frozen=True)
class Sense:
    """One meaning. ``name`` is unique in the whole lexicon; senses of one ``set`` exclude each other when ``kind`` is
    not empty; ``type`` is the kind of answer it asks for, or empty; a ``movable`` sense may stand before or after
    what it belongs to without changing the meaning ("colour of the car", "car colour")."""

    name: str
    kind: str = ""
    set: str = ""
    type: str = ""
    movable: bool = False


@dataclass(frozen=True)
class Lexicon:
    """The word lists, ready to match. ``phrases`` maps a sequence of units (see `words.units`) to the sense names that
    it stands for (none: it says nothing); ``longest`` is the length of the longest such sequence. ``speech`` holds
    sounds that are no words."""

    senses: Mapping[str, Sense]
    phrases: Mapping[tuple[str, ...], tuple[str, ...]]
    heads: frozenset[tuple[str, ...]]
    tails: frozenset[tuple[str, ...]]
    opposite_characters: frozenset[frozenset[str]]
    speech: frozenset[str] = frozenset()
    longest: int = field(default=0)

    def kind_of_clash(self, one: str, other: str) -> str:
        """The veto kind if the two senses exclude each other, else an empty string."""
        a, b = self.senses.get(one), self.senses.get(other)
        if a is None or b is None or a.name == b.name or not a.kind or a.set != b.set:
            return ""
        return a.kind

    def type_of(self, name: str) -> str:
        """What kind of answer the sense asks for; empty when unknown."""
        sense = self.senses.get(name)
        return sense.type if sense else ""

    def is_movable(self, name: str) -> bool:
        """Tells whether the sense may change its place in the question without changing what is asked."""
        sense = self.senses.get(name)
        return bool(sense and sense.movable)


class LexiconError(ValueError):
    """A word list contradicts itself; the message names the expression and the senses."""


def build(documents: Mapping[str, Mapping[str, Any]]) -> Lexicon:
    """Builds a lexicon from parsed word lists, keyed by file name. Raises `LexiconError` when one expression is given
    two meanings or a table refers to a sense that no list defines."""
    senses: dict[str, Sense] = {}
    phrases: dict[tuple[str, ...], tuple[str, ...]] = {}
    spoken_for: dict[tuple[str, ...], str] = {}
    heads: set[tuple[str, ...]] = set()
    tails: set[tuple[str, ...]] = set()
    characters: set[frozenset[str]] = set()
    speech: set[str] = set()

    def claim(expression: str, meaning: tuple[str, ...], where: str) -> None:
        key = units(expression)
        if not key:
            raise LexiconError(f"{where}: {expression!r} has no words")
        if phrases.get(key, meaning) != meaning:
            raise LexiconError(f"{where}: {expression!r} already means {spoken_for[key]}")
        phrases[key], spoken_for[key] = meaning, where

    for file, document in sorted(documents.items()):
        kind = str(document.get("kind", ""))
        types = {name: kind_ for kind_, names in document.get("types", {}).items() for name in names}
        kinds = document.get("kinds", {})
        movable = frozenset(document.get("movable", ()))
        for table, entries in document.items():
            if table in RESERVED or not isinstance(entries, Mapping):
                continue
            for name, expressions in entries.items():
                if name in senses:
                    raise LexiconError(f"{file}: {name} is defined twice")
                clash = str(kinds.get(table, kind))
                place = f"{file}/{table}" if clash else ""
                senses[name] = Sense(name, clash, place, types.get(name, ""), bool({name, "*"} & movable))
                for expression in expressions:
                    claim(expression, (name,), f"{file}: {name}")
        unknown = (set(types) | movable) - set(senses) - {"*"}
        if unknown:
            raise LexiconError(f"{file}: no sense is called {', '.join(sorted(unknown))}")
    for file, document in sorted(documents.items()):
        for entry in document.get("expand", ()):
            missing = [name for name in entry["to"] if name not in senses]
            if missing:
                raise LexiconError(f"{file}: no sense is called {', '.join(missing)}")
            for expression in entry["words"]:
                claim(expression, tuple(entry["to"]), f"{file}: {' + '.join(entry['to'])}")
        for word in document.get("shield", ()):
            phrases.setdefault(units(word), ("".join(units(word)),))
        drop = document.get("drop", {})
        heads |= _keys(drop.get("head", ()))
        tails |= _keys(drop.get("tail", ()))
        speech |= set(drop.get("speech", ()))
        for expression in drop.get("anywhere", ()):
            claim(expression, (), f"{file}: says nothing")
        characters |= {
            frozenset((one, other)) for pair in document.get("characters", ()) for one, other in [pair.split("/")]
        }
    longest = max((len(key) for key in phrases), default=0)
    return Lexicon(
        senses, phrases, frozenset(heads), frozenset(tails), frozenset(characters), frozenset(speech), longest
    )


def _keys(expressions: Iterable[str]) -> set[tuple[str, ...]]:
    return {units(expression) for expression in expressions}


def parse(texts: Mapping[str, str]) -> Mapping[str, Mapping[str, Any]]:
    """Parses TOML word lists, keyed by file name."""
    return {name: tomllib.loads(text) for name, text in texts.items()}


@lru_cache(maxsize=1)
def shipped() -> Lexicon:
    """The word lists that come with the service, read once."""
    folder = files("dedup_service.question").joinpath("lexicon")
    lists: Sequence[Any] = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return build(parse({entry.name.removesuffix(".toml"): entry.read_text("utf-8") for entry in lists}))
