"""Whatever is uploaded becomes one canonical picture, or a refusal with a reason that clients can rely on."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from dedup_service.image.picture import Picture, PictureError, byte_digest, open_picture


def packed(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.fixture
def scene() -> Image.Image:
    """96 x 64, different in every corner."""
    y, x = np.mgrid[0:64, 0:96]
    return Image.fromarray(np.stack([x * 2, y * 3, (x + y)], axis=2).astype(np.uint8))


def reason(content: bytes, **limits: int) -> str:
    with pytest.raises(PictureError) as refusal:
        open_picture(content, **limits)
    return refusal.value.reason


def test_equal_pixels_have_equal_pixel_digests_however_they_are_packed(scene: Image.Image) -> None:
    """Metadata and lossless packing change the bytes, not the picture."""
    fast = open_picture(packed(scene, "PNG", compress_level=1))
    small = open_picture(packed(scene, "PNG", compress_level=9))
    webp = open_picture(packed(scene, "WEBP", lossless=True))
    assert fast.pixel_digest == small.pixel_digest == webp.pixel_digest
    assert len({fast.byte_digest, small.byte_digest, webp.byte_digest}) == 3
    assert fast.byte_digest == byte_digest(packed(scene, "PNG", compress_level=1))
    assert len(fast.pixel_digest) == 32


def test_one_changed_pixel_changes_the_pixel_digest(scene: Image.Image) -> None:
    """The exact tier is exact."""
    changed = scene.copy()
    changed.putpixel((40, 30), (255, 0, 255))
    assert open_picture(packed(scene, "PNG")).pixel_digest != open_picture(packed(changed, "PNG")).pixel_digest


def test_the_same_bytes_in_another_shape_have_another_pixel_digest() -> None:
    """Size is part of what is hashed."""
    wide, tall = Image.new("RGB", (64, 32)), Image.new("RGB", (32, 64))
    assert open_picture(packed(wide, "PNG")).pixel_digest != open_picture(packed(tall, "PNG")).pixel_digest


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(scene: Image.Image, orientation: int) -> None:
    """A photo that a viewer shows upright is upright here, whichever of the eight ways it was stored."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene.transpose(undo[orientation]) if orientation in undo else scene
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(packed(stored, "PNG", exif=exif))
    assert (picture.width, picture.height) == (96, 64)
    assert np.array_equal(picture.rgb, np.asarray(scene))


def test_transparency_is_laid_on_white() -> None:
    """What lies under full transparency is not seen, so it does not count."""
    layer = Image.new("RGBA", (32, 32), (200, 10, 10, 0))
    layer.paste((0, 0, 255, 255), (8, 8, 24, 24))
    picture = open_picture(packed(layer, "PNG"))
    assert picture.rgb[0, 0].tolist() == [255, 255, 255]
    assert picture.rgb[16, 16].tolist() == [0, 0, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_png_mode_becomes_rgb(mode: str) -> None:
    """Palette, grey, bilevel, alpha and 16 bit pictures are all usable and keep their brightness."""
    if mode == "I;16":
        image = Image.fromarray(np.full((32, 40), 40_000, np.uint16))
    else:
        image = Image.new("RGB", (40, 32), (160, 160, 160)).convert(mode)
    picture = open_picture(packed(image, "PNG"))
    assert picture.rgb.shape == (32, 40, 3)
    assert picture.rgb.dtype == np.uint8
    assert abs(float(picture.rgb.mean()) - 158) < 4 or mode == "1"


def test_cmyk_jpeg_becomes_rgb() -> None:
    """Print colours are converted, not misread as four channels."""
    picture = open_picture(packed(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = picture.rgb[16, 16].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_an_embedded_profile_is_ignored() -> None:
    """The servers of vision models ignore it as well: what is compared is what they get."""
    grey = Image.new("L", (32, 32), 128)
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    plain = open_picture(packed(grey, "PNG"))
    for profile in (linear.tobytes(), b"not a profile"):
        assert open_picture(packed(grey, "PNG", icc_profile=profile)).pixel_digest == plain.pixel_digest


def note(number: str, ink: int = 255, paper: int = 0) -> Image.Image:
    """A number, light on dark unless told otherwise."""
    image = Image.new("L", (160, 64), paper)
    ImageDraw.Draw(image).text((20, 20), number, fill=ink, font_size=24)
    return image


def on_clear(number: str, ink: tuple[int, int, int], under: tuple[int, int, int]) -> Image.Image:
    """A number in `ink` on a clear ground with another colour under it."""
    mask = note(number)
    layer = Image.new("RGB", mask.size, under)
    layer.paste(ink, mask=mask)
    layer.putalpha(mask)
    return layer


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (on_clear("13.05", (255, 255, 255), (0, 0, 0)), on_clear("97.40", (255, 255, 255), (0, 0, 0))),
        (on_clear("13.05", (250, 252, 255), (9, 9, 9)), on_clear("97.40", (250, 252, 255), (9, 9, 9))),
        (on_clear("13.05", (255,) * 3, (0,) * 3).convert("LA"), on_clear("97.40", (255,) * 3, (0,) * 3).convert("LA")),
    ],
)
def test_what_transparency_hides_is_content(first: Image.Image, second: Image.Image) -> None:
    """White on clear is blank on white; another model may see it on black, so the pictures are not equal."""
    one, other = open_picture(packed(first, "PNG")), open_picture(packed(second, "PNG"))
    assert one.hidden
    assert one.pixel_digest != other.pixel_digest
    assert open_picture(packed(first, "PNG", compress_level=1)).pixel_digest == one.pixel_digest


def test_dark_ink_on_a_clear_ground_hides_nothing() -> None:
    """Everything in the file shows on white, so it equals the opaque picture."""
    layer = open_picture(packed(on_clear("13.05", (0, 0, 0), (0, 0, 0)), "PNG"))
    paper = Image.new("RGB", (160, 64), "white")
    paper.paste((0, 0, 0), mask=note("13.05"))
    assert not layer.hidden
    assert layer.pixel_digest == open_picture(packed(paper, "PNG")).pixel_digest


@pytest.mark.parametrize("top", [255, 1023, 4095, 65535])
def test_no_depth_makes_two_numbers_equal(top: int) -> None:
    """Scanners write 8, 10 or 12 bits into 16: what 8 bits do not show counts all the same."""

    def deep(number: str) -> Picture:
        levels = np.asarray(note(number)).astype(np.uint32) * top // 255
        return open_picture(packed(Image.fromarray(levels.astype(np.uint16)), "PNG"))

    assert deep("13.05").pixel_digest != deep("97.40").pixel_digest
    assert deep("13.05").hidden == (top < 65535)
    if top == 65535:
        assert np.abs(deep("13.05").rgb[:, :, 0].astype(int) - np.asarray(note("13.05"))).max() <= 1


def test_a_reduced_jpeg_is_equal_to_its_like_without_metadata_only() -> None:
    """A large JPEG is looked at in part, so its coded data stand for the whole."""
    rng = np.random.default_rng(2)
    image = Image.fromarray(rng.integers(0, 255, (450, 600, 3), np.uint8)).resize((3600, 2700))
    plain, noted = packed(image, "JPEG", quality=80), packed(image, "JPEG", quality=80, comment=b"a note")
    assert open_picture(plain, max_bytes=2**26).pixel_digest == open_picture(noted, max_bytes=2**26).pixel_digest
    finer = packed(image, "JPEG", quality=81)
    assert open_picture(plain, max_bytes=2**26).pixel_digest != open_picture(finer, max_bytes=2**26).pixel_digest


def test_an_animation_counts_as_its_first_frame(scene: Image.Image) -> None:
    """Later frames neither matter nor are decoded."""
    later = Image.new("RGB", scene.size, (255, 0, 0))
    moving = packed(scene, "WEBP", save_all=True, append_images=[later], lossless=True)
    assert open_picture(moving).pixel_digest == open_picture(packed(scene, "WEBP", lossless=True)).pixel_digest


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    """The file's own size is still reported."""
    picture = open_picture(packed(Image.new("RGB", (6000, 4000), (9, 90, 200)), "JPEG", quality=50))
    assert (picture.width, picture.height) == (6000, 4000)
    assert picture.rgb.shape == (2000, 3000, 3)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data do not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = zlib.compress(b"\0" * 64)
    body = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return b"\x89PNG\r\n\x1a\n" + chunk + body


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "IMAGE_EMPTY"),
        (b"hello, this is text", "IMAGE_TYPE_UNSUPPORTED"),
        (packed(Image.new("RGB", (32, 32)), "GIF"), "IMAGE_TYPE_UNSUPPORTED"),
        (packed(Image.new("RGB", (32, 32)), "BMP"), "IMAGE_TYPE_UNSUPPORTED"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "IMAGE_TYPE_UNSUPPORTED"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "IMAGE_UNREADABLE"),
        (bomb(60_000, 60_000), "IMAGE_TOO_MANY_PIXELS"),
        (bomb(7_000, 6_000), "IMAGE_TOO_MANY_PIXELS"),
        (packed(Image.new("RGB", (1, 1)), "PNG"), "IMAGE_TOO_SMALL"),
        (packed(Image.new("RGB", (400, 15)), "PNG"), "IMAGE_TOO_SMALL"),
        (packed(Image.new("RGB", (3300, 16)), "PNG"), "IMAGE_ASPECT_UNSUPPORTED"),
    ],
)
def test_what_can_not_be_used_is_refused_with_its_reason(content: bytes, expected: str) -> None:
    """Every refusal names a stable reason; sizes are refused on the header, before anything is decoded."""
    assert reason(content) == expected


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_file_that_ends_too_early_is_refused(scene: Image.Image, form: str) -> None:
    """Half an image is never answered as if it were whole."""
    content = packed(scene.resize((960, 640)), form)
    assert reason(content[: len(content) // 2]) in {"IMAGE_TRUNCATED", "IMAGE_UNREADABLE"}


def test_limits_are_the_callers(scene: Image.Image) -> None:
    """Bytes and pixels are limited by what the caller passes."""
    content = packed(scene, "PNG")
    assert reason(content, max_bytes=len(content) - 1) == "IMAGE_TOO_LARGE"
    assert reason(content, max_pixels=96 * 64 - 1) == "IMAGE_TOO_MANY_PIXELS"
    open_picture(content, max_bytes=len(content), max_pixels=96 * 64)
