"""Fetching by address: a real https server on this machine, and everything that must not be reached."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from askonce.faults import Fault
from askonce.v1 import answer_pb2, content_pb2
from gateway.deadlines import Deadline
from gateway.fetching import Fetcher, is_public, locate, matches
from gateway.settings import Fetching
from tests.gateway.doubles import INVALID, Running, refused
from tests.gateway.pictures import picture

IMAGE = picture()


@dataclass
class Site:
    """A small https server that answers each path with fixed bytes."""

    port: int = 0
    answers: dict[str, bytes] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    delay: float = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.hosts.append(next(line[6:] for line in head.splitlines() if line.lower().startswith("host: ")))
            await asyncio.sleep(self.delay)
            writer.write(self.answers.get(head.split()[1], b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def ok(body: bytes, *headers: str) -> bytes:
    """A 200 with a body."""
    head = "\r\n".join(["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers, "", ""])
    return head.encode() + body


def moved(place: str) -> bytes:
    """A redirect."""
    return f"HTTP/1.1 302 Found\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n".encode()


Fetch = Callable[..., Awaitable[bytes]]


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[Site, Fetch]]:
    """A site called images.test with a certificate of its own, and a way to fetch from it."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("images.test", "cdn.test").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    place = Site()
    server = await asyncio.start_server(place.serve, "127.0.0.1", 0, ssl=context)
    place.port = server.sockets[0].getsockname()[1]

    async def fetch(
        path: str, *, host: str = "images.test", allowed: str = "images.test", resolved: str = "127.0.0.1",
        local: bool = True, timeout: float = 3.0,
    ) -> bytes:  # fmt: skip
        async def resolve(host: str, port: int) -> list[str]:
            return [resolved]

        settings = Fetching(allowed_hosts=(f"{allowed}:{place.port}",), timeout=timeout, ca=bundle)
        fetcher = Fetcher(settings, 10_000, resolve, (lambda address: True) if local else is_public)
        try:
            return await fetcher.fetch(f"https://{host}:{place.port}{path}", Deadline.after(10))
        finally:
            await fetcher.close()

    async with server:
        yield place, fetch


async def reason(call: Awaitable[bytes]) -> str:
    """The reason of a refused fetch."""
    with pytest.raises(Fault) as caught:
        await call
    return caught.value.reason


async def test_allowed_host_is_fetched(site: tuple[Site, Fetch]) -> None:
    """The file comes from the address that was checked; the certificate and Host header are the name's."""
    place, fetch = site
    place.answers["/a.png?x=1"] = ok(IMAGE)
    assert await fetch("/a.png?x=1") == IMAGE
    assert place.hosts == [f"images.test:{place.port}"]


async def test_other_host_is_refused(site: tuple[Site, Fetch]) -> None:
    """A host outside the list is not even looked up."""
    place, fetch = site
    assert await reason(fetch("/a.png", host="evil.test")) == "URI_NOT_ALLOWED"
    assert place.hosts == []


async def test_name_that_points_inside_is_refused(site: tuple[Site, Fetch]) -> None:
    """A listed name that resolves to a private address is refused: the check is of addresses, not of names."""
    place, fetch = site
    for address in ("127.0.0.1", "169.254.169.254", "10.0.0.7", "::1", "::ffff:127.0.0.1"):
        assert await reason(fetch("/a.png", resolved=address, local=False)) == "URI_ADDRESS_FORBIDDEN"
    assert place.hosts == []


async def test_one_private_address_among_public_ones_is_enough() -> None:
    """A name with a public and a private address is refused."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "192.168.0.1"]

    fetcher = Fetcher(Fetching(allowed_hosts=("images.test",)), 100, resolve)
    assert await reason(fetcher.fetch("https://images.test/", Deadline.after(5))) == "URI_ADDRESS_FORBIDDEN"
    await fetcher.close()


async def test_redirect_within_the_list_is_followed(site: tuple[Site, Fetch]) -> None:
    """A redirect to an allowed place is followed and checked again."""
    place, fetch = site
    place.answers["/old"] = moved("/new")
    place.answers["/new"] = ok(IMAGE)
    assert await fetch("/old") == IMAGE


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("https://evil.test/x", "URI_NOT_ALLOWED"),
        ("http://images.test/x", "URI_SCHEME_UNSUPPORTED"),
        ("https://169.254.169.254/", "URI_NOT_ALLOWED"),
        ("//evil.test/x", "URI_NOT_ALLOWED"),
        ("/again", "URI_REDIRECTED_TOO_OFTEN"),
    ],
)
async def test_redirect_elsewhere_is_refused(site: tuple[Site, Fetch], target: str, expected: str) -> None:
    """A redirect leaves neither the list nor https, and ends somewhere."""
    place, fetch = site
    place.answers["/again"] = moved(target)
    assert await reason(fetch("/again")) == expected


async def test_too_large_files_are_cut_off(site: tuple[Site, Fetch]) -> None:
    """Neither an announced nor an unannounced length passes the limit."""
    place, fetch = site
    place.answers["/told"] = ok(bytes(10_001))
    place.answers["/untold"] = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + bytes(200_000)
    assert await reason(fetch("/told")) == "IMAGE_TOO_LARGE"
    assert await reason(fetch("/untold")) == "IMAGE_TOO_LARGE"


async def test_compressed_bodies_are_refused(site: tuple[Site, Fetch]) -> None:
    """What is counted must be what is read."""
    place, fetch = site
    place.answers["/gz"] = ok(b"x", "content-encoding: gzip")
    assert await reason(fetch("/gz")) == "URI_ENCODED"


async def test_slow_hosts_are_given_up(site: tuple[Site, Fetch]) -> None:
    """The whole fetch has one time limit."""
    place, fetch = site
    place.delay = 5.0
    assert await reason(fetch("/a.png", timeout=0.2)) == "URI_TIMEOUT"


async def test_status_and_certificate(site: tuple[Site, Fetch]) -> None:
    """Anything but 200 is told; a certificate for another name is not accepted."""
    _, fetch = site
    assert await reason(fetch("/missing")) == "URI_STATUS"
    assert await reason(fetch("/a.png", host="other.test", allowed="other.test")) == "URI_UNREACHABLE"


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "127.0.0.1", "169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0"],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    """Private, loopback, link-local, shared, reserved and multicast addresses are not public, even when wrapped."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    """Ordinary addresses are public."""
    assert is_public(address)


@pytest.mark.parametrize(
    ("host", "port", "entry", "expected"),
    [
        ("a.test", 443, "a.test", True),
        ("a.test", 444, "a.test", False),
        ("a.test", 444, "a.test:444", True),
        ("x.a.test", 443, "a.test", False),
        ("x.a.test", 443, ".a.test", True),
        ("xa.test", 443, ".a.test", False),
        ("a.test", 443, "A.TEST", True),
    ],
)
def test_entries_of_the_list(host: str, port: int, entry: str, expected: bool) -> None:
    """An entry covers one host, or with a leading dot those below it, on one port."""
    assert matches(host, port, entry) is expected


def test_host_is_compared_without_case_and_final_dot() -> None:
    """Case and a final dot do not make another host."""
    assert locate("https://IMAGES.test./a", ("images.test",)).uri == "https://images.test/a"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://example.com/a.png", "URI_SCHEME_UNSUPPORTED"),
        ("file:///etc/passwd", "URI_SCHEME_UNSUPPORTED"),
        ("https://169.254.169.254/latest/meta-data", "URI_NOT_ALLOWED"),
        ("https://localhost/a.png", "URI_NOT_ALLOWED"),
        ("https://user:pw@example.com/", "URI_INVALID"),
        ("https://exa mple.com/", "URI_INVALID"),
        ("https://[::1", "URI_INVALID"),
        ("https://example.com:99999/", "URI_INVALID"),
        ("https://" + "a" * 3_000, "URI_INVALID"),
    ],
)
async def test_hostile_uri(system: Running, uri: str, reason: str) -> None:
    """An address that the operator did not allow is not fetched."""
    request = answer_pb2.AnswerRequest(image=content_pb2.Image(uri=uri), question=content_pb2.Question(text="x"))
    fault = await refused(system, request)
    assert (fault.code, fault.reason, fault.field) == (INVALID, reason, "image.uri")


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb.jpg?sig=ab%2Bcd%3D%3D",
        "/a//b/../c.jpg?x=/../y",
        "/./a.jpg",
        "/a.jpg?",
        "?sig=1",
        "/a+b.jpg?x=1+2&y={z}|[1]",
        "/%7Euser/%41.jpg",
        "",
    ],
)
async def test_the_host_sees_what_was_signed(site: tuple[Site, Fetch], target: str) -> None:
    """Path and query reach the host character by character; a fragment does not."""
    server, fetch = site
    path = target if target.startswith("/") else f"/{target}"
    server.answers[path] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
    assert await fetch(f"{target}#part") == b"abc"


@pytest.mark.parametrize("host", ["a..example.com", ".example.com", "a" * 64 + ".example.com", "a.example.com:0"])
def test_hosts_that_no_resolver_takes_are_invalid(host: str) -> None:
    """A name with an empty or overlong part, or port 0, is told to be no address."""
    with pytest.raises(Fault) as caught:
        locate(f"https://{host}/x", (".example.com",))
    assert caught.value.reason == "URI_INVALID"
