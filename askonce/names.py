"""Resource names: the one place that says what a tenant, an entry, a decision, a job or a report is called.

A tenant is `tenants/{tenant}`; what belongs to it is `tenants/{tenant}/{collection}/{id}`.
"""

from __future__ import annotations

import re

from askonce.faults import InvalidInput

TENANT_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A tenant's id: 1 to 63 of a-z, 0-9 and "-", neither first nor last a "-" (a DNS label, RFC 1035)."""
RESOURCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.~-]{0,127}")
"""The id of anything else: 1 to 128 characters that need no escaping in an address (RFC 3986)."""
PREFIX = "tenants/"
ALL = "-"
"""Stands for every tenant where a list or a report may span them (AIP-159)."""
POLICY = "/policy"
HINT = '1 to 63 of a-z, 0-9 and "-", not first or last'


PROBE_TENANT = "askonce-doctor"
"""The tenant of the doctor's probes, which no figure over all tenants counts."""


def is_tenant_id(text: str) -> bool:
    """Whether `text` can be the id of a tenant."""
    return TENANT_ID.fullmatch(text) is not None


def tenant_name(tenant: str) -> str:
    """`tenants/{tenant}`."""
    return f"{PREFIX}{tenant}"


def tenant_id(name: str, field: str = "parent") -> str:
    """The id in `tenants/{tenant}`. Raises InvalidInput (TENANT_INVALID), which names `field`."""
    found = name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or not is_tenant_id(found):
        raise InvalidInput("TENANT_INVALID", f"{field}: write tenants/ and {HINT}.", field=field)
    return found


def child_name(tenant: str, collection: str, resource: str) -> str:
    """`tenants/{tenant}/{collection}/{id}`; empty for an empty id."""
    return f"{PREFIX}{tenant}/{collection}/{resource}" if resource else ""


def split_child(name: str, collection: str, field: str = "name", *, wildcard: bool = False) -> tuple[str, str]:
    """Tenant and id of `tenants/{tenant}/{collection}/{id}`; with `wildcard` the tenant may be `ALL`. Raises
    InvalidInput (NAME_INVALID)."""
    parts = name.split("/")
    if (
        len(parts) != 4
        or parts[0] != "tenants"
        or parts[2] != collection
        or not (is_tenant_id(parts[1]) or (wildcard and parts[1] == ALL))
        or not RESOURCE_ID.fullmatch(parts[3])
    ):
        raise InvalidInput("NAME_INVALID", f"{field}: write tenants/{{tenant}}/{collection}/{{id}}.", field=field)
    return parts[1], parts[3]


def child_id(name: str, tenant: str, collection: str, field: str = "name") -> str:
    """The id of a resource, which must be `tenant`'s. Raises InvalidInput (NAME_INVALID)."""
    owner, resource = split_child(name, collection, field)
    if owner != tenant:
        raise InvalidInput("NAME_INVALID", f"{field}: write tenants/{tenant}/{collection}/{{id}}.", field=field)
    return resource


def policy_name(tenant: str) -> str:
    """`tenants/{tenant}/policy`."""
    return f"{PREFIX}{tenant}{POLICY}"


def policy_tenant(name: str, field: str = "name") -> str:
    """The tenant of `tenants/{tenant}/policy`. Raises InvalidInput (NAME_INVALID or TENANT_INVALID)."""
    if not name.endswith(POLICY):
        raise InvalidInput("NAME_INVALID", f"{field}: write tenants/{{tenant}}/policy.", field=field)
    return tenant_id(name.removesuffix(POLICY), field)
