"""Descriptors from ONNX files: any shape of input that is usual, and an identity that names all that matters."""

from pathlib import Path

import numpy as np
import pytest

from dedup_service.image.encoder import EncoderUnavailable
from dedup_service.image.load_encoder import load_image_encoder
from tests.dedup_service.image.onnx_files import descriptor_file
from tests.dedup_service.image.pages import opened, page, scene


@pytest.mark.parametrize(("channels_first", "batch"), [(True, "N"), (True, 1), (False, "N"), (False, 1)])
def test_every_usual_input_is_served(tmp_path: Path, channels_first: bool, batch: int | str) -> None:
    """Channels before or after the pixels, any number of images at once or one: copies are nearest."""
    descriptor_file(tmp_path / "model.onnx", channels_first=channels_first, batch=batch)
    encoder = load_image_encoder(f"onnx:{tmp_path}/model.onnx")
    rows = encoder.encode([opened(page()), opened(scene()), opened(scene(9))])
    assert rows.shape == (3, 48)
    copy = encoder.encode_turns(opened(np.ascontiguousarray(np.rot90(scene(9), -1)), "JPEG", quality=60))
    assert (rows @ copy.T).max(axis=1).argmax() == 2
    assert (copy @ rows[2]).argmax() == 1


def test_the_identity_names_weights_and_scaling(tmp_path: Path) -> None:
    """Another file, or another scaling of pixels, makes vectors that must not meet those of the first."""
    descriptor_file(tmp_path / "one.onnx")
    descriptor_file(tmp_path / "two.onnx", outputs=24)
    specs = ("one.onnx", "two.onnx", "one.onnx?mean=0.5,0.5,0.4", "one.onnx?std=1,1,1")
    identities = [load_image_encoder(f"onnx:{tmp_path}/{spec}").identity for spec in specs]
    assert len(set(identities)) == len(specs)
    assert identities[0] == load_image_encoder(f"onnx:{tmp_path}/one.onnx?mean=0.5,0.5,0.5&std=.25,.25,.25").identity


def test_a_closed_encoder_says_so(tmp_path: Path) -> None:
    """After close it raises; closing twice is fine."""
    descriptor_file(tmp_path / "model.onnx")
    encoder = load_image_encoder(f"onnx:{tmp_path}/model.onnx")
    encoder.close()
    encoder.close()
    with pytest.raises(RuntimeError, match="closed"):
        encoder.encode([opened(page())])


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("{}/absent.onnx", "ENCODER_LOAD_FAILED"),
        ("{}/broken.onnx", "ENCODER_LOAD_FAILED"),
        ("{}/model.onnx?colour=grey", "ENCODER_UNKNOWN"),
        ("{}/model.onnx?mean=1,2", "ENCODER_LOAD_FAILED"),
        ("{}/model.onnx?std=0,1,1", "ENCODER_LOAD_FAILED"),
        ("{}/model.onnx?size=9", "ENCODER_LOAD_FAILED"),
    ],
)
def test_what_cannot_be_loaded_has_a_reason(tmp_path: Path, spec: str, reason: str) -> None:
    """A missing or broken file, an unknown option, or a number out of range."""
    descriptor_file(tmp_path / "model.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EncoderUnavailable) as refused:
        load_image_encoder("onnx:" + spec.format(tmp_path))
    assert refused.value.reason == reason
