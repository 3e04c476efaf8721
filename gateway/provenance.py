"""What the look-ups of a request came to, and what its answer says about where it came from. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from askonce.v1 import content_pb2, dedup_pb2


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What the look-ups of a request came to."""

    response: dedup_pb2.LookupResponse | None
    """What dedup said; None when it is down."""
    seconds: float
    """Time spent on look-ups."""

    @property
    def hit(self) -> dedup_pb2.Hit | None:
        """The stored answer, if one may be used."""
        if self.response is not None and self.response.WhichOneof("outcome") == "hit":
            return self.response.hit
        return None

    @property
    def miss(self) -> dedup_pb2.Miss:
        """The miss, also the one behind a judgement that was not had; an empty one when dedup is down."""
        if self.response is None:
            return dedup_pb2.Miss(reason="DEDUP_UNAVAILABLE")
        if self.response.WhichOneof("outcome") == "judgement_wanted":
            return self.response.judgement_wanted.miss
        return self.response.miss


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer with its provenance. The messages are shared by all who wait and never changed."""

    answer: content_pb2.Answer
    provenance: content_pb2.Provenance
    unfit: str = ""
    """Why the engine says that the answer must not be stored although it ended well; empty for one that may be."""


def trace(provenance: content_pb2.Provenance, found: LookupResult) -> None:
    """Writes down what dedup based its decision on."""
    set_duration(provenance.timings.lookup, found.seconds)
    if found.response is not None:
        provenance.evidence.CopyFrom(found.response.evidence)
        provenance.policy_revision = found.response.policy_revision
        provenance.decision = found.response.decision


def coalesced(found: LookupResult, other: Outcome, reason: str) -> content_pb2.Provenance:
    """The provenance of an answer that another request's generation gave."""
    provenance = content_pb2.Provenance(source=content_pb2.SOURCE_MODEL, reason=reason, coalesced=True)
    trace(provenance, found)
    provenance.timings.generate.CopyFrom(other.provenance.timings.generate)
    provenance.timings.engine.CopyFrom(other.provenance.timings.engine)
    return provenance


def set_duration(target: Duration, seconds: float) -> None:
    """Writes seconds into a duration."""
    nanos = max(0, round(seconds * 1e9))
    target.seconds, target.nanos = divmod(nanos, 1_000_000_000)
