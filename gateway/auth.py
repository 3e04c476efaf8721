"""Who asks, and for which tenant: API keys and signed tokens, or nobody's business on a developer's machine."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from askonce.faults import Forbidden, InvalidInput, Unauthenticated
from askonce.names import HINT, PREFIX, is_tenant_id, tenant_name
from askonce.settings import SettingsError
from gateway.settings import Auth

TENANT_KEY = "askonce-tenant"
MIN_SECRET = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks."""

    name: str
    """A name for the logs; never the key itself."""
    tenant: str
    """The only tenant that this caller may use, "tenants/{tenant}"; in open mode the one used when none is named."""
    bound: bool
    """Whether the caller may use no other tenant."""
    rate: str = ""
    """A limit of its own, such as "10/minute"; empty for the deployment's."""

    def tenant_for(self, parent: str) -> str:
        """The tenant of a request that names `parent`, or names none. Raises Forbidden."""
        if not parent or parent == self.tenant:
            return self.tenant
        if self.bound:
            raise Forbidden(
                "TENANT_MISMATCH", "This key belongs to another tenant; leave parent empty or name your own.",
                field="parent",
            )  # fmt: skip
        return parent


class Authenticator(Protocol):
    """Tells who a caller is."""

    def authenticate(self, credentials: Mapping[str, str]) -> Caller:
        """The caller behind the lower-case headers or metadata. Raises Unauthenticated."""
        ...


class Everybody:
    """Lets everybody in. For development, and behind a proxy that has checked already."""

    def __init__(self, default_tenant: str = "default") -> None:
        self.default = Caller("anonymous", tenant_name(checked(default_tenant, "default_tenant")), bound=False)

    def authenticate(self, credentials: Mapping[str, str]) -> Caller:
        """The tenant that the metadata names, or the default. Raises InvalidInput for a malformed one."""
        named = credentials.get(TENANT_KEY, "")
        if not named:
            return self.default
        slug = named.removeprefix(PREFIX)
        if not is_tenant_id(slug):
            raise InvalidInput("TENANT_INVALID", f"{TENANT_KEY}: write {HINT}.")
        return Caller("anonymous", tenant_name(slug), bound=False)


class Registered:
    """Lets in who shows a known API key or a properly signed token."""

    def __init__(self, keys: Mapping[str, Caller], tokens: Tokens | None = None) -> None:
        self.keys = dict(keys)
        self.tokens = tokens

    def authenticate(self, credentials: Mapping[str, str]) -> Caller:
        """Reads "authorization: Bearer …" or "x-api-key". Raises Unauthenticated."""
        shown = credentials.get("x-api-key", "")
        scheme, _, rest = credentials.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and rest.strip():
            shown = rest.strip()
        if not shown:
            raise Unauthenticated("CREDENTIALS_MISSING", 'Send an API key or a token as "authorization: Bearer …".')
        # Keys are long and random, so a plain hash hides them and a look-up by hash leaks nothing about them.
        caller = self.keys.get(hashlib.sha256(shown.encode()).hexdigest())
        if caller is not None:
            return caller
        if self.tokens is not None and shown.count(".") == 2:
            return self.tokens.verify(shown)
        raise Unauthenticated("CREDENTIALS_UNKNOWN", "This key is not known; ask the operator for a valid one.")


class Tokens:
    """Verifies signed tokens (JWT)."""

    def __init__(self, key: str, auth: Auth) -> None:
        if "-----BEGIN" not in key and len(key.encode()) < MIN_SECRET:
            raise SettingsError(f"jwt_key: a shared secret needs at least {MIN_SECRET} bytes")
        self.key = key
        self.auth = auth

    def verify(self, token: str) -> Caller:
        """The caller that a token names. Raises Unauthenticated."""
        auth = self.auth
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.key,
                algorithms=list(auth.jwt_algorithms),
                audience=auth.jwt_audience or None,
                issuer=auth.jwt_issuer or None,
                leeway=10,
                options={"require": ["exp"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("TOKEN_EXPIRED", "The token has expired; get a new one.") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated("TOKEN_INVALID", "The token is not valid here; get a new one.") from error
        slug = str(claims.get(auth.jwt_tenant_claim, "")).removeprefix(PREFIX)
        if not is_tenant_id(slug):
            message = f'The token names no tenant in its claim "{auth.jwt_tenant_claim}".'
            raise Unauthenticated("TOKEN_INVALID", message)
        name = "".join(char for char in str(claims.get("sub", "token")) if char.isprintable())[:64]
        return Caller(name or "token", tenant_name(slug), bound=True)


def read_keys(text: str) -> dict[str, Caller]:
    """Callers by the SHA-256 of their keys, from TOML. Raises SettingsError."""
    try:
        tables = tomllib.loads(text).get("keys", [])
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"api_keys: {error}") from error
    return dict(read_key(table, number) for number, table in enumerate(as_tables(tables)))


def as_tables(value: Any) -> Iterable[Mapping[str, Any]]:
    """The tables of `[[keys]]`. Raises SettingsError for anything else."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise SettingsError("api_keys: write one [[keys]] table a key")
    return value


def read_key(table: Mapping[str, Any], number: int) -> tuple[str, Caller]:
    """One key: its digest and its caller. Raises SettingsError."""
    digest, tenant = str(table.get("sha256", "")).lower(), str(table.get("tenant", ""))
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise SettingsError(f"api_keys: key {number + 1} needs sha256 with 64 hexadecimal digits")
    name = str(table.get("name", f"key-{digest[:8]}"))
    slug = checked(tenant.removeprefix(PREFIX), f"api_keys: tenant of key {number + 1}")
    return digest, Caller(name, tenant_name(slug), bound=True, rate=str(table.get("rate", "")))


def checked(slug: str, what: str) -> str:
    """A tenant's short name. Raises SettingsError."""
    if not is_tenant_id(slug):
        raise SettingsError(f"{what}: write {HINT}")
    return slug


def from_settings(auth: Auth) -> Authenticator:
    """The authenticator that the settings ask for. Reads files. Raises SettingsError."""
    if auth.api_keys is None and auth.jwt_key is None:
        return Everybody(auth.default_tenant)
    try:
        keys = read_keys(auth.api_keys.read_text(encoding="utf-8")) if auth.api_keys else {}
        tokens = Tokens(auth.jwt_key.read_text(encoding="utf-8").strip(), auth) if auth.jwt_key else None
    except OSError as error:
        raise SettingsError(f"auth: can't read {error.filename}") from error
    return Registered(keys, tokens)
