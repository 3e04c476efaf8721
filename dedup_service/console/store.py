"""`askonce purge`, `export` and `import`: removes, copies out and brings in what is remembered."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import grpc
from google.protobuf.duration_pb2 import Duration
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from askonce import telemetry
from askonce.names import tenant_name
from askonce.times import to_duration
from askonce.v1 import store_pb2, store_pb2_grpc
from dedup_service.console import exports
from dedup_service.console.calling import Failure, Peer, with_peer
from dedup_service.console.printing import as_json, print_json, say
from dedup_service.console.values import LENGTH_OPTION, TENANT_OPTION, tenant_option

HOURS = 6 * 3_600.0
"""Seconds that a whole export or import may take."""


def stub_of(channel: grpc.aio.Channel) -> store_pb2_grpc.StoreServiceAsyncStub:
    """The service's stub."""
    return store_pb2_grpc.StoreServiceStub(channel)


@click.command()
@tenant_option
@click.option("--image", "image", help="Entries of this image: a file, or its SHA-256 in hexadecimal.")
@click.option("--model", default="", help="Entries answered by this model.")
@click.option("--model-revision", default="", help="Entries answered by this revision of --model.")
@click.option("--tag", default="", help="Entries stored with this tag.")
@click.option("--older-than", "min_age", type=LENGTH_OPTION, help="Entries stored longer ago, such as 3d.")
@click.option("--stale-encoders", is_flag=True, help="What other encoders than the present ones left behind.")
@click.option("--all", "all_", is_flag=True, help="Everything of the tenant.")
@click.option("--dry-run", is_flag=True, help="Count, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@with_peer
def purge(
    peer: Peer,
    tenant: str,
    image: str | None,
    model: str,
    model_revision: str,
    tag: str,
    min_age: float | None,
    stale_encoders: bool,
    all_: bool,
    dry_run: bool,
    yes: bool,
    json_: bool,
) -> None:
    """Remove what every given condition applies to; asks first, with the count."""
    request = store_pb2.PurgeRequest(
        parent=tenant_name(tenant),
        image_digest=digest_of(image) if image else b"",
        model=model,
        model_revision=model_revision,
        tag=tag,
        min_age=length(min_age),
        stale_encoders=stale_encoders,
        all=all_,
        dry_run=True,
    )

    async def work(channel: grpc.aio.Channel) -> store_pb2.PurgeResponse:
        return await stub_of(channel).Purge(request, timeout=max(60.0, peer.timeout), metadata=telemetry.outgoing())

    if dry_run or not yes:
        found = peer.call(work)
        if dry_run:
            show(found, json_, "would be removed")
            return
        click.confirm(f"Remove {found.entry_count:,} entries of {found.image_count:,} images?", abort=True, err=True)
    request.dry_run = False
    show(peer.call(work), json_, "removed")


def show(found: store_pb2.PurgeResponse, json_: bool, done: str) -> None:
    """Prints what a purge counted."""
    if json_:
        print_json(found)
    else:
        say(f"{found.entry_count:,} entries, {found.image_count:,} images and {found.alias_count:,} copies {done}.")


def digest_of(image: str) -> bytes:
    """The SHA-256 that names an image: read from hexadecimal, or of a file."""
    path = Path(image)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).digest()
    try:
        digest = bytes.fromhex(image)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise Failure(f"IMAGE_MALFORMED: {image!r} is neither a file nor 64 hexadecimal digits")
    return digest


def length(seconds: float | None) -> Duration | None:
    """A length of time as a message; None when not given."""
    return None if seconds is None else to_duration(seconds)


@click.command()
@tenant_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@as_json
@with_peer
def export(peer: Peer, tenant: str, out: Path, json_: bool) -> None:
    """Write everything remembered for a tenant as Parquet files, for audits elsewhere and for moves."""
    try:
        with exports.Writer(out, tenant) as writer, spinner() as progress:
            shown = progress.add_task("exporting")

            async def work(channel: grpc.aio.Channel) -> None:
                request = store_pb2.ExportEntriesRequest(parent=tenant_name(tenant))
                async for piece in stub_of(channel).ExportEntries(
                    request, timeout=HOURS, metadata=telemetry.outgoing()
                ):
                    if piece.WhichOneof("piece") == "header":
                        writer.start(piece.header)
                    else:
                        writer.add(piece.image)
                        progress.update(shown, description=f"{writer.entries:,} entries of {writer.images:,} images")

            peer.call(work)
            writer.finish()
    except OSError as error:
        raise Failure(f"OUT_UNWRITABLE: can't write {out}: {error}; nothing was left behind") from error
    if json_:
        print_json({"images": writer.images, "entries": writer.entries, "out": str(out)})
    else:
        say(f"{writer.entries:,} entries of {writer.images:,} images are in {out}.")


@click.command(name="import")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--tenant", type=TENANT_OPTION, help="The tenant that gets it. Default: the export's own.")
@as_json
@with_peer
def import_(peer: Peer, folder: Path, tenant: str | None, json_: bool) -> None:
    """Store what `export` wrote into FOLDER. What is there already stays."""
    header = exports.read_header(folder)
    owner = tenant or str(header.get("tenant", ""))

    async def work(channel: grpc.aio.Channel) -> store_pb2.ImportEntriesResponse:
        return await stub_of(channel).ImportEntries(
            exports.messages(folder, header, owner), timeout=HOURS, metadata=telemetry.outgoing()
        )

    with spinner() as progress:
        progress.add_task(f"importing {header['entries']:,} entries")
        found = peer.call(work)
    if json_:
        print_json(found)
    else:
        say(
            f"{found.entry_count:,} entries of {found.image_count:,} images stored for {owner}; "
            f"{found.skipped_count:,} left out, since they were there already or their time is over."
        )


def spinner() -> Progress:
    """Progress of unknown length, on standard error."""
    return Progress(SpinnerColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True)
