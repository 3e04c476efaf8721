"""Several images in order are one: found and kept like one, and the same only when every one is."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_service.image.fingerprint import take_fingerprint
from dedup_service.image.lookalike import ImageVerdict
from dedup_service.image.perceptual import hamming, perceptual_hash
from dedup_service.image.picture import open_picture
from dedup_service.image.sequence import (
    PageFingerprints,
    digest_of,
    join_hashes,
    join_packed,
    join_vectors,
    mark_of,
    pages_of,
    split_packed,
    together,
)
from tests.dedup_service.pages import copy_of, receipt

ONE, TWO, THREE = receipt(), receipt(total="77.10"), receipt(total="3.45")


def prints(*files: bytes) -> PageFingerprints:
    """The fingerprints of files."""
    return PageFingerprints(tuple(take_fingerprint(open_picture(file)) for file in files))


def test_order_number_and_every_part_count() -> None:
    """Digests of sequences differ wherever the sequences do; that of one image is its own."""
    parts = [bytes([number]) * 32 for number in range(3)]
    found = [digest_of(each) for each in (parts, parts[::-1], parts[:2], parts[:1], [*parts, parts[0]])]
    assert len(set(found)) == len(found)
    assert digest_of(parts[:1]) == parts[0]
    assert mark_of(parts[0]) not in {part.hex() for part in (*parts, *found)}


def test_hashes_of_copies_stay_near_and_others_do_not() -> None:
    """A copy of every page stays within reach; another number of pages does not."""
    hashes = [perceptual_hash(open_picture(file)) for file in (ONE, TWO, THREE)]
    copies = [perceptual_hash(open_picture(copy_of(file))) for file in (ONE, TWO, THREE)]
    assert hamming(join_hashes(hashes), join_hashes(copies)) <= 7
    assert hamming(join_hashes(hashes), join_hashes(hashes[:2])) > 60
    assert hamming(join_hashes(hashes[:1] * 2), hashes[0]) > 60
    other = [hashes[0], hashes[1], bytes(255 - byte for byte in hashes[2])]
    assert hamming(join_hashes(hashes), join_hashes(other)) > 60


def test_descriptors_measure_the_pages_together() -> None:
    """The cosine of two sequences is about the mean of their pages'; about 0 for another order or number."""
    generator = np.random.default_rng(5)
    pages = [vector / np.linalg.norm(vector) for vector in generator.normal(size=(3, 512)).astype(np.float32)]
    whole = join_vectors(pages)
    assert np.linalg.norm(whole) == pytest.approx(1.0, abs=1e-5)
    assert float(whole @ join_vectors(pages)) == pytest.approx(1.0, abs=1e-5)
    changed = generator.normal(size=512).astype(np.float32)
    assert float(whole @ join_vectors([*pages[:2], changed / np.linalg.norm(changed)])) == pytest.approx(2 / 3, abs=0.2)
    assert abs(float(whole @ join_vectors(pages[:2]))) < 0.2
    assert abs(float(whole @ join_vectors([pages[2], pages[0], pages[1]]))) < 0.3
    turns = [np.stack([page, page]) for page in pages]
    assert join_vectors(turns).shape == (2, 512)


def test_what_is_kept_can_be_read_back() -> None:
    """Fingerprints of several come back one by one; damaged ones are refused; a single one stays as it was."""
    pages = prints(ONE, TWO)
    packed = [page.to_bytes() for page in pages.pages]
    assert split_packed(join_packed(packed)) == packed
    assert split_packed(packed[0]) == packed[:1]
    for damaged in (join_packed(packed)[:-500], join_packed(packed) + b"x", join_packed(packed)[:6]):
        with pytest.raises(ValueError, match="damaged"):
            split_packed(damaged)
    assert pages_of(pages) == pages.pages
    assert pages_of(pages.pages[0]) == pages.pages[:1]


def test_people_see_all_images_side_by_side() -> None:
    """The picture that reports show of a sequence has every image on it."""
    sheet, single = prints(ONE, TWO, THREE).rgb, prints(ONE, ONE).rgb
    assert sheet.shape[2] == 3
    assert sheet.shape[1] > single.shape[1] > 500


def test_one_verdict_for_all_images_is_that_of_the_least_certain() -> None:
    """All were the same; how sure that is is said by the weakest, and how many were compared is known."""
    strong = ImageVerdict("same", 0.1, 0.99, "COPY", box=None, turn=0, ms=1.0)
    weak = ImageVerdict("same", 0.9, 0.6, "COPY", box=None, turn=0, ms=2.0)
    found = together([strong, weak, strong])
    assert (found.same_probability, found.images, found.ms) == (0.6, 3, 4.0)
    assert together([strong]).images == 1
