"""Frozen settings from the environment and a TOML file.

A service describes its settings as a frozen dataclass whose attributes are documented in place. `load` fills one:
environment variables win over the file, the file over the defaults. An attribute `listen` of the section `gateway` is
read from `ASKONCE_GATEWAY_LISTEN`, or from `listen` under `[gateway]` in the file that `ASKONCE_CONFIG` names; an
attribute that is itself a dataclass adds its name: `ASKONCE_GATEWAY_TLS_KEY`, `[gateway.tls] key`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

TRUE, FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


class SettingsError(ValueError):
    """A setting is unknown or its value can't be read. The message names the setting and what it accepts."""


class StartError(RuntimeError):
    """A server can't start; the message says why and what to do."""


def load(kind: type[T], section: str, environ: Mapping[str, str] | None = None) -> T:
    """Returns a `kind` filled from the environment and the file that `ASKONCE_CONFIG` names, if any.

    Raises SettingsError for a value of the wrong type, an unknown key in the file's section, a variable of the
    section that names no setting, and a file that can't be read.
    """
    environ = os.environ if environ is None else environ
    table = read_file(environ.get("ASKONCE_CONFIG", "")).get(section, {})
    if not isinstance(table, dict):
        raise SettingsError(f"[{section}] must be a table")
    prefix = f"ASKONCE_{section.upper()}"
    used: set[str] = set()
    value = fill(kind, prefix, table, environ, used)
    unknown = sorted(name for name in environ if name.startswith(prefix + "_") and name not in used)
    if unknown:
        near = difflib.get_close_matches(unknown[0], used, 3, 0.6)
        hint = f"did you mean {' or '.join(near)}" if near else "--show-config lists them all"
        raise SettingsError(f"unknown setting {unknown[0]}; {hint}")
    return value


SECRET = ("ticket_key", "api_key", "token", "secret", "password")
"""Ends of the names of settings whose values are not shown."""


def describe(kind: type[T], section: str, environ: Mapping[str, str] | None = None) -> list[tuple[str, str, str]]:
    """Every setting's variable, value and source ("environment", the file's path, or "default"). Secrets are hidden.

    Raises SettingsError as `load` does.
    """
    environ = os.environ if environ is None else environ
    path = environ.get("ASKONCE_CONFIG", "")
    table = read_file(path).get(section, {})
    rows: list[tuple[str, str, str]] = []

    def walk(value: Any, prefix: str, given: Mapping[str, Any]) -> None:
        for field in fields(value):
            variable, found = f"{prefix}_{field.name.upper()}", getattr(value, field.name)
            if is_dataclass(found):
                walk(found, variable, given.get(field.name, {}))
                continue
            source = "environment" if variable in environ else path if field.name in given else "default"
            hidden = found and field.name.endswith(SECRET)
            rows.append((variable, "(hidden)" if hidden else shown(found), source))

    walk(load(kind, section, environ), f"ASKONCE_{section.upper()}", table)
    return rows


def shown(value: Any) -> str:
    """A value as it would be written in the environment; credentials in an address are hidden."""
    if isinstance(value, tuple):
        return ",".join(shown(each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    text = "" if value is None else str(value)
    return re.sub(r"(//[^:/@\s]+):[^@/\s]+@", r"\1:(hidden)@", text)


def read_file(path: str) -> dict[str, Any]:
    """The tables of a TOML file; empty when `path` is. Raises SettingsError when it can't be read."""
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"ASKONCE_CONFIG: can't read {path}: {error}") from error


def fill(
    kind: type[T],
    prefix: str,
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    used: set[str],
    default: T | None = None,
) -> T:
    """Builds one dataclass, from `default` where nothing is given; adds the names of the variables that it would read
    to `used`."""
    hints = get_type_hints(kind)
    names = {field.name for field in fields(cast(Any, kind))}
    if unknown := sorted(set(table) - names):
        raise SettingsError(f"unknown setting {unknown[0]!r} beside {', '.join(sorted(names))}")
    values: dict[str, Any] = {}
    for field in fields(cast(Any, kind)):
        hint, variable = hints[field.name], f"{prefix}_{field.name.upper()}"
        if is_dataclass(hint):
            nested = table.get(field.name, {})
            if not isinstance(nested, dict):
                raise SettingsError(f"{field.name!r} must be a table")
            made = default_of(field) if default is None else getattr(default, field.name)
            values[field.name] = fill(cast(type, hint), variable, nested, environ, used, made)
            continue
        used.add(variable)
        if variable in environ:
            values[field.name] = parse(environ[variable], hint, variable)
        elif field.name in table:
            values[field.name] = parse(table[field.name], hint, field.name)
        elif default is not None:
            values[field.name] = getattr(default, field.name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise SettingsError(f"{variable} is required")
    return kind(**values)


def default_of(field: Field[Any]) -> Any:
    """A field's default; None where it has none."""
    if field.default is not MISSING:
        return field.default
    return None if field.default_factory is MISSING else field.default_factory()


def parse(raw: Any, hint: Any, name: str) -> Any:
    """Turns a string or a TOML value into the hinted type. Raises SettingsError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if isinstance(raw, str) and raw == "" and type(None) in arguments:
            return None
        return parse(raw, next(each for each in arguments if each is not type(None)), name)
    if origin is tuple:
        items = [item.strip() for item in raw.split(",") if item.strip()] if isinstance(raw, str) else raw
        if not isinstance(items, list):
            raise SettingsError(f"{name}: expected a list")
        return tuple(parse(item, arguments[0], name) for item in items)
    try:
        return scalar(raw, hint)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name}: {raw!r} is not {wanted(hint)}") from error


def scalar(raw: Any, hint: Any) -> Any:
    """Converts one value, strictly: a TOML boolean is no number and a number is no string."""
    if hint is bool:
        if isinstance(raw, bool):
            return raw
        if str(raw).lower() in TRUE | FALSE:
            return str(raw).lower() in TRUE
        raise ValueError
    if isinstance(raw, bool):
        raise TypeError
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(raw)
    if hint is str and not isinstance(raw, str):
        raise TypeError
    return hint(raw)


def wanted(hint: Any) -> str:
    """Says in words what a hint accepts."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(str(member.value) for member in hint)
    return {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}.get(hint, f"a {hint}")
