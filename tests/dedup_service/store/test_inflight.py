"""Answers on their way can be found by the image that they are about, until they land or grow too old."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dedup_service.store.inflight import InflightMiss, InflightMisses
from tests.dedup_service.store.test_exact_cache import ENTRY, Clock

FLIGHT = InflightMiss("k1", "acme", "i1", "s1", 0.0, ENTRY, np.zeros(2, np.float32))


def test_a_flight_is_found_by_its_image_until_it_lands() -> None:
    """Only requests of the same tenant, image and answer space find it."""
    inflight = InflightMisses(Clock())
    inflight.begin(FLIGHT)
    assert inflight.about("acme", "i1", "s1") == [FLIGHT]
    assert inflight.about("globex", "i1", "s1") == []
    assert inflight.about("acme", "i2", "s1") == []
    assert inflight.about("acme", "i1", "s2") == []
    inflight.end("k1")
    assert inflight.about("acme", "i1", "s1") == []


def test_a_lost_flight_expires() -> None:
    """A generation that never reports back is not waited for forever."""
    clock = Clock()
    inflight = InflightMisses(clock, ttl=10.0)
    inflight.begin(FLIGHT)
    clock.now = 11.0
    assert inflight.about("acme", "i1", "s1") == []
    assert inflight.by_image == {}


def test_they_are_bounded() -> None:
    """The oldest flights go when there are too many, from both indexes."""
    inflight = InflightMisses(Clock(), limit=3)
    for number in range(10):
        inflight.begin(replace(FLIGHT, key=str(number), image=str(number)))
    assert sorted(inflight.by_key) == ["7", "8", "9"]
    assert len(inflight.by_image) == 3
