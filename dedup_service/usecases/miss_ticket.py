"""Miss tickets: what a look-up has already paid for, sealed so that any replica can open it and nobody can forge one.

A ticket is a header (JSON), the vectors and the fingerprint, and an HMAC-SHA-256 over all of it (RFC 2104). It is
authenticated, not encrypted: it holds nothing that its bearer did not send, apart from what an encoder made of it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from dedup_service.store.records import Vector

MAGIC = b"AO1"
SEAL = hashlib.sha256().digest_size


class TicketError(Exception):
    """A ticket can't be used. `reason` is TICKET_FORGED, TICKET_EXPIRED or TICKET_FOREIGN."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NewImage:
    """What it takes to store an image that was not known at the look-up."""

    digests: tuple[str, ...]
    """Hexadecimal digests of the file and of its pixels."""
    perceptual_hash: str
    """256 bits, hexadecimal."""
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A stored entry that came near, to be compared with the fresh answer."""

    entry: str
    same_image: bool
    """Whether the images are the same beyond doubt."""
    prior: float = 0.0
    """What the likeness of the two questions alone says: log-odds."""


@dataclass(frozen=True, slots=True)
class MissTicket:
    """Everything that Remember needs besides the answer."""

    tenant: str
    decision: str
    """Id of the recorded decision."""
    issue_time: float
    expire_time: float
    image: str
    """Id of the image record that the answer belongs to."""
    file: str
    """The digest, hexadecimal, of the file that was asked about: what the model will be shown."""
    space: str
    question: str
    normal: str
    language: str
    policy_revision: int
    encoders: str
    """Identities of the encoders that made the vectors."""
    new_image: NewImage | None = None
    """Set when the image's record is still to be written."""
    near_misses: tuple[NearMiss, ...] = ()
    tags: tuple[str, ...] = ()
    reads: bool = True
    """Whether memory was asked. Whoever passed it by is no random sample of what SHADOW mode withholds."""
    flight: str = ""
    """The key under which requests of the same meaning wait, hexadecimal."""
    readable: bool = True
    """Whether the question's vector means anything."""
    question_vector: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    image_vector: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    fingerprint: bytes = b""


class TicketKeys(Protocol):
    """The secrets that all replicas share."""

    @property
    def first(self) -> bytes:
        """The one that seals."""
        ...

    @property
    def accepted(self) -> tuple[bytes, ...]:
        """Those that open: the first one, and others while keys are changed."""
        ...


@dataclass(frozen=True, slots=True)
class FixedKeys:
    """Secrets that stay as they are, of at least 16 bytes each; the first one seals. Raises ValueError."""

    accepted: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not self.accepted or any(len(key) < 16 for key in self.accepted):
            raise ValueError("ticket key: at least 16 bytes are needed")

    @property
    def first(self) -> bytes:
        """See `TicketKeys`."""
        return self.accepted[0]


class TicketSealer:
    """Seals and opens tickets."""

    def __init__(self, keys: TicketKeys) -> None:
        self.keys = keys

    def seal(self, ticket: MissTicket) -> bytes:
        """The ticket as opaque bytes."""
        header: dict[str, Any] = asdict(ticket)
        blobs = (header.pop("question_vector"), header.pop("image_vector"), header.pop("fingerprint"))
        packed = [
            np.ascontiguousarray(blob, np.float32).tobytes() if isinstance(blob, np.ndarray) else blob for blob in blobs
        ]
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        sizes = struct.pack("<4I", len(text), *(len(blob) for blob in packed))
        body = b"".join((MAGIC, sizes, text, *packed))
        return body + hmac.digest(self.keys.first, body, "sha256")

    def open(self, sealed: bytes, tenant: str, now: float) -> MissTicket:
        """The ticket inside. Raises TicketError when it is forged or damaged, expired, or another tenant's."""
        body, seal = sealed[:-SEAL], sealed[-SEAL:]
        genuine = any(hmac.compare_digest(hmac.digest(key, body, "sha256"), seal) for key in self.keys.accepted)
        if not genuine or not body.startswith(MAGIC):
            raise TicketError("TICKET_FORGED", "This ticket was not issued here, or it was changed on the way.")
        ticket = unpack(body)
        if ticket.tenant != tenant:
            raise TicketError("TICKET_FOREIGN", "This ticket was issued to another tenant.")
        if now >= ticket.expire_time:
            raise TicketError("TICKET_EXPIRED", "This ticket has expired; look the request up again.")
        return ticket


def unpack(body: bytes) -> MissTicket:
    """Reads a body whose seal was found right."""
    start = len(MAGIC) + 16
    lengths = struct.unpack("<4I", body[len(MAGIC) : start])
    parts: list[bytes] = []
    for length in lengths:
        parts.append(body[start : start + length])
        start += length
    header: dict[str, Any] = json.loads(parts[0])
    new_image = header.pop("new_image")
    near_misses = tuple(NearMiss(**near_miss) for near_miss in header.pop("near_misses"))
    return MissTicket(
        **{**header, "tags": tuple(header["tags"])},
        new_image=NewImage(**{**new_image, "digests": tuple(new_image["digests"])}) if new_image else None,
        near_misses=near_misses,
        question_vector=np.frombuffer(parts[1], np.float32),
        image_vector=np.frombuffer(parts[2], np.float32),
        fingerprint=parts[3],
    )
