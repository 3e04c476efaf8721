"""Answers that hang on the file, the day, the moment or chance, and answers that can't tell."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedup_service.policy.policy import Policy, PolicyInvalidError, validate
from dedup_service.usecases.query import CacheMode, day_of, end_of_day
from tests.dedup_service.bench import START, Bench, bench, hit, reason
from tests.dedup_service.pages import copy_of, receipt

NOW = "今天离到期日还有几天？"


@pytest.fixture
async def dedup(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as built:
        yield built


async def test_a_question_about_the_picture_needs_equal_bytes(dedup: Bench) -> None:
    """A copy may answer what the page says, and not what the file is; nor may the original after the copy."""
    copy = copy_of(receipt())
    await dedup.teach(receipt(), "Is the image sharp?", "Yes, very")
    assert hit(await dedup.ask(receipt(), "Is the image sharp?")) == "Yes, very"
    await dedup.teach(copy, "Is the image sharp?", "A little soft")
    assert hit(await dedup.ask(copy, "Is the image sharp?")) == "A little soft"
    assert hit(await dedup.ask(receipt(), "Is the image sharp?")) == "Yes, very"
    await dedup.teach(receipt(), "What is the total amount?", "RM 138.90")
    assert hit(await dedup.ask(copy, "What is the total amount?")) == "RM 138.90"


async def test_a_question_about_today_ends_with_the_day(dedup: Bench) -> None:
    """The day is the tenant's: its answer is served until midnight there, and not a moment longer."""
    await dedup.set_policy(time_zone="Asia/Shanghai", sliding_ttl=True)
    await dedup.teach(receipt(), NOW, "5 天")
    end = end_of_day(START, "Asia/Shanghai")
    dedup.clock.now = end - 1
    assert hit(await dedup.ask(receipt(), NOW)) == "5 天"
    dedup.clock.now = end + 1
    missed = await dedup.ask(receipt(), NOW)
    assert reason(missed) != "NORMALISED"
    assert (await dedup.store(missed, "4 天")).stored


async def test_an_answer_that_comes_after_the_day_is_not_stored(dedup: Bench) -> None:
    """The model may finish tomorrow what was asked today."""
    dedup.lookup.ticket_ttl = 1e6
    missed = await dedup.ask(receipt(), NOW)
    dedup.clock.now += 86_400
    assert (await dedup.store(missed, "5 天")).reason == "ANSWER_OUTDATED"


async def test_a_question_about_the_moment_is_used_once(dedup: Bench) -> None:
    """Nothing is read, nothing is stored."""
    for _ in range(2):
        missed = await dedup.ask(receipt(), "Is the shop open right now?")
        assert reason(missed) == "ASKS_ABOUT_NOW"
        assert not missed.ticket  # type: ignore[union-attr]


async def test_a_sampled_answer_is_used_once_unless_asked_for(dedup: Bench) -> None:
    """An answer drawn without a seed is not memory's to give, unless policy or request want it."""
    assert reason(await dedup.ask(receipt(), "Write a caption", sampled=True)) == "SAMPLED"
    await dedup.set_policy(reuse_sampled=True)
    missed = await dedup.ask(receipt(), "Write a caption", sampled=True)
    await dedup.store(missed, "Lunch!")
    assert hit(await dedup.ask(receipt(), "Write a caption", sampled=True)) == "Lunch!"
    await dedup.set_policy(reuse_sampled=False)
    wanted = await dedup.ask(receipt(), "Write a caption", sampled=True, mode=CacheMode.ONLY_IF_CACHED)
    assert hit(wanted) == "Lunch!"


async def test_an_answer_that_cannot_tell_is_kept_briefly_or_not_at_all(dedup: Bench) -> None:
    """By default it is not stored; under a policy it is, for that time, however often it is used."""
    missed = await dedup.ask(receipt(), "What is the IBAN?")
    assert (await dedup.store(missed, "Not shown in the image.")).reason == "ANSWER_UNANSWERABLE"
    await dedup.set_policy(unanswered_ttl=600.0, sliding_ttl=True)
    assert (await dedup.store(missed, "Not shown in the image.")).stored
    dedup.clock.now += 500
    assert hit(await dedup.ask(receipt(), "What is the IBAN?")) == "Not shown in the image."
    dedup.clock.now += 200
    assert reason(await dedup.ask(receipt(), "What is the IBAN?"))


def test_days_are_those_of_the_time_zone() -> None:
    """A day ends at its midnight, also where clocks change."""
    assert day_of(START, "UTC").isoformat() == "2023-11-14"
    assert day_of(START, "Asia/Shanghai").isoformat() == "2023-11-15"
    spring = 1_711_839_600.0  # midnight before 31 March 2024 in Berlin, where this day has 23 hours
    assert end_of_day(spring, "Europe/Berlin") - spring == 23 * 3600


def test_the_fields_are_checked() -> None:
    """A zone must be known, and a short life no longer than the long one."""
    for wrong in (
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../etc"},
        {"unanswered_ttl": 9e6},
        {"reuse_sampled": 1},
    ):
        with pytest.raises(PolicyInvalidError):
            validate(replace(Policy(), **wrong))
