"""Who asks, and for which tenant: API keys and signed tokens, or nobody's business on a developer's machine."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from askonce.access import METHODS, USUAL, Identity, Role, parse_keys
from askonce.faults import Forbidden, InvalidInput, Unauthenticated
from askonce.names import HINT, PREFIX, is_tenant_id, tenant_name
from askonce.os_errors import advice
from askonce.secret_file import stamp_of
from askonce.settings import SettingsError
from gateway import rates
from gateway.settings import Auth

TENANT_KEY = "askonce-tenant"
MIN_SECRET = 32
PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


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
    roles: frozenset[Role] = USUAL
    expires: float = float("inf")
    """When the key stops being valid, in seconds since the epoch."""

    def may(self, method: str) -> None:
        """Makes sure that this caller may call "Service/Method". Raises Forbidden (ROLE_MISSING)."""
        wanted = METHODS.get(method, frozenset()) - {Role.SERVICE}
        if not wanted & self.roles:
            names = ", ".join(sorted(wanted)) or "none"
            raise Forbidden("ROLE_MISSING", f"{method} needs one of these roles: {names}.", metadata={"roles": names})

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
        if caller is not None and caller.expires > time.time():
            return caller
        if self.tokens is not None and shown.count(".") == 2:
            return self.tokens.verify(shown)
        raise Unauthenticated("CREDENTIALS_UNKNOWN", "This key is not known; ask the operator for a valid one.")


class Tokens:
    """Verifies signed tokens (JWT)."""

    def __init__(self, text: str, auth: Auth) -> None:
        """`text` holds the keys that are accepted, PEM blocks or lines. Raises SettingsError."""
        pems = tuple(found.group() for found in PEM.finditer(text))
        self.keys = pems or tuple(line.strip() for line in text.splitlines() if line.strip())
        if not pems and (not self.keys or any(len(key.encode()) < MIN_SECRET for key in self.keys)):
            raise SettingsError(f"jwt_key: a shared secret needs at least {MIN_SECRET} bytes")
        self.auth = auth

    def verify(self, token: str) -> Caller:
        """The caller that a token names. Raises Unauthenticated."""
        auth = self.auth
        claims = self.claims(token)
        slug = str(claims.get(auth.jwt_tenant_claim, "")).removeprefix(PREFIX)
        if not is_tenant_id(slug):
            message = f'The token names no tenant in its claim "{auth.jwt_tenant_claim}".'
            raise Unauthenticated("TOKEN_INVALID", message)
        name = "".join(char for char in str(claims.get("sub", "token")) if char.isprintable())[:64]
        return Caller(name or "token", tenant_name(slug), bound=True, roles=roles_of(claims.get(auth.jwt_roles_claim)))

    def claims(self, token: str) -> dict[str, Any]:
        """What a token says, if one of the keys signed it. Raises Unauthenticated."""
        auth, refused = self.auth, None
        for key in self.keys:
            try:
                found: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=list(auth.jwt_algorithms),
                    audience=auth.jwt_audience or None,
                    issuer=auth.jwt_issuer or None,
                    leeway=10,
                    options={"require": ["exp"]},
                )
            except jwt.ExpiredSignatureError as error:
                raise Unauthenticated("TOKEN_EXPIRED", "The token has expired; get a new one.") from error
            except jwt.PyJWTError as error:
                refused = error
            else:
                return found
        raise Unauthenticated("TOKEN_INVALID", "The token is not valid here; get a new one.") from refused


def roles_of(claim: object) -> frozenset[Role]:
    """The roles that a claim names, as a list or as words; the usual ones where there is no claim."""
    if claim is None:
        return USUAL
    named = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(role for role in Role if role.value in named and role is not Role.SERVICE)


class KeyFiles(Registered):
    """`Registered` by the files that the settings name, which are read again when they change."""

    def __init__(self, auth: Auth) -> None:
        """Raises SettingsError."""
        super().__init__({})
        self.auth = auth
        self.stamps: list[tuple[int, int, int]] = []
        self.refresh()

    def refresh(self) -> None:
        """Reads the files again when one changed; call it every second or so, off the event loop.

        Raises SettingsError when one can't be read or is not as it must be; all keys then stay as they are.
        """
        auth = self.auth
        try:
            stamps = [stamp_of(path) for path in (auth.api_keys, auth.jwt_key) if path is not None]
            if stamps == self.stamps:
                return
            keys = read_keys(auth.api_keys.read_text(encoding="utf-8")) if auth.api_keys else {}
            tokens = Tokens(auth.jwt_key.read_text(encoding="utf-8"), auth) if auth.jwt_key else None
        except (OSError, UnicodeDecodeError) as error:
            name = getattr(error, "filename", None) or "a file of keys"
            why = advice(error) if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"auth: can't read {name}: {why}") from error
        except SettingsError as error:
            raise SettingsError(f"{auth.api_keys}: {error}") from error
        self.keys, self.tokens, self.stamps = keys, tokens, stamps


def read_keys(text: str) -> dict[str, Caller]:
    """Callers by the SHA-256 of their keys, from TOML. Raises SettingsError."""
    return {digest: caller_of(digest, identity) for digest, identity in parse_keys(text).items()}


def caller_of(digest: str, identity: Identity) -> Caller:
    """The caller behind a key. Raises SettingsError for what a client's key can't be."""
    if digest.startswith("cn:"):
        raise SettingsError(f"keys: {identity.name}: the gateway knows callers by sha256, not by certificate")
    if not identity.tenant:
        raise SettingsError(f"keys: {identity.name}: a client's key belongs to one tenant, not to all")
    rates.read(identity.rate)
    return Caller(
        identity.name, tenant_name(identity.tenant), bound=True,
        rate=identity.rate, roles=identity.roles, expires=identity.expires,
    )  # fmt: skip


def checked(slug: str, what: str) -> str:
    """A tenant's short name. Raises SettingsError."""
    if not is_tenant_id(slug):
        raise SettingsError(f"{what}: write {HINT}")
    return slug


def from_settings(auth: Auth) -> Authenticator:
    """The authenticator that the settings ask for. Reads files. Raises SettingsError."""
    if auth.api_keys is None and auth.jwt_key is None:
        return Everybody(auth.default_tenant)
    return KeyFiles(auth)
