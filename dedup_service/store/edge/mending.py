"""Looks through an embedded store that no service has open, and mends what can be mended without losing anything."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import qdrant_edge as edge

from dedup_service.store.edge.fingerprints import Fingerprints
from dedup_service.store.edge.integrity import (
    COUNTER,
    UNFINISHED,
    DamageError,
    Manifest,
    compare_files,
    fold,
    quarantine,
    quarantined,
    read_manifest,
    survey_files,
    write_manifest,
)
from dedup_service.store.edge.shard import generation_path, generations, ids_of, load_generation
from dedup_service.store.edge.worker import own
from dedup_service.store.points import FINGERPRINTS, Kind


@dataclass(frozen=True, slots=True)
class Finding:
    """One collection and how it is."""

    name: str
    points: int | None
    """Points that could be read; None where nothing could."""
    problems: tuple[str, ...] = ()
    done: str = ""
    """What a repair did about it."""


@dataclass
class Survey:
    """A store and how it is."""

    findings: list[Finding] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    """Names of what was set aside earlier."""

    @property
    def sound(self) -> bool:
        """Whether a service would start with it."""
        return not any(finding.problems and not finding.done for finding in self.findings)


def survey(data: Path, *, repair: bool = False) -> Survey:
    """Reads everything in the folder `data`/edge; `repair` mends or sets aside what is damaged.

    Raises TimeoutError while a service has it open, FileNotFoundError where there is none.
    """
    folder = data / "edge"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no store")
    with own(folder / "owner.lock", 0.5):
        found = Survey(aside=[path.name for path in quarantined(folder)])
        held: dict[str, int] = {}
        for path in sorted(folder.iterdir()):
            kind = path.name.split("-")[0]
            if path.name in found.aside or path.name.partition(".")[0] in found.aside:
                continue
            if path.is_dir() and kind in list(Kind):
                finding = look(path, repair)
                manifest = read_manifest(path) if finding.done and path.is_dir() else None
                held[path.name] = finding.points or (manifest.points if manifest else None) or 0
                found.findings.append(finding)
            elif kind == FINGERPRINTS and path.suffix == ".sqlite":
                found.findings.append(look_at_database(path, repair))
        for name, points in held.items():
            database = folder / f"{FINGERPRINTS}-{name.partition('-')[2]}.sqlite"
            if name.startswith(f"{Kind.IMAGES}-") and points and not database.exists():
                problem = f"missing, though there are {points} images"
                done = renew(database) if repair else ""
                found.findings.append(Finding(database.name, None, (problem,), done))
        return found


def look(folder: Path, repair: bool) -> Finding:
    """One collection: its manifest, its points, its files."""
    problems: list[str] = []
    points: int | None = None
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            used = [path.name for path in generations(folder) if not (path / UNFINISHED).exists()]
            if used:
                problems.append(f"no manifest, but generations {', '.join(used)}")
        else:
            if manifest.closed:
                problems += compare_files(generation_path(folder, manifest.generation), manifest.files)
            shard = load_generation(folder, manifest)
            points = sum(1 for _ in ids_of(shard))
            shard.close()
            if manifest.closed and not problems:  # the engine tidies its journals when it opens: that is no damage
                files = survey_files(generation_path(folder, manifest.generation))
                write_manifest(folder, replace(manifest, files=files))
    except DamageError as damage:
        problems.append(str(damage))
    done = mend(folder) if problems and repair else ""
    return Finding(folder.name, points, tuple(problems), done)


def mend(folder: Path) -> str:
    """Takes the generation with most points that can be opened, after a copy of all was set aside; sets everything
    aside where none can."""
    best: tuple[int, Path] | None = None
    for path in generations(folder):
        try:
            shard = edge.EdgeShard.load(str(path))
            count = sum(1 for _ in ids_of(shard))
            shard.close()
        except Exception:  # the engine raises whatever it likes for what it can't read
            continue
        if best is None or count >= best[0]:
            best = (count, path)
    if best is None or not best[0]:
        return f"set aside as {quarantine(folder).name}; the next start makes an empty one"
    count, path = best
    aside = quarantine(folder)
    shutil.copytree(aside / path.name, folder / path.name)
    (folder / path.name / UNFINISHED).unlink(missing_ok=True)
    (folder / COUNTER).unlink(missing_ok=True)
    shard = edge.EdgeShard.load(str(folder / path.name))
    ids = fold(ids_of(shard))
    shard.close()
    write_manifest(folder, Manifest(int(path.name), 0, count, ids))
    return f"opened generation {path.name} with {count} points; all as it was is in {aside.name}"


def look_at_database(path: Path, repair: bool) -> Finding:
    """One database of fingerprints."""
    try:
        with closing(sqlite3.connect(path)) as database:
            (verdict,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            (count,) = database.execute("SELECT count(*) FROM fingerprint").fetchone()
    except sqlite3.DatabaseError as error:
        verdict, count = str(error), None
    if verdict == "ok":
        return Finding(path.name, count)
    done = f"set aside as {quarantine(path).name}; {renew(path)}" if repair else ""
    return Finding(path.name, count, (f"database: {verdict}",), done)


def renew(path: Path) -> str:
    """Makes an empty database of fingerprints: images without one are never taken for the same as another file."""
    Fingerprints(path, 0).close()
    return "an empty one was made; copies of its images are not recognised"
