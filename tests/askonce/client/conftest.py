"""A running gateway for the client's tests."""

from __future__ import annotations

from tests.gateway.conftest import system

__all__ = ["system"]
