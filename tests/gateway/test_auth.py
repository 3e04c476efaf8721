"""Who asks: keys, tokens and tenants."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from askonce import faults
from askonce.faults import Fault
from askonce.settings import SettingsError
from askonce.v1 import answer_pb2
from gateway.auth import Everybody, KeyFiles, Registered, Tokens, from_settings, read_keys
from gateway.settings import Auth
from tests.gateway.doubles import request_for, running
from tests.gateway.pictures import picture

KEY = "sk-" + "k" * 40
SECRET = "s" * 40
FILE = f"""
[[keys]]
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
tenant = "acme"
name = "acme backend"
"""
TOKENS = Tokens(SECRET, Auth(jwt_algorithms=("HS256",), jwt_audience="askonce", jwt_issuer="login"))


def token(secret: str = SECRET, **claims: Any) -> str:
    """A token for the tenant acme, valid unless a claim says otherwise."""
    valid = {"sub": "me", "tenant": "acme", "aud": "askonce", "iss": "login", "exp": time.time() + 86_400}
    return jwt.encode({k: v for k, v in {**valid, **claims}.items() if v is not None}, secret, "HS256")


def reason(authenticator: Any, **credentials: str) -> str:
    """The reason of a refusal."""
    with pytest.raises(Fault) as caught:
        authenticator.authenticate(credentials)
    return caught.value.reason


def test_open_mode_takes_the_named_tenant() -> None:
    """Without keys a caller may name its tenant, in metadata or in the request; default otherwise."""
    everybody = Everybody()
    assert everybody.authenticate({}).tenant == "tenants/default"
    assert everybody.authenticate({"askonce-tenant": "acme"}).tenant == "tenants/acme"
    assert everybody.authenticate({}).tenant_for("tenants/other") == "tenants/other"
    assert reason(everybody, **{"askonce-tenant": "../x"}) == "TENANT_INVALID"


def test_key_belongs_to_one_tenant() -> None:
    """A known key is its tenant's and nobody else's, in either header."""
    known = Registered(read_keys(FILE))
    for credentials in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"authorization": f"bearer {KEY}"}):
        caller = known.authenticate(credentials)
        assert (caller.tenant, caller.name) == ("tenants/acme", "acme backend")
    with pytest.raises(Fault) as caught:
        caller.tenant_for("tenants/other")
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.PERMISSION_DENIED, "TENANT_MISMATCH")


def test_tenant_metadata_does_not_move_a_key() -> None:
    """A caller with a key can't choose its tenant through metadata."""
    known = Registered(read_keys(FILE))
    assert known.authenticate({"x-api-key": KEY, "askonce-tenant": "other"}).tenant == "tenants/acme"


def test_missing_and_unknown_keys() -> None:
    """No credentials and wrong ones are told apart, both UNAUTHENTICATED."""
    known = Registered(read_keys(FILE))
    assert reason(known) == "CREDENTIALS_MISSING"
    assert reason(known, authorization="Basic abc") == "CREDENTIALS_MISSING"
    assert reason(known, authorization="Bearer nope") == "CREDENTIALS_UNKNOWN"
    assert reason(known, authorization="Bearer " + token()) == "CREDENTIALS_UNKNOWN"


def test_token_names_its_tenant() -> None:
    """A properly signed token lets in, for the tenant in its claim."""
    caller = Registered({}, TOKENS).authenticate({"authorization": "Bearer " + token()})
    assert (caller.tenant, caller.name, caller.bound) == ("tenants/acme", "me", True)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (token(exp=time.time() - 60), "TOKEN_EXPIRED"),
        (token(exp=None), "TOKEN_INVALID"),
        (token(secret="x" * 40), "TOKEN_INVALID"),
        (token(aud="other"), "TOKEN_INVALID"),
        (token(iss="other"), "TOKEN_INVALID"),
        (token(tenant=None), "TOKEN_INVALID"),
        (token(tenant="../x"), "TOKEN_INVALID"),
        (jwt.encode({"tenant": "acme", "exp": time.time() + 86_400, "aud": "askonce", "iss": "login"}, "", "none"),
         "TOKEN_INVALID"),
        ("a.b.c", "TOKEN_INVALID"),
    ],
)  # fmt: skip
def test_bad_tokens(shown: str, expected: str) -> None:
    """Expired, forged, unsigned and foreign tokens are refused."""
    assert reason(Registered({}, TOKENS), authorization="Bearer " + shown) == expected


@pytest.mark.parametrize(
    "text",
    ["keys = 3", "[[keys]]\ntenant='a'", "[[keys]]\nsha256='zz'\ntenant='a'", "[[keys", "[[keys]]\nsha256='00'"],
)  # fmt: skip
def test_broken_key_files(text: str) -> None:
    """A key file that can't be read as meant is a settings error."""
    with pytest.raises(SettingsError):
        read_keys(text)


def test_short_secrets_are_refused(tmp_path: Path) -> None:
    """A shared secret that could be guessed is a settings error."""
    path = tmp_path / "secret"
    path.write_text("short")
    with pytest.raises(SettingsError, match="32 bytes"):
        from_settings(Auth(jwt_key=path, jwt_algorithms=("HS256",)))


def test_files_from_settings(tmp_path: Path) -> None:
    """Keys and tokens are read from files; a missing one is a settings error."""
    keys = tmp_path / "keys.toml"
    keys.write_text(FILE)
    assert from_settings(Auth(api_keys=keys)).authenticate({"x-api-key": KEY}).tenant == "tenants/acme"
    with pytest.raises(SettingsError):
        from_settings(Auth(api_keys=tmp_path / "none"))


async def test_keys_over_grpc() -> None:
    """Over gRPC: no key UNAUTHENTICATED, another tenant PERMISSION_DENIED, the own one answered."""
    async with running(authenticator=Registered(read_keys(FILE))) as system:
        metadata = (("authorization", f"Bearer {KEY}"),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.ask(picture())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        foreign = request_for(picture(), "x", parent="tenants/other")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.stub.Answer(foreign, timeout=5, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert faults.reason_of(caught.value) == "TENANT_MISMATCH"
        assert (await system.stub.Answer(request_for(picture(), "x"), timeout=5, metadata=metadata)).answer.text
        assert system.memory.lookups[0].parent == "tenants/acme"


@pytest.mark.parametrize(
    ("sub", "name"), [("svc", "svc"), ("a\nb\x1b[31m", "ab[31m"), ("", "token"), ("x" * 90, "x" * 64)]
)
def test_a_tokens_name_is_fit_for_a_log(sub: str, name: str) -> None:
    """What a token calls its bearer is cut and has no control characters."""
    shown = {"authorization": "Bearer " + token(sub=sub)}
    assert Registered({}, TOKENS).authenticate(shown).name == name


def test_files_are_read_again(tmp_path: Path) -> None:
    """A key that is added counts without a restart, one that is taken out no more; so do the keys of tokens, of which
    two overlap. A file that can't be read as meant changes nothing."""
    keys, secrets = tmp_path / "keys.toml", tmp_path / "jwt.key"
    keys.write_text(FILE)
    secrets.write_text(SECRET)
    files = KeyFiles(Auth(api_keys=keys, jwt_key=secrets, jwt_algorithms=("HS256",), jwt_audience="askonce"))
    other = "sk-" + "o" * 40
    newer = token(secret="n" * 40)
    assert files.authenticate({"x-api-key": KEY}).tenant == "tenants/acme"
    assert reason(files, **{"x-api-key": other}) == "CREDENTIALS_UNKNOWN"
    assert reason(files, authorization=f"Bearer {newer}") == "TOKEN_INVALID"

    keys.write_text(f"[[keys]]\nsha256 = '{hashlib.sha256(other.encode()).hexdigest()}'\ntenant = 'other'\n")
    secrets.write_text("n" * 40 + "\n" + SECRET + "\n")
    files.refresh()
    assert files.authenticate({"x-api-key": other}).tenant == "tenants/other"
    assert reason(files, **{"x-api-key": KEY}) == "CREDENTIALS_UNKNOWN"
    for shown in (newer, token()):
        assert files.authenticate({"authorization": f"Bearer {shown}"}).tenant == "tenants/acme"

    keys.write_text("[[keys]]\nsha256 = 3\n")
    with pytest.raises(SettingsError):
        files.refresh()
    assert files.authenticate({"x-api-key": other}).tenant == "tenants/other"


@pytest.mark.parametrize("line", ['rate = "often"', 'roles = ["king"]', 'expires = "soon"', 'tenant = "-"',
                                  'certificate = "cn"\nsha256 = ""'])  # fmt: skip
def test_what_a_key_can_not_be_is_said_at_once(line: str) -> None:
    """A rate, a role, a date or a tenant that means nothing stops the start, not each call."""
    text = FILE.replace('tenant = "acme"\n', "") if line.startswith("tenant") else FILE
    text = "\n".join(each for each in text.splitlines() if not (each.startswith("sha256") and "sha256" in line))
    with pytest.raises(SettingsError):
        read_keys(f"{text}\n{line}\n")


def test_an_expired_key_is_unknown() -> None:
    """A key is valid until its time."""
    assert reason(Registered(read_keys(FILE + "expires = 2020-01-01T00:00:00Z\n")), **{"x-api-key": KEY}) == (
        "CREDENTIALS_UNKNOWN"
    )
    later = Registered(read_keys(FILE + "expires = 2999-01-01T00:00:00Z\n"))
    assert later.authenticate({"x-api-key": KEY}).name == "acme backend"


@pytest.mark.parametrize(
    ("claim", "expected"),
    [(None, {"reader", "writer"}), ("reader", {"reader"}), (["writer", "king"], {"writer"}), ("service", set()),
     (7, set())],
)  # fmt: skip
def test_a_token_says_its_roles(claim: Any, expected: set[str]) -> None:
    """The claim's roles count; without it a token may what a key without roles may, and nobody becomes a service."""
    shown = {"authorization": "Bearer " + token(askonce_roles=claim)}
    assert Registered({}, TOKENS).authenticate(shown).roles == expected


async def test_a_reader_asks_and_leaves_nothing_behind() -> None:
    """A key that may only read is answered, from memory too; its answers are not stored, and feedback, jobs and modes
    that write are refused."""
    async with running(authenticator=Registered(read_keys(FILE + 'roles = ["reader"]\n'))) as system:
        metadata = (("x-api-key", KEY),)
        for _ in range(2):
            answer = await system.stub.Answer(request_for(picture(), "x"), timeout=5, metadata=metadata)
            assert answer.answer.text
        assert len(system.model.requests) == 2
        assert not system.memory.remembered
        refused: list[Any] = [
            system.stub.SubmitFeedback(
                answer_pb2.SubmitFeedbackRequest(
                    decision="tenants/acme/decisions/1", verdict=answer_pb2.VERDICT_WRONG
                ),
                timeout=5, metadata=metadata,
            ),
            *(
                system.stub.Answer(request_for(picture(), "x", cache_mode=mode), timeout=5, metadata=metadata)
                for mode in (answer_pb2.CACHE_MODE_REFRESH, answer_pb2.CACHE_MODE_BYPASS)
            ),
        ]  # fmt: skip
        for call in refused:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert (caught.value.code(), faults.reason_of(caught.value)) == (
                grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING",
            )  # fmt: skip
