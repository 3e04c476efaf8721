"""Values as people type them: lengths of time, shares, assignments to a policy's fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import click

from askonce.names import is_tenant_id, policy_name
from askonce.times import to_duration
from askonce.v1 import policy_pb2
from dedup_service.api import policy_messages
from dedup_service.policy.policy import FIELDS, Policy

UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def seconds_of(text: str) -> float:
    """Seconds in "90", "15m", "2h", "7d" or "4w". Raises ValueError."""
    found = LENGTH.fullmatch(text.strip())
    unit = UNITS.get(found[2].lower() or "s") if found else None
    if found is None or unit is None:
        raise ValueError(f"{text!r} is no length of time: use a number with s, m, h, d or w")
    return float(found[1]) * unit


def share_of(text: str) -> float:
    """A share in "1%", "0.5 %" or "0.01". Raises ValueError unless it lies from 0 to 1."""
    plain = text.strip()
    share = float(plain.removesuffix("%").strip()) / 100 if plain.endswith("%") else float(plain)
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is no share: use 0 to 1, or 0% to 100%")
    return share


class Length(click.ParamType[float]):
    """An option that takes a length of time."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        try:
            return value if isinstance(value, float) else seconds_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Share(click.ParamType[float]):
    """An option that takes a share."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """0 to 1."""
        try:
            return value if isinstance(value, float) else share_of(str(value))
        except ValueError as error:
            self.fail(str(error) if "share" in str(error) else f"{value!r} is no share", param, ctx)


class Tenant(click.ParamType[str]):
    """An option that takes a tenant's id."""

    name = "TENANT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id, without "tenants/"."""
        plain = str(value).removeprefix("tenants/")
        if not is_tenant_id(plain):
            self.fail(f"{value!r} is no tenant: use 1 to 63 of a-z, 0-9 and -", param, ctx)
        return plain


LENGTH_OPTION, SHARE_OPTION, TENANT_OPTION = Length(), Share(), Tenant()
tenant_option = click.option("--tenant", type=TENANT_OPTION, required=True, help="The tenant's id.")


def from_assignments(tenant: str, assignments: Sequence[str]) -> tuple[policy_pb2.Policy, list[str]]:
    """The message and the mask of "name=value" words. A value is read by the field's type: a share may be "1%", a time
    "2h", a list "a,b"; "name=" alone puts the field back to its default. Raises click.BadParameter."""
    message = policy_pb2.Policy(name=policy_name(tenant))
    mask: list[str] = []
    for word in assignments:
        name, equals, raw = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in FIELDS:
            raise click.BadParameter(f"{word!r}: expected FIELD=VALUE with a field of {', '.join(FIELDS)}")
        mask.append(name)
        if raw.strip() == "":
            continue
        try:
            put(message, name, raw.strip())
        except ValueError as error:
            raise click.BadParameter(f"{name}: {error}") from error
    if not mask:
        raise click.BadParameter("name at least one FIELD=VALUE")
    return message, mask


def put(message: policy_pb2.Policy, name: str, raw: str) -> None:
    """Sets one field from its text. Raises ValueError."""
    default = getattr(Policy(), name)
    if name in policy_messages.ENUMS:
        kind, wire_kind, prefix = policy_messages.ENUMS[name]
        if raw.upper() not in kind.__members__:
            raise ValueError(f"one of {', '.join(kind)}, not {raw!r}")
        setattr(message, name, wire_kind.Value(f"{prefix}{raw.upper()}"))
    elif name in policy_messages.DURATIONS:
        getattr(message, name).CopyFrom(to_duration(seconds_of(raw)))
    elif name == "protected_terms":
        message.protected_terms.extend(term.strip() for term in re.split(r"[,，]", raw) if term.strip())
    elif isinstance(default, str):
        setattr(message, name, raw)
    elif isinstance(default, bool):
        if raw.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise ValueError(f"true or false, not {raw!r}")
        setattr(message, name, raw.lower() in ("true", "yes", "1"))
    elif isinstance(default, int):
        setattr(message, name, int(raw))
    else:
        setattr(message, name, share_of(raw) if raw.endswith("%") else float(raw))


def rows_of(policy: policy_pb2.Policy) -> list[tuple[str, str]]:
    """A policy's fields with their values as people read them."""
    rows = []
    for field in fields(Policy):
        value = policy_messages.value_of(policy, field.name)
        rows.append((field.name, shown(field.name, value)))
    return rows


def shown(name: str, value: Any) -> str:
    """A value of a policy in words."""
    if name in policy_messages.DURATIONS:
        for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("m", 60.0)):
            if value and value % size == 0:
                return f"{value / size:g}{unit}"
        return f"{value:g}s"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
