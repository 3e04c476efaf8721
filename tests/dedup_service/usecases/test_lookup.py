"""What is served from memory, what is not, and why; on the real embedded store, encoders and check."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedup_service.image.picture import PictureError
from dedup_service.policy.policy import IntentSharing, JudgeMode, Mode, PolicyInvalidError, Tightening
from dedup_service.question.normal import normalise
from dedup_service.question.pair_memory import Evidence
from dedup_service.store.exact_cache import ExactKey
from dedup_service.store.records import Entry
from dedup_service.usecases.lookup import ContentWanted, Found, Missed
from dedup_service.usecases.miss_ticket import TicketError
from dedup_service.usecases.query import CacheMode, Judged
from tests.dedup_service.bench import Bench, bench, hit, query_for, reason
from tests.dedup_service.pages import copy_of, receipt, resaved

QUESTION = "What is the total amount?"


@pytest.fixture
async def dedup(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as built:
        yield built


async def test_the_same_again_is_an_exact_hit(dedup: Bench) -> None:
    """The same bytes and text are served, by the digest alone, from the store and from the hot tier."""
    missed = await dedup.teach(receipt(), QUESTION, "RM 138.90")
    assert missed.reason == "IMAGE_UNKNOWN"
    for _ in range(2):
        found = await dedup.lookup.look_up(query_for(receipt(), QUESTION))
        assert hit(found) == "RM 138.90"
        assert isinstance(found, Found)
        assert found.findings.reuse.reason == "EXACT"


async def test_a_busy_entry_is_written_to_the_hot_tier_now_and_then(dedup: Bench) -> None:
    """Of many hits one writes to the hot tier; once the entry has cooled down somewhat, the next one does."""
    cache, times = dedup.lookup.exact_cache, list[float]()
    put = cache.put

    async def noted(key: ExactKey, entry: Entry) -> None:
        times.append(dedup.clock.now)
        await put(key, entry)

    cache.put = noted  # type: ignore[method-assign]
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    stored = len(times)
    for _ in range(20):
        assert hit(await dedup.lookup.look_up(query_for(receipt(), QUESTION))) == "RM 138.90"
    assert len(times) <= stored + 1
    dedup.clock.now += 1_800
    for _ in range(20):
        assert hit(await dedup.lookup.look_up(query_for(receipt(), QUESTION))) == "RM 138.90"
    assert times.count(dedup.clock.now) == 1


async def test_every_hit_is_recorded_with_its_image(dedup: Bench) -> None:
    """The ledger says whose answer was served, also where the hot tier served it."""
    missed = await dedup.teach(receipt(), QUESTION, "RM 138.90")
    for _ in range(2):
        found = await dedup.lookup.look_up(query_for(receipt(), QUESTION))
        assert isinstance(found, Found)
        assert found.findings.resolved is not None
        await asyncio.to_thread(dedup.ledger.flush, 10)
        (recorded,) = await asyncio.to_thread(dedup.reader.by_id, [found.findings.decision])
        assert recorded.nearest_image == found.entry.image
    assert missed.findings.decision != found.findings.decision


@pytest.mark.parametrize("spelling", ["what is the total amount", "Please, ｗhat is the total  amount？"])
async def test_spelling_makes_no_difference(dedup: Bench, spelling: str) -> None:
    """The first letter's case, width, spaces, the marks at the end and courtesy are normalised away."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    found = await dedup.ask(receipt(), spelling)
    assert hit(found) == "RM 138.90"
    assert isinstance(found, Found)
    assert found.findings.reuse.reason == "NORMALISED"


async def test_traditional_and_simplified_are_one(dedup: Bench) -> None:
    """A question in traditional characters hits the answer to the same in simplified ones."""
    await dedup.teach(receipt(), "总金额是多少？", "138.90令吉")
    assert hit(await dedup.ask(receipt(), "總金額是多少")) == "138.90令吉"


async def test_the_same_pixels_in_other_bytes(dedup: Bench) -> None:
    """A file saved anew without loss is the same image, for good."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    for _ in range(2):
        found = await dedup.ask(resaved(receipt()), QUESTION)
        assert hit(found) == "RM 138.90"
        assert isinstance(found, Found)
        assert found.findings.reuse.stratum == "pixels/exact"


async def test_a_copy_is_recognised_and_joins(dedup: Bench) -> None:
    """A smaller JPEG of the page is served after the look-alike check; from then on its digest is enough."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    copy = copy_of(receipt())
    assert hit(await dedup.ask(copy, QUESTION)) == "RM 138.90"
    again = await dedup.lookup.look_up(query_for(copy, QUESTION))
    assert hit(again) == "RM 138.90"
    assert isinstance(again, Found)
    assert again.findings.resolved is not None
    assert again.findings.resolved.side.tier == "ALIAS"


async def test_an_answer_about_a_copy_is_certain_for_that_copy_only(dedup: Bench) -> None:
    """An answer that the model made from a copy is an exact repeat for the copy; whoever asks about the file that the
    image was made from relies on the check of the copy, and the evidence says so."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    copy = copy_of(receipt())
    await dedup.ask(copy, QUESTION)
    await dedup.teach(copy, "Who is the seller?", "Kedai Buku")
    tiers = []
    for content in (copy, receipt(), resaved(receipt())):
        found = await dedup.ask(content, "Who is the seller?")
        assert isinstance(found, Found)
        assert found.findings.resolved is not None
        tiers.append((found.findings.resolved.side.tier, found.findings.reuse.risk > 0))
    assert tiers == [("BYTES", False), ("ALIAS", True), ("ALIAS", True)]


async def test_an_answer_replaced_from_a_copy_is_no_exact_repeat(dedup: Bench) -> None:
    """The hot tier finds an entry under its file; what was written over it since, from a copy, is not that repeat."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    copy = copy_of(receipt())
    assert hit(await dedup.ask(receipt(), QUESTION)) == "RM 138.90"
    await dedup.ask(copy, QUESTION)
    refreshed = await dedup.ask(copy, QUESTION, mode=CacheMode.REFRESH)
    await dedup.store(refreshed, "RM 138.9", replace=True)
    dedup.clock.now += 120.0
    assert hit(await dedup.ask(copy, QUESTION)) == "RM 138.9"
    found = await dedup.ask(receipt(), QUESTION)
    assert isinstance(found, Found)
    assert found.findings.reuse.stratum == "copy/exact"


async def test_wrong_about_an_answer_made_from_a_copy_parts_the_copy(dedup: Bench) -> None:
    """Whoever asks about the image's own file and was served an answer about a copy, wrongly, parts the copy with all
    that was answered about it; the image keeps its own answers."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    copy = copy_of(receipt())
    await dedup.ask(copy, QUESTION)
    await dedup.teach(copy, "Who is the seller?", "Kedai Buku")
    await dedup.teach(copy, "What is the date?", "2018-03-30")
    found = await dedup.ask(receipt(), "Who is the seller?")
    assert isinstance(found, Found)
    await dedup.learn.feedback("acme", found.findings.decision, False, "", "")
    assert isinstance(await dedup.ask(receipt(), "What is the date?"), Missed)
    assert isinstance(await dedup.ask(copy, QUESTION), Missed)
    assert hit(await dedup.ask(receipt(), QUESTION)) == "RM 138.90"


async def test_a_look_alike_goes_to_the_model(dedup: Bench) -> None:
    """Another receipt of the same shop with one digit changed is another image, and so is a copy of it."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    other = receipt(total="138.60")
    assert reason(await dedup.ask(other, QUESTION)) == "IMAGE_LOOKALIKE"
    assert isinstance(await dedup.ask(copy_of(other), QUESTION), Missed)


@pytest.mark.parametrize(
    "question",
    [
        "What is the total amount before tax?",
        "What is not the total amount?",
        "How many items were bought?",
        "What is the phone number?",
        "发票日期是什么？",
    ],
)
async def test_another_question_goes_to_the_model(dedup: Bench, question: str) -> None:
    """One word can make another question; the miss says why."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    assert reason(await dedup.ask(receipt(), question)).startswith(("QUESTION_", "CROSS_LANGUAGE", "RISK_"))


async def test_a_rewording_that_can_be_proved_hits_cold(dedup: Bench) -> None:
    """Politeness and another frame around the same words are served without any label."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    assert hit(await dedup.ask(receipt(), "Please tell me: what's the total amount?")) == "RM 138.90"


async def test_another_tenant_gets_nothing(dedup: Bench) -> None:
    """No answer, image or alias of one tenant is visible to another."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    assert reason(await dedup.ask(receipt(), QUESTION, "globex")) == "IMAGE_UNKNOWN"
    assert reason(await dedup.ask(copy_of(receipt()), QUESTION, "initech")) == "IMAGE_UNKNOWN"


async def test_another_answer_space_gets_nothing(dedup: Bench) -> None:
    """Answers of another model or with other parameters are never served."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    assert reason(await dedup.ask(receipt(), QUESTION, space="another")) == "QUESTION_UNKNOWN"


async def test_a_text_that_the_encoder_cannot_read_stays_exact(dedup: Bench) -> None:
    """Questions of unknown tokens look alike to an encoder, so only their exact repeats hit."""
    await dedup.teach(receipt(), "𒀀𒀁𒀂𒀃?", "cuneiform one")
    assert hit(await dedup.ask(receipt(), "𒀀𒀁𒀂𒀃?")) == "cuneiform one"
    assert reason(await dedup.ask(receipt(), "𒁀𒁁𒁂𒁃?")) == "UNREADABLE_BY_ENCODER"


async def test_what_is_known_by_heart_transfers_to_other_images(dedup: Bench) -> None:
    """Two wordings that got the same telling answers on some images hit on one where only one of them was asked."""
    wording = "What did the customer pay altogether?"
    for number in range(4):
        amount = f"RM {200 + 37 * number}.{10 + number}"
        page = receipt(total=amount[3:], shop=f"SHOP {number}")
        await dedup.teach(page, QUESTION, amount)
        outcome = await dedup.ask(page, wording)
        if isinstance(outcome, Missed):
            await dedup.store(outcome, amount)
    page = receipt(total="77.70", shop="LAST SHOP")
    await dedup.teach(page, QUESTION, "RM 77.70")
    found = await dedup.ask(page, wording)
    assert hit(found) == "RM 77.70"
    assert isinstance(found, Found)
    assert found.findings.reuse.reason == "KNOWN"


async def test_the_likest_unknown_questions_are_worth_judging(dedup: Bench) -> None:
    """A miss names up to three stored questions for the judge, the likest first; none of which something is known
    already, and none that differs in what is asked for."""
    stored = ["How many guests paid?", "What did the guests pay in all?", "What was paid by card?", "Which guest paid?"]
    for number, question in enumerate(stored):
        await dedup.teach(receipt(), question, f"answer {number}")
    await dedup.teach(receipt(), "What did 3 guests pay?", "answer 5")
    wording = "How much money was paid altogether by the guests?"
    first = await dedup.ask(receipt(), wording)
    assert isinstance(first, Missed)
    assert 1 <= len(first.judge) <= 3
    assert all(pair[0] == wording and pair[1] in stored for pair in first.judge)
    for left, right in first.judge:
        dedup.pairs.add("acme", left, right, Evidence("judge", -4.0, False, 1.0))
    second = await dedup.ask(receipt(), wording)
    assert isinstance(second, Missed)
    assert not set(first.judge) & set(second.judge), "judged once"
    await dedup.set_policy(judge=JudgeMode.OFF)
    third = await dedup.ask(receipt(), wording)
    assert isinstance(third, Missed)
    assert third.judge == ()


@pytest.mark.parametrize(("answer", "served"), [("RM 77.70", True), ("seventy-seven", False)])
async def test_answers_that_need_no_language_serve_another(dedup: Bench, answer: str, served: bool) -> None:
    """Once two questions are known to be one, an amount answers either; words stay in their language, and so does
    everything where the policy says so."""
    chinese = "这张小票一共花了多少钱？"
    for image in ("a", "b", "c"):
        dedup.pairs.add("acme", QUESTION, chinese, Evidence("answer", 3.0, True, 1.0, image))
    await dedup.teach(receipt(), QUESTION, answer)
    outcome = await dedup.ask(receipt(), chinese)
    if served:
        assert hit(outcome) == answer
        await dedup.set_policy(neutral_answers=False)
        outcome = await dedup.ask(receipt(), chinese)
    assert reason(outcome) == "CROSS_LANGUAGE"


async def test_bypass_and_refresh_do_not_read(dedup: Bench) -> None:
    """Bypass keeps the older answer, refresh replaces it."""
    await dedup.teach(receipt(), QUESTION, "old")
    missed = await dedup.ask(receipt(), QUESTION, mode=CacheMode.BYPASS)
    assert reason(missed) == "BYPASS"
    assert (await dedup.store(missed, "new")).reason == "ALREADY_STORED"
    assert hit(await dedup.ask(receipt(), QUESTION)) == "old"
    missed = await dedup.ask(receipt(), QUESTION, mode=CacheMode.REFRESH)
    assert (await dedup.store(missed, "new", replace=True)).stored
    assert hit(await dedup.ask(receipt(), QUESTION)) == "new"


@pytest.mark.parametrize(
    ("finish", "text", "expected"),
    [
        ("LENGTH", "RM 13", "ANSWER_CUT_OFF"),
        ("FILTERED", "…", "ANSWER_FILTERED"),
        ("UNANSWERABLE", "I can't tell.", "ANSWER_UNANSWERABLE"),
        ("REPETITION", "RM 13", "ANSWER_UNFINISHED"),
        ("INTERRUPTED", "RM 13", "ANSWER_UNFINISHED"),
        ("AN_END_FROM_THE_FUTURE", "RM 13", "ANSWER_UNFINISHED"),
        ("UNSPECIFIED", "RM 138.90", "ANSWER_UNFINISHED"),
        ("STOP", "  ", "ANSWER_EMPTY"),
    ],
)
async def test_what_is_no_answer_is_not_stored(dedup: Bench, finish: str, text: str, expected: str) -> None:
    """Cut off, filtered, unanswerable and empty answers leave nothing behind."""
    missed = await dedup.ask(receipt(), QUESTION)
    remembered = await dedup.store(missed, text, finish=finish)
    assert (remembered.stored, remembered.reason) == (False, expected)
    assert (await dedup.memory.holdings()).entries == 0
    assert reason(await dedup.ask(receipt(), QUESTION)) == "IMAGE_UNKNOWN"


async def test_a_foreign_ticket_stores_nothing(dedup: Bench) -> None:
    """A ticket is good for the tenant that it was issued to, for its time, and unchanged."""
    missed = await dedup.ask(receipt(), QUESTION)
    assert isinstance(missed, Missed)
    with pytest.raises(TicketError, match="another tenant"):
        await dedup.store(missed, "poison", "globex")
    with pytest.raises(TicketError, match="not issued here"):
        await dedup.store(replace(missed, ticket=missed.ticket[:-1] + b"\x00"), "poison")
    dedup.clock.now += 3_601
    with pytest.raises(TicketError, match="expired"):
        await dedup.store(missed, "late")
    assert (await dedup.memory.holdings()).entries == 0


@pytest.mark.parametrize("mode", [CacheMode.BYPASS, CacheMode.REFRESH])
async def test_who_passes_memory_by_is_no_hit_and_no_shadow(dedup: Bench, mode: CacheMode) -> None:
    """A request that did not ask memory is no would-be hit, and the comparison with its answer is no random sample."""
    await dedup.set_policy(mode=Mode.SHADOW)
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    passed = await dedup.ask(receipt(), QUESTION, mode=mode)
    asked = await dedup.ask(receipt(), QUESTION)
    for missed in (passed, asked):
        await dedup.store(missed, "RM 138.90")
    assert isinstance(passed, Missed)
    assert isinstance(asked, Missed)
    await asyncio.to_thread(dedup.ledger.flush, 5.0)
    found = [await asyncio.to_thread(dedup.reader.decision, each.findings.decision) for each in (passed, asked)]
    assert [each is not None and each.would_hit for each in found] == [False, True]
    sources = [
        [label.source for label in await asyncio.to_thread(dedup.reader.labels, each.findings.decision)]
        for each in (passed, asked)
    ]
    assert sources == [["NEAR_MISS"], ["SHADOW"]]


async def test_an_expired_answer_is_not_served(dedup: Bench) -> None:
    """After the archive's time to live the answer is gone, whichever tier is asked."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    dedup.clock.now += 604_800 + 301
    assert isinstance(await dedup.ask(receipt(), QUESTION), Missed)


async def test_a_request_can_ask_for_a_younger_answer(dedup: Bench) -> None:
    """`max_age` of 0 accepts no stored answer; an hour accepts one of ten minutes."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    dedup.clock.now += 600
    assert isinstance(await dedup.ask(receipt(), QUESTION, max_age=0.0), Missed)
    assert isinstance(await dedup.ask(receipt(), QUESTION, max_age=599.0), Missed)
    assert hit(await dedup.ask(receipt(), QUESTION, max_age=3_600.0)) == "RM 138.90"


async def test_a_request_tightens_and_never_loosens(dedup: Bench) -> None:
    """Limits below the policy's are refused; exact-only turns a rewording away."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    with pytest.raises(PolicyInvalidError):
        await dedup.ask(receipt(), QUESTION, limits=Tightening(question=0.1))
    rewording = "Please tell me: what's the total amount?"
    assert isinstance(await dedup.ask(receipt(), rewording, exact_only=True), Missed)
    assert isinstance(await dedup.ask(receipt(), rewording, limits=Tightening(question=1.0)), Missed)


async def test_off_reads_and_stores_nothing(dedup: Bench) -> None:
    """With the policy off every request goes to the model and leaves nothing."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    await dedup.set_policy(mode=Mode.OFF)
    missed = await dedup.ask(receipt(), QUESTION)
    assert reason(missed) == "MODE_OFF"
    assert isinstance(missed, Missed)
    assert missed.ticket == b""


async def test_shadow_decides_and_asks_all_the_same(dedup: Bench) -> None:
    """In shadow mode what would have been a hit goes to the model, and its answer becomes a label."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    await dedup.set_policy(mode=Mode.SHADOW)
    missed = await dedup.ask(receipt(), QUESTION)
    assert reason(missed) == "SHADOW"
    assert isinstance(missed, Missed)
    await dedup.store(missed, "RM 138.90")
    await asyncio.to_thread(dedup.ledger.flush, 5.0)
    labels = await asyncio.to_thread(dedup.reader.labels, missed.findings.decision)
    assert [(label.source, label.same) for label in labels] == [("SHADOW", True)]


async def test_every_near_miss_is_a_label(dedup: Bench) -> None:
    """A miss with a near question gets a label from the comparison of the two answers."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    missed = await dedup.teach(receipt(), "What is the phone number?", "03-2141 8800")
    await asyncio.to_thread(dedup.ledger.flush, 5.0)
    labels = await asyncio.to_thread(dedup.reader.labels, missed.findings.decision)
    assert [(label.source, label.same) for label in labels] == [("NEAR_MISS", False)]


async def test_wrong_removes_the_entry_at_once(dedup: Bench) -> None:
    """After `wrong`, the answer is not served again, hot or archived, and the decision carries the label."""
    await dedup.teach(receipt(), QUESTION, "RM 999.99")
    found = await dedup.ask(receipt(), QUESTION)
    assert isinstance(found, Found)
    learnt = await dedup.learn.feedback("acme", found.findings.decision, False, "RM 138.90", "misread")
    assert learnt.removed == 1
    assert isinstance(await dedup.ask(receipt(), QUESTION), Missed)
    await asyncio.to_thread(dedup.ledger.flush, 5.0)
    labels = await asyncio.to_thread(dedup.reader.labels, found.findings.decision)
    assert [(label.source, label.same) for label in labels] == [("FEEDBACK", False)]


async def test_wrong_about_a_copy_parts_it_from_the_image(dedup: Bench) -> None:
    """A file that was taken for an image wrongly is not taken for it again."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    copy = copy_of(receipt())
    found = await dedup.ask(copy, QUESTION)
    assert isinstance(found, Found)
    await dedup.learn.feedback("acme", found.findings.decision, False, "", "")
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    assert isinstance(await dedup.ask(copy, QUESTION), Missed)


async def test_a_file_stays_parted_after_a_restart(tmp_path: Path) -> None:
    """What feedback parted is not joined again by a service that has just started, whatever the check says."""
    copy = copy_of(receipt())
    async with bench(tmp_path, embedded=True) as first:
        await first.teach(receipt(), QUESTION, "RM 138.90")
        found = await first.ask(copy, QUESTION)
        assert isinstance(found, Found)
        await first.learn.feedback("acme", found.findings.decision, False, "", "")
    async with bench(tmp_path, embedded=True) as second:
        await second.teach(receipt(), QUESTION, "RM 138.90")
        assert isinstance(await second.ask(copy, QUESTION), Missed)
        assert hit(await second.ask(copy_of(receipt(), 70, 0.8), QUESTION)) == "RM 138.90"


async def test_forgetting_an_alias_keeps_the_image(dedup: Bench) -> None:
    """The wrong join is undone, the entry of the original stays."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    copy = copy_of(receipt())
    await dedup.ask(copy, QUESTION)
    digest = query_for(copy, QUESTION).byte_digest.hex()
    assert (await dedup.forget.alias("acme", digest)).aliases == 1
    assert isinstance(await dedup.ask(copy, QUESTION), Missed)
    assert hit(await dedup.ask(receipt(), QUESTION)) == "RM 138.90"


async def test_at_most_the_policys_number_of_answers_per_image(dedup: Bench) -> None:
    """The least recently used answer goes when an image has too many."""
    await dedup.set_policy(answers_per_image=2)
    for number, question in enumerate(["What is the date?", "What is the phone number?", "Which shop is it?"]):
        dedup.clock.now += 1
        await dedup.teach(receipt(), question, f"answer {number}")
    assert (await dedup.memory.holdings()).entries == 2
    assert isinstance(await dedup.ask(receipt(), "What is the date?"), Missed)
    assert hit(await dedup.ask(receipt(), "Which shop is it?")) == "answer 2"


async def test_equal_misses_share_a_flight(dedup: Bench) -> None:
    """Copies of one image that arrive together, asked the same in other words, can wait for one answer."""
    pages = [receipt(), copy_of(receipt()), copy_of(receipt(), 90, 0.7), resaved(receipt())]
    questions = [QUESTION, "Please tell me: what's the total amount?"]
    outcomes = await asyncio.gather(*(dedup.ask(page, question) for page in pages for question in questions))
    misses = [outcome for outcome in outcomes if isinstance(outcome, Missed)]
    assert len(misses) == len(outcomes)
    assert any(all(key in (miss.flight, *miss.joinable) for miss in misses) for key in {miss.flight for miss in misses})
    assert len({miss.findings.resolved.image for miss in misses if miss.findings.resolved}) == 1


async def test_an_unreadable_image_is_an_error_and_stores_nothing(dedup: Bench) -> None:
    """A truncated file ends in its own reason."""
    with pytest.raises(PictureError) as caught:
        await dedup.ask(receipt()[:2000], QUESTION)
    assert caught.value.reason == "IMAGE_TRUNCATED"
    assert (await dedup.memory.holdings()).images == 0


async def test_what_was_remembered_survives_a_restart(tmp_path: Path) -> None:
    """An acknowledged answer is a hit after the service was opened anew."""
    async with bench(tmp_path, embedded=True) as first:
        await first.teach(receipt(), QUESTION, "RM 138.90")
    async with bench(tmp_path, embedded=True) as second:
        assert hit(await second.ask(copy_of(receipt()), QUESTION)) == "RM 138.90"


async def test_answers_given_at_another_resolution_do_not_stand_in(dedup: Bench) -> None:
    """The pixels that the model may look at are part of the answer space: what the policy and the request allow
    together, whichever of them says it."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    missed = await dedup.ask(receipt(), QUESTION, max_pixels=200_000)
    assert isinstance(missed, Missed)
    await dedup.store(missed, "RM 133.90")
    await dedup.set_policy(max_pixels=200_000)
    assert hit(await dedup.ask(receipt(), QUESTION)) == "RM 133.90"
    assert hit(await dedup.ask(receipt(), QUESTION, max_pixels=900_000)) == "RM 133.90"
    await dedup.set_policy(max_pixels=4_816_896)
    assert hit(await dedup.ask(receipt(), QUESTION)) == "RM 138.90"


@pytest.mark.parametrize(("giver", "taker", "known"), [("SHARE", "READ", True), ("READ", "SHARE", False),
                                                       ("SHARE", "NONE", False)])  # fmt: skip
async def test_what_is_known_of_questions_is_shared_as_policies_say(
    dedup: Bench, giver: str, taker: str, known: bool
) -> None:
    """A pair of questions that one tenant's images taught serves another tenant's images only where the one gives and
    the other takes; answers are never shared."""
    asked, reworded = "What is the invoice number?", "Which number did they file this under?"
    await dedup.set_policy("giver", shared_intents=IntentSharing(giver))
    await dedup.set_policy("taker", shared_intents=IntentSharing(taker))
    for number in range(4):
        page = receipt(shop=f"SHOP {number * 1117}")
        await dedup.teach(page, asked, f"INV-20{number}7714", "giver")
        if isinstance(missed := await dedup.ask(page, reworded, "giver"), Missed):
            await dedup.store(missed, f"INV-20{number}7714", "giver")
    await dedup.teach(receipt(), asked, "INV-999", "taker")
    found = await dedup.ask(receipt(), reworded, "taker")
    match = found.findings.match if not isinstance(found, ContentWanted) else None
    assert match is not None
    assert (match.side.tier == "KNOWN") is known


PAGES = (receipt(), receipt(total="77.10"), receipt(total="3.45"))


async def test_several_images_are_the_same_when_every_one_is(dedup: Bench) -> None:
    """The same files, and copies of every one, in the same order are served; the exact repeat by its digest alone."""
    await dedup.teach(PAGES, QUESTION, "219.45 together")
    assert hit(await dedup.lookup.look_up(query_for(PAGES, QUESTION))) == "219.45 together"
    assert hit(await dedup.ask([resaved(page) for page in PAGES], QUESTION)) == "219.45 together"
    found = await dedup.ask([copy_of(page) for page in PAGES], QUESTION)
    assert hit(found) == "219.45 together"
    assert isinstance(found, Found)
    assert found.findings.resolved is not None
    assert found.findings.resolved.side.tier == "PERCEPTUAL"


@pytest.mark.parametrize(
    "other",
    [PAGES[::-1], PAGES[:2], PAGES[:1], (*PAGES, PAGES[0]), (PAGES[0], PAGES[1], PAGES[1]), PAGES[1:]],
    ids=["turned round", "first two", "first alone", "one more", "last changed", "without the first"],
)
async def test_another_sequence_is_another_document(dedup: Bench, other: tuple[bytes, ...]) -> None:
    """Order, number and every image count: nothing less is served."""
    await dedup.teach(PAGES, QUESTION, "219.45 together")
    assert reason(await dedup.ask(other, QUESTION))
    assert reason(await dedup.ask([copy_of(page) for page in other], QUESTION))


async def test_a_single_image_is_not_the_sequence_that_holds_it(dedup: Bench) -> None:
    """What was asked of several images says nothing about one of them, nor the other way round."""
    await dedup.teach(PAGES, QUESTION, "219.45 together")
    await dedup.teach(PAGES[0], QUESTION, "138.90")
    assert hit(await dedup.ask(PAGES, QUESTION)) == "219.45 together"
    assert hit(await dedup.ask(copy_of(PAGES[0]), QUESTION)) == "138.90"


async def test_forgetting_an_image_forgets_the_sequences_that_hold_it(dedup: Bench) -> None:
    """A file that is to be forgotten is forgotten wherever it stands."""
    await dedup.teach(PAGES, QUESTION, "219.45 together")
    await dedup.teach(PAGES[:2], QUESTION, "two")
    await dedup.teach(PAGES[0], QUESTION, "138.90")
    deleted = await dedup.forget.image("acme", hashlib.sha256(PAGES[1]).hexdigest())
    assert (deleted.images, deleted.entries) == (2, 2)
    assert hit(await dedup.ask(PAGES[0], QUESTION)) == "138.90"
    assert reason(await dedup.ask(PAGES, QUESTION))


async def test_a_verdict_on_an_image_counts_there_and_nowhere_else(dedup: Bench) -> None:
    """The policy has a near-miss judged on its image; the verdict weighs in look-ups of that image alone, and what is
    told afterwards of it teaches nothing about the pair."""
    await dedup.set_policy(judge=JudgeMode.INLINE_ON_IMAGE)
    other = receipt("702.40", "BENGKEL WONG")
    for content, answer in ((receipt(), "RM 138.90"), (other, "RM 702.40")):
        await dedup.teach(content, QUESTION, answer)
    asked = "How much must the customer pay for everything?"
    wanted = await dedup.ask(receipt(), asked, judge_available=True)
    assert isinstance(wanted, Missed)
    assert (wanted.judge[0], wanted.judge_inline, wanted.judge_on_image) == ((asked, QUESTION), True, True)
    verdict = Judged(asked, QUESTION, 0.999, "glm", hashlib.sha256(receipt()).digest())
    tiers = []
    for content in (receipt(), other):
        outcome = await dedup.ask(content, asked, judge_available=True, judged=verdict)
        assert isinstance(outcome, Found | Missed)
        assert outcome.findings.match is not None
        tiers.append(outcome.findings.match.side.tier)
    assert tiers == ["JUDGED", "NEIGHBOUR"]
    assert not (await dedup.learn.judged("acme", verdict)).labelled
    known = [dedup.pairs.verdict("acme", normalise(asked), normalise(QUESTION)).explanation]
    await dedup.learn.judged("acme", replace(verdict, image=b""))
    known.append(dedup.pairs.verdict("acme", normalise(asked), normalise(QUESTION)).explanation)
    assert ["judged the same" in each for each in known] == [False, True]
