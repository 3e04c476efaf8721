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
from gateway.auth import Everybody, Registered, Tokens, from_settings, read_keys
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
