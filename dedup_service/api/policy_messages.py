"""Between policy messages and policy values. Pure; raises faults for what a message must not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from google.protobuf.duration_pb2 import Duration

from askonce.faults import InvalidInput
from askonce.names import policy_name
from askonce.times import to_duration, to_seconds, to_timestamp
from askonce.v1 import policy_pb2
from dedup_service.api import wire_names
from dedup_service.ledger.records import Decision, Label
from dedup_service.policy.policy import FIELDS, IntentSharing, JudgeMode, Mode, Policy, PolicyInvalidError
from dedup_service.policy.preview import Preview
from dedup_service.policy.revisions import Revision
from dedup_service.policy.risk import Interval
from dedup_service.policy.suggestion import Suggestion
from dedup_service.policy.thresholds import Bound

ENUMS: dict[str, tuple[type[StrEnum], Any, str]] = {
    "mode": (Mode, policy_pb2.ReuseMode, "REUSE_MODE_"),
    "judge": (JudgeMode, policy_pb2.JudgeMode, "JUDGE_MODE_"),
    "shared_intents": (IntentSharing, policy_pb2.IntentSharing, "INTENT_SHARING_"),
}
"""Fields that are enums: their value type, wire type, and the wire names' prefix."""
DURATIONS = frozenset({"hot_ttl", "archive_ttl", "ttl_jitter", "unanswered_ttl", "record_ttl"})
"""Fields that are seconds here and a Duration on the messages."""
NOTE_CHARACTERS = 1_000
DECISION_LABELS = ("AUDIT", "EXPLORATION", "SHADOW", "NEAR_MISS", "FEEDBACK")
"""Sources that say whether an answer was right, the most reliable first."""


def from_policy(message: policy_pb2.Policy, paths: Sequence[str]) -> tuple[Policy, tuple[str, ...]]:
    """The values of a message and the fields that an update changes: those of the mask, or without one those that are
    set. A field that the mask names and the message does not set takes its default."""
    given = set_fields(message)
    update = replace(Policy(), **{name: value_of(message, name) for name in given})
    return update, tuple(dict.fromkeys(paths)) if paths else tuple(given)


def set_fields(message: policy_pb2.Policy) -> list[str]:
    """Names of the fields that a message sets: those that it lists, where presence is tracked even at zero."""
    listed = {descriptor.name for descriptor, _ in message.ListFields()}
    return [name for name in FIELDS if name in listed]


def value_of(message: policy_pb2.Policy, name: str) -> Any:
    """The value of a field that is set."""
    raw = getattr(message, name)
    if name in ENUMS:
        kind, wire_kind, prefix = ENUMS[name]
        return kind(wire_names.enum_name(wire_kind, raw, prefix, f"policy.{name}"))
    if name in DURATIONS:
        return to_seconds(raw)
    return tuple(raw) if name == "protected_terms" else raw


def to_policy(revision: Revision) -> policy_pb2.Policy:
    """The message of a revision, every field set."""
    message = policy_pb2.Policy(
        name=policy_name(revision.tenant),
        revision=revision.revision,
        etag=revision.etag,
        author=revision.author,
        note=revision.note,
        restored_revision=revision.restored,
    )
    if revision.revision:
        message.create_time.CopyFrom(to_timestamp(revision.time))
    for name in FIELDS:
        value = getattr(revision.policy, name)
        if name in ENUMS:
            _, wire_kind, prefix = ENUMS[name]
            setattr(message, name, wire_kind.Value(f"{prefix}{value}"))
        elif name in DURATIONS:
            getattr(message, name).CopyFrom(to_duration(value))
        elif name == "protected_terms":
            message.protected_terms.extend(value)
        else:
            setattr(message, name, value)
    return message


def to_preview(
    preview: Preview, decisions: Sequence[Decision], labels: dict[str, list[Label]], keep_text: bool
) -> policy_pb2.PreviewPolicyResponse:
    """The message of a preview with its examples, `labels` by decision."""
    return policy_pb2.PreviewPolicyResponse(
        decision_count=preview.decisions,
        hit_rate=preview.hit_rate_now,
        proposed_hit_rate=preview.hit_rate_then,
        gained_count=preview.to_hit,
        lost_count=preview.to_miss,
        wrong_rate=to_interval(preview.wrong_now),
        proposed_wrong_rate=to_interval(preview.wrong_then),
        flips=[to_flip(decision, labels.get(decision.id, []), keep_text) for decision in decisions],
        unjudged_fields=preview.not_previewed,
        label_count=preview.labelled_then,
        model_wrong_rate=to_interval(preview.blame_then.model),
        reuse_wrong_rate=to_interval(preview.blame_then.reuse),
        repeat_label_count=preview.blame_then.repeats,
    )


def to_flip(decision: Decision, labels: Sequence[Label], keep_text: bool) -> policy_pb2.PolicyFlip:
    """One decision that would have been made otherwise. Texts that the policy no longer allows are left out."""
    flip = policy_pb2.PolicyFlip(
        decision=wire_names.decision_name(decision.tenant, decision.id),
        gained=not decision.hit,
        reason=decision.reason,
        risk=decision.risk,
        right=right_of(labels),
    )
    if keep_text:
        flip.question = decision.question_text or ""
        flip.nearest_question = decision.nearest_question_text or ""
        flip.nearest_answer = decision.nearest_answer_text or ""
    return flip


def right_of(labels: Sequence[Label]) -> bool | None:
    """What the most reliable label says; None when none says anything."""
    decided = [label for label in labels if label.same is not None and label.source in DECISION_LABELS]
    return min(decided, key=lambda label: DECISION_LABELS.index(label.source)).same if decided else None


def to_suggestion(suggestion: Suggestion, base: Revision) -> policy_pb2.SuggestPolicyResponse:
    """The message of a suggestion; its policy carries the etag of `base`, the revision that it was made from."""
    policy = to_policy(replace(base, policy=suggestion.policy))
    policy.etag = base.etag
    return policy_pb2.SuggestPolicyResponse(
        reason=suggestion.reason,
        policy=policy,
        hit_rate=suggestion.hit_rate_now,
        proposed_hit_rate=suggestion.hit_rate_then,
        label_count=suggestion.labels,
        wrong_count=suggestion.wrong,
        wrong_rate_upper=suggestion.upper,
        needed_label_count=suggestion.needed,
        strata=[to_bound(name, bound) for name, bound in sorted(suggestion.learnt.bounds.items())],
    )


def to_bound(stratum: str, bound: Bound) -> policy_pb2.StratumBound:
    """The message of one stratum's threshold."""
    return policy_pb2.StratumBound(
        stratum=stratum,
        rule=policy_pb2.BoundRule.Value(f"BOUND_RULE_{bound.rule}"),
        max_risk=bound.most,
        label_count=bound.labels,
        wrong_count=bound.wrong,
        wrong_rate_upper=bound.upper,
        needed_label_count=bound.needed,
        model_noise=bound.noise,
    )


def to_interval(interval: Interval) -> policy_pb2.RateInterval:
    """The message of an interval."""
    return policy_pb2.RateInterval(low=interval.low, mid=interval.mid, high=interval.high)


def to_fault(error: PolicyInvalidError) -> InvalidInput:
    """The fault of a policy that breaks a rule: the first violation's field, and all of them in the metadata."""
    found = error.violations
    first = found[0].field
    field = first if first in ("update_mask", "page_size") else f"policy.{first}"
    return InvalidInput(
        "POLICY_INVALID", str(error), field=field, metadata={each.field: each.description for each in found}
    )


def from_note(note: str) -> str:
    """A note of at most 1,000 characters."""
    if len(note) > NOTE_CHARACTERS:
        raise InvalidInput("TEXT_TOO_LONG", f"note: at most {NOTE_CHARACTERS} characters.", field="note")
    return note


def from_window(window: Duration, given: bool, default: float) -> float:
    """How far back to look, in seconds: 1 minute to 10 years."""
    seconds = to_seconds(window) if given else default
    if not 60 <= seconds <= 315_360_000:
        raise InvalidInput("OUT_OF_RANGE", "window: from 1 minute to 10 years.", field="window")
    return seconds
