"""Dedup and every engine make the same pixels of a file."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from askonce.picture import flatten, orientation, speaks_for_itself
from benchmarks.hostile_files import honest
from dedup_service.image.picture import open_picture
from inference_service.pictures import upright
from inference_service.reader.recogniser import decode


def note() -> Image.Image:
    image = Image.new("RGB", (96, 64), (250, 240, 230))
    ImageDraw.Draw(image).text((10, 20), "13.05", fill=(20, 30, 90), font_size=24)
    return image


def clear() -> Image.Image:
    layer = note()
    layer.putalpha(note().convert("L").point(lambda level: 255 - level))
    return layer


def packed(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


FILES = {
    "rgb": packed(note()),
    "grey": packed(note().convert("L")),
    "bilevel": packed(note().convert("1")),
    "palette": packed(note().quantize(16)),
    "palette with a clear colour": packed(note().quantize(4), transparency=0),
    "alpha": packed(clear()),
    "grey with alpha": packed(clear().convert("LA")),
    "16 bits": packed(Image.fromarray(np.asarray(note().convert("L")).astype(np.uint16) * 257)),
    "12 bits in 16": packed(Image.fromarray(np.asarray(note().convert("L")).astype(np.uint16) * 16)),
    "cmyk": packed(note().convert("CMYK"), "JPEG"),
    "jpeg": packed(note(), "JPEG"),
    "turned by EXIF": packed(note(), "JPEG", exif=oriented(6)),
    "mirrored by EXIF": packed(note(), exif=oriented(5)),
    "webp with alpha": packed(clear(), "WEBP", lossless=True),
    "animated": packed(note(), "WEBP", save_all=True, append_images=[Image.new("RGB", (96, 64))], lossless=True),
    "colour profile": packed(note(), icc_profile=b"x" * 300),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_compared_is_what_every_engine_gets(name: str) -> None:
    """The pixels of dedup, of the engines that host a model, and of the reader are the same."""
    compared = open_picture(FILES[name]).rgb
    assert np.array_equal(compared, np.asarray(upright(FILES[name], 10**6)))
    assert np.array_equal(compared[:, :, ::-1], decode(FILES[name], 10**6))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_handed_on_only_where_any_decoder_agrees(name: str) -> None:
    """A server that knows nothing but `convert("RGB")` gets the same pixels from whatever is sent as it came."""
    with Image.open(io.BytesIO(FILES[name])) as image:
        alike = speaks_for_itself(image, FILES[name])
        simple = np.asarray(image.convert("RGB"))
    assert alike == (name in {"rgb", "grey", "jpeg", "colour profile"})
    if alike:
        assert np.array_equal(simple, open_picture(FILES[name]).rgb)


def test_sixteen_bits_are_scaled() -> None:
    """Full scale stays full scale and the middle stays the middle; nothing is cut off at 255."""
    deep = Image.fromarray(np.array([[0, 257, 32896, 65278, 65535]], np.uint16))
    assert np.asarray(flatten(deep))[0, :, 0].tolist() == [0, 1, 128, 254, 255]


def test_exif_that_can_not_be_read_says_nothing() -> None:
    """Damaged EXIF does not keep a picture from being shown."""
    whole = honest()["exif"]
    at = whole.index(b"Exif\0\0") + 6
    for damage in (b"MM\x1e*", b"II\xff\xff", b"\0\0\0\0"):
        content = whole[:at] + damage + whole[at + 4 :]
        with Image.open(io.BytesIO(content)) as image:
            assert orientation(image) == 1
            assert flatten(image).mode == "RGB"
