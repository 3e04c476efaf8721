"""What a browser may be made to do: pages of other origins reach this edge only where the operator lists them.

A browser sends requests for any page that it shows. Three checks keep a page from asking in its visitor's name: bodies
must be declared as JSON, which a page of another origin can't do without asking first (CORS); the Host must be one by
which this edge is known, so that a name that is made to point here (DNS rebinding) leads nowhere; and the Origin, where
there is one, must be this edge's own or on the operator's list.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from askonce import telemetry
from askonce.faults import Fault, Forbidden, InvalidInput
from gateway.http.errors import error_response
from gateway.settings import Edge

EXPOSED = ("X-Request-Id", "X-Askonce-Source", "X-Askonce-Reason", "Retry-After", "Location", "Preference-Applied")
"""Headers of a reply that a page of another origin may read."""
PREFLIGHT_SECONDS = 600


class Browsers:
    """Lets a request through to the application, or refuses it with HOST_NOT_ALLOWED or ORIGIN_NOT_ALLOWED."""

    def __init__(self, app: ASGIApp, settings: Edge) -> None:
        self.settings = settings
        self.app = app
        if settings.allowed_origins:
            self.app = CORSMiddleware(
                app,
                allow_origins=list(settings.allowed_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=list(EXPOSED),
                max_age=PREFLIGHT_SECONDS,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Request(scope).headers
            try:
                check_host(headers, self.settings)
                check_origin(headers, self.settings)
            except Fault as fault:
                telemetry.note(reason=fault.reason)
                await error_response(fault)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def check_host(headers: Mapping[str, str], settings: Edge) -> None:
    """Checks the name by which this edge was reached. Raises Forbidden.

    An address can't be made to point elsewhere and is always right. Where the operator lists names, only they are.
    Where none are listed, an edge on the loopback goes by "localhost"; one that listens for others can't know its names
    and takes any, except from a browser.
    """
    host = bare(headers.get("host", ""))
    if is_address(host) or host == "localhost":
        return
    if any(matches(host, entry) for entry in settings.allowed_hosts):
        return
    by_browser = "origin" in headers or "sec-fetch-site" in headers
    if settings.allowed_hosts or is_loopback(settings.listen) or by_browser:
        message = f"This edge does not go by the name {host[:80]!r}; its operator lists names in allowed_hosts."
        raise Forbidden("HOST_NOT_ALLOWED", message, field="host")


def check_origin(headers: Mapping[str, str], settings: Edge) -> None:
    """Checks which page a browser asks for. Raises Forbidden."""
    origin = headers.get("origin")
    if origin is None or "*" in settings.allowed_origins or origin in settings.allowed_origins:
        return
    if urlsplit_netloc(origin) == headers.get("host", "").lower():
        return
    message = f"Pages of {origin[:80]!r} may not ask here; the operator lists origins in allowed_origins."
    raise Forbidden("ORIGIN_NOT_ALLOWED", message, field="origin")


def check_json(headers: Mapping[str, str]) -> None:
    """Makes sure that a body is declared as plain JSON. Raises InvalidInput."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        message = 'Send JSON, with the header "content-type: application/json".'
        raise InvalidInput("CONTENT_TYPE_UNSUPPORTED", message, field="content-type")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "Send the body as it is, not compressed."
        raise InvalidInput("CONTENT_ENCODING_UNSUPPORTED", message, field="content-encoding")


def bare(host: str) -> str:
    """A host without port, brackets and final dot, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def urlsplit_netloc(origin: str) -> str:
    """Host and port of an origin; empty for "null" and what is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def matches(host: str, entry: str) -> bool:
    """Whether an entry of the list covers a name: the name itself, or, with a dot in front, all names below."""
    entry = entry.lower()
    return host.endswith(entry) if entry.startswith(".") else host == entry


def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(listen: str) -> bool:
    """Whether "host:port" is reached from this machine only."""
    host = listen.rpartition(":")[0].strip("[]")
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
