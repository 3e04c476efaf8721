"""The policies in force: a cache of every tenant's current revision that follows the ledger, and the way to change
one."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from dedup_service.policy.policy import IntentSharing, Policy, PolicyInvalidError, Violation, etag, merge, validate
from dedup_service.policy.thresholds import PRIOR, Thresholds

log = structlog.get_logger("policy")

OVERLAP = 16
"""Revisions read again at every poll: a transaction may commit after one with a higher sequence number."""
PAGE = 100
"""Revisions a page by default, and at the most."""


@dataclass(frozen=True)
class Revision:
    """One revision of a tenant's policy."""

    tenant: str
    revision: int
    """Counts up from 1; 0 is the service's default, before the tenant had a policy of its own."""
    policy: Policy
    time: float = 0.0
    """When it was made, seconds since the epoch."""
    author: str = ""
    """Who made it, as authenticated."""
    note: str = ""
    """Why, in the author's words."""
    restored: int | None = None
    """The revision that a rollback brought back."""

    @property
    def etag(self) -> str:
        """The fingerprint to send back with an update."""
        return etag(self.policy, self.revision)


class PolicyStaleError(Exception):
    """The policy changed since the caller read it: read it again, and decide again."""


class RevisionUnknownError(LookupError):
    """The tenant has no such revision."""


class RevisionStore(Protocol):
    """Keeps revisions and thresholds. Every method blocks."""

    def add(self, revision: Revision) -> None:
        """Stores a revision. Raises PolicyStaleError when the tenant already has one of that number."""

    def latest(self, tenant: str) -> Revision | None:
        """The tenant's newest revision."""

    def get(self, tenant: str, revision: int) -> Revision | None:
        """One revision."""

    def page(self, tenant: str, below: int | None, size: int) -> Sequence[Revision]:
        """Up to `size` revisions, newest first, with numbers below `below`."""

    def since(self, sequence: int) -> tuple[int, Sequence[Revision]]:
        """Revisions stored after `sequence`, oldest first, and the sequence number reached."""

    def add_thresholds(self, tenant: str, thresholds: Thresholds) -> None:
        """Stores thresholds; those of a version that is there already are left as they are."""

    def thresholds(self, newer_than: Mapping[str, int]) -> Mapping[str, Thresholds]:
        """The newest thresholds of every tenant whose version exceeds the one given (0 when not given)."""


class PolicyBook:
    """What every tenant's policy and learnt thresholds are right now.

    `current` and `thresholds` read memory only and may be called on an event loop. The other methods block. Call
    `refresh` every half second or so, so that a change made through any replica is applied here; while it raises, the
    last known policies stay in force.
    """

    def __init__(
        self,
        store: RevisionStore,
        default: Policy | None = None,
        *,
        defaults: Mapping[str, Policy] | None = None,
    ) -> None:
        self.store = store
        self.default = validate(default or Policy())
        self.defaults = {tenant: validate(policy) for tenant, policy in (defaults or {}).items()}
        self.revisions: dict[str, Revision] = {}
        self.learnt: dict[str, Thresholds] = {}
        self.reached = 0
        self.lock = threading.Lock()

    def current(self, tenant: str) -> Revision:
        """The revision in force for `tenant`."""
        found = self.revisions.get(tenant)
        return found if found is not None else Revision(tenant, 0, self.defaults.get(tenant, self.default))

    def shares(self, tenant: str) -> bool:
        """Whether `tenant` lets others learn from its pairs of questions."""
        return self.current(tenant).policy.shared_intents is IntentSharing.SHARE

    def keeps_text(self, tenant: str) -> bool:
        """Whether `tenant`'s questions and answers may be kept readable."""
        return self.current(tenant).policy.keep_question_text

    def thresholds(self, tenant: str) -> Thresholds:
        """The thresholds learnt for `tenant`; the prior alone when there are none."""
        return self.learnt.get(tenant, PRIOR)

    def read(self, tenant: str) -> Revision:
        """The newest revision from the store itself: what an update must be based on."""
        found = self.store.latest(tenant)
        if found is not None:
            self.apply([found])
        return self.current(tenant)

    def update(
        self,
        tenant: str,
        policy: Policy,
        mask: Collection[str],
        *,
        etag: str = "",
        validate_only: bool = False,
        author: str = "",
        note: str = "",
    ) -> Revision:
        """Changes the fields named in `mask` and returns the new revision, or with `validate_only` the one that would
        be.

        Raises PolicyInvalidError when the result breaks a rule, PolicyStaleError when `etag` is given and is not the
        current revision's, or when somebody else was faster. In either case the policy in force stays as it is.
        """
        base = self.read(tenant)
        if etag and etag != base.etag:
            raise PolicyStaleError(f"the policy is at revision {base.revision} by now")
        merged = merge(base.policy, policy, mask)
        return self.publish(Revision(tenant, base.revision + 1, merged, clock.time(), author, note), validate_only)

    def rollback(self, tenant: str, revision: int, *, etag: str = "", author: str = "", note: str = "") -> Revision:
        """Makes the policy of an earlier revision the newest one; 0 is the service's default.

        Raises RevisionUnknownError, PolicyStaleError, and PolicyInvalidError when the old policy breaks a newer rule.
        """
        base = self.read(tenant)
        if etag and etag != base.etag:
            raise PolicyStaleError(f"the policy is at revision {base.revision} by now")
        old = Revision(tenant, 0, self.defaults.get(tenant, self.default)) if revision == 0 else None
        old = old or self.store.get(tenant, revision)
        if old is None:
            raise RevisionUnknownError(f"tenant {tenant} has no revision {revision}")
        restored = Revision(tenant, base.revision + 1, validate(old.policy), clock.time(), author, note, revision)
        return self.publish(restored, validate_only=False)

    def history(self, tenant: str, *, below: int | None = None, size: int = PAGE) -> Sequence[Revision]:
        """Up to `size` revisions (1 to 100), newest first, with numbers below `below`."""
        if not 1 <= size <= PAGE:
            raise PolicyInvalidError([Violation("page_size", f"must be from 1 to {PAGE}, not {size}")])
        return self.store.page(tenant, below, size)

    def learn(self, tenant: str, thresholds: Thresholds) -> None:
        """Stores newly learnt thresholds and applies them here at once: these, or those of the same version that
        another replica stored first, so that all replicas apply the same."""
        self.store.add_thresholds(tenant, thresholds)
        stored = self.store.thresholds({tenant: thresholds.version - 1}).get(tenant)
        with self.lock:
            if stored is not None and stored.version > self.thresholds(tenant).version:
                self.learnt = {**self.learnt, tenant: stored}

    def publish(self, revision: Revision, validate_only: bool) -> Revision:
        """Stores a revision and applies it here at once."""
        if not validate_only:
            self.store.add(revision)
            self.apply([revision])
            log.info("policy_changed", tenant=revision.tenant, revision=revision.revision, author=revision.author)
        return revision

    def apply(self, revisions: Sequence[Revision]) -> None:
        """Puts newer revisions in force; older ones are left aside, in whatever order they come."""
        with self.lock:
            newer = {r.tenant: r for r in revisions if r.revision > self.current(r.tenant).revision}
            for revision in revisions:  # the newest of a tenant wins, wherever it stands in the list
                if revision.tenant in newer and revision.revision > newer[revision.tenant].revision:
                    newer[revision.tenant] = revision
            if newer:
                self.revisions = {**self.revisions, **newer}

    def refresh(self) -> None:
        """Reads what changed in the store since the last time."""
        reached, revisions = self.store.since(max(0, self.reached - OVERLAP))
        self.apply(revisions)
        self.reached = max(self.reached, reached)
        newer = self.store.thresholds({tenant: thresholds.version for tenant, thresholds in self.learnt.items()})
        if newer:
            with self.lock:
                self.learnt = {**self.learnt, **newer}
