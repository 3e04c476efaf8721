"""Policy revisions: stored once, applied everywhere, never disturbed by a bad one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import Engine, text

from askonce.periodic import PeriodicThread
from dedup_service.ledger.database import open_database
from dedup_service.ledger.revisions import RevisionRows
from dedup_service.policy.policy import Mode, Policy, PolicyInvalidError
from dedup_service.policy.revisions import PolicyBook, PolicyStaleError, RevisionUnknownError
from dedup_service.policy.thresholds import Bound, Rule, Thresholds


@pytest.fixture
def book(engine: Engine) -> PolicyBook:
    """The policies of an empty ledger."""
    return PolicyBook(RevisionRows(engine))


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` comes true within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def test_a_tenant_without_a_policy_has_the_default(book: PolicyBook) -> None:
    """Revision 0 is the service's default; a default of the tenant's own goes before it."""
    assert (book.current("acme").revision, book.current("acme").policy) == (0, Policy())
    special = PolicyBook(book.store, Policy(error_budget=0.02), defaults={"acme": Policy(mode=Mode.SHADOW)})
    assert special.current("acme").policy.mode is Mode.SHADOW
    assert special.current("other").policy.error_budget == 0.02


def test_updates_make_revisions_and_tenants_are_apart(book: PolicyBook) -> None:
    """Each update is a revision of its own tenant alone, and carries who made it and why."""
    first = book.update("acme", Policy(error_budget=0.05), ["error_budget"], author="ana", note="more hits")
    second = book.update("acme", Policy(mode=Mode.STATIC), ["mode"])
    assert (first.revision, second.revision) == (1, 2)
    assert second.policy == Policy(error_budget=0.05, mode=Mode.STATIC)
    assert book.current("acme") == second
    assert book.current("other").revision == 0
    assert book.store.get("acme", 1) == first


def test_a_stale_etag_changes_nothing(book: PolicyBook) -> None:
    """An update based on an older revision is refused, and the policy in force stays."""
    old = book.current("acme").etag
    book.update("acme", Policy(error_budget=0.02), ["error_budget"], etag=old)
    with pytest.raises(PolicyStaleError):
        book.update("acme", Policy(error_budget=0.04), ["error_budget"], etag=old)
    with pytest.raises(PolicyStaleError):
        book.rollback("acme", 0, etag=old)
    assert book.current("acme").policy.error_budget == 0.02


def test_a_rejected_policy_never_disturbs_the_active_one(book: PolicyBook) -> None:
    """A policy that breaks a rule is neither stored nor applied."""
    with pytest.raises(PolicyInvalidError):
        book.update("acme", Policy(error_budget=0.9), ["error_budget"])
    assert book.current("acme").revision == 0
    assert book.history("acme") == []


def test_validate_only_shows_and_does_nothing(book: PolicyBook) -> None:
    """With validate_only the new revision is returned as it would be, and not made."""
    shown = book.update("acme", Policy(error_budget=0.03), ["error_budget"], validate_only=True)
    assert (shown.revision, shown.policy.error_budget) == (1, 0.03)
    assert book.current("acme").revision == 0
    with pytest.raises(PolicyInvalidError):
        book.update("acme", Policy(error_budget=2), ["error_budget"], validate_only=True)


def test_of_writers_at_the_same_moment_one_wins(engine: Engine) -> None:
    """Eight replicas updating one policy with the same etag: one revision is made, seven are told to read again."""
    books = [PolicyBook(RevisionRows(engine)) for _ in range(8)]
    etag = books[0].current("acme").etag
    start = Barrier(8)

    def update(number: int) -> str:
        start.wait(10)
        try:
            books[number].update("acme", Policy(error_budget=(number + 1) / 100), ["error_budget"], etag=etag)
        except PolicyStaleError:
            return "stale"
        return "made"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(update, range(8)))
    assert sorted(outcomes) == ["made"] + ["stale"] * 7
    assert len(books[0].history("acme")) == 1


def test_rollback_is_a_new_revision(book: PolicyBook) -> None:
    """Rolling back brings an older policy back under a new number and says where it came from; the history stays."""
    for budget in (0.01, 0.02, 0.03):
        book.update("acme", Policy(error_budget=budget), ["error_budget"])
    restored = book.rollback("acme", 1, note="too many wrong")
    assert (restored.revision, restored.restored, restored.policy.error_budget) == (4, 1, 0.01)
    assert book.rollback("acme", 0).policy == Policy()
    assert [r.revision for r in book.history("acme")] == [5, 4, 3, 2, 1]
    with pytest.raises(RevisionUnknownError):
        book.rollback("acme", 77)
    with pytest.raises(RevisionUnknownError):
        book.rollback("other", 1)


def test_history_comes_in_pages(book: PolicyBook) -> None:
    """Pages go from the newest to the oldest; a page size out of range is a fault of its field."""
    for number in range(5):
        book.update("acme", Policy(phash_distance=number), ["phash_distance"])
    assert [r.revision for r in book.history("acme", size=2)] == [5, 4]
    assert [r.revision for r in book.history("acme", below=4, size=10)] == [3, 2, 1]
    for size in (0, 101):
        with pytest.raises(PolicyInvalidError, match="page_size"):
            book.history("acme", size=size)


@pytest.mark.slow
def test_a_change_reaches_every_replica_within_two_seconds(url: str) -> None:
    """A revision made through one replica is in force at another, over a connection of its own, within 2 s."""
    here, there = open_database(url), open_database(url)
    first, second = PolicyBook(RevisionRows(here)), PolicyBook(RevisionRows(there))
    following = [PeriodicThread("policies", book.refresh, 0.5) for book in (first, second)]
    for each in following:
        each.start()
    try:
        for number in range(1, 4):
            first.update("acme", Policy(phash_distance=number), ["phash_distance"])
            assert first.current("acme").revision == number
            assert until(lambda want=number: second.current("acme").revision == want, 2.0)  # type: ignore[misc]
        first.learn("acme", Thresholds(1, 0.0, 0.01, 0.95, {"a/b": Bound(Rule.LEARNT, 0.2)}))
        assert until(lambda: second.thresholds("acme").version == 1, 2.0)
    finally:
        for each in following:
            each.stop()
        here.dispose()
        there.dispose()


def test_policies_stay_in_force_while_the_ledger_is_away(url: str) -> None:
    """When the store can't be read, the last known policies apply, and following resumes when it returns."""
    engine = open_database(url)
    book = PolicyBook(RevisionRows(engine))
    book.update("acme", Policy(error_budget=0.04), ["error_budget"])
    following = PeriodicThread("policies", book.refresh, 0.02)
    following.start()
    rename = "ALTER TABLE {} RENAME TO {}"
    try:
        with engine.execution_options(writes=True).begin() as connection:
            connection.execute(text(rename.format("policy_revisions", "away")))
        time.sleep(0.2)
        assert book.current("acme").policy.error_budget == 0.04
        with engine.execution_options(writes=True).begin() as connection:
            connection.execute(text(rename.format("away", "policy_revisions")))
        PolicyBook(RevisionRows(engine)).update("acme", Policy(error_budget=0.05), ["error_budget"])
        assert until(lambda: book.current("acme").policy.error_budget == 0.05, 2.0)
    finally:
        following.stop()
        engine.dispose()


def test_a_policy_that_this_version_can_not_read_is_left_aside(engine: Engine) -> None:
    """A row that breaks this version's rules neither stops other tenants' changes nor replaces the policy in force."""
    writer, follower = PolicyBook(RevisionRows(engine)), PolicyBook(RevisionRows(engine))
    writer.update("acme", Policy(error_budget=0.03), ["error_budget"])
    follower.refresh()
    writer.update("acme", Policy(error_budget=0.04), ["error_budget"])
    with engine.execution_options(writes=True).begin() as connection:
        spoil = "UPDATE policy_revisions SET policy = '{\"error_budget\": 7}' WHERE revision = 2"
        connection.exec_driver_sql(spoil)
    writer.update("other", Policy(error_budget=0.02), ["error_budget"])
    follower.refresh()
    assert follower.current("acme").policy.error_budget == 0.03
    assert follower.current("other").policy.error_budget == 0.02


def test_replicas_agree_on_thresholds_of_one_version(engine: Engine) -> None:
    """When two replicas learn the same version, both apply the one that was stored first."""
    first, second = PolicyBook(RevisionRows(engine)), PolicyBook(RevisionRows(engine))
    first.learn("acme", Thresholds(1, 0.0, 0.01, 0.95, {"a/b": Bound(Rule.LEARNT, 0.2)}))
    second.learn("acme", Thresholds(1, 1.0, 0.01, 0.95, {"a/b": Bound(Rule.LEARNT, 0.3)}))
    assert first.thresholds("acme") == second.thresholds("acme")
    assert first.thresholds("acme").bounds["a/b"].max_risk == 0.2
