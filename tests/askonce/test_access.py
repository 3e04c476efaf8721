"""Who may do what is one closed table; keys carry roles and a tenant, and can be changed while services run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from askonce import access
from askonce.access import Access, Guard, Identity, Keyring, Role
from askonce.faults import Forbidden, Unauthenticated
from askonce.settings import SettingsError
from askonce.v1 import (
    answer_pb2,
    audit_pb2,
    dedup_pb2,
    inference_pb2,
    job_pb2,
    policy_pb2,
    store_pb2,
)


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """A guard with an operator of one tenant, an auditor of all, and a service key."""
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[[keys]]\nsha256 = "{sha256("op")}"\ntenant = "acme"\nroles = ["operator"]\nname = "ops"\n'
        f'[[keys]]\nsha256 = "{sha256("audit")}"\ntenant = "-"\nroles = ["auditor"]\n'
        f'[[keys]]\nsha256 = "{sha256("gone")}"\ntenant = "acme"\nexpires = 2020-01-01T00:00:00Z\n'
        f'[[keys]]\ncertificate = "billing.example.com"\ntenant = "acme"\n',
        encoding="utf-8",
    )
    return Guard(Access(tmp_path / "service.key", keys))


def test_every_method_stands_in_the_table() -> None:
    """Each method of each service says which roles will do; a method that is new is refused until it does."""
    modules = (answer_pb2, audit_pb2, dedup_pb2, inference_pb2, job_pb2, policy_pb2, store_pb2)
    methods = {
        f"{service.name}/{method.name}"
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods <= access.METHODS.keys()
    assert {name for name in access.METHODS if not name.startswith("Operations/")} == methods


def test_what_changes_or_removes_is_an_operators() -> None:
    """Policies, purges and imports need the operator; neither readers nor writers may export or audit."""
    for name in ("PolicyService/UpdatePolicy", "PolicyService/RollbackPolicy", "StoreService/Purge",
                 "StoreService/ImportEntries"):  # fmt: skip
        assert access.METHODS[name] == {Role.OPERATOR}
        assert name in access.ADMINISTRATIVE
    for name, roles in access.METHODS.items():
        if name.startswith(("AuditService/", "StoreService/")):
            assert not roles & {Role.READER, Role.WRITER}


def test_keys_carry_roles_and_a_tenant(guard: Guard) -> None:
    """A key may do what its roles allow, for its tenant only."""
    operator = guard.identify({"x-api-key": "op"})
    assert (operator.name, operator.tenant) == ("ops", "acme")
    guard.allow(operator, "StoreService/Purge")
    guard.allow_tenant(operator, store_pb2.PurgeRequest(parent="tenants/acme"))
    with pytest.raises(Forbidden) as foreign:
        guard.allow_tenant(operator, store_pb2.PurgeRequest(parent="tenants/globex"))
    assert foreign.value.reason == "TENANT_MISMATCH"
    with pytest.raises(Forbidden) as lacking:
        guard.allow(operator, "DedupService/Lookup")
    assert lacking.value.reason == "ROLE_MISSING"
    auditor = guard.identify({"authorization": "bearer audit"})
    guard.allow(auditor, "StoreService/ExportEntries")
    guard.allow_tenant(auditor, store_pb2.ExportEntriesRequest(parent="tenants/globex"))


@pytest.mark.parametrize(
    "message",
    [
        policy_pb2.UpdatePolicyRequest(policy=policy_pb2.Policy(name="tenants/globex/policy")),
        policy_pb2.GetPolicyRequest(name="tenants/globex/policy"),
        audit_pb2.GetAuditReportRequest(name="tenants/-/auditReports/1"),
        audit_pb2.CreateAuditReportRequest(parent="tenants/-"),
        answer_pb2.StreamAnswerRequest(request=answer_pb2.AnswerRequest(parent="tenants/globex")),
        answer_pb2.SubmitFeedbackRequest(decision="tenants/globex/decisions/1"),
        store_pb2.PurgeRequest(),
    ],
)  # fmt: skip
def test_a_bound_key_reaches_no_other_tenant(guard: Guard, message: object) -> None:
    """Wherever a message names its tenant, a key that is bound to another is refused, as it is for all tenants."""
    with pytest.raises(Forbidden):
        guard.allow_tenant(Identity("ops", "acme", frozenset(Role)), message)


@pytest.mark.parametrize("metadata", [{}, {"x-api-key": "gone"}, {"x-api-key": "guess"},
                                      {"askonce-service-key": "guess"}, {"authorization": "Basic op"}])  # fmt: skip
def test_who_is_unknown_is_refused(guard: Guard, metadata: dict[str, str]) -> None:
    """No key, an expired one, a wrong one: nobody is let in."""
    with pytest.raises(Unauthenticated):
        guard.identify(metadata)


def test_a_certificate_is_a_key_too(guard: Guard) -> None:
    """With mTLS the common name of a listed certificate says who calls."""
    assert guard.identify({}, "billing.example.com").tenant == "acme"
    with pytest.raises(Unauthenticated):
        guard.identify({}, "other.example.com")


def test_the_service_key_is_changed_while_services_run(tmp_path: Path) -> None:
    """Whoever shows a listed secret belongs to the deployment; a guard that reads its files again knows the new one,
    and no more the one that was taken out."""
    path = tmp_path / "service.key"
    path.write_text("old-key-of-enough-length\n", encoding="ascii")
    guard = Guard(Access(path))

    def known(key: str) -> bool:
        try:
            return guard.identify({access.SERVICE_KEY: key}).roles == frozenset(Role)
        except Unauthenticated:
            return False

    assert [known("new-key-of-enough-length"), known("old-key-of-enough-length")] == [False, True]
    path.write_text("new-key-of-enough-length\nold-key-of-enough-length\n", encoding="ascii")
    guard.refresh()
    assert [known("new-key-of-enough-length"), known("old-key-of-enough-length")] == [True, True]
    path.write_text("new-key-of-enough-length\n", encoding="ascii")
    guard.refresh()
    assert [known("new-key-of-enough-length"), known("old-key-of-enough-length")] == [True, False]


def test_a_file_of_keys_is_read_again(tmp_path: Path) -> None:
    """A key that is added counts without a restart, one that is taken out no more; a broken file changes nothing."""
    path = tmp_path / "keys.toml"

    def write(text: str, stamp: int) -> None:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(stamp, stamp))

    write(f'[[keys]]\nsha256 = "{sha256("a")}"\ntenant = "acme"\n', 1)
    ring = Keyring(path)
    assert ring.find(sha256("a")) is not None
    write(f'[[keys]]\nsha256 = "{sha256("b")}"\ntenant = "acme"\n', 2)
    ring.refresh()
    assert ring.find(sha256("a")) is None
    assert ring.find(sha256("b")) is not None
    write("[[keys]\n", 3)
    with pytest.raises(SettingsError, match="keys"):
        ring.refresh()
    assert ring.find(sha256("b")) is not None


@pytest.mark.parametrize(
    "text",
    ['[[keys]]\ntenant = "acme"', '[[keys]]\nsha256 = "xyz"\ntenant = "acme"', "keys = 3",
     f'[[keys]]\nsha256 = "{"0" * 64}"\ntenant = "-a"',
     f'[[keys]]\nsha256 = "{"0" * 64}"\ntenant = "a"\nroles = ["root"]',
     f'[[keys]]\nsha256 = "{"0" * 64}"\ntenant = "a"\nexpires = "soon"'],
)  # fmt: skip
def test_a_bad_key_is_an_error_of_the_start(text: str) -> None:
    """What is wrong with a file of keys is said when it is read, not at each call."""
    with pytest.raises(SettingsError, match="keys"):
        access.parse_keys(text)


def test_an_open_service_lets_everybody_in(tmp_path: Path) -> None:
    """Only where the setting says so."""
    guard = Guard(Access(tmp_path / "never-made.key", open=True))
    guard.allow(guard.identify({}), "StoreService/Purge")
    assert not (tmp_path / "never-made.key").exists()


@pytest.mark.parametrize(("listen", "alone"), [("127.0.0.1:0", True), ("[::1]:1", True), ("localhost:5", True),
                         ("0.0.0.0:1", False), ("[::]:1", False), ("10.0.0.1:1", False), (":1", False)])  # fmt: skip
def test_loopback(listen: str, alone: bool) -> None:
    """An address is the machine's own only if it says so."""
    assert access.is_loopback(listen) is alone
