"""What is installed comes from a lock with hashes, and the locks follow pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKED = ROOT / ".ci" / "locked"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = dict(re.findall(r"^lock (\w+) (.+)$", (ROOT / ".ci" / "lock").read_text(encoding="utf-8"), re.MULTILINE))


def wanted(extra: str) -> list[Requirement]:
    """The requirements of an extra, those of the extras that it names included."""
    found: list[Requirement] = []
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "askonce":
            for inner in sorted(requirement.extras):
                found += wanted(inner)
        elif requirement.name != "askonce-services":
            found.append(requirement)
    return found


def pinned(name: str) -> dict[str, str]:
    text = (LOCKED / f"{name}.txt").read_text(encoding="utf-8")
    return {canonicalize_name(package): version for package, version in re.findall(r"^([\w.\-]+)==(\S+)", text, re.M)}


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_follows_the_project(name: str) -> None:
    """Every requirement of the extras is locked at a version that its range allows. Else: `make lock`."""
    versions = pinned(name)
    requirements = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in LOCKS[name].split():
        requirements += wanted(extra)
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked in {name}"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is locked at {version}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_hashes(name: str) -> None:
    """A package without a hash could be another one tomorrow."""
    blocks = re.split(r"^(?=[\w.\-]+==)", (LOCKED / f"{name}.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert blocks
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_gateways_image_has_no_torch() -> None:
    """Neither does dedup's, nor the reader's; the client's dependencies are two or three."""
    for name in ("gateway", "dedup", "reader", "openai", "embedded"):
        assert "torch" not in pinned(name)
    assert len(PROJECT["dependencies"]) <= 3
