"""Records and payloads: nothing is lost on the way there and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dedup_service.store.payloads import (
    CHECKED,
    RecordDamagedError,
    bytes_of,
    check_of,
    entry_of,
    entry_payload,
    image_of,
    image_payload,
    text_of,
    touch_payload,
)
from dedup_service.store.points import KEYWORDS, NUMBERS, Kind
from dedup_service.store.records import BANDS, Entry, ImageRecord, Touch

# Lone surrogates are no text: protobuf refuses them before they come this far.
texts = some.text(some.characters(exclude_categories=["Cs"]), max_size=30)
times = some.floats(0, 1e11)

images = some.builds(
    ImageRecord,
    id=some.uuids().map(str),
    tenant=texts,
    digests=some.lists(some.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1).map(tuple),
    perceptual_hash=some.binary(min_size=32, max_size=32),
    width=some.integers(1, 10**6),
    height=some.integers(1, 10**6),
    create_time=times,
    fingerprint_bytes=some.integers(0, 10**6),
)
entries = some.builds(
    Entry,
    id=some.uuids().map(str),
    tenant=texts,
    image=some.uuids().map(str),
    space=texts,
    question=texts,
    normal=texts,
    language=some.sampled_from(["zh", "en", "other"]),
    answer=some.binary(max_size=50),
    answer_text=texts,
    model=texts,
    model_revision=texts,
    create_time=times,
    hot_until=times,
    expire_time=times,
    last_use=times,
    hits=some.integers(0, 10**9),
    policy_revision=texts,
    generate_seconds=some.floats(0, 1e5),
    tags=some.lists(texts, max_size=4).map(tuple),
    decision=texts,
)


@given(images)
def test_an_image_record_comes_back_as_it_was(record: ImageRecord) -> None:
    """To a payload, through JSON, and back is the identity."""
    assert image_of(record.id, json.loads(json.dumps(image_payload(record)))) == record


@given(entries)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    """To a payload, through JSON, and back is the identity."""
    assert entry_of(entry.id, json.loads(json.dumps(entry_payload(entry)))) == entry


@given(images, entries)
def test_every_indexed_field_is_in_the_payload(record: ImageRecord, entry: Entry) -> None:
    """An index over a field that no payload has would find nothing, silently."""
    for kind, payload in ((Kind.IMAGES, image_payload(record)), (Kind.ENTRIES, entry_payload(entry))):
        assert {*KEYWORDS[kind], *NUMBERS[kind]} <= set(payload)
        assert all(isinstance(payload[key], float) for key in NUMBERS[kind])
        assert all(isinstance(payload[key], str | list) for key in KEYWORDS[kind])
    assert len(image_payload(record)["bands"]) == BANDS


@given(entries, some.integers(0, 1000))
def test_a_use_changes_only_fields_that_an_entry_has(entry: Entry, hits: int) -> None:
    """A use adds to the count and replaces times; laid over the payload it gives a valid entry."""
    touch = Touch(entry.tenant, entry.id, 1.0, hits, 2.0, 3.0)
    touched = entry_of(entry.id, {**entry_payload(entry), **touch_payload(touch, entry.hits)})
    assert (touched.last_use, touched.hot_until, touched.expire_time) == (1.0, 2.0, 3.0)
    assert touched.hits == entry.hits + hits
    assert touched.answer == entry.answer


@given(some.binary())
def test_bytes_come_back_as_they_were(content: bytes) -> None:
    """Bytes to text and back is the identity."""
    assert bytes_of(text_of(content)) == content


@pytest.mark.parametrize("missing", ["tenant", "answer", "expire_time", "tags"])
def test_a_payload_that_is_no_entry_is_an_error(missing: str) -> None:
    """A payload without a field is refused rather than filled with a guess."""
    entry = Entry("1", "t", "i", "s", "q", "n", "en", b"", "", "m", "r", 0.0, 0.0, 0.0, 0.0)
    payload = entry_payload(entry)
    del payload[missing]
    payload["check"] = check_of(payload)
    with pytest.raises(KeyError):
        entry_of("1", payload)


@given(entries, some.sampled_from(CHECKED), some.integers(0, 10**6))
def test_a_changed_record_is_never_taken_for_what_was_written(entry: Entry, field: str, at: int) -> None:
    """Whatever sign of what is served, to whom or for which question was changed on the disk, the entry is refused."""
    payload = entry_payload(entry)
    text = payload[field]
    if text:
        at %= len(text)
        changed = chr(ord(text[at]) ^ 1) if not 0xD7FE <= ord(text[at]) <= 0xE001 else "x"
        payload[field] = text[:at] + changed + text[at + 1 :]
    else:
        payload[field] = "x"
    with pytest.raises(RecordDamagedError):
        entry_of(entry.id, payload)


def test_a_record_of_an_earlier_version_is_taken() -> None:
    """Entries that were written without a checksum are read as ever."""
    entry = Entry("1", "t", "i", "s", "q", "n", "en", b"", "", "m", "r", 0.0, 0.0, 0.0, 0.0)
    payload = entry_payload(entry)
    del payload["check"]
    assert entry_of("1", payload) == entry


def test_a_spoilt_answer_is_an_error() -> None:
    """Bytes that are not what was written are refused."""
    with pytest.raises(ValueError, match="base64"):
        bytes_of("not base64!")
