"""Encoders give unit vectors by which copies, turned ones too, are found; they name themselves."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dedup_service.image.encoder import EncoderUnavailable, ImageEncoder
from dedup_service.image.load_encoder import load_image_encoder
from tests.dedup_service.image.onnx_files import descriptor_file
from tests.dedup_service.image.pages import opened, page, scene

MODEL = "askonce-tiny"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised CLIP of 64 dimensions, saved as a hub model's weights are."""
    torch = pytest.importorskip("torch", reason="open-clip needs the extra askonce[clip]")
    open_clip = pytest.importorskip("open_clip", reason="open-clip needs the extra askonce[clip]")
    import json

    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 128, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / f"{MODEL}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{MODEL}.json")
    torch.manual_seed(0)
    path = folder / "weights.pt"
    torch.save(open_clip.create_model(MODEL).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised descriptor of 48 dimensions, with its scaling in the file's metadata."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    descriptor_file(path)
    return path


@pytest.fixture(params=["dct", "open-clip", "onnx"])
def encoder(request: pytest.FixtureRequest) -> Iterator[ImageEncoder]:
    """All encoders, held to the same rules."""
    spec = "dct"
    if request.param == "open-clip":
        spec = f"open-clip:{MODEL}/{request.getfixturevalue('checkpoint')}"
    elif request.param == "onnx":
        spec = f"onnx:{request.getfixturevalue('onnx_file')}"
    loaded = load_image_encoder(spec)
    yield loaded
    loaded.close()


def test_vectors_are_unit_rows_in_order(encoder: ImageEncoder) -> None:
    """(N, D) float32, each of length 1, in the order asked; an empty request gives (0, D)."""
    pictures = [opened(scene(1)), opened(page()), opened(scene(2))]
    rows = encoder.encode(pictures)
    assert rows.shape == (3, encoder.dimension)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    assert np.allclose(rows[1], encoder.encode([pictures[1]])[0], atol=2e-2)
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_the_first_turn_is_the_picture_as_given(encoder: ImageEncoder) -> None:
    """What is stored and what is asked first are the same vector."""
    picture = opened(scene())
    turns = encoder.encode_turns(picture)
    assert turns.shape == (4, encoder.dimension)
    assert np.allclose(turns[0], encoder.encode([picture])[0], atol=2e-2)


def test_a_turned_copy_is_found_through_one_of_the_turns(encoder: ImageEncoder) -> None:
    """The query asks with four vectors; one of them is that of the stored image."""
    stored = encoder.encode([opened(scene())])[0]
    turned = opened(np.ascontiguousarray(np.rot90(scene())))
    assert (encoder.encode_turns(turned) @ stored).max() > 0.99


@pytest.mark.parametrize("rgb", [np.full((40, 60, 3), 255, np.uint8), np.zeros((16, 600, 3), np.uint8)])
def test_a_plain_picture_has_a_finite_vector(encoder: ImageEncoder, rgb: np.ndarray) -> None:
    """No division by nothing."""
    assert np.isfinite(encoder.encode([opened(rgb)])).all()


def test_dct_ranks_copies_before_other_images() -> None:
    """Re-encoding, brightness and a white border cost less than being another image."""
    encoder = load_image_encoder("dct")
    stored = encoder.encode([opened(scene(seed)) for seed in range(20)])
    bordered = np.pad(scene(7), ((20, 20), (20, 20), (0, 0)), constant_values=255)
    for copy in (opened(scene(7), "JPEG", quality=40), opened((scene(7) * 0.85).astype(np.uint8)), opened(bordered)):
        assert int((stored @ encoder.encode([copy])[0]).argmax()) == 7


def test_open_clip_is_named_by_what_is_in_its_weights(checkpoint: Path, tmp_path: Path) -> None:
    """The identity is part of a collection's name: other weights under the same path are another encoder."""
    import torch

    first = load_image_encoder(f"open-clip:{MODEL}/{checkpoint}")
    weights = torch.load(checkpoint)
    weights["visual.proj"] = weights["visual.proj"].flip(1)
    torch.save(weights, tmp_path / "weights.pt")
    second = load_image_encoder(f"open-clip:{MODEL}/{tmp_path / 'weights.pt'}")
    assert MODEL in first.identity
    assert first.identity != second.identity
    assert not np.allclose(first.encode([opened(scene())]), second.encode([opened(scene())]), atol=1e-2)
    first.close()
    second.close()


def test_open_clip_serves_many_threads_from_one_worker(checkpoint: Path) -> None:
    """Concurrent callers share batches and each gets the vectors of its own pictures."""
    encoder = load_image_encoder(f"open-clip:{MODEL}/{checkpoint}")
    pictures = [opened(scene(seed)) for seed in range(8)]
    alone = [encoder.encode([picture])[0] for picture in pictures]
    together: dict[int, np.ndarray] = {}

    def ask(i: int) -> None:
        together[i] = encoder.encode([pictures[i]])[0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        assert np.allclose(alone[i], together[i], atol=2e-2)
    encoder.close()
    encoder.close()
    with pytest.raises(RuntimeError, match="closed"):
        encoder.encode(pictures)


@pytest.mark.parametrize("spec", ["", "clip", "open-clip:", "open-clip:ViT-B-32", "open-clip:/x", "siglip:a/b"])
def test_an_unknown_encoder_is_refused(spec: str) -> None:
    """A misspelt setting fails at the start, with a reason."""
    with pytest.raises(EncoderUnavailable) as refusal:
        load_image_encoder(spec)
    assert refusal.value.reason == "ENCODER_UNKNOWN"


@pytest.mark.parametrize("rest", ["ViT-B-32/no-such-tag", "ViT-B-32//no/such/file.pt"])
def test_weights_that_are_not_there_are_refused(rest: str) -> None:
    """A missing checkpoint fails at the start and never falls back to random weights."""
    pytest.importorskip("open_clip", reason="open-clip needs the extra askonce[clip]")
    with pytest.raises(EncoderUnavailable) as refusal:
        load_image_encoder(f"open-clip:{rest}")
    assert refusal.value.reason == "ENCODER_LOAD_FAILED"
