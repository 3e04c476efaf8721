"""Records to payloads and back. Pure. A payload holds only what JSON can hold: bytes are kept as text."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

from dedup_service.store.records import Entry, ImageRecord, Touch, bands

Payload = dict[str, Any]
CHECKED = (
    "tenant", "image", "space", "question", "normal", "language", "answer", "answer_text", "model", "model_revision",
    "decision", "file",
)  # fmt: skip
"""What an entry's checksum is over: what is served, to whom, and for which question. Times and counts change."""


class RecordDamagedError(ValueError):
    """A record is not what was written."""


def image_payload(record: ImageRecord) -> Payload:
    """The payload of an image's point, the bands of its hash included; the id is the point's own."""
    return {
        "tenant": record.tenant,
        "digests": list(record.digests),
        "bands": bands(record.perceptual_hash),
        "perceptual_hash": record.perceptual_hash.hex(),
        "width": record.width,
        "height": record.height,
        "create_time": record.create_time,
        "fingerprint_bytes": record.fingerprint_bytes,
    }


def image_of(point: str, payload: Mapping[str, Any]) -> ImageRecord:
    """The image record that a point holds. Raises KeyError or ValueError for a payload that is none."""
    return ImageRecord(
        id=point,
        tenant=payload["tenant"],
        digests=tuple(payload["digests"]),
        perceptual_hash=bytes.fromhex(payload["perceptual_hash"]),
        width=int(payload["width"]),
        height=int(payload["height"]),
        create_time=float(payload["create_time"]),
        fingerprint_bytes=int(payload["fingerprint_bytes"]),
    )


def entry_payload(entry: Entry) -> Payload:
    """The payload of an entry's point, its checksum included; the id is the point's own."""
    payload = {
        "tenant": entry.tenant,
        "image": entry.image,
        "space": entry.space,
        "question": entry.question,
        "normal": entry.normal,
        "language": entry.language,
        "answer": text_of(entry.answer),
        "answer_text": entry.answer_text,
        "model": entry.model,
        "model_revision": entry.model_revision,
        "create_time": entry.create_time,
        "hot_until": entry.hot_until,
        "expire_time": entry.expire_time,
        "last_use": entry.last_use,
        "hits": entry.hits,
        "policy_revision": entry.policy_revision,
        "generate_seconds": entry.generate_seconds,
        "tags": list(entry.tags),
        "decision": entry.decision,
        "file": entry.file,
    }
    return {**payload, "check": check_of(payload)}


def check_of(payload: Mapping[str, Any]) -> int:
    """CRC-32 of what makes an entry."""
    return zlib.crc32("\0".join(str(payload.get(name, "")) for name in CHECKED).encode("utf-8", "surrogatepass"))


def entry_of(point: str, payload: Mapping[str, Any]) -> Entry:
    """The entry that a point holds. Raises KeyError or ValueError for a payload that is none, RecordDamagedError where
    its checksum is another; records of earlier versions have none."""
    if payload.get("check", check := check_of(payload)) != check:
        raise RecordDamagedError(f"entry {point} is not what was written")
    return Entry(
        id=point,
        tenant=payload["tenant"],
        image=payload["image"],
        space=payload["space"],
        question=payload["question"],
        normal=payload["normal"],
        language=payload["language"],
        answer=bytes_of(payload["answer"]),
        answer_text=payload["answer_text"],
        model=payload["model"],
        model_revision=payload["model_revision"],
        create_time=float(payload["create_time"]),
        hot_until=float(payload["hot_until"]),
        expire_time=float(payload["expire_time"]),
        last_use=float(payload["last_use"]),
        hits=int(payload["hits"]),
        policy_revision=payload["policy_revision"],
        generate_seconds=float(payload["generate_seconds"]),
        tags=tuple(payload["tags"]),
        decision=payload["decision"],
        file=payload.get("file", ""),
    )


def touch_payload(touch: Touch, hits: int) -> Payload:
    """What one use changes in an entry's payload; `hits` is the stored count, to which the new uses are added."""
    return {
        "last_use": touch.time,
        "hits": hits + touch.hits,
        "hot_until": touch.hot_until,
        "expire_time": touch.expire_time,
    }


def text_of(content: bytes) -> str:
    """Bytes as base64 text (RFC 4648)."""
    return base64.b64encode(content).decode("ascii")


def bytes_of(text: str) -> bytes:
    """The bytes of `text_of`. Raises ValueError for text that is not base64."""
    return base64.b64decode(text, validate=True)
