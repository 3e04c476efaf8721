"""The policy value: defaults, rules, masks, and requests that may only tighten."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.policy.policy import (
    FIELDS,
    IntentSharing,
    JudgeMode,
    Mode,
    Policy,
    PolicyInvalidError,
    Tightening,
    etag,
    from_json,
    merge,
    tighten,
    to_json,
    validate,
)

probabilities = st.floats(0, 1)
policies = st.builds(
    Policy,
    mode=st.sampled_from(Mode),
    image_threshold=probabilities,
    question_threshold=probabilities,
    image_floor=probabilities,
    question_floor=probabilities,
    phash_distance=st.integers(0, 7),
    error_budget=st.floats(0, 0.5),
    confidence=st.floats(0.5, 0.9999),
    exploration_rate=probabilities,
    judge=st.sampled_from(JudgeMode),
    protected_terms=st.lists(st.text(min_size=1, max_size=64).filter(str.strip), unique=True, max_size=5).map(tuple),
    cross_language=st.booleans(),
    hot_ttl=st.floats(0, 1000),
    archive_ttl=st.floats(1000, 2000),
    shared_intents=st.sampled_from(IntentSharing),
)


def test_defaults_are_valid_and_match_the_promise() -> None:
    """An untouched policy is valid: 1 % budget at 95 %, hot 2 h, archive 7 days, 300 s of jitter, 20 answers an
    image."""
    policy = validate(Policy())
    assert (policy.error_budget, policy.confidence) == (0.01, 0.95)
    assert (policy.hot_ttl, policy.archive_ttl, policy.ttl_jitter) == (7200, 7 * 86400, 300)
    assert (policy.answers_per_image, policy.phash_distance, policy.mode) == (20, 5, Mode.VERIFIED)


@given(policies)
def test_json_round_trip(policy: Policy) -> None:
    """What is stored comes back as the same value."""
    assert from_json(to_json(policy)) == policy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_threshold", 1.01),
        ("image_threshold", float("nan")),
        ("question_threshold", -0.1),
        ("error_budget", 0.51),
        ("confidence", 1.0),
        ("exploration_rate", float("inf")),
        ("phash_distance", 8),
        ("phash_distance", 2.5),
        ("answers_per_image", 0),
        ("max_pixels", 100),
        ("hot_ttl", -1.0),
        ("mode", "SOMETIMES"),
        ("cross_language", 1),
        ("record_ttl", 0.0),
        ("image_threshold", True),
        ("protected_terms", ["a"]),
    ],
)
def test_a_fault_names_its_field(field: str, value: object) -> None:
    """Every rule that is broken is reported under the name of its field."""
    with pytest.raises(PolicyInvalidError) as caught:
        validate(dataclasses.replace(Policy(), **{field: value}))  # type: ignore[arg-type]
    assert [violation.field for violation in caught.value.violations] == [field]


def test_all_faults_are_reported_at_once() -> None:
    """A person who corrects a policy sees every fault in one answer."""
    with pytest.raises(PolicyInvalidError) as caught:
        validate(Policy(image_threshold=2, error_budget=-1, protected_terms=("a", " ", "a")))
    assert {v.field for v in caught.value.violations} == {
        "image_threshold",
        "error_budget",
        "protected_terms",
        "protected_terms[1]",
    }


def test_archive_outlives_hot() -> None:
    """An answer can't leave the archive before it leaves the hot tier."""
    with pytest.raises(PolicyInvalidError, match="archive_ttl"):
        validate(Policy(hot_ttl=100, archive_ttl=99))


def test_zero_is_a_value() -> None:
    """A field set to zero is zero: a threshold of 0, a budget of 0, no hot tier, no exploration."""
    zeros = Policy(image_threshold=0, error_budget=0, hot_ttl=0, exploration_rate=0, phash_distance=0)
    merged = merge(
        Policy(), zeros, ["image_threshold", "error_budget", "hot_ttl", "exploration_rate", "phash_distance"]
    )
    assert merged == zeros
    assert from_json(to_json(merged)) == zeros


@given(policies, policies, st.sets(st.sampled_from(FIELDS), min_size=1))
def test_merge_takes_only_what_the_mask_names(base: Policy, update: Policy, mask: set[str]) -> None:
    """A masked update changes the named fields and no other."""
    try:
        merged = merge(base, update, mask)
    except PolicyInvalidError:
        return  # the mixture broke a rule of two fields, such as archive_ttl against hot_ttl
    for name in FIELDS:
        assert getattr(merged, name) == getattr(update if name in mask else base, name)


def test_validation_comes_after_merging() -> None:
    """An update that is valid alone is refused when the merged policy is not."""
    with pytest.raises(PolicyInvalidError, match="archive_ttl"):
        merge(Policy(hot_ttl=7200), Policy(hot_ttl=10, archive_ttl=20), ["archive_ttl"])


@pytest.mark.parametrize("mask", [[], ["modes"], ["mode", "no_such_field"]])
def test_a_wrong_mask_is_refused(mask: list[str]) -> None:
    """An empty mask or an unknown name is a fault of update_mask, not silently everything or nothing."""
    with pytest.raises(PolicyInvalidError) as caught:
        merge(Policy(), Policy(), mask)
    assert {v.field for v in caught.value.violations} == {"update_mask"}


def test_star_takes_everything() -> None:
    """The mask "*" replaces the whole policy."""
    update = Policy(mode=Mode.STATIC, error_budget=0.05)
    assert merge(Policy(), update, ["*"]) == update


@given(policies, probabilities, probabilities)
def test_requests_never_loosen(policy: Policy, image: float, question: float) -> None:
    """A request's limits raise the floors or are refused; no limit lowers anything."""
    try:
        tightened = tighten(policy, Tightening(image, question))
    except PolicyInvalidError:
        assert image < max(policy.image_threshold, policy.image_floor) or question < max(
            policy.question_threshold, policy.question_floor
        )
        return
    assert tightened.image_floor == image >= policy.image_floor
    assert tightened.question_floor == question >= policy.question_floor
    assert tightened == dataclasses.replace(policy, image_floor=image, question_floor=question)


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan"), 0.0])
def test_a_looser_or_impossible_limit_is_refused(limit: float) -> None:
    """A limit that is no probability, or zero where the policy asks for more, is an error of its own field."""
    with pytest.raises(PolicyInvalidError) as caught:
        tighten(Policy(), Tightening(question=limit))
    assert caught.value.violations[0].field == "min_question_score"


def test_etag_follows_content_and_revision() -> None:
    """Two revisions differ in their etag even when their content is equal; equal revisions agree."""
    assert etag(Policy(), 1) == etag(Policy(), 1)
    assert len({etag(Policy(), 1), etag(Policy(), 2), etag(Policy(error_budget=0.02), 1)}) == 3


def test_a_newer_versions_fields_are_ignored() -> None:
    """A replica of this version reads a policy that a newer one stored, and defaults what an older one left out."""
    stored = {**json.loads(to_json(Policy(error_budget=0.03))), "invented_later": 7}
    del stored["judge"]
    assert from_json(json.dumps(stored)) == Policy(error_budget=0.03)
