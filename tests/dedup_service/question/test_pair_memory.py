"""Pair memory and the intents that form in it."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_service.question.intent_graph import CONTRADICTION, MERGE
from dedup_service.question.pair_memory import Evidence, PairMemory, pairs_of
from dedup_service.question.pair_store import PairRecord, Source

PAID = "how much did they pay"
SPENT = "what did the dinner set us back"
SHELLED = "the damage of that evening"
FLAVOUR = "which flavour dominates"


def seen(source: Source = "answer", same: bool = True, on: str = "", weight: float = 3.0) -> Evidence:
    return Evidence(source, weight if same else -weight, same, 1.0, on)


def agree(memory: PairMemory, a: str, b: str, times: int = 2) -> None:
    for at in range(times):
        memory.add("t", a, b, seen(on=f"image-{at}"))


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.records: list[PairRecord] = []

    def load(self) -> list[PairRecord]:
        return self.records

    def append(self, records: Sequence[PairRecord]) -> None:
        self.records += records


def test_nothing_is_known_at_first() -> None:
    """A pair that was never compared weighs nothing."""
    verdict = PairMemory().verdict("t", PAID, SPENT)
    assert (verdict.log_odds, verdict.state) == (0.0, "unknown")


def test_one_coincidence_is_no_proof() -> None:
    """One agreement, however rare the answer, neither merges two questions nor counts in their favour."""
    memory = PairMemory()
    memory.add("t", PAID, SPENT, seen(on="image", weight=9.0))
    verdict = memory.verdict("t", PAID, SPENT)
    assert (verdict.log_odds, verdict.state) == (0.0, "unknown")


def test_the_same_image_counts_once() -> None:
    """Agreements on one image are one observation, also when several wordings were compared on it."""
    memory = PairMemory()
    for _ in range(5):
        memory.add("t", PAID, SPENT, seen(on="image"))
    assert memory.verdict("t", PAID, SPENT).state == "unknown"
    agree(memory, PAID, SHELLED)
    memory.add("t", FLAVOUR, PAID, seen(on="other"))
    memory.add("t", FLAVOUR, SHELLED, seen(on="other"))
    assert memory.verdict("t", FLAVOUR, PAID).state == "unknown"


def test_independent_agreements_merge_and_carry_over() -> None:
    """Agreements on two images make an intent; a third question joins through one member and is known to all."""
    memory = PairMemory()
    agree(memory, PAID, SPENT)
    assert memory.verdict("t", PAID, SPENT).state == "same"
    agree(memory, SPENT, SHELLED)
    verdict = memory.verdict("t", PAID, SHELLED)
    assert verdict.state == "same"
    assert verdict.log_odds >= MERGE
    assert set(memory.members("t", PAID)) == {SPENT, SHELLED}
    assert memory.intent_of("t", PAID) == memory.intent_of("t", SHELLED)
    assert "3 questions" in memory.explain("t", PAID, SHELLED)


def test_a_contradiction_splits() -> None:
    """A person's word against two members of an intent dissolves it; what still holds together stays."""
    memory = PairMemory()
    agree(memory, PAID, SPENT, times=3)
    agree(memory, SPENT, SHELLED)
    memory.add("t", PAID, SHELLED, seen("feedback", same=False, weight=5.0))
    assert memory.verdict("t", PAID, SHELLED).state == "different"
    assert memory.verdict("t", PAID, SPENT).state == "same"
    assert memory.verdict("t", SPENT, SHELLED).state != "same"


def test_disagreement_outweighs_a_few_coincidences() -> None:
    """Two questions that agreed twice and disagreed as often are not one intent."""
    memory = PairMemory()
    agree(memory, PAID, SPENT)
    for at in range(2):
        memory.add("t", PAID, SPENT, seen(same=False, on=f"later-{at}"))
    assert memory.verdict("t", PAID, SPENT).state == "unknown"


def test_disagreement_counts_at_once() -> None:
    """Evidence against needs no second witness to weigh."""
    memory = PairMemory()
    memory.add("t", PAID, SPENT, seen(same=False, on="image"))
    verdict = memory.verdict("t", PAID, SPENT)
    assert verdict.log_odds <= CONTRADICTION
    assert verdict.state == "different"


def test_intents_are_contradicted_as_a_whole() -> None:
    """What is known against one member holds for the others."""
    memory = PairMemory()
    agree(memory, PAID, SPENT)
    memory.add("t", SPENT, FLAVOUR, seen(same=False, on="image"))
    assert memory.verdict("t", PAID, FLAVOUR).state == "different"


def test_never_across_a_veto() -> None:
    """No amount of agreement merges two questions that a veto keeps apart, nor two intents with such members."""
    memory = PairMemory()
    agree(memory, "amount before tax", "amount after tax", times=9)
    assert memory.verdict("t", "amount before tax", "amount after tax").state != "same"
    agree(memory, "amount before tax", PAID)
    agree(memory, "amount after tax", PAID, times=4)
    assert memory.verdict("t", "amount before tax", "amount after tax").state != "same"


def test_one_judge_suffices() -> None:
    """The judge, with what the texts themselves say, is a strong witness: no second one is asked for."""
    memory = PairMemory()
    memory.add("t", PAID, SPENT, Evidence("judge", 4.0, True, 1.0, "", prior=1.0))
    assert memory.verdict("t", PAID, SPENT).state == "same"


def test_a_judges_word_alone_is_told_apart() -> None:
    """Two questions that a judge alone made one are so marked, until an answer confirms each of them."""
    memory = PairMemory()
    for other in (SPENT, SHELLED):
        memory.add("t", PAID, other, Evidence("judge", 5.0, True, 1.0, prior=2.0))
    assert memory.verdict("t", SPENT, SHELLED).state == "same"
    assert memory.verdict("t", SPENT, SHELLED).judged
    memory.add("t", PAID, SPENT, seen("exploration", on="image-1"))
    assert memory.verdict("t", SPENT, SHELLED).judged, "nothing confirms the other"
    memory.add("t", PAID, SHELLED, seen(on="image-1"))
    assert not memory.verdict("t", SPENT, SHELLED).judged


def test_wordings_of_one_reading_share_evidence() -> None:
    """What is learnt about "total?" holds for "what is the total", until the two are told apart; from then on it holds
    for the wording alone that it was learnt about."""
    memory = PairMemory()
    agree(memory, "what is the total", PAID)
    assert memory.verdict("t", "total?", PAID).state == "same"
    memory.add("t", "total?", "what is the total", seen("feedback", same=False, weight=5.0))
    assert memory.verdict("t", "total?", PAID).state != "same"
    assert memory.verdict("t", "what is the total", PAID).state == "same"


def test_wordings_beside_other_stories_share_nothing() -> None:
    """What is told beside a question may be what it is about, so evidence does not pass from one story to another."""
    memory = PairMemory()
    agree(memory, "I broke my phone, what can I do", PAID)
    assert memory.verdict("t", "I broke my leg, what can I do", PAID).state == "unknown"


def test_tenants_share_only_what_they_are_told_to() -> None:
    """What one tenant's traffic taught is another's only if the one gives it and the other asks for it; a tenant's own
    word goes first, and an image counts once for each tenant."""
    memory = PairMemory()
    agree(memory, PAID, SPENT)
    assert memory.verdict("other", PAID, SPENT, shared=True).state == "unknown"
    for image in ("one", "two", "three"):
        memory.add("giver", PAID, SPENT, seen(on=image), share=True)
    assert memory.verdict("other", PAID, SPENT).state == "unknown"
    assert memory.verdict("other", PAID, SPENT, shared=True).state == "same"
    assert memory.members("other", PAID) == ()
    for _ in range(3):
        memory.add("other", PAID, SPENT, seen("feedback", same=False, weight=5.0))
    assert memory.verdict("other", PAID, SPENT, shared=True).state == "different"
    memory.forget("giver")
    assert memory.verdict("third", PAID, SPENT, shared=True).state == "same"


def test_the_pool_outlives_a_restart() -> None:
    """What was shared is stored like everything else."""
    store = Kept()
    before = PairMemory(store)
    for image in ("one", "two", "three"):
        before.add("giver", PAID, SPENT, seen(on=image), share=True)
    assert PairMemory(store).verdict("other", PAID, SPENT, shared=True).state == "same"


def test_memory_is_bounded() -> None:
    """The pair used least recently is forgotten first, and intents lose its questions."""
    memory = PairMemory(most_pairs=50)
    agree(memory, PAID, SPENT)
    for at in range(100):
        memory.add("t", f"question {at} a", f"thing {at} b", seen(on="x"))
    assert memory.size("t")[1] == 50
    assert memory.verdict("t", PAID, SPENT).state == "unknown"
    assert memory.members("t", PAID) == ()


def test_a_restart_remembers() -> None:
    """With a store, a new process knows what the last one learnt."""
    store = Kept()
    agree(PairMemory(store), PAID, SPENT)
    assert PairMemory(store).verdict("t", PAID, SPENT).state == "same"


def test_texts_need_not_be_kept() -> None:
    """Without permission to keep texts, records hold digests only, and they serve as well as with them: what is learnt
    about one wording holds for the others of its reading, after a restart too."""
    store = Kept()
    memory = PairMemory(store, keeps_text=lambda _: False)
    agree(memory, PAID, "what is the total")
    assert all(one.left_text == one.right_text == "" for one in store.records)
    for known in (memory, PairMemory(store)):
        assert known.verdict("t", PAID, "what is the total").state == "same"
        assert known.verdict("t", PAID, "total?").state == "same"
        assert known.members("t", PAID) == ()


QUESTIONS = (PAID, SPENT, SHELLED, FLAVOUR, "what is the total", "total?")


def state_of(memory: PairMemory) -> dict[tuple[str, str], tuple[float, str]]:
    """What is known about every pair."""
    verdicts = {pair: memory.verdict("t", *pair) for pair in pairs_of(QUESTIONS)}
    return {pair: (round(one.log_odds, 9), one.state) for pair, one in verdicts.items()}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_order_of_arrival_does_not_matter(data: st.DataObject) -> None:
    """Replicas that know the same records know the same, in whatever order, pieces and repetitions these came, and
    whether they made some of them themselves."""
    store = Kept()
    first = PairMemory(store)
    pairs = [(a, b) for a, b in pairs_of(QUESTIONS) if {a, b} != {"what is the total", "total?"}]
    sources: tuple[Source, ...] = ("answer", "judge", "feedback", "exploration")
    evidence = st.tuples(
        st.sampled_from(pairs),
        st.sampled_from(sources),
        st.booleans(),
        st.sampled_from(("", "one", "two", "three")),
        st.floats(0.5, 5.0),
    )
    for time, ((a, b), source, same, on, weight) in enumerate(data.draw(st.lists(evidence, max_size=40))):
        first.add("t", a, b, Evidence(source, weight if same else -weight, same, float(time // 3), on))
    first.replay(store.records)  # as the log brings them back
    second = PairMemory()
    order = data.draw(st.permutations([*store.records, *store.records[::2]]))
    cut = data.draw(st.integers(0, len(order)))
    second.replay(order[:cut])
    second.replay(order[cut:])
    assert state_of(second) == state_of(first)


@pytest.mark.parametrize("order", [(PAID, SPENT), (SPENT, PAID)])
def test_pairs_have_no_direction(order: tuple[str, str]) -> None:
    """Evidence on (a, b) is evidence on (b, a)."""
    memory = PairMemory()
    agree(memory, PAID, SPENT)
    assert memory.verdict("t", *order).state == "same"
