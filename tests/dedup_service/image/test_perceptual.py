"""The perceptual hash names candidates: close for copies and their turns, far for other images."""

import numpy as np
import pytest

from dedup_service.image.perceptual import hamming, perceptual_hash, turned_hashes
from tests.dedup_service.image.pages import opened, page, scene


def test_copies_are_close_and_others_are_far() -> None:
    """Within the policy's default of 5 of 256 bits for a re-encoded copy, near the half for another image."""
    first = perceptual_hash(opened(scene(1)))
    assert len(first) == 32
    assert hamming(first, perceptual_hash(opened(scene(1), "JPEG", quality=60))) <= 5
    assert hamming(first, perceptual_hash(opened(scene(2)))) > 60


def test_the_turned_hashes_find_a_turned_copy() -> None:
    """One of the four is the hash of the image before it was turned."""
    upright = perceptual_hash(opened(scene()))
    for turn in range(4):
        turned = opened(np.ascontiguousarray(np.rot90(scene(), turn)))
        hashes = turned_hashes(turned)
        assert hashes[0] == perceptual_hash(turned)
        assert hamming(upright, hashes[(4 - turn) % 4]) <= 5


def test_a_changed_digit_hardly_moves_the_hash() -> None:
    """Why a small distance is never the last word: a page with one other digit is as close as a copy."""
    distance = hamming(perceptual_hash(opened(page())), perceptual_hash(opened(page(changed=True))))
    assert distance <= 5


def test_hamming_counts_bits_and_refuses_other_lengths() -> None:
    """A distance between hashes of two kinds has no meaning."""
    assert hamming(b"\x00\xff", b"\x01\x0f") == 5
    with pytest.raises(ValueError, match="compared"):
        hamming(b"\0" * 32, b"\0" * 8)
