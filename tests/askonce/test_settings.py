"""Settings come from the environment, then a file, then the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest

from askonce import settings


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    key: Path | None = None


@dataclass(frozen=True)
class Sample:
    listen: str = "127.0.0.1:0"
    size: int = 3
    ratio: float = 0.5
    eager: bool = False
    hosts: tuple[str, ...] = ()
    colour: Colour = Colour.RED
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Needy:
    name: str


def test_defaults_stand_where_nothing_is_set() -> None:
    """Without environment and file, a service gets its defaults."""
    assert settings.load(Sample, "sample", {}) == Sample()


def test_environment_wins_over_file(tmp_path: Path) -> None:
    """The environment beats the file, the file beats the default; zero is a value."""
    file = tmp_path / "askonce.toml"
    file.write_text('[sample]\nsize = 5\nratio = 1\nhosts = ["a", "b"]\n[sample.inner]\nkey = "/k"\n')
    environ = {"ASKONCE_CONFIG": str(file), "ASKONCE_SAMPLE_SIZE": "0", "ASKONCE_SAMPLE_EAGER": "yes"}
    loaded = settings.load(Sample, "sample", environ)
    assert (loaded.size, loaded.ratio, loaded.eager) == (0, 1.0, True)
    assert loaded.hosts == ("a", "b")
    assert loaded.inner.key == Path("/k")


def test_lists_and_nested_values_from_the_environment() -> None:
    """A list is comma-separated, a nested attribute adds its name, an empty optional value is None."""
    environ = {"ASKONCE_SAMPLE_HOSTS": "a, b,", "ASKONCE_SAMPLE_INNER_KEY": ""}
    loaded = settings.load(Sample, "sample", environ)
    assert loaded.hosts == ("a", "b")
    assert loaded.inner.key is None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ASKONCE_SAMPLE_SIZE": "many"}, "ASKONCE_SAMPLE_SIZE: 'many' is not a whole number"),
        ({"ASKONCE_SAMPLE_EAGER": "perhaps"}, "true or false"),
        ({"ASKONCE_SAMPLE_COLOUR": "blue"}, "one of red"),
        ({"ASKONCE_SAMPLE_LISTNE": "x"}, "unknown setting ASKONCE_SAMPLE_LISTNE"),
        ({"ASKONCE_CONFIG": "/nowhere/askonce.toml"}, "can't read /nowhere/askonce.toml"),
    ],
)
def test_a_bad_setting_is_named(environ: dict[str, str], words: str) -> None:
    """A typo or a value of the wrong type stops the start and says which setting it is."""
    with pytest.raises(settings.SettingsError, match=words.replace("(", r"\(")):
        settings.load(Sample, "sample", environ)


def test_a_missing_setting_is_named() -> None:
    """A setting without a default must be given."""
    with pytest.raises(settings.SettingsError, match="ASKONCE_NEEDY_NAME is required"):
        settings.load(Needy, "needy", {})


def test_a_number_in_a_file_is_no_string(tmp_path: Path) -> None:
    """TOML's types are taken at their word."""
    file = tmp_path / "askonce.toml"
    file.write_text("[sample]\nlisten = 5\n")
    with pytest.raises(settings.SettingsError, match="listen"):
        settings.load(Sample, "sample", {"ASKONCE_CONFIG": str(file)})


@dataclass(frozen=True)
class Listening:
    """A nested section."""

    listen: str = "127.0.0.1:0"
    grace: float = 1.0


@dataclass(frozen=True)
class Outer:
    """A section whose nested one has other defaults than its class."""

    inner: Listening = field(default_factory=lambda: Listening(listen="127.0.0.1:50052"))


def test_a_nested_sections_own_defaults_count() -> None:
    """What a section says of a nested one holds where nothing is given, field by field."""
    assert settings.load(Outer, "outer", {}) == Outer()
    assert settings.load(Outer, "outer", {"ASKONCE_OUTER_INNER_GRACE": "3"}).inner == Listening("127.0.0.1:50052", 3.0)
