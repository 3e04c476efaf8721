"""`askonce policy`: reads and changes the policies of tenants."""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import click
import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from askonce import telemetry
from askonce.access import OPERATOR
from askonce.names import policy_name
from askonce.times import to_duration
from askonce.v1 import policy_pb2, policy_pb2_grpc
from dedup_service.console.calling import Peer, with_peer
from dedup_service.console.policy_files import read_policies, with_defaults
from dedup_service.console.printing import as_json, moment, print_json, print_table, say
from dedup_service.console.values import LENGTH_OPTION, TENANT_OPTION, from_assignments, rows_of, tenant_option

STUDY = 300.0
"""Least seconds granted to a preview or suggestion: they may read a million decisions."""


@click.group()
def policy() -> None:
    """What each tenant allows, and what a change would do."""


def stub_of(channel: grpc.aio.Channel) -> policy_pb2_grpc.PolicyServiceAsyncStub:
    """The service's stub."""
    stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
    return stub


def metadata() -> tuple[tuple[str, str], ...]:
    """What goes along with a change: who sits at this terminal, for the history, where a key names a service only."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return telemetry.outgoing()
    return (*telemetry.outgoing(), (OPERATOR, quote(name)))


@policy.command()
@tenant_option
@as_json
@with_peer
def get(peer: Peer, tenant: str, json_: bool) -> None:
    """Show the policy in force."""

    async def work(channel: grpc.aio.Channel) -> policy_pb2.Policy:
        request = policy_pb2.GetPolicyRequest(name=policy_name(tenant))
        return await stub_of(channel).GetPolicy(request, timeout=peer.timeout, metadata=telemetry.outgoing())

    show(peer.call(work), json_)


@policy.command(name="set")
@click.argument("assignments", nargs=-1, required=True, metavar="FIELD=VALUE...")
@tenant_option
@click.option("--note", default="", help="Why, for the history.")
@click.option("--etag", default="", help="Refuse when the policy is no longer the one with this etag.")
@click.option("--validate-only", is_flag=True, help="Check, and change nothing.")
@as_json
@with_peer
def set_(
    peer: Peer, assignments: tuple[str, ...], tenant: str, note: str, etag: str, validate_only: bool, json_: bool
) -> None:
    """Change fields of the policy, such as error_budget=0.5% mode=VERIFIED hot_ttl=2h. FIELD= restores a default."""
    message, mask = from_assignments(tenant, assignments)
    message.etag = etag

    async def work(channel: grpc.aio.Channel) -> policy_pb2.Policy:
        request = policy_pb2.UpdatePolicyRequest(
            policy=message, update_mask=FieldMask(paths=mask), validate_only=validate_only, note=note
        )
        return await stub_of(channel).UpdatePolicy(request, timeout=peer.timeout, metadata=metadata())

    changed = peer.call(work)
    if validate_only and not json_:
        say("Valid; nothing was changed.")
    show(changed, json_)


FILE_OPTION = click.option(
    "-f", "--file", "path", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A YAML or JSON file: `tenants:` with each tenant's fields, as `policy set` takes them.",
)  # fmt: skip
RESET_OPTION = click.option(
    "--reset", is_flag=True, help="Fields that the file does not name go back to their defaults, instead of staying."
)


@policy.command(name="apply")
@FILE_OPTION
@RESET_OPTION
@click.option("--note", default="", help="Why, for the history.")
@click.option("--dry-run", is_flag=True, help="Check, say what would change, and change nothing.")
@as_json
@with_peer
def apply_(peer: Peer, path: Path | None, reset: bool, note: str, dry_run: bool, json_: bool) -> None:
    """Bring the policies of tenants to what a file says. A tenant that is there already gets no new revision."""
    wanted = wanted_of(path, reset)

    async def work(channel: grpc.aio.Channel) -> list[Change]:
        stub = stub_of(channel)
        changes = [await change_of(stub, peer, tenant, words) for tenant, words in wanted.items()]
        for change in changes if not dry_run else []:
            if change.rows:
                change.proposed.etag = change.current.etag
                request = policy_pb2.UpdatePolicyRequest(
                    policy=change.proposed, update_mask=FieldMask(paths=change.mask), note=note
                )
                await stub.UpdatePolicy(request, timeout=peer.timeout, metadata=metadata())
        return changes

    changes = peer.call(work)
    show_changes(changes, json_)
    if not json_:
        count = sum(bool(change.rows) for change in changes)
        say(f"{count} of {len(changes)} policies {'would be changed' if dry_run else 'changed'}.")


@policy.command()
@FILE_OPTION
@RESET_OPTION
@click.option("--tenant", type=TENANT_OPTION, help="The tenant whose revisions to compare, instead of a file.")
@click.argument("revisions", nargs=-1, type=click.IntRange(1), metavar="[FROM [TO]]")
@as_json
@with_peer
def diff(
    peer: Peer, path: Path | None, reset: bool, tenant: str | None, revisions: tuple[int, ...], json_: bool
) -> None:
    """Show what `apply` would change; with --tenant, what differs between revisions FROM and TO (else the one in
    force). Exit code 1 when something differs."""
    if (path is None) == (tenant is None):
        raise click.UsageError("name either a file with -f, or a tenant and its revisions")
    if tenant is not None and not 1 <= len(revisions) <= 2:
        raise click.UsageError("name one revision or two to compare, such as: policy diff --tenant acme 3 5")

    async def work(channel: grpc.aio.Channel) -> list[Change]:
        stub = stub_of(channel)
        if tenant is not None:
            found = [await revision_of(stub, peer, tenant, number) for number in revisions]
            if len(found) == 1:
                found.append(await current_of(stub, peer, tenant))
            return [Change(tenant, found[0], found[1], [], rows_between(found[0], found[1]))]
        return [await change_of(stub, peer, name, words) for name, words in wanted_of(path, reset).items()]

    changes = peer.call(work)
    show_changes(changes, json_)
    if any(change.rows for change in changes):
        raise SystemExit(1)
    if not json_:
        say("Nothing differs.")


@dataclass(frozen=True)
class Change:
    """A policy as it is, and as it would be."""

    tenant: str
    current: policy_pb2.Policy
    proposed: policy_pb2.Policy
    mask: list[str]
    rows: list[tuple[str, str, str]]
    """Field, value now, value then, where they differ."""


def wanted_of(path: Path | None, reset: bool) -> dict[str, list[str]]:
    """What a file asks for. Raises click.UsageError without a file."""
    if path is None:
        raise click.UsageError("name the file with -f")
    wanted = read_policies(path)
    return {tenant: with_defaults(words) if reset else words for tenant, words in wanted.items()}


async def current_of(stub: policy_pb2_grpc.PolicyServiceAsyncStub, peer: Peer, tenant: str) -> policy_pb2.Policy:
    """The policy in force."""
    request = policy_pb2.GetPolicyRequest(name=policy_name(tenant))
    found: policy_pb2.Policy = await stub.GetPolicy(request, timeout=peer.timeout, metadata=telemetry.outgoing())
    return found


async def revision_of(
    stub: policy_pb2_grpc.PolicyServiceAsyncStub, peer: Peer, tenant: str, revision: int
) -> policy_pb2.Policy:
    """One revision of the history. Raises click.BadParameter where there is none of that number."""
    request = policy_pb2.ListPolicyRevisionsRequest(name=policy_name(tenant), page_size=1, page_token=str(revision + 1))
    page = await stub.ListPolicyRevisions(request, timeout=peer.timeout, metadata=telemetry.outgoing())
    if not page.policies or page.policies[0].revision != revision:
        raise click.BadParameter(f"tenant {tenant} has no revision {revision}")
    found: policy_pb2.Policy = page.policies[0]
    return found


async def change_of(stub: policy_pb2_grpc.PolicyServiceAsyncStub, peer: Peer, tenant: str, words: list[str]) -> Change:
    """What these words would change of a tenant's policy; the service checks them and changes nothing."""
    current = await current_of(stub, peer, tenant)
    message, mask = from_assignments(tenant, words)
    request = policy_pb2.UpdatePolicyRequest(policy=message, update_mask=FieldMask(paths=mask), validate_only=True)
    proposed = await stub.UpdatePolicy(request, timeout=peer.timeout, metadata=telemetry.outgoing())
    return Change(tenant, current, message, mask, rows_between(current, proposed))


def rows_between(one: policy_pb2.Policy, other: policy_pb2.Policy) -> list[tuple[str, str, str]]:
    """The fields in which two policies differ, with both values."""
    after = dict(rows_of(other))
    return [(name, value, after[name]) for name, value in rows_of(one) if value != after[name]]


def show_changes(changes: list[Change], json_: bool) -> None:
    """Prints what differs, tenant by tenant."""
    if json_:
        found = {
            change.tenant: {name: {"from": before, "to": after} for name, before, after in change.rows}
            for change in changes
        }
        say(json.dumps(found, ensure_ascii=False))
        return
    for change in changes:
        if change.rows:
            print_table(("field", "from", "to"), change.rows, f"tenants/{change.tenant}/policy")


@policy.command()
@tenant_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1_000), help="Most revisions to show.")
@as_json
@with_peer
def revisions(peer: Peer, tenant: str, limit: int, json_: bool) -> None:
    """List the policy's history, newest first."""

    async def work(channel: grpc.aio.Channel) -> list[policy_pb2.Policy]:
        found: list[policy_pb2.Policy] = []
        token = ""
        while len(found) < limit:
            request = policy_pb2.ListPolicyRevisionsRequest(
                name=policy_name(tenant), page_size=min(100, limit - len(found)), page_token=token
            )
            page = await stub_of(channel).ListPolicyRevisions(
                request, timeout=peer.timeout, metadata=telemetry.outgoing()
            )
            found.extend(page.policies)
            token = page.next_page_token
            if not token:
                break
        return found

    found = peer.call(work)
    if json_:
        print_json(policy_pb2.ListPolicyRevisionsResponse(policies=found))
        return
    rows = []
    for i, each in enumerate(found):
        before = dict(rows_of(found[i + 1])) if i + 1 < len(found) else {}
        changes = ", ".join(f"{name}={value}" for name, value in rows_of(each) if before and before[name] != value)
        restored = f"restored {each.restored_revision}" if each.HasField("restored_revision") else ""
        rows.append((each.revision, moment(each.create_time.seconds), each.author, changes or restored, each.note))
    print_table(("revision#", "made (UTC)", "by", "changed", "note"), rows)


@policy.command()
@click.argument("revision", type=int)
@tenant_option
@click.option("--note", default="", help="Why, for the history.")
@click.option("--etag", default="", help="Refuse when the policy is no longer the one with this etag.")
@as_json
@with_peer
def rollback(peer: Peer, revision: int, tenant: str, note: str, etag: str, json_: bool) -> None:
    """Bring the policy of an earlier REVISION back; 0 is the service's default."""

    async def work(channel: grpc.aio.Channel) -> policy_pb2.Policy:
        request = policy_pb2.RollbackPolicyRequest(name=policy_name(tenant), revision=revision, etag=etag, note=note)
        response = await stub_of(channel).RollbackPolicy(request, timeout=peer.timeout, metadata=metadata())
        return response.policy

    show(peer.call(work), json_)


@policy.command()
@click.argument("assignments", nargs=-1, required=True, metavar="FIELD=VALUE...")
@tenant_option
@click.option("--since", "window", type=LENGTH_OPTION, default="7d", show_default=True, help="How far back to look.")
@click.option("--examples", default=10, show_default=True, type=click.IntRange(0, 100), help="Flips to show.")
@as_json
@with_peer
def preview(peer: Peer, assignments: tuple[str, ...], tenant: str, window: float, examples: int, json_: bool) -> None:
    """Say what other values would have done with the decisions on record."""
    message, mask = from_assignments(tenant, assignments)

    async def work(channel: grpc.aio.Channel) -> policy_pb2.PreviewPolicyResponse:
        request = policy_pb2.PreviewPolicyRequest(
            policy=message, update_mask=FieldMask(paths=mask), window=to_duration(window), example_count=examples
        )
        return await stub_of(channel).PreviewPolicy(
            request, timeout=max(STUDY, peer.timeout), metadata=telemetry.outgoing()
        )

    found = peer.call(work)
    if json_:
        print_json(found)
        return
    print_table(
        ("", "now#", "then#"),
        [
            ("hit rate", f"{found.hit_rate:.1%}", f"{found.proposed_hit_rate:.1%}"),
            ("wrong answers among hits", interval(found.wrong_rate), interval(found.proposed_wrong_rate)),
            (f"the model's own ({found.repeat_label_count:,} labels)", "", interval(found.model_wrong_rate)),
            ("reuse's, beyond that", "", interval(found.reuse_wrong_rate)),
        ],
        f"{found.decision_count:,} decisions: {found.gained_count:,} misses turn to hits, {found.lost_count:,} back",
    )
    if found.unjudged_fields:
        say(f"Not judged: {', '.join(found.unjudged_fields)} change what evidence is gathered.")
    if found.flips:
        rows = [
            (
                "+" if flip.gained else "-",
                flip.reason,
                flip.question,
                flip.nearest_question,
                flip.nearest_answer,
                said(flip),
            )
            for flip in found.flips
        ]
        print_table(("", "reason then", "question", "stored question", "stored answer", "known"), rows, "Examples")


@policy.command()
@tenant_option
@click.option("--since", "window", type=LENGTH_OPTION, default="30d", show_default=True, help="How far back to look.")
@as_json
@with_peer
def suggest(peer: Peer, tenant: str, window: float, json_: bool) -> None:
    """Suggest the thresholds with the most hits whose wrong answers stay inside the error budget."""

    async def work(channel: grpc.aio.Channel) -> policy_pb2.SuggestPolicyResponse:
        request = policy_pb2.SuggestPolicyRequest(name=policy_name(tenant), window=to_duration(window))
        return await stub_of(channel).SuggestPolicy(
            request, timeout=max(STUDY, peer.timeout), metadata=telemetry.outgoing()
        )

    found = peer.call(work)
    if json_:
        print_json(found)
        return
    if found.reason == "SUGGESTED":
        say(
            f"Hit rate {found.hit_rate:.1%} now, {found.proposed_hit_rate:.1%} with the suggestion; at most "
            f"{found.wrong_rate_upper:.2%} of it wrong ({found.wrong_count} of {found.label_count:,} labels)."
        )
        say(
            f"askonce policy set --tenant {tenant} mode=STATIC image_threshold={found.policy.image_threshold:.9g} "
            f"question_threshold={found.policy.question_threshold:.9g}"
        )
    else:
        say(
            f"{found.reason}: {found.label_count:,} labels, {found.wrong_count:,} wrong; at least "
            f"{found.needed_label_count:,} more right ones are needed."
        )
    rows = [
        (s.stratum, policy_pb2.BoundRule.Name(s.rule).removeprefix("BOUND_RULE_"), f"{s.max_risk:.4f}",
         f"{s.label_count:,}", f"{s.wrong_count:,}", f"{s.wrong_rate_upper:.2%}", f"{s.needed_label_count:,}")
        for s in found.strata
    ]  # fmt: skip
    if rows:
        print_table(
            ("evidence", "rule", "greatest risk#", "labels#", "wrong#", "at most wrong#", "labels missing#"),
            rows,
            "What VERIFIED mode learns from the same labels",
        )


def show(found: policy_pb2.Policy, json_: bool) -> None:
    """Prints a policy."""
    if json_:
        print_json(found)
        return
    made = f", made {moment(found.create_time.seconds)} UTC" if found.HasField("create_time") else ", the default"
    print_table(("field", "value"), rows_of(found), f"{found.name}, revision {found.revision}{made}, etag {found.etag}")


def interval(rate: policy_pb2.RateInterval) -> str:
    """An interval in per cent."""
    return f"{rate.mid:.2%} ({rate.low:.2%} to {rate.high:.2%})"


def said(flip: policy_pb2.PolicyFlip) -> str:
    """What is known about the stored answer of a flip."""
    return ("right" if flip.right else "wrong") if flip.HasField("right") else ""
