"""Reads JSON bodies field by field: strictly typed, null counts as absent, and nothing is dropped in silence."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from askonce.faults import InvalidInput

T = TypeVar("T")

WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
MAX_EXACT = 2**53
"""Whole numbers up to here are exact as a double, which is what JSON's numbers are to most clients."""


class Warnings:
    """What a request says that was heard and has no effect; the reply lists it."""

    def __init__(self) -> None:
        self.items: list[dict[str, str]] = []

    def add(self, field: str, message: str) -> None:
        """Notes one field that has no effect."""
        self.items.append({"field": field, "reason": "FIELD_IGNORED", "message": f"{field}: {message}"})


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises InvalidInput, also for a name that occurs twice, and for NaN."""
    try:
        value = json.loads(body, object_pairs_hook=unique, parse_constant=no_number)
    except RepeatedNameError as error:
        name = str(error)
        raise InvalidInput("BODY_INVALID", f"{name}: write it once; it occurs twice.", field=name) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput("BODY_INVALID", "Send a JSON object in UTF-8.") from error
    if not isinstance(value, dict):
        raise InvalidInput("BODY_INVALID", "Send a JSON object.")
    return value


class RepeatedNameError(ValueError):
    """A JSON object has two members of one name."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of an object. Raises RepeatedNameError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedNameError(next(name for name in names if names.count(name) > 1))
    return found


def no_number(word: str) -> None:
    """NaN and Infinity are no JSON, whatever Python says."""
    raise ValueError(word)


def take(fields: Mapping[str, Any], name: str, kind: type[T], default: T, where: str = "") -> T:
    """One field of a body, strictly typed; null counts as absent. `where` leads to it. Raises InvalidInput."""
    value = fields.get(name)
    if value is None:
        return default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < MAX_EXACT else float("nan")
    if kind is int and isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT:
        value = int(value)
    field = f"{where}{name}"
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidInput("BODY_INVALID", f"{field}: write {WORDS.get(kind, 'an object')}.", field=field)
    if isinstance(value, str):
        check_text(value, field)
    return value


def check_text(text: str, field: str) -> None:
    """Refuses what is no text: a half of a surrogate pair without the other. Raises InvalidInput."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidInput("BODY_INVALID", f"{field}: lone surrogates are no text.", field=field)


def texts(fields: Mapping[str, Any], name: str, where: str = "") -> list[str]:
    """A list of texts. Raises InvalidInput."""
    found = take(fields, name, list, [], where)
    field = f"{where}{name}"
    for text in found:
        if not isinstance(text, str):
            raise InvalidInput("BODY_INVALID", f"{field}: write a list of texts.", field=field)
        check_text(text, field)
    return found


def int32(value: int, field: str) -> int:
    """A number that fits the wire. Raises InvalidInput."""
    if not -(2**31) <= value < 2**31:
        raise InvalidInput("OUT_OF_RANGE", f"{field}: {value} is far out of range.", field=field)
    return value


def only(fields: Mapping[str, Any], known: Iterable[str], where: str = "") -> None:
    """Refuses fields that nobody knows; null counts as absent. Raises InvalidInput with FIELD_UNKNOWN."""
    names = set(known)
    for name, value in fields.items():
        if name not in names and value is not None:
            raise unknown(name, names, where)


def unknown(name: str, known: Iterable[str], where: str = "") -> InvalidInput:
    """The fault of a field that nobody knows, with the one that may have been meant."""
    shown = name.encode("utf-8", "replace").decode()[:64]
    field = f"{where}{shown}"
    near = difflib.get_close_matches(shown, known, 1, 0.75)
    hint = f' Did you mean "{where}{near[0]}"?' if near else ""
    return InvalidInput("FIELD_UNKNOWN", f"{field}: there is no such field.{hint}", field=field)


def unsupported(field: str, hint: str = "it is not supported here; leave it out") -> InvalidInput:
    """The fault of a known field that can't be honoured."""
    return InvalidInput("FIELD_UNSUPPORTED", f"{field}: {hint}.", field=field)
