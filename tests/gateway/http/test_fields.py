"""JSON bodies are read strictly: null counts as absent, a wrong type is told, an unknown name is refused."""

from __future__ import annotations

from typing import Any

import pytest

from askonce.faults import InvalidInput
from gateway.http.fields import int32, only, read_object, take, texts


def reason(call: Any, *arguments: Any) -> tuple[str, str]:
    """The reason and the field of a refusal."""
    with pytest.raises(InvalidInput) as caught:
        call(*arguments)
    return caught.value.reason, caught.value.field


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (str, "a", "a"),
        (str, None, "default"),
        (int, 64, 64),
        (int, 64.0, 64),
        (float, 1, 1.0),
        (float, 0.5, 0.5),
        (bool, False, False),
        (list, [1], [1]),
        (dict, {}, {}),
    ],
)
def test_values_of_the_right_type(kind: Any, value: Any, expected: Any) -> None:
    """JSON has one kind of number: a whole one is whole however it is written."""
    assert take({"x": value}, "x", kind, "default") == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [(str, 1), (int, "64"), (int, 0.5), (int, True), (float, True), (float, "hot"), (bool, 1), (bool, "true"),
     (list, {}), (dict, []), (str, "half \ud800")],
)  # fmt: skip
def test_values_of_a_wrong_type_are_refused(kind: Any, value: Any) -> None:
    """Nothing is converted that a client may have meant otherwise; the error leads to the field."""
    assert reason(take, {"x": value}, "x", kind, None, "outer.") == ("BODY_INVALID", "outer.x")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", ""),
        (b"[]", ""),
        (b"null", ""),
        (b'{"a": NaN}', ""),
        (b'{"a": Infinity}', ""),
        (b'{"seed": 1, "seed": 2}', "seed"),
        (b'{"askonce": {"tags": [], "tags": []}}', "tags"),
        (b'{"a": ' + b"[" * 100_000, ""),
    ],
)
def test_what_is_no_plain_object_is_refused(body: bytes, field: str) -> None:
    """A name that occurs twice would have one of its values dropped."""
    assert reason(read_object, body) == ("BODY_INVALID", field)


def test_a_byte_order_mark_is_no_harm() -> None:
    """Some editors put one in front."""
    assert read_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_unknown_names_are_refused_with_a_guess() -> None:
    """A misspelt name is told, with the one that may have been meant; null is as good as absent."""
    only({"temperature": 1, "whatever": None}, ("temperature",))
    with pytest.raises(InvalidInput, match="temperature") as caught:
        only({"temprature": 1}, ("temperature", "top_p"), "outer.")
    assert (caught.value.reason, caught.value.field) == ("FIELD_UNKNOWN", "outer.temprature")


def test_lists_of_texts() -> None:
    """Every member is a text."""
    assert texts({"tags": ["a", "b"]}, "tags") == ["a", "b"]
    assert texts({"tags": None}, "tags") == []
    assert reason(texts, {"tags": ["a", 1]}, "tags") == ("BODY_INVALID", "tags")
    assert reason(texts, {"tags": ["half \udc00"]}, "tags") == ("BODY_INVALID", "tags")


def test_numbers_that_the_wire_has_no_room_for() -> None:
    """A number beyond 32 bits is out of range, not an accident."""
    assert int32(-(2**31), "x") == -(2**31)
    assert reason(int32, 2**31, "x") == ("OUT_OF_RANGE", "x")
