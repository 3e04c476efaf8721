"""What the gateway can be told: `ASKONCE_GATEWAY_…`, or `[gateway]` in the file that `ASKONCE_CONFIG` names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from askonce.dialing import Dialing
from askonce.serving import Serving
from askonce.telemetry import Telemetry

MIB = 2**20


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Which images are taken."""

    max_bytes: int = 5 * MIB
    """The largest file."""
    min_side: int = 16
    """The least width and height in pixels."""
    max_pixels: int = 40_000_000
    """The most pixels, width times height; above it a file counts as a decompression bomb."""
    max_aspect: float = 200.0
    """The largest ratio of the longer side to the shorter one; beyond it the model's processor gives up."""
    workers: int = 2
    """Processes that decode images for checking."""
    decode_seconds: float = 10.0
    """Seconds that decoding one image may take; then it is ended and the image refused."""
    decode_bytes: int = 2 << 30
    """Bytes that a decoding process may have of its own."""
    max_images: int = 16
    """The most images in one request, the pages of PDF files counted one by one."""
    max_total_bytes: int = 20 * MIB
    """What several images of one request may weigh together, rendered pages included."""


@dataclass(frozen=True, slots=True)
class Pdf:
    """How PDF files are turned into images."""

    dpi: float = 150.0
    """Dots per inch at which pages are rendered: an A4 page becomes 1240 by 1754 pixels."""
    page_pixels: int = 4_000_000
    """The most pixels of one page; larger ones are rendered at a lower resolution."""
    timeout: float = 20.0
    """Seconds for one file."""
    workers: int = 1
    """Child processes that render, started with the first file."""
    memory_bytes: int = 1_024 * MIB
    """What a child may allocate."""
    cache_bytes: int = 64 * MIB
    """Rendered pages that are kept for files that come again."""


@dataclass(frozen=True, slots=True)
class TextLimits:
    """Which questions are taken."""

    max_question_chars: int = 4_000
    """Characters of the question."""
    max_history_turns: int = 16
    """Earlier turns of the conversation."""
    max_turn_chars: int = 4_000
    """Characters of one turn."""
    max_history_chars: int = 32_000
    """Characters of all turns together."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """How images are fetched that a request names by address."""

    allowed_hosts: tuple[str, ...] = ()
    """Hosts that may be asked: "images.example.com", ".example.com" for every host below, either with ":port".
    Empty refuses every address."""
    timeout: float = 5.0
    """Seconds for the whole fetch, redirects included."""
    max_redirects: int = 3
    """Redirects that are followed, each checked like the first address."""
    ca: Path | None = None
    """An authority to trust besides the system's, PEM."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a step may take at most; a client's earlier deadline wins."""

    request: float = 120.0
    """A whole request whose client set no deadline."""
    lookup: float = 1.0
    """A look-up by digest."""
    search: float = 5.0
    """A look-up with the image's content."""
    generate: float = 120.0
    """One answer of the model."""
    verification: float = 600.0
    """How long a hit that was drawn for verification may wait for the model; after half of it, it is asked for as if a
    client waited."""
    remember: float = 10.0
    """Storing an answer or evidence."""
    judge: float = 1.5
    """An inline verdict of the judge. A request with less than three times this left goes on without."""
    join: float = 30.0
    """Waiting for the first piece of somebody else's generation, or for all of another gateway's, before asking on
    one's own."""
    lease: float = 5.0
    """How long other gateways wait for a generation whose gateway has died. Living ones renew their leases."""
    linger: float = 2.0
    """How long a generation goes on after its last waiter has left, for a client that tries again."""
    drain: float = 10.0
    """Finishing background work at the end."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be under way at once."""

    requests: int = 256
    """Requests; more are refused with GATEWAY_BUSY. Each holds its image."""
    background: int = 2_048
    """Answers on their way into memory; beyond it requests wait for their own."""
    judgements: int = 256
    """Question pairs waiting for the judge; more are dropped."""
    explorations: int = 32
    """Hits waiting for verification by the model; more count as undecided. Each holds its image."""


@dataclass(frozen=True, slots=True)
class Auth:
    """Who may ask. With neither keys nor tokens every caller is let in and may name any tenant: for development."""

    api_keys: Path | None = None
    """A TOML file: one table a key under `[[keys]]` with `sha256` (of the key, hexadecimal), `tenant`, and optionally
    `name`, `rate`, `roles` and `expires`. Read again when it changes."""
    jwt_key: Path | None = None
    """A file with the keys that tokens are verified with: PEM public keys, or shared secrets of at least 32 bytes, one
    a line. A token may be signed by any of them. Read again when it changes."""
    jwt_algorithms: tuple[str, ...] = ("RS256", "ES256")
    """Accepted signature algorithms; a shared secret needs "HS256"."""
    jwt_audience: str = ""
    """The audience that a token must name; empty accepts tokens that name none."""
    jwt_issuer: str = ""
    """The issuer that a token must name; empty accepts any."""
    jwt_tenant_claim: str = "tenant"
    """The claim that holds the tenant."""
    jwt_roles_claim: str = "askonce_roles"
    """The claim that holds roles, a list or words; a token without it may do what a key without roles may."""
    open: bool = False
    """Whether everybody may ask, from other machines too, where neither keys nor tokens are named."""
    default_tenant: str = "default"
    """The tenant of a caller who names none; only where neither keys nor tokens are asked for."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How often a tenant may call, such as "10/minute" or "600/minute;50/second"; empty for no limit."""

    answers: str = ""
    """Answer and StreamAnswer together, and every HTTP route that answers."""
    feedback: str = "60/minute"
    """SubmitFeedback: a flood of it could empty a tenant's memory."""


@dataclass(frozen=True, slots=True)
class Screening:
    """What is checked before the model is asked."""

    injection: bool = True
    """Whether questions that try to override the model's instructions are refused."""
    terms: Path | None = None
    """A text file with one forbidden term a line, matched without regard to case and width; "#" begins a comment."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """Questions that can wait."""

    folder: Path | None = None
    """Where jobs are kept, one gateway a folder; unset for no jobs."""
    shared: bool = False
    """Whether jobs are kept in `redis` instead, for all gateways together. They live as long as what Redis holds: let
    it write to disk (`appendonly yes`), and give it memory for the images of `queued` jobs."""
    queued: int = 256
    """Jobs that may wait; more are refused with JOBS_FULL. Their images lie in the folder."""
    queued_each: int = 64
    """Jobs of one tenant that may wait; tenants take turns."""
    kept: int = 4_096
    """Jobs remembered, done ones included; the oldest done ones make room."""
    ttl: float = 86_400.0
    """Seconds after which a job is forgotten, done or not."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The HTTP edge."""

    listen: str = ""
    """The "host:port" to listen on; empty for no HTTP. Port 0 takes a free one."""
    port_file: Path | None = None
    """A file that gets the bound "host:port"."""
    certificate: Path | None = None
    """The certificate chain for TLS, PEM."""
    key: Path | None = None
    """The private key for TLS, PEM."""
    max_connections: int = 256
    """Connections at once; more get 503. Each may hold a body in memory."""
    max_pending: int = 64
    """Connections that have not sent a whole request's headers; the one that waited longest makes room for another."""
    header_seconds: float = 10.0
    """Seconds that a request's headers may take."""
    body_seconds: float = 60.0
    """Seconds that a request's body may take."""
    max_bytes_in_flight: int = 256 * MIB
    """Bytes of all bodies being read; more are refused with SERVER_BUSY."""
    max_body_bytes: int = 9 * MIB
    """The largest request body: an image of 5 MiB in base64 takes 7 MiB."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which this edge is reached, such as "ask.example.com", or ".example.com" for every name below; any port.
    Needed behind a proxy that passes the name on, and for browsers. IP addresses and "localhost" always pass."""
    allowed_origins: tuple[str, ...] = ()
    """Pages of other origins that may ask from a browser (CORS), such as "https://app.example.com"; "*" for all."""
    bill_hits: bool = True
    """Whether `usage` counts for a hit what the answer took when the model wrote it; otherwise a hit counts nothing.
    `askonce.saved` has the counts either way."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the gateway can be told."""

    serving: Serving = field(default_factory=lambda: Serving(listen="127.0.0.1:50051"))
    telemetry: Telemetry = field(default_factory=Telemetry)
    dedup: Dialing = field(default_factory=lambda: Dialing(target="127.0.0.1:50052"))
    """Where the dedup service is."""
    inference: Dialing = field(default_factory=lambda: Dialing(target="127.0.0.1:50053"))
    """Where the inference service is."""
    edge: Edge = field(default_factory=Edge)
    images: ImageLimits = field(default_factory=ImageLimits)
    pdf: Pdf = field(default_factory=Pdf)
    jobs: Jobs = field(default_factory=Jobs)
    texts: TextLimits = field(default_factory=TextLimits)
    fetching: Fetching = field(default_factory=Fetching)
    timeouts: Timeouts = field(default_factory=Timeouts)
    bounds: Bounds = field(default_factory=Bounds)
    auth: Auth = field(default_factory=Auth)
    rates: Rates = field(default_factory=Rates)
    screening: Screening = field(default_factory=Screening)
    redis: str = ""
    """The address of a Redis or Valkey that all gateways share, such as "redis://redis:6379/0": one generation for one
    question among them, and one count of a tenant's calls. Empty for a single gateway."""
    share_image_caches: bool = False
    """Whether tenants share what is kept of an image besides answers: that it was checked, and the model service's
    caches. It saves work where tenants send the same files, and lets one tell by the time of an answer whether another
    has sent a file."""
    judge: bool = True
    """Whether question pairs are judged at all, in the background or inline."""
    service_key: Path | None = Path("var/service.key")
    """The secret that the services of a deployment share, shown to dedup and inference. Made by whichever service
    starts first."""
    model: str = ""
    """The hosted model's name, to serve hits with even when the gateway starts while inference is down. Normally asked
    of the inference service."""
    model_revision: str = ""
    """The revision that goes with `model`."""
