"""The caches that replays are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.baselines import (
    Asked,
    Baseline,
    ExactKey,
    HashAndText,
    LearnedPerEntry,
    OneVector,
    both,
    play,
)


def asked(image: int, question: str, *, tenant: str = "t", bits: int = 0, turn: float = 0.0) -> Asked:
    """A request: `image` names the picture, `bits` of its hash differ, its vector is turned by `turn` radians."""
    phash = np.full(4, image, np.uint64)
    phash[0] ^= np.uint64((1 << bits) - 1)
    picture = np.zeros(8, np.float32)
    picture[image], picture[7] = np.cos(turn), np.sin(turn)
    text = np.zeros(8, np.float32)
    text[sum(question.encode()) % 8] = 1
    return Asked(tenant, f"{image}-{bits}-{turn}", phash, picture, question, text)


def test_the_exact_key_needs_both_equal() -> None:
    """Only the same file with the same text of the same tenant is found."""
    cache = ExactKey()
    cache.store(0, asked(1, "total?"), None)
    assert cache.find(asked(1, "total?")) == 0
    assert cache.find(asked(1, "total")) is None
    assert cache.find(asked(2, "total?")) is None
    assert cache.find(asked(1, "total?", tenant="u")) is None


def test_the_seed_takes_near_hashes_and_near_texts() -> None:
    """Five bits are taken and six are not; texts need a ratio of 0.8, whatever they mean."""
    cache = HashAndText()
    cache.store(0, asked(1, "amount before tax?"), None)
    assert cache.find(asked(1, "amount before tax?", bits=5)) == 0
    assert cache.find(asked(1, "amount before tax?", bits=6)) is None
    assert cache.find(asked(1, "amount before tip?")) == 0
    assert cache.find(asked(1, "when was it bought?")) is None


@pytest.mark.parametrize(("turn", "found"), [(0.1, True), (0.8, False)])
def test_one_vector_has_one_threshold(turn: float, found: bool) -> None:
    """A neighbour above the cosine of 0.95 is served; with the image's vector alone, whatever was asked."""
    cache = OneVector(lambda each: each.image)
    cache.store(0, asked(1, "total?"), None)
    assert (cache.find(asked(1, "who sold it?", turn=turn)) == 0) is found


def test_per_entry_thresholds_are_learnt() -> None:
    """An entry that was right again and again is served at that similarity, one that was wrong is not."""
    for right in (True, False):
        cache = LearnedPerEntry()
        cache.store(0, asked(1, "total?"), None)
        for at in range(1, 400):
            if cache.find(asked(1, "total?", turn=0.2)) is None:
                kept = len(cache.neighbours.kept)
                cache.store(at, asked(1, "total?", turn=0.2), right)
                assert len(cache.neighbours.kept) == kept + (not right)
        served = sum(cache.find(asked(1, "total?", turn=0.2)) is not None for _ in range(200))
        assert served > 60 if right else served < 20


def test_both_is_of_length_one() -> None:
    """The concatenated vector's cosine is the mean of the two."""
    one, other = asked(1, "total?"), asked(1, "total?", turn=0.5)
    assert float(both(one) @ both(one)) == pytest.approx(1.0)
    assert float(both(one) @ both(other)) == pytest.approx((1 + np.cos(0.5)) / 2)


def test_playing_counts_what_was_served_and_what_was_wrong() -> None:
    """Shares are of all requests, and of the last half; wrong ones are counted among those served."""
    requests = [asked(1, "a"), asked(1, "a"), asked(2, "a"), asked(1, "a")]
    cache: Baseline = ExactKey()
    found = play(cache, requests, lambda one, other: other != 3)
    assert found == {"saved": 0.5, "saved_last_half": 0.5, "wrong_rate": 0.5, "served": 2}
