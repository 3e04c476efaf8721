"""A key goes to one server, to another only when that one is gone or has more than its share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from askonce.rendezvous import BOUND, choose


@dataclass(frozen=True)
class Member:
    name: str
    running: int = 0


NAMES = st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=8).map(sorted)


@given(NAMES, st.binary(min_size=1, max_size=32), st.data())
def test_only_the_keys_of_a_server_that_goes_move(names: list[str], key: bytes, data: st.DataObject) -> None:
    """Whoever leaves, the keys of the others stay where they are; the order in which servers are named is no matter."""
    servers = [Member(name) for name in names]
    chosen = choose(servers, key)
    assert choose(list(reversed(servers)), key) == chosen
    gone = data.draw(st.sampled_from(names))
    left = [each for each in servers if each.name != gone]
    assert gone == chosen.name or choose(left, key) == chosen


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.binary(min_size=1, max_size=32))
def test_nobody_gets_more_than_its_share(loads: list[int], key: bytes) -> None:
    """The chosen server carries no more than the bound on the mean, the new request included."""
    servers = [Member(str(number), load) for number, load in enumerate(loads)]
    mean = (sum(loads) + 1) / len(loads)
    assert choose(servers, key).running < BOUND * mean + 1


def test_keys_are_spread_and_overflow() -> None:
    """Idle servers share the keys about evenly; those of an overloaded one go to all the others."""
    servers = [Member(name) for name in "abcd"]
    keys = [str(number).encode() for number in range(4_000)]
    spread = Counter(choose(servers, key).name for key in keys)
    assert all(850 < count < 1_150 for count in spread.values())
    busy = [replace(servers[0], running=100), *servers[1:]]
    moved = Counter(choose(busy, key).name for key in keys if choose(servers, key).name == "a")
    assert set(moved) == {"b", "c", "d"}
