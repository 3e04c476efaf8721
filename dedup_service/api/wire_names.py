"""Names on the wire: of resources and of enum values. The command line uses them too, so nothing large is imported."""

from __future__ import annotations

from askonce.faults import InvalidInput
from askonce.names import child_name


def decision_name(tenant: str, decision: str) -> str:
    """The resource name of a decision; empty for none."""
    return child_name(tenant, "decisions", decision)


def enum_name(kind: object, number: int, prefix: str, field: str) -> str:
    """The bare name of an enum value. Raises InvalidInput for a number that is not known here."""
    try:
        return str(kind.Name(number)).removeprefix(prefix)  # type: ignore[attr-defined]
    except ValueError:
        raise InvalidInput("ENUM_UNKNOWN", f"{field}: {number} is not a known value.", field=field) from None
