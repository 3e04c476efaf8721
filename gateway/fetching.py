"""Fetches an image from an address that a client names, without letting the client reach anything else.

The host must be on the operator's list, over https. Every address that its name resolves to must be public; the
connection goes to the very address that was checked, so that a name which changes its mind in between changes nothing.
Redirects are followed by hand and checked like the first address. Compressed bodies are refused: what is counted is
what is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

from askonce.faults import InvalidInput, TooLate, Unreachable
from gateway.deadlines import Deadline
from gateway.settings import Fetching

FIELD = "image.uri"
MAX_URI = 2_048
CHUNK = 64 * 1024

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Turns a host and a port into addresses. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Place:
    """A checked https address."""

    host: str
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """The host as the Host header has it."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"

    @property
    def uri(self) -> str:
        """The whole address."""
        return f"https://{self.authority}{self.target}"


def locate(uri: str, allowed: tuple[str, ...]) -> Place:
    """Takes an address apart and checks it against the list. Raises InvalidInput."""
    if len(uri) > MAX_URI or not uri.isascii() or any(char <= " " or char == "\\" for char in uri):
        raise InvalidInput(
            "URI_INVALID", f"{FIELD}: write an address of at most {MAX_URI} plain characters.", field=FIELD
        )
    try:
        parts = urlsplit(uri)
        host = (parts.hostname or "").removesuffix(".")
        port = 443 if parts.port is None else parts.port
    except ValueError as error:
        raise InvalidInput("URI_INVALID", f"{FIELD}: this is no address.", field=FIELD) from error
    if parts.scheme != "https":
        raise InvalidInput("URI_SCHEME_UNSUPPORTED", f"{FIELD}: only https addresses are fetched.", field=FIELD)
    if not port or not is_name(host) or parts.username is not None or parts.password is not None:
        raise InvalidInput("URI_INVALID", f"{FIELD}: name a host, without a user or password.", field=FIELD)
    if not any(matches(host, port, entry) for entry in allowed):
        raise InvalidInput(
            "URI_NOT_ALLOWED", f"{FIELD}: this host is not on the operator's list; send the image's content.",
            field=FIELD,
        )  # fmt: skip
    # As it was written: a signature covers every character.
    rest = uri.partition("#")[0].split(parts.netloc, 1)[1]
    return Place(host, port, rest if rest.startswith("/") else f"/{rest}")


def is_name(host: str) -> bool:
    """Whether a host can be looked up: an address, or labels of 1 to 63 characters, 253 in all (RFC 1035)."""
    return ":" in host or (len(host) <= 253 and all(1 <= len(label) <= 63 for label in host.split(".")))


def matches(host: str, port: int, entry: str) -> bool:
    """Whether an entry of the list covers a host and port; an entry without a port means 443."""
    name, _, number = entry.lower().partition(":")
    if port != int(number or 443):
        return False
    return host.endswith(name) if name.startswith(".") else host == name


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Private, loopback, link-local (where cloud metadata services live), shared, reserved, multicast and unspecified ones
    do not; neither does an IPv6 address that wraps one of these.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, from the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Fetcher:
    """Fetches images."""

    def __init__(
        self,
        settings: Fetching,
        max_bytes: int,
        resolve: Resolve = resolve,
        permitted: Callable[[str], bool] = is_public,
    ) -> None:
        self.settings = settings
        self.max_bytes = max_bytes
        self.resolve = resolve
        self.permitted = permitted
        trust = ssl.create_default_context()
        if settings.ca is not None:
            trust.load_verify_locations(cafile=str(settings.ca))
        self.client = httpx.AsyncClient(
            verify=trust,
            trust_env=False,
            follow_redirects=False,
            timeout=settings.timeout,
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Closes connections."""
        await self.client.aclose()

    async def fetch(self, uri: str, deadline: Deadline) -> bytes:
        """The file at an address. Raises InvalidInput, Unreachable and TooLate."""
        place = locate(uri, self.settings.allowed_hosts)
        try:
            async with asyncio.timeout(deadline.cap(self.settings.timeout)):
                for _ in range(self.settings.max_redirects + 1):
                    got = await self.get(place)
                    if isinstance(got, bytes):
                        return got
                    place = locate(urljoin(place.uri, got), self.settings.allowed_hosts)
        except TimeoutError as error:
            raise TooLate(
                "URI_TIMEOUT", f"{FIELD}: the host took too long; send the image's content.", field=FIELD
            ) from error
        raise InvalidInput(
            "URI_REDIRECTED_TOO_OFTEN", f"{FIELD}: too many redirects; name the final address.", field=FIELD
        )

    async def get(self, place: Place) -> bytes | str:
        """One request: the body, or the address that the host redirects to."""
        address = await self.pin(place)
        literal = f"[{address}]" if ":" in address else address
        request = self.client.build_request(
            "GET",
            f"https://{literal}:{place.port}{place.target}",
            headers={
                "Host": place.authority,
                "Accept-Encoding": "identity",
                "Accept": "image/jpeg,image/png,image/webp,application/pdf",
            },
            extensions={"sni_hostname": place.host, "target": place.target.encode("ascii")},
        )
        try:
            response = await self.client.send(request, stream=True)
            try:
                return await self.read(response)
            finally:
                await response.aclose()
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except httpx.HTTPError as error:
            raise Unreachable(
                "URI_UNREACHABLE", f"{FIELD}: the host does not answer properly; send the image's content.", field=FIELD
            ) from error

    async def pin(self, place: Place) -> str:
        """One checked address of the host. Raises InvalidInput when any of its addresses is not public."""
        try:
            addresses = await self.resolve(place.host, place.port)
        except OSError as error:
            raise Unreachable("URI_UNREACHABLE", f"{FIELD}: the host's name is not known.", field=FIELD) from error
        if not addresses or not all(self.permitted(address) for address in addresses):
            raise InvalidInput(
                "URI_ADDRESS_FORBIDDEN", f"{FIELD}: the host is not on the public internet.", field=FIELD
            )
        return addresses[0]

    async def read(self, response: httpx.Response) -> bytes | str:
        """The body, up to the limit, or the place that a redirect names."""
        if response.status_code in (301, 302, 303, 307, 308) and "location" in response.headers:
            return response.headers["location"]
        if response.status_code != 200:
            raise InvalidInput(
                "URI_STATUS", f"{FIELD}: the host answered {response.status_code} instead of 200.", field=FIELD,
                metadata={"status": str(response.status_code)},
            )  # fmt: skip
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidInput(
                "URI_ENCODED", f"{FIELD}: the host sent a compressed body; none is accepted.", field=FIELD
            )
        too_large = InvalidInput(
            "IMAGE_TOO_LARGE", f"{FIELD}: the file is larger than {self.max_bytes:,} bytes.", field=FIELD,
            metadata={"limit": str(self.max_bytes)},
        )  # fmt: skip
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.max_bytes:
            raise too_large
        body = bytearray()
        async for chunk in response.aiter_raw(CHUNK):
            body += chunk
            if len(body) > self.max_bytes:
                raise too_large
        return bytes(body)
