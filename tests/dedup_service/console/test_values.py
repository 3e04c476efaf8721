"""Values as people type them."""

from __future__ import annotations

import click
import pytest

from askonce.v1 import policy_pb2
from dedup_service.api import policy_messages
from dedup_service.console.values import from_assignments, rows_of, seconds_of, share_of
from dedup_service.policy.policy import Policy
from dedup_service.policy.revisions import Revision


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800), ("1.5 d", 129_600), ("4W", 2_419_200)],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    """Numbers with a unit, seconds without one."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "7 parsecs", "-1h", "1h2m"])
def test_no_length_of_time(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="length of time"):
        seconds_of(text)


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.5 %", 0.005), ("0.2", 0.2), ("0", 0.0), ("100%", 1.0)])
def test_shares(text: str, share: float) -> None:
    """Per cent or a fraction; zero is a value."""
    assert share_of(text) == pytest.approx(share)


def test_one_is_a_whole_and_not_one_per_cent() -> None:
    """A bare number above 1 is refused, not divided."""
    with pytest.raises(ValueError, match="share"):
        share_of("5")


def test_assignments_are_read_by_the_fields_type() -> None:
    """Enums, times, shares, lists and booleans, and a default by an empty value."""
    message, mask = from_assignments(
        "acme",
        ["mode=static", "hot-ttl=2h", "error_budget=0.5%", "protected_terms=税前，税后", "cross_language=yes",
         "exploration_rate=0", "answers_per_image="],
    )  # fmt: skip
    policy, fields = policy_messages.from_policy(message, mask)
    assert policy.mode == "STATIC"
    assert policy.hot_ttl == 7_200
    assert policy.error_budget == pytest.approx(0.005)
    assert policy.protected_terms == ("税前", "税后")
    assert policy.cross_language
    assert policy.exploration_rate == 0.0
    assert policy.answers_per_image == Policy().answers_per_image
    assert set(fields) == {
        "mode", "hot_ttl", "error_budget", "protected_terms", "cross_language", "exploration_rate", "answers_per_image",
    }  # fmt: skip


@pytest.mark.parametrize(
    "word", ["mode=SOMETIMES", "colour=blue", "mode", "phash_distance=five", "cross_language=maybe"]
)
def test_wrong_assignments_are_named(word: str) -> None:
    """An unknown field or an impossible value is refused before anything is sent."""
    with pytest.raises(click.BadParameter):
        from_assignments("acme", [word])


def test_every_field_is_shown() -> None:
    """A policy's table has all its fields, readable."""
    rows = dict(rows_of(policy_messages.to_policy(Revision("acme", 0, Policy()))))
    assert rows["archive_ttl"] == "7d"
    assert rows["mode"] == "VERIFIED"
    assert rows["protected_terms"] == "none"
    assert len(rows) == len([name for name in policy_pb2.Policy.DESCRIPTOR.fields_by_name if name in rows])
