"""Who may do what: roles, the keys that carry them, and one closed table of what each method asks for.

A caller shows a key (`x-api-key`, or `authorization: Bearer …`), a service shows the deployment's own secret
(`askonce-service-key`), and with mTLS a certificate's common name will do. A key belongs to one tenant, or to all of
them, and has roles. What no table entry names is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from askonce.faults import Forbidden, Unauthenticated
from askonce.names import ALL, HINT, PREFIX, is_tenant_id
from askonce.secret_file import SecretFile, stamp_of
from askonce.settings import SettingsError

SERVICE_KEY = "askonce-service-key"
"""The metadata key by which one service of a deployment shows the others that it belongs to it."""
RELOAD_SECONDS = 1.0
"""How often a file of keys is looked at for changes."""
LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


class Role(StrEnum):
    """What a caller may do."""

    READER = "reader"
    """Ask questions, and look at jobs and policies."""
    WRITER = "writer"
    """Have answers stored, give feedback, queue jobs."""
    AUDITOR = "auditor"
    """Read reports, findings, exports and what-if studies."""
    OPERATOR = "operator"
    """Change policies, remove and import answers; everything that an auditor may."""
    SERVICE = "service"
    """What the services ask of one another."""


_READ = frozenset({Role.READER, Role.WRITER, Role.AUDITOR, Role.OPERATOR, Role.SERVICE})
_WRITE = frozenset({Role.WRITER, Role.OPERATOR, Role.SERVICE})
_AUDIT = frozenset({Role.AUDITOR, Role.OPERATOR})
_OPERATE = frozenset({Role.OPERATOR})
_SERVE = frozenset({Role.SERVICE})

METHODS: Mapping[str, frozenset[Role]] = {
    "AnswerService/Answer": _READ,
    "AnswerService/StreamAnswer": _READ,
    "AnswerService/SubmitFeedback": _WRITE,
    "JobService/CreateJob": _WRITE,
    "JobService/CancelJob": _WRITE,
    "JobService/GetJob": _READ,
    "JobService/ListJobs": _READ,
    "DedupService/Lookup": _SERVE,
    "DedupService/Remember": _SERVE,
    "DedupService/Learn": _WRITE,
    "DedupService/Forget": _OPERATE | _SERVE,
    "DedupService/ListRemovals": _OPERATE | _SERVE,
    "DedupService/GetDedupInfo": _READ,
    "InferenceService/Generate": _SERVE,
    "InferenceService/CompareQuestions": _SERVE,
    "InferenceService/GetInferenceInfo": _READ,
    "PolicyService/GetPolicy": _READ,
    "PolicyService/ListPolicyRevisions": _READ,
    "PolicyService/PreviewPolicy": _AUDIT,
    "PolicyService/SuggestPolicy": _AUDIT,
    "PolicyService/UpdatePolicy": _OPERATE,
    "PolicyService/RollbackPolicy": _OPERATE,
    "StoreService/ExportEntries": _AUDIT,
    "StoreService/ImportEntries": _OPERATE,
    "StoreService/Purge": _OPERATE,
    "AuditService/CreateAuditReport": _AUDIT,
    "AuditService/GetAuditReport": _AUDIT,
    "AuditService/ListAuditReports": _AUDIT,
    "AuditService/DeleteAuditReport": _AUDIT,
    "AuditService/ListAuditFindings": _AUDIT,
    "Operations/GetOperation": _AUDIT,
    "Operations/WaitOperation": _AUDIT,
    "Operations/CancelOperation": _AUDIT,
    "Operations/DeleteOperation": _AUDIT,
    "Operations/ListOperations": _AUDIT,
}
"""The roles of which one is enough, by service and method."""
ADMINISTRATIVE = frozenset(
    {name for name, roles in METHODS.items() if Role.OPERATOR in roles and Role.READER not in roles}
)
"""Methods whose every call is written down as an administrative act, with its author."""
USUAL = frozenset({Role.READER, Role.WRITER})
"""The roles of a key that names none."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who was let in."""

    name: str
    """For logs and as the author of changes; never the key itself."""
    tenant: str = ""
    """The id of the only tenant that it may touch; empty for every tenant."""
    roles: frozenset[Role] = USUAL
    rate: str = ""
    """A rate of its own at the gateway, such as "10/minute"; empty for the deployment's."""
    expires: float = float("inf")
    """When the key stops being valid, in seconds since the epoch."""


PEER = Identity("service", roles=frozenset(Role))
"""Whoever shows the service key."""
OPERATOR = "askonce-operator"
"""Metadata, percent-encoded: who says to be at the terminal where a service key is used. A claim, for the history."""
ANYBODY = Identity("anonymous", roles=frozenset(Role))
"""Who calls an open service."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a service that is not for clients."""

    service_key: Path = Path("var/service.key")
    """The secret that the services of a deployment share. Made, for its owner alone, by whichever service starts first;
    further lines are secrets that are still accepted while it is changed. Read again when it changes."""
    keys: Path | None = None
    """A TOML file: one table a key under `[[keys]]` with `sha256` (of the key, hexadecimal) or `certificate` (a common
    name, with mTLS), `tenant` ("-" for all), and optionally `roles`, `name`, `rate` and `expires` (a date and time)."""
    open: bool = False
    """Whether anybody may do everything. For experiments on one machine."""


class Keyring:
    """The keys of a file, read again when it changes. `find` may be called while `refresh` runs."""

    def __init__(self, path: Path, parse: Callable[[str], dict[str, Identity]] | None = None) -> None:
        """`parse` reads the file's text; `parse_keys` unless given. Raises SettingsError."""
        self.path = path
        self.parse = parse or parse_keys
        self.stamp = (0, 0, 0)
        self.keys: dict[str, Identity] = {}
        self.read()

    def read(self) -> None:
        """Reads the file. Raises SettingsError."""
        try:
            stamp = stamp_of(self.path)
            self.keys = self.parse(self.path.read_text(encoding="utf-8"))
            self.stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"keys: can't read {self.path}: {error}") from error

    def find(self, digest: str) -> Identity | None:
        """The identity behind the SHA-256 of a key (hexadecimal), or behind "cn:" and a certificate's name."""
        found = self.keys.get(digest)
        return found if found is not None and found.expires > time.time() else None

    def refresh(self) -> None:
        """Reads the file again when it changed; call it every second or so, off the event loop.

        Raises SettingsError or OSError when it can't be read; the keys then stay as they are.
        """
        if stamp_of(self.path) != self.stamp:
            self.read()


class Guard:
    """Lets callers of a service in, and says what they may do."""

    def __init__(self, access: Access, *, keyring: Keyring | None = None) -> None:
        """Makes the service key when there is none. Raises SettingsError."""
        self.open = access.open
        self.service_key = None if access.open else SecretFile(access.service_key)
        self.keyring = keyring or (Keyring(access.keys) if access.keys else None)

    def identify(self, shown: Mapping[str, str], common_name: str = "") -> Identity:
        """Who calls, by the text among the call's metadata or by certificate. Raises Unauthenticated."""
        accepted = self.service_key.accepted if self.service_key is not None else ()
        if (secret := shown.get(SERVICE_KEY, "")) and any(
            hmac.compare_digest(secret.encode(), key) for key in accepted
        ):
            return PEER
        key = shown.get("x-api-key", "")
        scheme, _, rest = shown.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and rest.strip():
            key = rest.strip()
        if self.keyring is not None:
            if key and (found := self.keyring.find(hashlib.sha256(key.encode()).hexdigest())) is not None:
                return found
            if common_name and (found := self.keyring.find(f"cn:{common_name}")) is not None:
                return found
        if self.open:
            return ANYBODY
        if key or secret:
            raise Unauthenticated("CREDENTIALS_UNKNOWN", "This key is not known; ask the operator for a valid one.")
        raise Unauthenticated(
            "CREDENTIALS_MISSING", "Show the deployment's service key, or a key with a role (see docs/security.md)."
        )

    def refresh(self) -> None:
        """Reads the files of keys again that changed; call it every second or so, off the event loop.

        Raises SettingsError or OSError when one can't be read; its keys then stay as they are.
        """
        if self.service_key is not None:
            self.service_key.refresh()
        if self.keyring is not None:
            self.keyring.refresh()

    def allow(self, identity: Identity, method: str) -> None:
        """Makes sure that `identity` may call "Service/Method". Raises Forbidden (ROLE_MISSING)."""
        wanted = METHODS.get(method, frozenset())
        if not wanted & identity.roles:
            names = ", ".join(sorted(wanted)) or "none"
            raise Forbidden("ROLE_MISSING", f"{method} needs one of these roles: {names}.", metadata={"roles": names})

    def allow_tenant(self, identity: Identity, request: Any) -> None:
        """Makes sure that `identity` may touch the tenant that `request` names. Raises Forbidden (TENANT_MISMATCH)."""
        if identity.tenant and tenant_of(request) != identity.tenant:
            raise Forbidden("TENANT_MISMATCH", "This key belongs to another tenant; name your own.")


def tenant_of(request: Any) -> str:
    """The id of the tenant that a message is about, by its first resource name; empty when it names none."""
    names = request.DESCRIPTOR.fields_by_name
    for field_name in ("parent", "name", "decision"):
        if field_name in names and isinstance(value := getattr(request, field_name), str):
            return value.removeprefix(PREFIX).partition("/")[0] if value.startswith(PREFIX) else ""
    for field_name in ("policy", "request"):
        if field_name in names:
            return tenant_of(getattr(request, field_name))
    return ""


def parse_keys(text: str) -> dict[str, Identity]:
    """Identities by the SHA-256 of their keys or "cn:" and a common name, from TOML. Raises SettingsError."""
    try:
        tables = tomllib.loads(text).get("keys", [])
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"keys: {error}") from error
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise SettingsError("keys: write one [[keys]] table a key")
    return dict(_parse_key(table, number) for number, table in enumerate(tables, 1))


def _parse_key(table: Mapping[str, Any], number: int) -> tuple[str, Identity]:
    digest, common = str(table.get("sha256", "")).lower(), str(table.get("certificate", ""))
    if not common and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        raise SettingsError(f"keys: key {number} needs sha256 with 64 hexadecimal digits, or certificate")
    tenant = str(table.get("tenant", "")).removeprefix(PREFIX)
    if tenant != ALL and not is_tenant_id(tenant):
        raise SettingsError(f'keys: tenant of key {number}: write {HINT}, or "-" for all')
    try:
        roles = frozenset(Role(str(role)) for role in table["roles"]) if "roles" in table else USUAL
    except ValueError as error:
        raise SettingsError(f"keys: key {number}: {error}; roles are {', '.join(Role)}") from error
    expires = table.get("expires", float("inf"))
    if isinstance(expires, datetime):
        expires = (expires if expires.tzinfo else expires.replace(tzinfo=UTC)).timestamp()
    if not isinstance(expires, int | float):
        raise SettingsError(f"keys: key {number}: expires is a date and time, such as 2027-01-31T00:00:00Z")
    name = str(table.get("name", common or f"key-{digest[:8]}"))
    own = "" if tenant == ALL else tenant
    identity = Identity(name, own, roles, str(table.get("rate", "")), float(expires))
    return f"cn:{common}" if common else digest, identity


def is_loopback(listen: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    return listen.startswith(LOOPBACK)


def shows(secrets: SecretFile) -> tuple[tuple[str, str], ...]:
    """The metadata by which a service shows the deployment's secret."""
    return ((SERVICE_KEY, secrets.first.decode("ascii", "replace")),)
