"""The protos say what the code holds to."""

from __future__ import annotations

from pathlib import Path

import pytest

from askonce import limits
from gateway.http.openapi import FIELDS
from inference_service.engine import Sampling

PROTOS = Path(__file__).parents[2] / "protos" / "askonce" / "v1"


@pytest.mark.parametrize(("proto", "words"), [
    ("content", f"The most tokens to generate, 1 to {limits.MAX_TOKENS[1]:,}. Default {limits.DEFAULT_MAX_TOKENS}."),
    ("content", f"{limits.MAX_PIXELS[1]:,}"),
    ("answer", f"at most {limits.TAGS}, each 1 to {limits.TAG_CHARACTERS} characters"),
    ("answer", f"The right answer, when known; up to {limits.CORRECT_CHARACTERS:,} characters."),
    ("answer", f"Why, in the caller's words; up to {limits.COMMENT_CHARACTERS:,} characters."),
])  # fmt: skip
def test_the_comments_of_the_protos_say_the_same(proto: str, words: str) -> None:
    """A limit that is changed in one place alone is noticed."""
    assert words in (PROTOS / f"{proto}.proto").read_text(encoding="utf-8")


def test_all_services_have_one_default() -> None:
    """What the gateway publishes is what the model service fills in and dedup takes for the same."""
    assert str(Sampling().max_tokens) in FIELDS["max_tokens"][1]
    assert Sampling().max_tokens == limits.DEFAULT_MAX_TOKENS
