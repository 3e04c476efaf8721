"""Messages become checked values, and values become messages, without loss."""

from __future__ import annotations

import hashlib
import math

import pytest

from askonce.faults import InvalidInput
from askonce.names import child_id
from askonce.v1 import answer_pb2, content_pb2, dedup_pb2
from dedup_service.api import messages
from dedup_service.usecases.query import CacheMode

CONTENT = b"not really an image"
DIGEST = hashlib.sha256(CONTENT).digest()


def request(**changes: object) -> dedup_pb2.LookupRequest:
    fields: dict[str, object] = {
        "parent": "tenants/acme",
        "image_digest": DIGEST,
        "question": content_pb2.Question(text="Total?"),
        "space": dedup_pb2.AnswerSpace(model="glm"),
    }
    return dedup_pb2.LookupRequest(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parent": "acme"}, "TENANT_INVALID"),
        ({"parent": "tenants/Acme"}, "TENANT_INVALID"),
        ({"parent": "tenants/" + "a" * 64}, "TENANT_INVALID"),
        ({"image_digest": b"short"}, "DIGEST_INVALID"),
        ({"image_content": b"another file"}, "DIGEST_MISMATCH"),
        ({"question": content_pb2.Question(text=" ？ ")}, "QUESTION_EMPTY"),
        ({"question": content_pb2.Question(text="x" * 4001)}, "QUESTION_TOO_LONG"),
        ({"cache_mode": 99}, "ENUM_UNKNOWN"),
        ({"limits": answer_pb2.ReuseLimits(min_image_score=1.5)}, "OUT_OF_RANGE"),
        ({"limits": answer_pb2.ReuseLimits(min_question_score=math.nan)}, "OUT_OF_RANGE"),
        ({"tags": ["t"] * 9}, "TAG_INVALID"),
        ({"tags": [""]}, "TAG_INVALID"),
    ],
)
def test_a_malformed_look_up_is_refused(changes: dict[str, object], reason: str) -> None:
    """Each broken field has its own reason."""
    with pytest.raises(InvalidInput) as caught:
        messages.from_lookup(request(**changes))
    assert caught.value.reason == reason


def test_zero_is_a_value() -> None:
    """A limit of 0 is kept apart from no limit."""
    limits = answer_pb2.ReuseLimits(min_image_score=0.0, max_age_seconds=0)
    query = messages.from_lookup(request(limits=limits))
    assert (query.limits.image, query.limits.question, query.max_age) == (0.0, None, 0.0)


def test_a_plain_look_up() -> None:
    """Defaults, normal form and language are filled in."""
    query = messages.from_lookup(request(question=content_pb2.Question(text="  总額 是多少？ ")))
    assert (query.tenant, query.mode, query.language, query.contents) == ("acme", CacheMode.DEFAULT, "zh", ())
    assert query.normal == messages.from_lookup(request(question=content_pb2.Question(text="总额是多少"))).normal


def space(**changes: object) -> str:
    question = content_pb2.Question(text="Total?", **changes.pop("question", {}))  # type: ignore[arg-type]
    params = content_pb2.GenerationParams(**changes.pop("params", {}))  # type: ignore[arg-type]
    answer_space = dedup_pb2.AnswerSpace(model=str(changes.pop("model", "glm")), params=params)
    return messages.from_lookup(request(question=question, space=answer_space)).space


TURN = content_pb2.Turn(role=content_pb2.ROLE_USER, text="Is this a receipt?")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"params": {"max_tokens": 64}},
        {"params": {"temperature": 0.5}},
        {"params": {"seed": 0}},
        {"params": {"stop": ["\n"]}},
        {"params": {"thinking": True}},
        {"params": {"repetition_penalty": 1.1}},
        {"params": {"temperature": 0.5, "top_k": 5}},
        {"params": {"temperature": 0.5, "min_p": 0.1}},
        {"params": {"presence_penalty": 1.0}},
        {"params": {"frequency_penalty": 1.0}},
        {"params": {"response_format": content_pb2.ResponseFormat(json_object=True)}},
        {"params": {"response_format": content_pb2.ResponseFormat(json_schema=content_pb2.JsonSchema(schema="{}"))}},
        {"question": {"answer_language_code": "zh"}},
        {"question": {"history": [TURN]}},
        {"question": {"history": [TURN, TURN]}},
    ],
)
def test_whatever_changes_the_answer_changes_the_space(changes: dict[str, object]) -> None:
    """Model, parameters, answer language and the whole history are part of the key, not only the last message."""
    assert space(**changes) != space()


def test_defaults_spelt_out_are_the_same_space() -> None:
    """Setting a parameter to its default changes nothing."""
    assert space(params={"max_tokens": 128, "temperature": 0.0, "top_p": 1.0, "thinking": False}) == space()


@pytest.mark.parametrize(
    "name",
    ["", "tenants/acme/entries/", "tenants/globex/entries/e1", "tenants/acme/decisions/e1", "tenants/acme/entries/a/b"],
)
def test_a_foreign_or_malformed_name_is_refused(name: str) -> None:
    """A tenant can name its own entries only."""
    with pytest.raises(InvalidInput) as caught:
        child_id(name, "acme", "entries", "entry")
    assert caught.value.reason == "NAME_INVALID"


def test_several_images_are_one_key_in_their_order() -> None:
    """Every image and its place count; one image in a list is that image."""
    one, two = hashlib.sha256(b"one").digest(), hashlib.sha256(b"two").digest()

    def key(*digests: bytes) -> bytes:
        return messages.from_lookup(request(image_digest=b"", page_digests=digests)).byte_digest

    keys = {key(one, two), key(two, one), key(one), key(one, one), key(one, two, two)}
    assert len(keys) == 5
    assert key(one) == messages.from_lookup(request(image_digest=one)).byte_digest
    query = messages.from_lookup(request(image_digest=b"", page_digests=[one, two], page_contents=[b"one", b"two"]))
    assert query.contents == (b"one", b"two")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"page_digests": [b"short"], "image_digest": b""}, "DIGEST_INVALID"),
        ({"page_digests": [b"\1" * 32]}, "DIGEST_INVALID"),
        ({"page_digests": [b"\1" * 32] * 65, "image_digest": b""}, "DIGEST_INVALID"),
        ({"page_digests": [b"\1" * 32] * 2, "page_contents": [b"x"], "image_digest": b""}, "DIGEST_MISMATCH"),
        ({"page_digests": [b"\1" * 32] * 2, "page_contents": [b"x", b"y"], "image_digest": b""}, "DIGEST_MISMATCH"),
    ],
)
def test_bad_sequences_are_refused(fields: dict[str, object], reason: str) -> None:
    """Digests and contents of several images belong together, and not beside those of one."""
    with pytest.raises(InvalidInput) as caught:
        messages.from_lookup(request(**fields))
    assert caught.value.reason == reason


@pytest.mark.parametrize("counts", [(1, 0), (0, 1)])
def test_where_images_stand_in_the_conversation_is_part_of_the_space(counts: tuple[int, int]) -> None:
    """The same images with other turns are another conversation."""
    turns = [content_pb2.Turn(role=content_pb2.ROLE_USER, text="x", image_count=count) for count in counts]
    plain = [content_pb2.Turn(role=content_pb2.ROLE_USER, text="x") for _ in counts]
    assert space(question={"history": turns}) != space(question={"history": plain})
    assert space(question={"history": turns}) != space(question={"history": turns[::-1]})
