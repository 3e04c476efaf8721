"""What a name may look like is said once, and every service refuses the same ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from askonce import names
from askonce.faults import InvalidInput

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("tenant", ["a", "acme", "a-1", "0", "a" * 63])
def test_a_name_is_built_and_read(tenant: str) -> None:
    """What is built from a tenant's id is read back as that id."""
    assert names.tenant_id(names.tenant_name(tenant)) == tenant
    assert names.policy_tenant(names.policy_name(tenant)) == tenant
    assert names.split_child(names.child_name(tenant, "jobs", "x-1"), "jobs") == (tenant, "x-1")


@pytest.mark.parametrize("tenant", ["", "-a", "a-", "-", "A", "a_b", "a" * 64, "a/b", "..", "ä", "a\n", "a "])
def test_what_is_no_tenant_is_refused_everywhere(tenant: str) -> None:
    """A bad tenant is refused with the same reason as a parent, in a child's name and in a policy's."""
    for read in (names.tenant_id, lambda name: names.policy_tenant(f"{name}/policy")):
        with pytest.raises(InvalidInput) as refused:
            read(f"tenants/{tenant}")
        assert refused.value.reason == "TENANT_INVALID"
    with pytest.raises(InvalidInput) as refused:
        names.split_child(f"tenants/{tenant}/jobs/1", "jobs")
    assert refused.value.reason == "NAME_INVALID"


@pytest.mark.parametrize(
    "name",
    ["", "tenants/a/jobs", "tenants/a/entries/1", "tenants/a/jobs/", "tenants/a/jobs/1/2", "tenants/a/jobs/ 1",
     "tenants/a/jobs/.", "tenants/a/jobs/" + "x" * 129],
)  # fmt: skip
def test_what_is_no_child_is_refused(name: str) -> None:
    """A name of another collection, or with another number of parts, or with an id that must be escaped, is refused."""
    with pytest.raises(InvalidInput) as refused:
        names.split_child(name, "jobs")
    assert refused.value.reason == "NAME_INVALID"


def test_another_tenants_resource_is_refused() -> None:
    """A resource that is named within one tenant's request must be that tenant's."""
    with pytest.raises(InvalidInput):
        names.child_id("tenants/b/entries/1", "a", "entries")


def test_no_second_pattern() -> None:
    """No other module has a pattern of its own for names."""
    pattern = re.compile(r"re\.compile\([^\n]*tenants/")
    found = [
        str(path)
        for package in ("askonce", "gateway", "dedup_service", "inference_service")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "names.py" and pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
