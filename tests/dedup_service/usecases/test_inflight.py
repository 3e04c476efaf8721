"""Answers on their way can be found by the image that they are about, until they land or grow too old."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dedup_service.usecases.inflight import Flight, Flights
from tests.dedup_service.store.test_exact_cache import ENTRY, Clock

FLIGHT = Flight("k1", "acme", "i1", "s1", 0.0, ENTRY, np.zeros(2, np.float32))


def test_a_flight_is_found_by_its_image_until_it_lands() -> None:
    """Only requests of the same tenant, image and answer space find it."""
    flights = Flights(Clock())
    flights.depart(FLIGHT)
    assert flights.about("acme", "i1", "s1") == [FLIGHT]
    assert flights.about("globex", "i1", "s1") == []
    assert flights.about("acme", "i2", "s1") == []
    assert flights.about("acme", "i1", "s2") == []
    flights.land("k1")
    assert flights.about("acme", "i1", "s1") == []


def test_a_lost_flight_expires() -> None:
    """A generation that never reports back is not waited for forever."""
    clock = Clock()
    flights = Flights(clock, ttl=10.0)
    flights.depart(FLIGHT)
    clock.now = 11.0
    assert flights.about("acme", "i1", "s1") == []
    assert flights.by_image == {}


def test_they_are_bounded() -> None:
    """The oldest flights go when there are too many, from both indexes."""
    flights = Flights(Clock(), limit=3)
    for number in range(10):
        flights.depart(replace(FLIGHT, key=str(number), image=str(number)))
    assert sorted(flights.by_key) == ["7", "8", "9"]
    assert len(flights.by_image) == 3
