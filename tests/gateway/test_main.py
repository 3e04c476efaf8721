"""Starting the gateway: what is wrong with the settings is one line."""

from __future__ import annotations

import pytest

from gateway.__main__ import main


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ASKONCE_GATEWAY_BOUNDS_REQUESTS", "many"),
        ("ASKONCE_GATEWAY_SCREENING_TERMS", "/nowhere/terms.txt"),
        ("ASKONCE_GATEWAY_AUTH_API_KEYS", "/nowhere/keys.toml"),
    ],
)
def test_wrong_settings_end_the_start_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    """A setting that can't be read is named on exit, without a traceback."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("askonce-gateway: ")
    assert said.count("\n") == 1
