"""Which answers make room."""

from hypothesis import given
from hypothesis import strategies as st

from dedup_service.store.eviction import WORDINGS, Kept, evicted

ENTRIES = st.lists(
    st.builds(
        Kept,
        st.uuids().map(str),
        st.sampled_from(["total", "date", "seller", "tax", "phone"]),
        st.floats(0, 1e6),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda one: one.id,
)


def kept(name: str, intent: str, at: float, expired: bool = False) -> Kept:
    return Kept(name, intent, at, expired)


def test_rewordings_push_out_no_other_question() -> None:
    """Many wordings of one question count as one; its oldest wordings go first."""
    total = [kept(f"t{at}", "total", 100 + at) for at in range(6)]
    others = [kept("d", "date", 1), kept("s", "seller", 2)]
    assert evicted([*total, *others], "t5", 3) == ["t1", "t0"]


def test_the_intent_used_least_recently_goes_as_a_whole() -> None:
    """With too many intents, the one whose latest wording was used longest ago goes with all its wordings."""
    stored = [kept("a1", "a", 1), kept("a2", "a", 5), kept("b1", "b", 2), kept("b2", "b", 4), kept("c", "c", 6)]
    assert set(evicted(stored, "c", 2)) == {"b1", "b2"}


def test_expired_answers_go_first() -> None:
    """What has expired leaves before anything that has not."""
    stored = [kept("old", "a", 9, expired=True), kept("b", "b", 1), kept("c", "c", 2)]
    assert evicted(stored, "c", 2) == ["old"]


@given(ENTRIES, st.integers(1, 6))
def test_what_stays_is_bounded_and_holds_the_newest(stored: list[Kept], keep: int) -> None:
    """At most so many intents with so many wordings stay; the answer just stored always does; nobody goes twice."""
    newest = stored[-1].id
    gone = evicted(stored, newest, keep)
    left = [one for one in stored if one.id not in gone]
    assert newest not in gone
    assert len(gone) == len(set(gone))
    if len(stored) > keep:
        assert len({one.intent for one in left}) <= keep
        assert len(left) <= keep * WORDINGS
    else:
        assert gone == []
