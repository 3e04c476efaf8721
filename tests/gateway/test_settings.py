"""The gateway is told what to do through its environment."""

from __future__ import annotations

import pytest

from askonce.settings import SettingsError, load
from gateway.settings import Settings


def test_environment_reaches_nested_settings() -> None:
    """A variable names section and field; lists are separated by commas, numbers and switches are typed."""
    settings = load(
        Settings,
        "gateway",
        {
            "ASKONCE_GATEWAY_DEDUP_TARGET": "dedup:1",
            "ASKONCE_GATEWAY_INFERENCE_TARGET": "inference:2",
            "ASKONCE_GATEWAY_FETCHING_ALLOWED_HOSTS": "a.example.com,.example.org",
            "ASKONCE_GATEWAY_BOUNDS_REQUESTS": "3",
            "ASKONCE_GATEWAY_JUDGE": "false",
        },
    )
    assert settings.fetching.allowed_hosts == ("a.example.com", ".example.org")
    assert (settings.bounds.requests, settings.judge, settings.dedup.target) == (3, False, "dedup:1")


@pytest.mark.parametrize(
    ("name", "value"), [("ASKONCE_GATEWAY_BOUNDS_REQUESTS", "many"), ("ASKONCE_GATEWAY_BOUND_REQUESTS", "3")]
)
def test_what_is_no_setting_is_refused(name: str, value: str) -> None:
    """A value of the wrong type and a name that nobody knows stop the start."""
    with pytest.raises(SettingsError):
        load(Settings, "gateway", {name: value})
