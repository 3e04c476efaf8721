"""Between store messages and what memory holds. Pure; raises faults for what a message must not say."""

from __future__ import annotations

import numpy as np

from askonce.faults import InvalidInput
from askonce.times import to_duration, to_seconds, to_timestamp
from askonce.v1 import content_pb2, store_pb2
from dedup_service.api import messages
from dedup_service.store.records import Entry, Exported, ImageRecord, Selection, Vector, entry_id, image_id

FORMAT = 1
"""The form of exports that this version writes and reads."""
HASH = 32
"""Bytes of a perceptual hash."""


def from_purge(request: store_pb2.PurgeRequest, tenant: str, now: float) -> Selection | None:
    """What to remove; None for what other encoders left. `now` in seconds since the epoch. The image digest is resolved
    by the caller."""
    conditions = [
        name for name in ("image_digest", "model", "model_revision", "tag", "min_age") if is_set(request, name)
    ]
    if request.stale_encoders:
        if conditions or request.all:
            raise InvalidInput(
                "CONDITIONS_CONFLICT", "stale_encoders stands alone: set no other condition.", field="stale_encoders"
            )
        return None
    if not conditions and not request.all:
        raise InvalidInput("CONDITIONS_MISSING", "Set a condition, or all for everything of the tenant.", field="all")
    if conditions and request.all:
        raise InvalidInput("CONDITIONS_CONFLICT", "all stands alone: set no condition beside it.", field="all")
    if request.image_digest and len(request.image_digest) != messages.DIGEST:
        raise InvalidInput("DIGEST_INVALID", "image_digest: expected 32 bytes of SHA-256.", field="image_digest")
    if request.model_revision and not request.model:
        raise InvalidInput("MODEL_MISSING", "model_revision needs model.", field="model")
    age = to_seconds(request.min_age)
    if age < 0:
        raise InvalidInput("OUT_OF_RANGE", "min_age: 0 and more.", field="min_age")
    return Selection(
        tenant,
        model=request.model,
        model_revision=request.model_revision,
        tag=request.tag,
        created_before=now - age if request.HasField("min_age") else None,
    )


def is_set(request: store_pb2.PurgeRequest, name: str) -> bool:
    """Whether a condition is set: a message by its presence, since an age of 0 is an age; text by not being empty."""
    return request.HasField("min_age") if name == "min_age" else bool(getattr(request, name))


def to_header(image_encoder: str, question_encoder: str, now: float) -> store_pb2.ExportHeader:
    """The header of an export made now."""
    return store_pb2.ExportHeader(
        format_version=FORMAT,
        image_encoder=image_encoder,
        question_encoder=question_encoder,
        create_time=to_timestamp(now),
    )


def to_image(exported: Exported) -> store_pb2.ExportedImage:
    """An image with its entries as a message."""
    image = exported.image
    return store_pb2.ExportedImage(
        digests=[bytes.fromhex(digest) for digest in image.digests],
        perceptual_hash=image.perceptual_hash,
        width=image.width,
        height=image.height,
        create_time=to_timestamp(image.create_time),
        vector=exported.image_vector.tolist(),
        fingerprint=exported.fingerprint,
        entries=[
            to_entry(entry, vector) for entry, vector in zip(exported.entries, exported.entry_vectors, strict=True)
        ],
    )


def to_entry(entry: Entry, vector: Vector) -> store_pb2.ExportedEntry:
    """An entry as a message."""
    return store_pb2.ExportedEntry(
        space=entry.space,
        question=entry.question,
        normal_question=entry.normal,
        language_code=entry.language,
        answer=entry.answer,
        model=entry.model,
        model_revision=entry.model_revision,
        create_time=to_timestamp(entry.create_time),
        expire_time=to_timestamp(entry.expire_time),
        last_use_time=to_timestamp(entry.last_use),
        hit_count=entry.hits,
        generate_duration=to_duration(entry.generate_seconds),
        tags=entry.tags,
        vector=vector.tolist(),
        answer_text=entry.answer_text,
    )


def from_image(message: store_pb2.ExportedImage, tenant: str) -> tuple[ImageRecord, Vector]:
    """The image of a message as `tenant` will hold it: the id is made anew, since it depends on the tenant."""
    if not message.digests or any(len(digest) != messages.DIGEST for digest in message.digests):
        raise InvalidInput("DIGEST_INVALID", "image.digests: 32 bytes each, at least one.", field="image.digests")
    if len(message.perceptual_hash) != HASH:
        raise InvalidInput("HASH_INVALID", "image.perceptual_hash: 32 bytes.", field="image.perceptual_hash")
    image = ImageRecord(
        id=image_id(tenant, message.digests[0]),
        tenant=tenant,
        digests=tuple(digest.hex() for digest in message.digests),
        perceptual_hash=message.perceptual_hash,
        width=message.width,
        height=message.height,
        create_time=to_seconds(message.create_time),
        fingerprint_bytes=len(message.fingerprint),
    )
    return image, finite(message.vector, "image.vector")


def from_entry(message: store_pb2.ExportedEntry, tenant: str, image: str) -> tuple[Entry, Vector]:
    """An entry as `tenant` will hold it."""
    try:
        content_pb2.Answer.FromString(message.answer)
    except Exception as error:  # the parser's own exception type is no public name
        raise InvalidInput(
            "ANSWER_INVALID", "image.entries.answer is no answer.", field="image.entries.answer"
        ) from error
    expire_time = to_seconds(message.expire_time)
    entry = Entry(
        id=entry_id(tenant, image, message.space, message.normal_question),
        tenant=tenant,
        image=image,
        space=message.space,
        question=message.question,
        normal=message.normal_question,
        language=message.language_code,
        answer=message.answer,
        answer_text=message.answer_text,
        model=message.model,
        model_revision=message.model_revision,
        create_time=to_seconds(message.create_time),
        hot_until=0.0,
        expire_time=expire_time,
        last_use=to_seconds(message.last_use_time),
        hits=message.hit_count,
        generate_seconds=to_seconds(message.generate_duration),
        tags=tuple(message.tags),
    )
    return entry, finite(message.vector, "image.entries.vector")


def finite(numbers: object, field: str) -> Vector:
    """A vector, shape (D,), of finite numbers."""
    vector = np.asarray(numbers, dtype=np.float32)
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        raise InvalidInput("VECTOR_INVALID", f"{field}: finite numbers, at least one.", field=field)
    return vector
