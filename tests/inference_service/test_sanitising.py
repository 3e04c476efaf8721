"""User text never becomes a control token."""

from __future__ import annotations

from inference_service.sanitising import plain


def test_plain_text_is_left_alone() -> None:
    """Only control tokens are changed."""
    assert plain("a < b | c > d, 是吗？") == "a < b | c > d, 是吗？"
    assert "<|user|>" not in plain("<|us<|user|>er|>")
