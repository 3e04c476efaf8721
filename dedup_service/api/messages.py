"""Between askonce.v1 messages and the values of the use cases. Pure; raises faults for what a message must not say."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

from askonce.faults import InvalidInput
from askonce.limits import DEFAULT_MAX_TOKENS, TAG_CHARACTERS, TAGS
from askonce.names import child_name, policy_name, tenant_id
from askonce.v1 import answer_pb2, content_pb2, dedup_pb2
from askonce.visible import visible
from dedup_service.api import wire_names
from dedup_service.image.sequence import digest_of
from dedup_service.policy.policy import Tightening
from dedup_service.policy.revisions import Revision
from dedup_service.question.normal import detect_language, normalise
from dedup_service.usecases.lookup import ContentWanted, Findings, Found, Missed, Outcome
from dedup_service.usecases.query import CacheMode, Judged, Query, space_of
from dedup_service.usecases.remember import FreshAnswer

DIGEST = 32
"""Bytes of a SHA-256 digest."""
QUESTION_CHARACTERS = 4_000
ADDED_PARAMS = frozenset(("repetition_penalty", "top_k", "min_p", "presence_penalty", "frequency_penalty"))
"""Parameters that are part of the answer space where they are set, and leave it as it was where they are not."""
SPACES = 1_024
"""Answer spaces whose digests are kept at hand."""
PAGES = 64
"""Images in one request; the gateway takes fewer."""


def entry_name(tenant: str, entry: str) -> str:
    """The resource name of an entry; empty for none."""
    return child_name(tenant, "entries", entry)


def revision_name(revision: Revision) -> str:
    """The name of a policy's revision."""
    return f"{policy_name(revision.tenant)}@{revision.revision}"


def from_lookup(request: dedup_pb2.LookupRequest) -> Query:
    """A look-up, checked."""
    tenant = tenant_id(request.parent)
    digest, contents = from_images(request)
    text = visible(request.question.text, "question.text")
    normal = normalise(text)
    if not text.strip() or not normal.strip(".?!。…, "):
        raise InvalidInput("QUESTION_EMPTY", "question.text: ask something.", field="question.text")
    if len(text) > QUESTION_CHARACTERS:
        raise InvalidInput(
            "QUESTION_TOO_LONG",
            f"question.text: at most {QUESTION_CHARACTERS} characters.",
            field="question.text",
            metadata={"limit": str(QUESTION_CHARACTERS)},
        )
    mode = wire_names.enum_name(answer_pb2.CacheMode, request.cache_mode, "CACHE_MODE_", "cache_mode")
    limits = request.limits
    return Query(
        tenant=tenant,
        byte_digest=digest,
        contents=contents,
        question=text,
        normal=normal,
        language=detect_language(text),
        space=space_from(request.space, request.question),
        model=request.space.model,
        max_pixels=request.space.params.max_pixels if request.space.params.HasField("max_pixels") else None,
        mode=CacheMode.DEFAULT if mode == "UNSPECIFIED" else CacheMode(mode),
        limits=Tightening(
            probability(limits.min_image_score, "limits.min_image_score")
            if limits.HasField("min_image_score")
            else None,
            probability(limits.min_question_score, "limits.min_question_score")
            if limits.HasField("min_question_score")
            else None,
        ),
        max_age=float(limits.max_age_seconds) if limits.HasField("max_age_seconds") else None,
        exact_only=limits.exact_only,
        sampled=request.space.params.temperature > 0 and not request.space.params.HasField("seed"),
        tags=from_tags(list(request.tags)),
        judge_available=request.judge_available,
        judged=from_judged(request.judged) if request.HasField("judged") else None,
    )


def from_images(request: dedup_pb2.LookupRequest) -> tuple[bytes, tuple[bytes, ...]]:
    """The digest that names the image, or several as one, and the files if they were sent. Raises InvalidInput."""
    if request.page_digests:
        digests, contents, field = list(request.page_digests), tuple(request.page_contents), "page_digests"
        if request.image_digest or request.image_content or len(digests) > PAGES:
            message = f"page_digests: 1 to {PAGES}, and no image_digest or image_content beside them."
            raise InvalidInput("DIGEST_INVALID", message, field=field, metadata={"limit": str(PAGES)})
    else:
        digests, field = [request.image_digest], "image_digest"
        contents = (request.image_content,) if request.image_content else ()
    if any(len(digest) != DIGEST for digest in digests):
        raise InvalidInput("DIGEST_INVALID", f"{field}: expected 32 bytes of SHA-256.", field=field)
    if contents and [hashlib.sha256(content).digest() for content in contents] != digests:
        raise InvalidInput("DIGEST_MISMATCH", f"{field}: not the digests of what was sent.", field=field)
    return digest_of(digests), contents


def probability(value: float, field: str) -> float:
    """A number from 0 to 1."""
    if math.isnan(value) or not 0 <= value <= 1:
        raise InvalidInput("OUT_OF_RANGE", f"{field}: expected 0 to 1.", field=field)
    return value


def from_tags(tags: list[str]) -> tuple[str, ...]:
    """Labels for purges: few and short."""
    if len(tags) > TAGS or any(not 0 < len(tag) <= TAG_CHARACTERS for tag in tags):
        raise InvalidInput("TAG_INVALID", f"tags: at most {TAGS}, each 1 to {TAG_CHARACTERS} characters.", field="tags")
    return tuple(tags)


def space_from(space: dedup_pb2.AnswerSpace, question: content_pb2.Question) -> str:
    """The digest of the answer space: model, parameters with their defaults filled in, language, history.

    Pixels are missing in it: the policy has a say in them, see `within`."""
    if not question.history:
        return plain_space(space.SerializeToString(), question.answer_language_code)
    return digest_space(space, question)


@lru_cache(SPACES)
def plain_space(space: bytes, language: str) -> str:
    """See `space_from`; for a question without history. Clients have few spaces and ask in them again and again."""
    return digest_space(dedup_pb2.AnswerSpace.FromString(space), content_pb2.Question(answer_language_code=language))


def digest_space(space: dedup_pb2.AnswerSpace, question: content_pb2.Question) -> str:
    """See `space_from`."""
    params = space.params
    filled: dict[str, object] = {
        "max_tokens": params.max_tokens if params.HasField("max_tokens") else DEFAULT_MAX_TOKENS,
        "temperature": params.temperature if params.HasField("temperature") else 0.0,
        "top_p": params.top_p if params.HasField("top_p") else 1.0,
        "seed": params.seed if params.HasField("seed") else None,
        "stop": list(params.stop),
        "thinking": params.thinking,
    }
    for descriptor, value in params.ListFields():
        if descriptor.name in ADDED_PARAMS:
            filled[descriptor.name] = value
    if params.HasField("response_format"):
        filled["response_format"] = params.response_format.SerializeToString(deterministic=True).hex()
    history = [(content_pb2.Role.Name(turn.role), visible(turn.text, "question.history")) for turn in question.history]
    if any(turn.image_count for turn in question.history):
        filled["image_counts"] = [turn.image_count for turn in question.history]
    return space_of(space.model, space.model_revision, filled, question.answer_language_code, history)


def from_judged(pair: dedup_pb2.JudgedPair) -> Judged:
    """A judge's verdict."""
    same = probability(pair.same_probability, "same_probability") if pair.HasField("same_probability") else None
    if pair.image_digest and len(pair.image_digest) != 32:
        raise InvalidInput("DIGEST_INVALID", "judged.image_digest: send 32 bytes.", field="judged.image_digest")
    return Judged(pair.left, pair.right, same, pair.model, pair.image_digest)


def from_answer(answer: content_pb2.Answer, seconds: float) -> FreshAnswer:
    """A fresh answer, with the message itself kept for later hits."""
    finish = wire_names.enum_name(
        content_pb2.FinishReason, answer.finish_reason, "FINISH_REASON_", "answer.finish_reason"
    )
    return FreshAnswer(
        answer.text, finish, answer.model, answer.model_revision, answer.SerializeToString(), max(0.0, seconds)
    )


def to_response(outcome: Outcome, query: Query) -> dedup_pb2.LookupResponse:
    """The response for an outcome."""
    if isinstance(outcome, ContentWanted):
        return dedup_pb2.LookupResponse(
            content_wanted=dedup_pb2.ContentWanted(),
            policy_revision=revision_name(outcome.revision),
            max_pixels=outcome.revision.policy.max_pixels,
        )
    findings = outcome.findings
    response = dedup_pb2.LookupResponse(
        policy_revision=revision_name(findings.revision),
        evidence=to_evidence(findings),
        decision=wire_names.decision_name(query.tenant, findings.decision),
        max_pixels=findings.revision.policy.max_pixels,
    )
    if isinstance(outcome, Found):
        fill_hit(response.hit, outcome)
        return response
    miss = to_miss(outcome, query)
    if outcome.judge_inline:
        response.judgement_wanted.CopyFrom(
            dedup_pb2.JudgementWanted(pair=miss.judge, miss=miss, on_image=outcome.judge_on_image)
        )
    else:
        response.miss.CopyFrom(miss)
    return response


def fill_hit(hit: dedup_pb2.Hit, found: Found) -> None:
    """Writes a stored answer into a response, as it was given."""
    entry = found.entry
    hit.answer.MergeFromString(entry.answer)
    hit.entry = entry_name(entry.tenant, entry.id)
    hit.reason = found.findings.reuse.reason
    hit.store_time.FromNanoseconds(round(entry.create_time * 1e9))
    hit.explore = found.explore
    if entry.generate_seconds > 0:
        hit.generate_duration.FromNanoseconds(round(entry.generate_seconds * 1e9))


def to_miss(missed: Missed, query: Query) -> dedup_pb2.Miss:
    """A miss with its ticket."""
    match = missed.findings.match
    pairs = [dedup_pb2.QuestionPairRef(left=left, right=right) for left, right in missed.judge]
    return dedup_pb2.Miss(
        ticket=missed.ticket,
        reason=missed.reason,
        nearest_entry=entry_name(query.tenant, match.entry.id) if match else "",
        judge=pairs[0] if pairs else None,
        further_pairs=pairs[1:],
        flight_key=bytes.fromhex(missed.flight),
        joinable_flight_keys=[bytes.fromhex(key) for key in missed.joinable],
    )


def to_evidence(findings: Findings) -> content_pb2.Evidence:
    """What the decision was based on."""
    evidence = content_pb2.Evidence(
        question_tier=content_pb2.QuestionTier.Value(
            f"QUESTION_TIER_{findings.question.tier or 'UNSPECIFIED'}",
        ),
        question_reason=findings.question.reason,
        stratum=findings.reuse.stratum,
    )
    if findings.question.tier:
        evidence.question_score = findings.question.probability
    if findings.resolved is not None:
        image = findings.resolved.side
        evidence.image_tier = content_pb2.ImageTier.Value(f"IMAGE_TIER_{image.tier or 'UNSPECIFIED'}")
        evidence.image_reason = image.reason
        if image.tier:
            evidence.image_score = image.probability
        if (box := findings.resolved.box) is not None:
            evidence.difference.CopyFrom(content_pb2.Box(x=box[0], y=box[1], width=box[2], height=box[3]))
    if findings.match is not None:
        evidence.risk = findings.reuse.risk
        if findings.revision.policy.keep_question_text:
            evidence.nearest_question = findings.match.entry.question
        evidence.vetoes.extend(
            content_pb2.Veto(kind=veto.kind, left=veto.left, right=veto.right) for veto in findings.match.vetoes
        )
    return evidence
