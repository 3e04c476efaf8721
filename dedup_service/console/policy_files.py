"""Policies in files, YAML or JSON: what they say of each tenant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from askonce.names import is_tenant_id
from dedup_service.api.policy_messages import ENUMS
from dedup_service.policy.policy import FIELDS

MOST = 1 << 20
"""Most bytes of a file."""


def read_policies(path: Path) -> dict[str, list[str]]:
    """The "name=value" words of each tenant in a file, in the file's order.

    The file holds `tenants`, a mapping of tenants' ids to fields and values as `policy set` takes them; a list stands
    for a list, and null for the default. Several YAML documents may follow each other. Raises click.BadParameter with
    the place of what is wrong.
    """
    try:
        content = path.read_bytes()
        if len(content) > MOST:
            raise click.BadParameter(f"{path}: {len(content):,} bytes, more than {MOST:,}")
        documents = [each for each in yaml.safe_load_all(content.decode()) if each is not None]
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}" if place else ""
        raise click.BadParameter(f"{path}{where}: no YAML and no JSON ({_brief(error)})") from error
    found: dict[str, list[str]] = {}
    for document in documents:
        for tenant, values in _mapping(document, path, "tenants").items():
            if not isinstance(tenant, str) or not is_tenant_id(tenant):
                raise click.BadParameter(f"{path}: {tenant!r} is no tenant: use 1 to 63 of a-z, 0-9 and -")
            if tenant in found:
                raise click.BadParameter(f"{path}: tenant {tenant} stands there twice")
            if not isinstance(values, Mapping):
                raise click.BadParameter(f"{path}: tenant {tenant}: expected fields and values")
            found[tenant] = [f"{name}={_text(value, str(name))}" for name, value in values.items()]
    if not found:
        raise click.BadParameter(f"{path}: names no tenant")
    return found


def with_defaults(words: list[str]) -> list[str]:
    """The same words, and those that put every other field back to its default."""
    named = {word.partition("=")[0].strip().replace("-", "_") for word in words}
    return [*words, *(f"{name}=" for name in FIELDS if name not in named)]


def _mapping(document: Any, path: Path, key: str) -> Mapping[Any, Any]:
    if not isinstance(document, Mapping) or not isinstance(document.get(key), Mapping):
        raise click.BadParameter(f"{path}: expected `{key}:` with a mapping of tenants' ids to fields")
    if others := [str(name) for name in document if name != key]:
        raise click.BadParameter(f"{path}: unknown key {others[0]!r} beside `{key}`")
    found: Mapping[Any, Any] = document[key]
    return found


def _text(value: Any, name: str) -> str:
    """A value as `policy set` reads it. OFF, which YAML takes for false, is a mode again where a mode is meant."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "OFF" if name in ENUMS and not value else str(value).lower()
    if isinstance(value, list):
        return ",".join(_text(each, name) for each in value)
    return str(value)


def _brief(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
